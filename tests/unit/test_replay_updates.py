"""The replay proves what sources outside said: what it did to locations and orders, and what followed from that."""

from dataclasses import replace
from typing import Any

import pytest

from app.domain.errors import LedgerBroken
from app.domain.orders import ORDER_KEPT_US, ORDER_RETENTION_US
from app.domain.types import Sku, Token
from app.store.commands import SEEN_RETENTION_MS
from tests.ledgers import KEYS, Lie, Row, S, entry_of, replayed, said, told_instead, unnoticed, untold

A = Sku("A")
NOWHERE = {"location_id": None, "location_kind": None}
EAST = {"location_id": "east"}
T1 = {"token": "t1", "expires_s": 99}
T2 = {"token": "t2", "expires_s": 99}
OF_ORDER = {"reason": "order"}
PRIORITIES = {"wms": 3, "erp": 2, "pos": 2, "shop": 1}


def told(kind: str, units: int, at: int, *, source: str = "wms", **more: Any) -> dict[str, Any]:
    """What an entry says of the line that it comes from, which its source counts as its own number `at`."""
    line = {
        "delivery_id": f"{source}-{at}", "line": 0, "kind": kind, "told": units, "location_id": "main",
        "occurred_at_us": at * S, "clock": {source: at}, "system": source, "priority": PRIORITIES[source],
    }  # fmt: skip
    return {"source": source, "data": {**line, **more}}


def of_order(kind: str, units: int, at: int, order: str, *, source: str = "wms", is_away: bool = False) -> Any:
    """The same of an order; what has not left names no location."""
    line = told(kind, units, at, source=source, reference=order, channel="direct", deduct_on="ship")
    return line if is_away else {**line, **NOWHERE}


BY_AUTHORITY = {"source": "wms", "reason": "reconciliation"}
SEEN = {"wms": 3, "pos": 1}
TO_EAST = told("transfer", 2, 9, to_location_id="east")
TILL = told("sale", 1, 2, source="pos", reference=None, channel="direct", deduct_on="sale")
FEWER_SOLD = {**of_order("sale", 2, 7, "p", source="erp"), "reason": "shipped_beyond_sold"}

STORY: list[Row] = [
    (1, 1, "stock.received", "A", 10, 10, 0, 0, 0, 10, told("receive", 10, 1)),
    (2, 3, "stock.counted", "A", -2, 8, 0, 0, 0, 8, told("count", 8, 3, clock=SEEN)),
    (3, 4, "stock.received", "A", 0, 8, 0, 0, 0, 8, told("receive", 2, 2)),  # late: the count has it
    (4, 5, "stock.sale", "A", -1, 7, 0, 0, 0, 7, TILL),
    (5, 6, "reservation.held", "A", 3, 7, 3, 0, 0, 4, T1),
    (6, 7, "reservation.committed", "A", 3, 7, 0, 3, 0, 4, {**T1, "data": {"order_id": "o"}}),
    (7, 8, "stock.picked", "A", 2, 7, 0, 3, 0, 4, of_order("pick", 2, 4, "o")),
    (8, 9, "stock.shipped", "A", -2, 5, 0, 1, 0, 4, of_order("ship", 2, 5, "o", is_away=True)),
    (9, 10, "stock.cancelled", "A", 1, 5, 0, 1, 0, 4, of_order("cancel", 1, 6, "o", source="erp")),
    (9, 10, "reservation.cancelled", "A", 1, 5, 0, 0, 0, 5, {**T1, **OF_ORDER}),
    (9, 10, "reservation.fulfilled", "A", 2, 5, 0, 0, 0, 5, T1),
    (12, 11, "stock.transferred", "A", -2, 3, 0, 0, 0, 3, TO_EAST),
    (12, 11, "stock.transferred", "A", 2, 5, 0, 0, 0, 5, {**TO_EAST, **EAST}),
    (14, 12, "stock.shipped", "A", -3, 2, 0, 0, 0, 2, of_order("ship", 3, 12, "p", source="shop", is_away=True)),
    (15, 13, "stock.sale", "A", 2, 2, 0, 0, 0, 2, FEWER_SOLD),
    (15, 13, "stock.corrected", "A", 1, 3, 0, 0, 0, 3, {"source": "shop", **OF_ORDER}),
    (17, 14, "stock.observed", "A", 9, 3, 0, 0, 0, 3, {**told("observe", 9, 14, source="shop"), **NOWHERE}),
    (18, 15, "reservation.held", "A", 3, 3, 3, 0, 0, 0, T2),
    (19, 16, "stock.counted", "A", -1, 2, 3, 0, 0, 0, told("count", 0, 20, clock={"wms": 20, "pos": 9, "shop": 20})),
    (19, 16, "reservation.voided", "A", 3, 2, 0, 0, 0, 2, {**T2, "reason": "shortfall"}),
    (21, 17, "stock.adjusted", "A", 4, 6, 0, 0, 0, 6, {}),
    (22, 18, "stock.corrected", "A", -4, 2, 0, 0, 0, 2, BY_AUTHORITY),
]  # fmt: skip

