"""Loads the Lua scripts: one operation a file, its fragments put in place, its header read as the call's contract.

A script says `-- @include name` where a fragment of `includes/` goes; each is put in once, depth first. An indented
one stands in a block and is known in that block only: what the common case does not need is made where it is needed.
Its header says what KEYS and ARGV it takes, what it REPLYs and which statuses it RETURNS; `app.store.calls` is
checked against that at load.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import app

INCLUDE = re.compile(r"^(?P<indent> *)-- @include (?P<name>\S+)$")
ITEM = re.compile(r"^-- (?P<kind>KEYS|ARGV|REPLY|RETURNS|COST)(?:\[(?P<number>\d+)(?P<open>\.\.)?\])? (?P<text>\S.*)$")
CONTINUED = re.compile(r"^--   +(?P<text>\S.*)$")
SHEBANG = re.compile(r"^#!lua( flags=allow-oom)?$")
KEY_TYPES = frozenset({"hash", "string", "zset", "stream"})
ARGUMENT_UNITS = frozenset({"us", "ms", "text", "json", "flag", "integer"})


class ScriptError(Exception):
    """A script's text breaks a rule; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Script:
    """One assembled script and the contract in its header.

    `keys` and `args` are the names of what always comes; `repeated_keys` and `repeated_args` what then comes any
    number of times. `sha` is what EVALSHA calls it by.
    """

    name: str
    purpose: str
    source: str
    sha: str
    keys: tuple[str, ...]
    repeated_keys: tuple[str, ...]
    args: tuple[str, ...]
    repeated_args: tuple[str, ...]
    reply: tuple[str, ...]
    statuses: tuple[str, ...]
    cost: str


def load_scripts(replaced_includes: Mapping[str, str] | None = None) -> dict[str, Script]:
    """Every script by name. `replaced_includes` puts other text in place of fragments: a virtual clock, in tests."""
    root = _lua_root()
    includes = {_stem(file): file.read_text("utf-8") for file in _lua_files(root / "includes")}
    includes.update(replaced_includes or {})
    return {_stem(file): _parse(_stem(file), file.read_text("utf-8"), includes) for file in _lua_files(root)}


def assemble(name: str, text: str, includes: Mapping[str, str]) -> str:
    """The script with every fragment in place, depth first, each once. A cycle or a missing file names its line."""

    def expand(where: str, body: str, path: tuple[str, ...], placed: set[str]) -> Iterator[str]:
        for number, line in enumerate(body.splitlines(), start=1):
            match = INCLUDE.match(line)
            if not match:
                yield line
                continue
            wanted = match["name"]
            if wanted in path:
                raise ScriptError(f"{where}:{number}: includes itself: {' -> '.join((*path, wanted))}")
            if wanted not in includes:
                raise ScriptError(f"{where}:{number}: there is no fragment includes/{wanted}.lua")
            if wanted not in placed:
                known_here = set(placed) if match["indent"] else placed
                known_here.add(wanted)
                yield from expand(f"includes/{wanted}.lua", includes[wanted], (*path, wanted), known_here)

    return "\n".join(expand(f"{name}.lua", text, (), set())) + "\n"


def _parse(name: str, text: str, includes: Mapping[str, str]) -> Script:
    lines = text.splitlines()
    if not lines or not SHEBANG.match(lines[0]):
        raise ScriptError(
            f"{name}.lua:1: a script begins with '#!lua', or '#!lua flags=allow-oom' where it gives units back"
        )
    items = _header_items(name, lines)
    keys, repeated_keys = _numbered(name, "KEYS", items, KEY_TYPES)
    args, repeated_args = _numbered(name, "ARGV", items, ARGUMENT_UNITS)
    for kind in ("REPLY", "RETURNS", "COST"):
        if not any(item[0] == kind for item in items):
            raise ScriptError(f"{name}.lua: the header has no {kind}")
    said = {kind: text for kind, _, _, text in items if kind in ("REPLY", "RETURNS", "COST")}
    source = assemble(name, text, includes)
    return Script(
        name=name,
        purpose=lines[1].removeprefix("-- "),
        source=source,
        sha=hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(),
        keys=keys,
        repeated_keys=repeated_keys,
        args=args,
        repeated_args=repeated_args,
        reply=tuple(said["REPLY"].split()),
        statuses=tuple(said["RETURNS"].split()),
        cost=said["COST"],
    )


def _header_items(name: str, lines: list[str]) -> list[tuple[str, int, bool, str]]:
    """(kind, number, is_repeated, text) of every header line, continued lines joined."""
    items: list[tuple[str, int, bool, str]] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.startswith("--"):
            break
        if match := ITEM.match(line):
            items.append((match["kind"], int(match["number"] or 0), match["open"] is not None, match["text"]))
        elif items and (match := CONTINUED.match(line)):
            kind, index, is_repeated, text = items[-1]
            items[-1] = (kind, index, is_repeated, f"{text} {match['text']}")
        elif line.startswith(("-- KEYS", "-- ARGV", "-- RE", "-- COST")):
            raise ScriptError(f"{name}.lua:{number}: not a header line of the form 'KEYS[1] name type meaning'")
    return items


def _numbered(
    name: str, kind: str, items: list[tuple[str, int, bool, str]], types: frozenset[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names: list[str] = []
    repeated: tuple[str, ...] = ()
    for _, number, is_repeated, text in (item for item in items if item[0] == kind):
        named, type_names = [*text.split(), "", ""][:2]
        if number != len(names) + 1 or repeated or not set(type_names.split(",")) <= types:
            raise ScriptError(f"{name}.lua: {kind}[{number}] is out of order or its type is not one of {sorted(types)}")
        if is_repeated:
            repeated = tuple(named.split(","))
        else:
            names.append(named)
    return tuple(names), repeated


def _lua_root() -> Traversable:
    packaged = files("app") / "lua"
    return packaged if packaged.is_dir() else Path(app.__file__).parent.parent / "lua"


def _lua_files(folder: Traversable) -> list[Traversable]:
    return sorted((file for file in folder.iterdir() if file.name.endswith(".lua")), key=lambda file: file.name)


def _stem(file: Traversable) -> str:
    return file.name.removesuffix(".lua")
