"""What is known of an order, by hand: numbers of several reporters, and units that left by what each of them said."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import pytest

from app.domain.orders import ORDER_LINES_MAX, OURSELVES, Departure, Order, OrderLine
from app.domain.types import Sku, Token

WAREHOUSE, PARTNER, MARKETPLACE = 3, 2, 1


@dataclass(frozen=True, slots=True)
class Told:
    """So many units more, by this reporter."""

    kind: str
    units: int
    reporter: str = OURSELVES


@dataclass(frozen=True, slots=True)
class Left:
    """Units that left: as a shipment, or by what its source deducts on."""

    units: int
    source: str = "wms"
    priority: int = WAREHOUSE
    at: int = 1
    is_ship: bool = True

    @property
    def of(self) -> str:
        return f"{self.source}:{self.at}"


News = Told | Left


def line_of(news: Sequence[News]) -> OrderLine:
    """Reckoned after each."""
    line = OrderLine()
    for each in news:
        if isinstance(each, Told):
            line.tell(each.kind, each.reporter, each.units)
        else:
            departure = Departure(
                each.units, each.priority, each.is_ship, each.at, each.source, each.at, each.source, "main", each.of
            )
            line.departures.append(departure)
        part = line.part
        before = {departure.of: departure.effective for departure in line.departures}
        told = line.reckon()
        assert told.part_change == line.part - part
        after = {departure.of: departure.effective for departure in line.departures}
        changes = {departure.of: change for departure, change in told.changes}
        assert changes == {of: after[of] - before[of] for of in after if after[of] != before[of]}
    return line


# What is told; how many are committed, have left, are beyond; how many of each departure count; what a person must see.
CASES: dict[str, tuple[list[News], tuple[int, int, int], dict[str, int], str]] = {
    "sold by us and by the channel is sold once": (
        [Told("sold", 3), Told("sold", 3, "shop")], (3, 0, 0), {}, "",
    ),
    "one reporter adds up": ([Told("sold", 2, "shop"), Told("sold", 1, "shop"), Told("sold", 1)], (3, 0, 0), {}, ""),
    "picked and packed before anybody said it was sold": (
        [Told("picked", 2, "wms"), Told("packed", 2, "wms")], (2, 0, 0), {}, "",
    ),
    "shipped in parts": (
        [Told("sold", 5), Left(2, at=1), Left(2, at=2)], (1, 4, 0), {"wms:1": 2, "wms:2": 2}, "",
    ),
    "shipped though nobody knows of a sale": ([Left(2)], (0, 2, 0), {"wms:1": 2}, ""),
    "more shipped than sold": (
        [Told("sold", 3), Left(2, at=1), Left(2, at=2)], (0, 3, 1), {"wms:1": 2, "wms:2": 1}, "shipped_beyond_sold",
    ),
    "two tell of the same units: the warehouse is believed": (
        [Told("sold", 4), Left(3, "shop", MARKETPLACE), Left(2)], (1, 3, 0), {"wms:1": 2, "shop:1": 1}, "",
    ),
    "of partners the first by name": (
        [Left(2, "pos", PARTNER), Left(2, "erp", PARTNER)], (0, 2, 0), {"erp:1": 2, "pos:1": 0}, "",
    ),
    "its own event before its shipments": (
        [Left(2, at=1), Left(3, at=2, is_ship=False)], (0, 3, 0), {"wms:1": 0, "wms:2": 3}, "",
    ),
    "cancelled in part": ([Told("sold", 5), Told("cancelled", 2, "shop")], (3, 0, 0), {}, ""),
    "cancelled by two is cancelled once": (
        [Told("sold", 5), Told("cancelled", 2, "shop"), Told("cancelled", 2)], (3, 0, 0), {}, "",
    ),
    "more cancelled than sold": ([Told("sold", 2), Told("cancelled", 5, "shop")], (0, 0, 0), {}, ""),
    "picked though it was cancelled": (
        [Told("sold", 2), Told("cancelled", 2), Told("picked", 1, "wms")], (0, 0, 0), {}, "moved_though_cancelled",
    ),
    "shipped though it was cancelled": (
        [Told("sold", 2), Told("cancelled", 1), Left(2)], (0, 2, 0), {"wms:1": 2}, "moved_though_cancelled",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("news", "numbers", "counted", "review"), CASES.values(), ids=CASES)
def test_any_order_ends_in_one_state(
    news: list[News], numbers: tuple[int, int, int], counted: dict[str, int], review: str
) -> None:
    for each in permutations(news):
        line = line_of(each)
        assert (line.part, line.shipped, line.beyond) == numbers, each
        assert {departure.of: departure.effective for departure in line.departures} == counted, each
        assert line.review == review, each


def test_an_order_is_open_until_all_of_its_lines_have_left() -> None:
    order = Order("web", "1")
    for sku in ("A", "B"):
        order.lines[Sku(sku)] = line_of([Told("sold", 2), Left(1)])
    assert (order.open, order.shipped) == (2, 2)
    order.lines[Sku("B")] = line_of([Told("sold", 2), Left(1), Told("cancelled", 1)])
    assert (order.open, order.shipped) == (1, 2)


def test_so_many_lines_can_follow_an_order() -> None:
    order = Order("web", "1")
    order.add(Token("t1"), ORDER_LINES_MAX - 1)
    assert (order.has_room(Token("t2"), 1), order.has_room(Token("t2"), 2)) == (True, False)
    assert order.has_room(Token("t1"), ORDER_LINES_MAX)
