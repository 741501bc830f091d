"""Style as a failing test: what no other tool here checks. Each rule is a row, with a sample that must break it."""

import ast
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 69
SCRIPT_LINES_MAX = 120
COLUMNS_MAX = 120


@dataclass(frozen=True, slots=True)
class Source:
    """One text file of the project, its path relative to the root."""

    path: str
    text: str


Finding = tuple[int, str]  # line, what is wrong


@dataclass(frozen=True, slots=True)
class Rule:
    """What must be so in the files that match one of `patterns`; `sample` is a file that breaks it."""

    name: str
    patterns: tuple[str, ...]
    findings: Callable[[Source], Iterator[Finding]]
    sample: Source

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    def covers(self, source: Source) -> bool:
        return any(fnmatch(source.path, pattern) for pattern in self.patterns)


def at_most(lines_max: int) -> Callable[[Source], Iterator[Finding]]:
    def findings(source: Source) -> Iterator[Finding]:
        count = len(source.text.splitlines())
        if count > lines_max:
            yield lines_max + 1, f"{count} lines; at most {lines_max}: make it two"

    return findings


def without(pattern: str, what: str) -> Callable[[Source], Iterator[Finding]]:
    """No line matches `pattern`, which is written so that it does not match itself."""
    compiled = re.compile(pattern)

    def findings(source: Source) -> Iterator[Finding]:
        for number, line in enumerate(source.text.splitlines(), 1):
            if match := compiled.search(line):
                yield number, f"'{match.group().strip()[:60]}': {what}"

    return findings


def long_functions(source: Source) -> Iterator[Finding]:
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = (node.end_lineno or node.lineno) - node.lineno + 1
            if count > FUNCTION_LINES_MAX:
                yield node.lineno, f"'{node.name}' has {count} lines; at most {FUNCTION_LINES_MAX}"


def vague_names(source: Source) -> Iterator[Finding]:
    if Path(source.path).stem in {"base", "common", "helpers", "manager", "utils"}:
        yield 1, "a module is named by the thing it holds"


def unexplained_suppressions(source: Source) -> Iterator[Finding]:
    suppression = r"#\s*(?:type:\s*ignore\[[\w, -]+\]|noqa:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)"
    explained = re.compile(rf"(?:{suppression}\s*)+(?:#|-|:)\s*\w+")
    for number, line in enumerate(source.text.splitlines(), 1):
        if re.search(r"#\s*(?:type:\s*ignore|noqa)", line) and not explained.search(line):
            yield number, "a suppression names its code, and after another '#' its reason"


def clocks(source: Source) -> Iterator[Finding]:
    if source.path.startswith("lua/") and not source.path.endswith("/wall_clock.lua"):
        yield from without(r"call\(\s*['\"](?i:time)['\"]", "wall_clock.lua alone asks for the time")(source)


def foreign_words(source: Source) -> Iterator[Finding]:
    """Identifiers that say in other words what the glossary has a word for."""
    words = {"confirm": "commit", "movement": "entry", "oversell": "backorder or shortfall", "qty": "quantity"}
    comment = "#" if source.path.endswith(".py") else "--"
    for number, line in enumerate(source.text.splitlines(), 1):
        for part in re.findall(r"[a-z]+", line.split(comment)[0].lower()):
            if part in words:
                yield number, f"'{part}': the word is {words[part]}"


