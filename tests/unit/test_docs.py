"""The documents against the code: what one names and the other has not, or differently, fails here."""

import ast
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import annotated_types
import pytest
from prometheus_client import REGISTRY
from pydantic.fields import FieldInfo

from app.api.problems import KINDS
from app.cli import cli
from app.connectors.source_settings import PollSettings
from app.main import create_app
from app.settings import Settings, load_settings
from app.store.scripts import Script, load_scripts

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for folder in (ROOT, ROOT / "docs", ROOT / "lua", ROOT / "tests", ROOT / "loadtests")
    for path in folder.glob("*.md" if folder == ROOT else "**/*.md")
)
SCRIPTS = load_scripts()
COLUMNS = 120
STOPS_THE_START = ("StartupError", "EngineAway", "Finding")
SENTENCE_CHARACTERS_MIN = 12
NOT_THE_SERVICES = ("The service did not start", "rebuild into an empty engine")  # the demo's, a rebuild's
A_SETTING = "the setting, and what is wrong with it"


@cache
def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def rows_of(name: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    _, _, section = text_of(name).partition(f"\n## {heading}\n")
    assert section, f"{name} has no '## {heading}'"
    table = next(block for block in section.split("\n\n") if block.lstrip().startswith("|"))
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.strip().splitlines()[2:]]


def first_cells(name: str, heading: str) -> list[str]:
    return [row[0].strip("`") for row in rows_of(name, heading)]


# Links