LEDGER = [entry_of(sequence, row) for sequence, row in enumerate(STORY, 1)]


def test_a_true_ledger_is_believed() -> None:
    replay = replayed(LEDGER)
    assert {token: record.status for token, record in replay.records.items()} == {"t1": "fulfilled", "t2": "voided"}
    assert {name: place.on_hand for name, place in replay.stocks[A].locations.items()} == {"main": 0, "east": 2}
    state = replay.state()
    assert state.hashes[KEYS.facts(A)] == {
        "counts\tmain": f"0\t3\t{20 * S}\twms\tpos\t9\tshop\t20\twms\t20",
        "deltas\tmain": "\n".join(
            f"{at * S}\t{system}\t{at}\t{units}\t{system}:{system}-{at}#0"
            for at, system, units in (
                (1, "wms", 10), (2, "pos", -1), (2, "wms", 2), (5, "wms", -2), (9, "wms", -2), (12, "shop", -2),
            )
        ),
        "enforced\tmain": f"0\t3\t{20 * S}\twms\tpos\t9\tshop\t20\twms\t20",
        "deltas\teast": f"{9 * S}\twms\t9\t2\twms:wms-9#0",
    }  # fmt: skip
    order = KEYS.order("direct", "o")
    assert state.hashes[order] == {
        "at_us": str(10 * S),
        "open": "0",
        "shipped": "2",
        "tokens": "t1",
        "reservation_lines": "1",
        "line\tA": "\n".join(
            (
                "told\tsold\tlastunit\t3",
                "told\tpicked\twms\t2",
                "told\tcancelled\terp\t1",
                f"left\t2\t2\t3\t1\t{5 * S}\twms\t5\twms\tmain\twms:wms-5#0",
            )
        ),
    }
    assert state.expires_at_us[order] == state.expires_at_us[KEYS.reservation(Token("t1"))] == 10 * S + ORDER_KEPT_US
    assert state.strings[KEYS.seen("erp", "erp-6")] == "0\t11\n"
    assert state.expires_at_us[KEYS.seen("erp", "erp-6")] == 10 * S + SEEN_RETENTION_MS * 1000


def test_it_knows_the_last_entry_about_each_key() -> None:
    replay = replayed(LEDGER)
    for key, sequence in (
        (KEYS.facts(A), 22),
        (KEYS.order("direct", "o"), 11),
        (KEYS.order("direct", "p"), 16),
        (KEYS.seen("erp", "erp-6"), 11),
        (KEYS.seen("wms", "wms-4"), 7),
        (KEYS.order("direct", "q"), 22),
    ):
        assert replay.sequence_of(key) == sequence, key


def test_an_order_is_forgotten_some_time_after_its_last_news() -> None:
    """To the microsecond of engine time: what comes later is of a new one."""
    told_again = of_order("sale", 3, 11, "o", source="erp")
    for late_us, committed in ((0, 0), (1, 3)):
        row = (12, 0, "stock.sale", "A", 3, 5, 0, committed, 0, 5 - committed, told_again)
        entry = replace(entry_of(12, row), at_us=10 * S + ORDER_RETENTION_US + late_us)
        assert replayed([*LEDGER[:11], entry]).stocks[A].committed == committed
        with pytest.raises(LedgerBroken):
            replayed([*LEDGER[:11], replace(entry, at_us=entry.at_us + 1 - 2 * late_us)])


def lied(sequence: int, **lies: Any) -> Lie:
    """What was told is something else."""
    return lambda entries: said(sequence, data={**entries[sequence - 1].data, **lies})(entries)