def untagged_blocks(source: Source) -> Iterator[Finding]:
    is_open = False
    for number, line in enumerate(source.text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            is_open = not is_open
            if is_open and line.strip() == "```":
                yield number, "a block names its language, 'text' if none"
    if is_open:
        yield 1, "a block is never closed"


def untidy_ends(source: Source) -> Iterator[Finding]:
    for number, line in enumerate(source.text.splitlines(), 1):
        if line != line.rstrip():
            yield number, "space at the end of the line"
    if source.text and not source.text.endswith("\n"):
        yield len(source.text.splitlines()), "no newline at the end of the file"


CODE = ("*.py", "*.lua", "*.toml", ".luacheckrc", "Makefile", "Dockerfile", ".ci/run")
RULES = [
    Rule("modules are short", ("*.py",), at_most(MODULE_LINES_MAX), Source("m.py", "x = 1\n" * 501)),
    Rule("scripts are short", ("*.lua",), at_most(SCRIPT_LINES_MAX), Source("s.lua", "-- x\n" * 121)),
    Rule("functions are short", ("*.py",), long_functions, Source("m.py", "def f():\n" + "    x = 1\n" * 69)),
    Rule("lines are short", CODE, without(rf".{{{COLUMNS_MAX + 1}}}", "too long"), Source("m.py", "#" * 121)),
    Rule("modules are nouns", ("*.py",), vague_names, Source("app/utils.py", "")),
    Rule(
        "nothing is left to do",
        (*CODE, "*.md", "*.yml", "*.yaml"),
        without(r"\b(?:TO[D]O|FIX[M]E|X[X]X|HA[C]K)\b", "do it, or write an issue"),
        Source("m.py", "# TO" + "DO: later"),
    ),
    Rule("suppressions have reasons", ("*.py",), unexplained_suppressions, Source("m.py", "x = y  # no" + "qa: E501")),
    Rule(
        "ignored lint rules have reasons",
        ("pyproject.toml",),
        without(r'^\s+"[A-Z]+\d*",?\s*$', "the reason goes beside it"),
        Source("pyproject.toml", 'ignore = [\n    "EM",\n]'),
    ),
    Rule(
        "scripts never walk the keyspace",
        ("*.lua",),
        without(r"call\(\s*['\"](?i:keys|scan|randomkey|dbsize|flush\w+)['\"]", "bounded work on known keys only"),
        Source("s.lua", "redis.call('KEYS', '*')"),
    ),
    Rule("time has one source", ("*.lua",), clocks, Source("lua/reserve.lua", "redis.call('TIME')")),
    Rule(
        "arguments are parsed by pattern",
        ("*.lua",),
        without(r"tonumber\(\s*ARGV", "tonumber takes 0x10, 1e3 and nan: use integer"),
        Source("s.lua", "local n = tonumber(ARGV[1])"),
    ),
    Rule("words are the glossary's", ("app/*.py", "lua/*.lua"), foreign_words, Source("app/m.py", "item_qty = 1")),
    Rule("blocks name their language", ("*.md",), untagged_blocks, Source("README.md", "```\nmake run\n```\n")),
    Rule(
        "tests never skip",
        ("tests/*.py",),
        without(r"pytest\.(?:mark\.)?(?:skip|skipif|xfail|importorskip)\b", "a part that is missing fails"),
        Source("tests/test_x.py", "pytest." + "skip('no engine')"),
    ),
    Rule(
        "no machine's paths",
        ("*",),
        without(r"(?<![\w.])/(?:home|root|work|Users)/|python[h]osted|pypi[.]org", "the project runs anywhere"),
        Source("Makefile", "cd /ho" + "me/me"),
    ),
    Rule(
        "the lock names no host",
        ("requirements.lock",),
        without(r"\S*://\S*", "no URL"),
        Source("requirements.lock", "--index-url https://x"),
    ),
    Rule("ends are tidy", (*CODE, "*.md"), untidy_ends, Source("m.py", "x = 1 \n")),
]


@cache
def sources() -> list[Source]:
    """All text files that are not ignored by git, new ones included."""
    ignored = {".git/", *(ROOT / ".gitignore").read_text("utf-8").splitlines()}
    found: list[Source] = []
    for folder, folders, names in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        folders[:] = [name for name in folders if not {f"{name}/", f"/{here / name}/"} & ignored]
        for path in (here / name for name in names if name != ".git"):
            try:
                found.append(Source(path.as_posix(), (ROOT / path).read_text("utf-8")))
            except UnicodeDecodeError:
                continue
    return found


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_tree_keeps_the_rule(rule: Rule) -> None:
    covered = [source for source in sources() if rule.covers(source)]
    assert covered, "a rule that covers nothing checks nothing"
    findings = [f"{source.path}:{line}: {what}" for source in covered for line, what in rule.findings(source)]
    assert not findings, "\n" + "\n".join(findings)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_rule_can_fail(rule: Rule) -> None:
    assert rule.covers(rule.sample)
    assert list(rule.findings(rule.sample))


def names_of(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements}


def test_every_dependency_is_locked_and_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = names_of(project["dependencies"]).union(*map(names_of, project["optional-dependencies"].values()))
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE)
    reasons = re.findall(r"^\| `([\w.-]+)` \| \w", (ROOT / "docs/dependencies.md").read_text("utf-8"), re.MULTILINE)
    assert wanted <= set(locked), "make lock"
    assert sorted(reasons) == sorted(wanted)