def anchors_of(path: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        if re.match(r"https?:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (document.parent / file).resolve() if file else document
        assert found.exists(), f"{document.name}: {target}"
        assert not anchor or anchor in anchors_of(found), f"{document.name}: {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_tests_that_are_named_exist(document: Path) -> None:
    """`app/x.py` is a file; `tests/x.py::test_y` a test in it, and so is a bare `test_y`."""
    text = document.read_text("utf-8")
    for path, test in re.findall(r"`((?:app|lua|tests|docs|loadtests)/[\w./]*)(?:::(\w+))?`", text):
        assert (ROOT / path).exists(), f"{document.name}: {path}"
        assert not test or f"def {test}(" in text_of(path), f"{document.name}: {path}::{test}"
    for test in re.findall(r"`(test_\w+)`", text):
        assert f"def {test}(" in all_tests(), f"{document.name}: {test}"


@cache
def all_tests() -> str:
    return "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))


# docs/operations.md


def bounds_of(field: FieldInfo) -> str:
    found: dict[str, str] = {}
    for bound in field.metadata:
        match bound:
            case annotated_types.Ge(ge):
                found["least"] = f"{ge}"
            case annotated_types.Gt(gt):
                found["least"] = f"above {gt}"
            case annotated_types.Le(le):
                found["most"] = f"{le}"
            case _:
                choices = re.fullmatch(r"\^\((.+)\)\$", getattr(bound, "pattern", None) or "")
                if choices:
                    return choices[1].replace("|", ", ")
    return f"{found['least']} to {found['most']}" if found else ""


def shown(default: object) -> str:
    match default:
        case None:
            return "none"
        case bool():
            return str(default).lower()
        case float():
            return f"{default:g}"
        case _:
            return str(default)


def test_settings() -> None:
    rows = {row[0].strip("`"): row[1:] for row in rows_of("docs/operations.md", "Settings")}
    assert list(rows) == list(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        default, bounds, meaning = rows[name]
        assert (default, meaning != "") == (shown(field.get_default(call_default_factory=True)), True), name
        assert name == "host" or bounds == bounds_of(field), name


def test_metrics() -> None:
    kinds = {
        f"{metric.name}{'_total' if metric.type == 'counter' else ''}": metric.type
        for metric in REGISTRY.collect()
        if metric.name.startswith("lastunit_")
    }
    rows = rows_of("docs/operations.md", "Metrics")
    assert {row[0].strip("`"): row[1] for row in rows} == kinds


def refusals() -> Iterator[str]:
    """What is constant of every sentence that stops a start, where its words do not all come from elsewhere."""
    for path in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in STOPS_THE_START:
                parts = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
                sentence = "…".join(part for part in parts if isinstance(part, str))
                if len(sentence) >= SENTENCE_CHARACTERS_MIN and not any(
                    other in sentence for other in NOT_THE_SERVICES
                ):
                    yield sentence


def test_refusals_to_start() -> None:
    cells = first_cells("docs/operations.md", "Refused to start")
    phrases = [phrase for cell in cells for phrase in re.split("`, `", cell)]
    said = list(refusals())
    assert [phrase for phrase in phrases if not any(phrase in sentence for sentence in said)] == [A_SETTING]
    assert [sentence for sentence in said if not any(phrase in sentence for phrase in phrases)] == []


# docs/api.md


def test_problems() -> None:
    rows = rows_of("docs/api.md", "Problems")
    documented = {code.strip("`"): (int(status), retryable == "yes") for code, status, retryable, _ in rows}
    assert documented == {kind.code: (kind.status, kind.retryable) for kind in KINDS.values()}


def test_routes() -> None:
    paths = create_app(load_settings())._app.openapi()["paths"]  # type: ignore[attr-defined] # behind the front
    declared = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    documented = re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`]+)`", text_of("docs/api.md"))
    assert set(documented) == declared


# docs/connectors.md


def test_poll_settings() -> None:
    rows = {row[0].strip("`"): row[1:] for row in rows_of("docs/connectors.md", "A source that is polled")}
    assert list(rows) == list(PollSettings.model_fields)
    for name, field in PollSettings.model_fields.items():
        default, bounds, meaning = rows[name]
        assert (default, meaning != "") == ("" if field.is_required() else shown(field.get_default()), True), name
        if any(isinstance(bound, annotated_types.Ge | annotated_types.Gt) for bound in field.metadata):
            assert bounds == bounds_of(field), name


# docs/glossary.md


def test_glossary_has_every_script() -> None:
    assert sorted(first_cells("docs/glossary.md", "Scripts")) == sorted(SCRIPTS)


def test_glossary_has_every_type_of_entry() -> None:
    written = {
        kind
        for script in SCRIPTS.values()
        for kind in re.findall(r"'((?:reservation|stock|sku|category)\.[a-z_]+)'", script.source)
    }
    assert set(first_cells("docs/glossary.md", "Entries")) == written


def test_glossary_has_every_command_to_type() -> None:
    targets = re.findall(r"^([a-z-]+):.*?## ", text_of("Makefile"), re.MULTILINE)
    commands = [str(command.callback.__name__) for command in cli.registered_commands if command.callback]
    for group in cli.registered_groups:
        assert group.typer_instance
        commands += [
            f"{group.typer_instance.info.name} {command.name}" for command in group.typer_instance.registered_commands
        ]
    typed = first_cells("docs/glossary.md", "What a person types")
    assert sorted(typed) == sorted([*(f"lastunit {name}" for name in commands), *(f"make {name}" for name in targets)])


# lua/README.md


def facts_of(script: Script) -> str:
    """What lua/README.md says of a script after its purpose: what its header says."""
    each = f", then {' and '.join(script.repeated_keys)} for each line" if script.repeated_keys else ""
    facts = {"keys": ", ".join(script.keys) + each, "statuses": ", ".join(script.statuses), "cost": script.cost}
    rows = (textwrap.wrap(f"- {name}: {fact}", COLUMNS, subsequent_indent="  ") for name, fact in facts.items())
    return "".join(f"{line}\n" for row in rows for line in row)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=list(SCRIPTS))
def test_script_is_described_as_its_header_says(script: Script) -> None:
    _, _, section = text_of("lua/README.md").partition(f"\n## {script.name}\n")
    facts = facts_of(script)
    assert facts in section.partition("\n## ")[0], f"lua/README.md should say of {script.name}:\n{facts}"


def test_fragments_are_described() -> None:
    fragments = {path.stem for path in (ROOT / "lua/includes").glob("*.lua")}
    assert set(first_cells("lua/README.md", "Fragments")) == fragments
    assert all(row[1] for row in rows_of("lua/README.md", "Fragments"))
