"""What is no argument of its kind is BADARG and changes nothing: said straight at the scripts, past all other checks.

Texts are opaque to the scripts: what may stand in them is checked where they come in.
"""

import json
import re
from dataclasses import dataclass

import pytest
from redis.exceptions import ResponseError

from tests.scripts.partition import CATEGORY, SCRIPTS, Partition
from tests.scripts.scenes import BASKET, prepare

NO_INTEGERS = (
    "nan",
    "inf",
    "-inf",
    "0x10",
    "1e3",
    "1.5",
    "",
    " ",
    "1 ",
    " 1",
    "+1",
    "1\n",
    "--1",
    "٣",
    "9" * 17,
    "0" * 17,
    str(2**53),
)
ARGUMENT = re.compile(r"^-- ARGV\[(?P<number>\d+)\] (?P<name>\w+) (?P<unit>\w+) (?P<range>\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Argument:
    """A line of a script's header, as far as it can be broken; `range` is its fourth word."""

    script: str
    name: str
    unit: str
    range: str

    def __str__(self) -> str:
        return f"{self.script}-{self.name}"

    @property
    def malformed(self) -> tuple[str, ...]:
        if self.unit == "flag" or "|" in self.range:
            return ("", "x", "2", "nan", f"{self.range.split('|')[0]} ", self.range)
        least, most = self.bounds
        below = "-1" if least >= 0 else str(least - 1)
        return (*NO_INTEGERS, below, str(least - 1), str(most + 1))

    @property
    def bounds(self) -> tuple[int, int]:
        """Those that the header says; without any, what an integer can be."""
        least, dots, most = self.range.rstrip(",").partition("..")
        return (_number(least), _number(most)) if dots else (0, 2**53 - 1)


def _number(text: str) -> int:
    """As the headers write one: 100, 10^12, -10^12, 2^53-1."""
    parts = re.fullmatch(r"(-?)(\d+)(?:\^(\d+))?(-1)?", text)
    assert parts, text
    sign, digits, power, less = parts.groups()
    value: int = int(digits) ** int(power or 1)
    return (-value if sign else value) - bool(less)


ARGUMENTS = [
    Argument(script.name, match["name"], match["unit"], match["range"])
    for script in SCRIPTS.values()
    for match in ARGUMENT.finditer(script.source)
]
CHECKED = [argument for argument in ARGUMENTS if argument.unit not in ("text", "json") or "|" in argument.range]


def refused(partition: Partition, name: str, rest: tuple[object, ...], given: dict[str, object]) -> None:
    before = partition.snapshot()
    with pytest.raises(ResponseError, match=r"^BADARG"):
        partition(name, *rest, **given)
    assert partition.snapshot() == before


def test_every_argument_has_its_line() -> None:
    for script in SCRIPTS.values():
        assert [argument.name for argument in ARGUMENTS if argument.script == script.name] == list(script.args)


@pytest.mark.parametrize("argument", CHECKED, ids=str)
def test_malformed(partition: Partition, argument: Argument) -> None:
    rest, given = prepare(partition, argument.script)
    for value in argument.malformed:
        refused(partition, argument.script, rest, {**given, argument.name: value})


@pytest.mark.parametrize("argument", [argument for argument in CHECKED if ".." in argument.range], ids=str)
def test_the_bounds_are_inside(partition: Partition, argument: Argument) -> None:
    for value in argument.bounds:
        partition.client.flushall()
        partition.clock.set(partition.clock.now_us)
        partition.open()
        rest, given = prepare(partition, argument.script)
        assert partition(argument.script, *rest, **{**given, argument.name: value}).status


@pytest.mark.parametrize("name", ["reserve", "commit", "cancel"])
@pytest.mark.parametrize("quantity", [*NO_INTEGERS, "-1", "0"])
def test_malformed_quantities(partition: Partition, name: str, quantity: str) -> None:
    _, given = prepare(partition, name)
    refused(partition, name, ("A", quantity), given)
    refused(partition, name, ("A", 1, "B", quantity), given)


@pytest.mark.parametrize("name", ["reserve", "commit", "cancel"])
def test_lines_come_in_pairs_each_sku_once(partition: Partition, name: str) -> None:
    _, given = prepare(partition, name)
    refused(partition, name, ("A",), given)
    refused(partition, name, ("A", 1, "B"), given)
    refused(partition, name, ("A", 1, "A", 1), given)
    refused(partition, name, ("A", 1, "B", 1, "A", 1), given)


def test_a_basket_has_1_to_100_lines(partition: Partition) -> None:
    refused(partition, "reserve", (), {})
    for number in range(101):
        partition.stock(f"sku-{number}")
    lines = tuple(value for number in range(101) for value in (f"sku-{number}", 1))
    refused(partition, "reserve", lines, {})
    assert partition("reserve", *lines[2:]).status == "held"


def test_every_line_has_its_two_keys(partition: Partition) -> None:
    partition.stock("A")
    partition.stock("B")
    keys, args = partition.wire("reserve", *BASKET)
    before = partition.snapshot()
    for wrong in (keys[:-1], keys[:-2], [*keys, keys[-1]]):
        with pytest.raises(ResponseError, match=r"^BADARG"):
            partition.raw(SCRIPTS["reserve"], wrong, args)
    assert partition.snapshot() == before


def test_so_many_skus_are_reconciled_at_once(partition: Partition) -> None:
    refused(partition, "reconcile", (), {})
    refused(partition, "reconcile", tuple(f"sku-{number}" for number in range(41)), {})
    keys, args = partition.wire("reconcile", "A")
    with pytest.raises(ResponseError, match=r"^BADARG"):
        partition.raw(SCRIPTS["reconcile"], keys[:-1], args)


INTEGER_FIELDS = {
    "safety_stock_units": 10**12,
    "safety_stock_basis_points": 10_000,
    "backorder_limit": 10**12,
    "low_stock_threshold": 10**12,
    "reconciliation_hold_us": 60_000_000,
    "lead_time_days": 100_000,
    "incoming": 10**12,
    "max_quantity_per_reservation": 10**12,
}
NO_LIMITS = (
    "x", "null", "5", '"5"', "[1]", "[]", '{"web":-1}', '{"web":1.5}', '{"web":"5"}', '{"web":true}', '{"web":null}',
    '{"web":{}}', '{"web":1000000000001}', '{"web":1e400}', '{"web":5', '{"web":nan}',
)  # fmt: skip


@pytest.mark.parametrize(("field", "most"), INTEGER_FIELDS.items())
def test_malformed_policies(partition: Partition, field: str, most: int) -> None:
    prepare(partition, "put_sku")
    least = 1 if field == "max_quantity_per_reservation" else 0
    for name in ("put_sku", "put_category"):
        for value in (*NO_INTEGERS, "-1", str(least - 1), str(most + 1)):
            if value:  # an empty text takes the field away
                refused(partition, name, ("variant_group", "v", field, value), {})
    assert getattr(partition("put_sku", field, most), field) == str(most)
    assert getattr(partition("put_sku", field, least), field) == str(least)


@pytest.mark.parametrize("name", ["put_sku", "put_category"])
def test_malformed_channel_limits(partition: Partition, name: str) -> None:
    for text in NO_LIMITS:
        refused(partition, name, ("variant_group", "v", "channel_limits", text), {})
    limits = {f"channel-{number}": 10**12 for number in range(100)}
    assert partition(name, "channel_limits", json.dumps(limits)).status in ("created", "stored")
    refused(partition, name, ("channel_limits", json.dumps({**limits, "one too many": 0})), {})


def test_a_category_is_of_no_category(partition: Partition) -> None:
    refused(partition, "put_category", ("category", CATEGORY), {})


@pytest.mark.parametrize("name", ["put_sku", "put_category"])
def test_unknown_policy_fields(partition: Partition, name: str) -> None:
    prepare(partition, name)
    for field in ("on_hand", "reserved", "sequence", "inherited", "promised:direct", "limit:direct", "unheard_of", ""):
        refused(partition, name, ("backorder_limit", 1, field, 1), {})
    refused(partition, name, ("backorder_limit",), {})


def test_a_transfer_goes_somewhere_else(partition: Partition) -> None:
    partition.stock("A")
    refused(partition, "transfer", (), {"from_location": "main", "to_location": "main"})


@pytest.mark.parametrize("quantity", [*NO_INTEGERS, "-1", "0"])
def test_malformed_allocations(partition: Partition, quantity: str) -> None:
    prepare(partition, "allocate")
    refused(partition, "allocate", ("A", "main", quantity), {})
    refused(partition, "allocate", ("A", "main", 1, "B", "main", quantity), {})


def test_allocations_come_in_triples_each_pair_once_1_to_200_of_them(partition: Partition) -> None:
    prepare(partition, "allocate")
    for rest in ((), ("A",), ("A", "main"), ("A", "main", 1, "B"), ("A", "main", 1, "B", "main")):
        refused(partition, "allocate", rest, {})
    refused(partition, "allocate", ("A", "main", 1, "B", "main", 1, "A", "main", 1), {})
    most = tuple(value for number in range(200) for value in ("A", f"l{number}", 1))
    assert partition("allocate", *most).status == "quantity_exceeds"
    refused(partition, "allocate", (*most, "A", "one too many", 1), {})


def test_malformed_rows_of_an_import(partition: Partition) -> None:
    good = ("B", "main", "shared", 1, "")
    for value in (*(text for text in NO_INTEGERS if text), "-1", str(10**12 + 1)):
        refused(partition, "import_stock", (*good, "A", "main", "shared", value, ""), {})
    for kind in ("", "x", "shared "):
        refused(partition, "import_stock", (*good, "A", "main", kind, 1, ""), {})
    for details in ("x", "5", "[]", "{}", '{"policy":5}', '{"policy":{"on_hand":"5"}}', '{"policy":{"incoming":"x"}}'):
        refused(partition, "import_stock", (*good, "A", "main", "shared", 1, details), {})
    refused(partition, "import_stock", (), {})
    refused(partition, "import_stock", good[:-1], {})
    refused(partition, "import_stock", good * 301, {})
