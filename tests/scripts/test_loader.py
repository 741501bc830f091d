"""The loader, and what every script must be before it runs at all."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.store.calls import CONTRACTS, check_contracts
from app.store.scripts import Script, ScriptError, _parse, assemble, load_scripts
from tests.engines import Engine
from tests.virtual_clock import REPLACED_INCLUDES

SCRIPTS = load_scripts()
HEADER = """\
#!lua
-- Does a thing.
--
-- KEYS[1] meta hash the clock
-- KEYS[2..] sku,holds hash,zset a pair a line
-- ARGV[1] token text 1..128
-- ARGV[2..] sku,quantity text,integer a pair a line
-- REPLY status
--   now_us
-- RETURNS not_found done
-- COST O(1)
--
-- More about it.

return { 'done', '0' }
"""


class TestAssembly:
    def test_fragments_come_depth_first_and_once(self) -> None:
        includes = {"a": "-- @include c\na", "b": "-- @include c\nb", "c": "c"}
        assert assemble("s", "-- @include a\n-- @include b\n-- @include a\nend", includes) == "c\na\nb\nend\n"

    def test_a_fragment_in_a_block_is_known_there_only(self) -> None:
        includes = {"a": "a", "b": "-- @include a\nb"}
        text = "if x then\n  -- @include b\nend\n-- @include b\nif y then\n  -- @include a\nend"
        assert assemble("s", text, includes) == "if x then\na\nb\nend\na\nb\nif y then\nend\n"

    def test_a_cycle_names_its_line(self) -> None:
        includes = {"a": "-- about a\n-- @include b", "b": "-- @include a"}
        with pytest.raises(ScriptError, match=re.escape("includes/b.lua:1: includes itself: a -> b -> a")):
            assemble("s", "-- @include a", includes)

    def test_a_missing_fragment_names_its_line(self) -> None:
        with pytest.raises(ScriptError, match=re.escape("s.lua:2: there is no fragment includes/nowhere.lua")):
            assemble("s", "return\n-- @include nowhere", {})
        with pytest.raises(ScriptError, match=re.escape("includes/a.lua:1: there is no fragment includes/nowhere.lua")):
            assemble("s", "-- @include a", {"a": "-- @include nowhere"})

    def test_a_replaced_fragment_is_all_that_differs(self) -> None:
        replaced = load_scripts(REPLACED_INCLUDES)
        for name, script in SCRIPTS.items():
            assert (replaced[name].sha == script.sha) == ("wall_clock_us" not in script.source)
            assert replace(replaced[name], source="", sha="") == replace(script, source="", sha="")


class TestHeader:
    def test_what_it_says(self) -> None:
        script = _parse("s", HEADER, {})
        assert (script.purpose, script.cost) == ("Does a thing.", "O(1)")
        assert (script.keys, script.repeated_keys) == (("meta",), ("sku", "holds"))
        assert (script.args, script.repeated_args) == (("token",), ("sku", "quantity"))
        assert (script.reply, script.statuses) == (("status", "now_us"), ("not_found", "done"))

    @pytest.mark.parametrize(
        ("line", "instead", "message"),
        [
            ("#!lua", "-- lua", "begins with '#!lua'"),
            ("#!lua", "#!lua flags=no-writes", "begins with '#!lua'"),
            ("-- KEYS[1] meta", "-- KEYS[2] meta", "KEYS[2] is out of order"),
            ("hash the clock", "list the clock", "its type is not one of"),
            ("ARGV[1] token text", "ARGV[1] token string", "its type is not one of"),
            ("-- ARGV[1] token", "-- ARGV 1 token", "ARGV[0] is out of order"),
            ("-- REPLY status", "-- REPLIES status", "not a header line"),
            ("-- RETURNS not_found done\n", "", "no RETURNS"),
            ("-- COST O(1)\n", "", "no COST"),
        ],
    )
    def test_what_is_wrong_is_named(self, line: str, instead: str, message: str) -> None:
        assert line in HEADER
        with pytest.raises(ScriptError, match=rf"^s\.lua.*{re.escape(message)}"):
            _parse("s", HEADER.replace(line, instead), {})


class TestContracts:
    def test_every_script_has_its_typed_call(self) -> None:
        check_contracts(SCRIPTS)

    def test_a_script_without_a_call_and_a_call_without_a_script(self) -> None:
        with pytest.raises(ScriptError, match="extra"):
            check_contracts({**SCRIPTS, "extra": SCRIPTS["read"]})
        with pytest.raises(ScriptError, match="read"):
            check_contracts({name: script for name, script in SCRIPTS.items() if name != "read"})

    @pytest.mark.parametrize("name", CONTRACTS)
    def test_a_call_that_has_drifted(self, name: str) -> None:
        script = SCRIPTS[name]
        for drifted in (
            replace(script, args=(*script.args[1:], script.args[0])),
            replace(script, args=script.args[:-1]),
            replace(script, reply=(*script.reply, "more")),
        ):
            if drifted != script:
                with pytest.raises(ScriptError, match=f"{name}.lua"):
                    check_contracts({**SCRIPTS, name: drifted})


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_engine_takes_it_under_its_sha(engine: Engine, name: str) -> None:
    for script in (SCRIPTS[name], load_scripts(REPLACED_INCLUDES)[name]):
        assert engine.client.script_load(script.source) == script.sha


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_every_key_and_argument_is_bound_to_its_name(script: Script) -> None:
    bound = list(bindings(script.source.split("\n-- parse\n")[1].split("\n-- load\n")[0]))
    for table, names, suffix in (("KEYS", script.keys, "_key"), ("ARGV", script.args, "")):
        for number, name in enumerate(names, 1):
            local_names = [local for local, expression in bound if f"{table}[{number}]" in expression]
            assert f"{name}{suffix}" in local_names, f"{table}[{number}]"
    for _, expression in bound:
        for number, said in re.findall(r"integer\(.*?ARGV\[(\d+)\].*?'(\w+)'", expression):
            assert said == script.args[int(number) - 1]


def bindings(text: str) -> Iterator[tuple[str, str]]:
    """(name, expression) of every `local a, b = x, y`."""
    for names, expressions in re.findall(r"^local ([\w, ]+) = (.+)$", text, re.MULTILINE):
        parts = re.split(r", (?![^({]*[)}])", expressions)
        yield from zip(names.split(", "), parts, strict=True)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_it_parses_loads_decides_and_writes_in_this_order(script: Script) -> None:
    text = script.source.split("\n-- parse\n", maxsplit=1)[1]
    parts = [
        part
        for line in re.findall(r"^-- ((?:load|decide|write)(?:, \w+)*)$", text, re.MULTILINE)
        for part in line.split(", ")
    ]
    assert parts in (["load", "decide"], ["load", "decide", "write"])