LIES: dict[str, tuple[Lie, int, str]] = {
    "nobody said it": (said(1, data={}), 1, "is of type stock.received, which is none of a SKU's"),
    "half a line": (said(1, data={"delivery_id": "wms-1"}), 1, "does not say what its source said"),
    "a return that was a receipt": (said(1, type="stock.returned"), 1, "is no entry of a receive"),
    "a clock that lacks its own system": (lied(1, system="erp"), 1, "is no entry of a receive"),
    "a receipt of other units": (lied(1, told=9), 1, "changes main by 10, not by 9"),
    "a receipt elsewhere": (said(1, location_id="east"), 1, "is about ['east'], its source said ['main']"),
    "a count that found something else": (lied(2, told=9), 2, "changes main by -2, not by -1"),
    "a count that had seen nothing": (lied(2, clock={"wms": 0}, occurred_at_us=0), 2, "changes main by -2, not by 8"),
    "a count that says nothing new": (
        told_instead(2, (3, 4, "stock.counted", "A", -3, 5, 0, 0, 0, 5, told("count", 5, 2))),
        3, "is a count that says nothing new",
    ),
    "a late receipt that counts": (said(3, quantity=2, on_hand=10, available=10), 3, "changes main by 2, not by 0"),
    "a till that had been counted": (lied(4, clock={"pos": 1}), 4, "changes main by -1, not by 0"),
    "a sale into no order": (lied(6, order_id=""), 7, "committed is 3, but it is 5"),
    "a pick that takes from the shelf": (said(7, location_id="main", location_kind="shared"), 7, "that have not left"),
    "a pick of other units": (lied(7, told=3), 7, "moves units that have not left"),
    "a pick that asks for a person": (said(7, reason="moved_though_cancelled"), 7, "not for none"),
    "a shipment of fewer units": (said(8, quantity=-1, on_hand=6), 8, "changes main by -1, not by -2"),
    "a shipment from nowhere": (said(8, **NOWHERE), 8, "names no location"),
    "a shipment of another order": (lied(8, reference="q"), 8, "committed is 1, but it is 3"),
    "a shipment that nobody committed": (said(8, committed=3), 8, "committed is 3, but it is 1"),
    "a cancel that takes nothing back": (untold(10, 11), 9, "is not followed by reservation.cancelled"),
    "a cancel that takes too much back": (said(10, quantity=2, committed=-1), 10, "does not take 1 units of A back"),
    "a cancel that the order did not cause": (said(10, reason=""), 10, "does not belong to the command"),
    "an order that is done in silence": (untold(11), 10, "is not followed by reservation.fulfilled"),
    "an order that is done with fewer units": (said(11, quantity=1), 11, "does not account for the lines"),
    "an order that is done too early": (
        told_instead(7, (7, 8, "reservation.fulfilled", "A", 3, 7, 0, 3, 0, 4, T1)), 8, "none of a reservation's",
    ),
    "an order that is done out of the blue": (
        told_instead(7, (8, 9, "reservation.fulfilled", "A", 3, 7, 0, 3, 0, 4, T1)), 8, "follows from no news",
    ),
    "a transfer to another place": (said(13, location_id="west"), 13, "its source said ['main', 'east']"),
    "a transfer that was a shipment": (said(13, type="stock.shipped"), 13, "is no entry of a transfer"),
    "a transfer to nowhere": (untold(13), 12, "its source said ['main', 'east']"),
    "a review that nobody asked for": (said(15, reason=""), 15, "not for shipped_beyond_sold"),
    "a review of something else": (said(15, reason="moved_though_cancelled"), 15, "not for shipped_beyond_sold"),
    "a correction that is missing": (untold(16), 15, "is not followed by stock.corrected"),
    "a correction elsewhere": (said(16, location_id="east"), 16, "is not the correction of 1 units at main"),
    "a correction of two units": (said(16, quantity=2, on_hand=4), 16, "is not the correction of 1 units at main"),
    "a correction of another's word": (said(16, source="wms"), 16, "is not the correction of 1 units at main"),
    "a correction of a location that is sold from nowhere": (said(16, location_kind="dedicated"), 16, "is not the"),
    "a correction for another reason": (said(16, reason="mood"), 16, "does not belong to the command"),
    "an observation that is believed": (said(17, location_id="main", location_kind="shared"), 17, "changes something"),
    "an observation of something else": (lied(17, told=8), 17, "observes and changes something"),
    "a count that voids what has shipped": (said(20, token=Token("t1")), 20, "voids a reservation that is fulfilled"),
    "an authority that never counted": (said(22, source="erp"), 22, "by what erp never counted"),
    "an authority that enforces its count again": (
        told_instead(22, (23, 19, "stock.corrected", "A", 0, 2, 0, 0, 0, 2, BY_AUTHORITY)),
        23, "enforces a count for the second time",
    ),
    "an authority that says something else": (said(22, quantity=-3, on_hand=3), 22, "changes main by -3, not by -4"),
    "an authority without a word": (said(22, reason="order"), 22, "follows from no news"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "sequence", "words"), LIES.values(), ids=LIES)
def test_a_lie_is_named(change: Lie, sequence: int, words: str) -> None:
    with pytest.raises(LedgerBroken) as broken:
        replayed(change(LEDGER))
    assert words in str(broken.value)
    assert broken.value.sequence == sequence


@pytest.mark.parametrize(
    "name",
    [
        "sequence", "command", "type", "sku", "quantity", "on_hand", "reserved", "committed", "backordered",
        "available", "safety_stock", "token", "location_id", "location_kind",
    ],
)  # fmt: skip
def test_no_number_or_name_can_be_changed_unnoticed(name: str) -> None:
    """Any one field of any one entry; but a void may be a command of its own."""
    found = unnoticed(LEDGER, name)
    assert [entry for entry in found if (name, entry.type) != ("command", "reservation.voided")] == []
