"""One-line changes to the scripts and the store, each of which some quick test must notice.

Most are generated, by rules that know nothing of what a line is for; some are chosen, because they are the mistakes
that cost money. What changes nothing, whatever a test does, is named with its reason, and not tried.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHOSEN = Path(__file__).parent / "chosen.toml"
LUA = ("lua/*.lua", "lua/includes/*.lua")
STORE = ("keys", "clock", "commands", "decoding", "leases", "ledger", "mappings", "source_states", "updates")
WRITES = r"redis\.call\('(?:HSET|HDEL|ZADD|ZREM|SET|PEXPIRE)'"
STATEMENT = re.compile(rf"^ *(?:{WRITES}|(?:store|drop|remember|settle|give|end|note)\w*\().*\)$")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A line of a file, and what stands there instead."""

    path: str
    number: int
    before: str
    after: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.number}: {self.before.strip()}  ->  {self.after.strip()}"


@dataclass(frozen=True, slots=True)
class Rule:
    """Each place that `pattern` finds becomes `instead`."""

    pattern: re.Pattern[str]
    instead: str


def _rules(*pairs: tuple[str, str]) -> tuple[Rule, ...]:
    return tuple(Rule(re.compile(pattern), instead) for pattern, instead in pairs)


RULES = {
    ".lua": _rules(
        (" <= ", " < "), (" >= ", " > "), (" < ", " <= "), (" > ", " >= "), (" == ", " ~= "), (" ~= ", " == "),
        (" and ", " or "), (" or ", " and "), (r"\bnot (?=\w)", ""), (" \\+ (?!1\\])", " - "), (" - ", " + "),
        (r"math\.max", "math.min"), (r"math\.min", "math.max"),
    ),
    ".py": _rules(
        (" <= ", " < "), (" >= ", " > "), (" < ", " <= "), (" > ", " >= "), (" == ", " != "), (" != ", " == "),
        (" and ", " or "), (" or ", " and "), (r"\bif not ", "if "), (r" \+ ", " - "), (" - ", " + "),
    ),
}  # fmt: skip


def generated(root: Path) -> Iterator[Mutant]:
    """Every mutant that the rules make, without those known to change nothing."""
    paths = [path for pattern in LUA for path in sorted(root.glob(pattern))]
    paths += [root / f"app/store/{name}.py" for name in STORE]
    for path in paths:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            for after in _mutated(line, path.suffix):
                mutant = Mutant(str(path.relative_to(root)), number, line, after)
                if not any(
                    mutant.path == where and part in line and instead in after for where, part, instead, _ in EQUIVALENT
                ):
                    yield mutant


def _mutated(line: str, suffix: str) -> Iterator[str]:
    code = line.strip()
    if code.startswith(("--", "#", '"""', "local function", "def ", "class ", "import ", "from ")) or _is_prose(
        line, suffix
    ):
        return
    end = line.find(" -- ") if suffix == ".lua" else line.find("  # ")
    end = len(line) if end < 0 else end
    for rule in RULES[suffix]:
        for match in rule.pattern.finditer(line, 0, end):
            yield line[: match.start()] + match.expand(rule.instead) + line[match.end() :]
    if suffix == ".lua" and STATEMENT.match(line):
        yield f"{line[: len(line) - len(line.lstrip())]}do end"


def _is_prose(line: str, suffix: str) -> bool:
    """A Python line without any code that could be it: docstrings and messages."""
    return suffix == ".py" and not re.search(r"[=()\[\]:]|\breturn\b|\bif\b", line)


# Generated, and changing nothing: the file, a part of the line, what the rule put there, and why.
EQUIVALENT: tuple[tuple[str, str, str, str], ...] = ()


def chosen(root: Path) -> Iterator[Mutant]:
    """The mutants of chosen.toml; raises ValueError where one no longer fits the code."""
    for path, mutants in tomllib.loads(CHOSEN.read_text("utf-8")).items():
        text = (root / path).read_text("utf-8")
        for each in mutants:
            if text.count(each["before"]) != 1:
                raise ValueError(f"{path} no longer has once what this takes: {each['name']}")
            number = text[: text.index(each["before"])].count("\n")
            changed = text.replace(each["before"], each["after"]).splitlines()
            yield Mutant(path, number + 1, text.splitlines()[number], changed[number], each["name"])
