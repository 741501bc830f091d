"""The replay proves a ledger by itself: a true one passes, and each kind of lie is named where it stands."""

import math
from dataclasses import replace
from typing import Any

import pytest

from app.domain.entries import Entry
from app.domain.errors import LedgerBroken
from app.domain.orders import ORDER_KEPT_US
from app.domain.types import Line, Policy, Sku, Token
from app.projections.replay import TOKEN_REST_US_MIN
from tests.ledgers import (
    COMMITTED_RETENTION_MS,
    KEYS,
    RETENTION_MS,
    Lie,
    Row,
    S,
    both,
    entry_of,
    replayed,
    said,
    told_instead,
    unnoticed,
    untold,
)

T1 = {"token": "t1", "expires_s": 20}
SOLD = {**T1, "data": {"order_id": "o"}}
KEYED = {"data": {"key": "k", "fingerprint": "f"}}
UNPAID = {"reason": "payment_expired"}
LIMIT = {"backorder_limit": "2"}
NOWHERE = {"location_id": None, "location_kind": None}

STORY: list[Row] = [
    (1, 1, "sku.updated", "A", 0, 0, 0, 0, 0, 0, {"data": {"policy": LIMIT}, **NOWHERE}),
    (2, 1, "stock.adjusted", "A", 10, 10, 0, 0, 0, 10, {}),
    (3, 2, "stock.adjusted", "B", 5, 5, 0, 0, 0, 5, {"data": {"key": "k3", "fingerprint": "f3"}}),
    (4, 3, "reservation.held", "A", 3, 10, 3, 0, 0, 7, {"token": "t1", "expires_s": 13}),
    (4, 3, "reservation.held", "B", 2, 5, 2, 0, 0, 3, {"token": "t1", "expires_s": 13}),
    (6, 4, "reservation.extended", "A", 3, 10, 3, 0, 0, 7, T1),
    (6, 4, "reservation.extended", "B", 2, 5, 2, 0, 0, 3, T1),
    (8, 5, "reservation.committed", "A", 2, 10, 1, 2, 0, 7, SOLD),
    (8, 5, "reservation.committed", "B", 1, 5, 1, 1, 0, 3, SOLD),
    (8, 5, "reservation.released", "A", 1, 10, 0, 2, 0, 8, SOLD),
    (8, 5, "reservation.released", "B", 1, 5, 0, 1, 0, 4, SOLD),
    (12, 6, "reservation.cancelled", "A", 1, 10, 0, 1, 0, 9, T1),
    (13, 7, "reservation.held", "A", 10, 10, 10, 1, 1, 0, {"token": "t2", "expires_s": 17}),
    (14, 8, "reservation.payment_pending", "A", 10, 10, 10, 1, 1, 0, {"token": "t2", "expires_s": 30}),
    (15, 30, "reservation.expired", "A", 10, 10, 0, 1, 0, 9, {"token": "t2", "expires_s": 30, **UNPAID}),
    (16, 31, "reservation.held", "B", 1, 5, 1, 1, 0, 3, {"token": "t3", "expires_s": 41}),
    (17, 32, "reservation.released", "B", 1, 5, 0, 1, 0, 4, {"token": "t3", "expires_s": 41, **KEYED}),
    (18, 33, "reservation.held", "B", 2, 5, 2, 1, 0, 2, {"token": "t4", "expires_s": 43}),
    (19, 34, "reservation.reconciling", "B", 2, 5, 2, 1, 0, 2, {"token": "t4", "expires_s": 36}),
    (20, 36, "reservation.committed", "B", 2, 5, 0, 3, 0, 2, {"token": "t4", "expires_s": 36}),
    (21, 37, "stock.adjusted", "A", -9, 1, 0, 1, 0, 0, {}),
    (22, 38, "reservation.held", "A", 1, 1, 1, 1, 1, 0, {"token": "t5", "expires_s": 48}),
]  # fmt: skip


# The same of stock: a category, two kinds of locations, promises beyond stock that are covered, a sale that is
# allocated, a count that voids.
OF_ROSES, OF_LILIES = {"backorder_limit": "4"}, {"safety_stock_units": "1"}
ROSES: dict[str, Any] = {"data": {"category": "flowers", "policy": OF_ROSES}, **NOWHERE}
LILIES = {"data": {"category": "flowers", "policy": OF_LILIES}, **NOWHERE}
LESS = {"policy": {}, "inherited": OF_LILIES}
WEB = {"category": "flowers", "channel_limits": '{"web":6}'}
FBA = {"location_id": "fba", "location_kind": "dedicated"}
EAST = {"location_id": "east"}
S1, S2, S3, S4 = ({"token": token, "expires_s": 99} for token in ("s1", "s2", "s3", "s4"))
S1 |= {"channel": "web"}
S3 |= {"channel": "web"}
DECIDED = {**S1, "location_id": "main", "data": {"allocations": [["A", "main", 2], ["A", "east", 1]]}}
SHORT = {"reason": "shortfall"}

STOCK_STORY: list[Row] = [
    (1, 1, "category.updated", "", 0, 0, 0, 0, 0, 0, ROSES),
    (2, 2, "sku.updated", "A", 0, 0, 0, 0, 0, 0, {"data": {"policy": WEB, "inherited": OF_ROSES}, **NOWHERE}),
    (3, 3, "stock.adjusted", "A", 4, 4, 0, 0, 0, 4, {}),
    (4, 4, "stock.adjusted", "A", 6, 4, 0, 0, 0, 4, FBA),
    (5, 5, "stock.adjusted", "B", 9, 9, 0, 0, 0, 9, {}),
    (6, 6, "reservation.held", "A", 3, 4, 3, 0, 0, 1, S1),
    (7, 7, "reservation.committed", "A", 3, 4, 0, 3, 0, 1, S1),
    (8, 8, "reservation.held", "B", 1, 9, 1, 0, 0, 8, S2),
    (8, 8, "reservation.held", "A", 1, 4, 1, 3, 0, 0, S2),
    (10, 9, "reservation.held", "A", 2, 4, 3, 3, 2, 0, S3),
    (11, 10, "reservation.held", "A", 1, 4, 4, 3, 3, 0, S4),
    (12, 11, "stock.adjusted", "A", 1, 5, 4, 3, 2, 0, {}),
    (13, 12, "stock.transferred", "A", -2, 3, 4, 3, 2, 0, {}),
    (13, 12, "stock.transferred", "A", 2, 5, 4, 3, 2, 0, EAST),
    (15, 13, "stock.allocated", "A", 2, 5, 4, 3, 2, 0, DECIDED),
    (15, 13, "stock.allocated", "A", 1, 5, 4, 3, 2, 0, {**DECIDED, **EAST}),
    (17, 14, "reservation.cancelled", "A", 1, 5, 4, 2, 1, 0, S1),
    (17, 14, "stock.allocated", "A", -1, 5, 4, 2, 1, 0, {**S1, **EAST}),
    (19, 15, "stock.adjusted", "A", -3, 2, 4, 2, 1, 0, {}),
    (19, 15, "reservation.voided", "A", 2, 2, 2, 2, 1, 0, {**S3, **SHORT}),
    (19, 15, "reservation.voided", "B", 1, 9, 0, 0, 0, 9, {**S2, **SHORT}),
    (19, 15, "reservation.voided", "A", 1, 2, 1, 2, 1, 0, {**S2, **SHORT}),
    (23, 16, "stock.transferred", "A", -1, 1, 1, 2, 1, 0, EAST),
    (23, 16, "stock.transferred", "A", 1, 1, 1, 2, 1, 0, FBA),
    (25, 17, "stock.transferred", "A", -3, 1, 1, 2, 1, 0, FBA),
    (25, 17, "stock.transferred", "A", 3, 4, 1, 2, 0, 1, {}),
    (27, 18, "category.updated", "", 0, 0, 0, 0, 0, 0, LILIES),
    (28, 19, "sku.updated", "A", 0, 4, 1, 2, 0, 0, {"data": LESS, "safety_stock": 1, **NOWHERE}),
]  # fmt: skip


LEDGER = [entry_of(sequence, row) for sequence, row in enumerate(STORY, 1)]
STOCK_LEDGER = [entry_of(sequence, row) for sequence, row in enumerate(STOCK_STORY, 1)]


def test_a_true_ledger_is_believed() -> None:
    replay = replayed(LEDGER)
    a, b = replay.stocks[Sku("A")], replay.stocks[Sku("B")]
    assert (a.on_hand, a.reserved, a.committed, a.backordered, a.available, a.sequence) == (1, 1, 1, 1, 0, 22)
    assert (b.on_hand, b.reserved, b.committed, b.backordered, b.available, b.sequence) == (5, 0, 3, 0, 2, 20)
    assert {token: record.status for token, record in replay.records.items()} == {
        "t1": "committed",
        "t2": "expired",
        "t3": "released",
        "t4": "committed",
        "t5": "held",
    }
    first = replay.records[Token("t1")]
    assert first.lines == (Line(Sku("A"), 3), Line(Sku("B"), 2))
    assert first.committed == (Line(Sku("A"), 2), Line(Sku("B"), 1))
    assert first.remaining == (Line(Sku("A"), 1), Line(Sku("B"), 1))
    assert (first.order_id, first.first_expires_us, first.last_sequence) == ("o", 13 * S, 12)


def test_it_gives_the_keys_of_an_engine_with_this_ledger() -> None:
    state = replayed(LEDGER).state()
    assert state.hashes[KEYS.sku(Sku("A"))]["backorder_limit"] == "2"
    assert state.hashes[KEYS.locations(Sku("B"))] == {"on_hand\tmain": "5"}
    assert state.hashes[KEYS.backorders(Sku("A"))] == {"t5": "1"}
    assert state.hashes[KEYS.reservation(Token("t3"))] == {
        "status": "released",
        "agent": "agent",
        "channel": "direct",
        "lines": "B\t1\t0",
        "created_us": str(31 * S),
        "expires_us": str(41 * S),
        "sequence": "16",
        "last_sequence": "17",
        "key:k": f"f\t17\t{41 * S}\nB\t1\t0",
    }
    assert state.zsets == {
        KEYS.deadlines: {"t5": str(48 * S)},
        KEYS.holds(Sku("A")): {"t5": str(48 * S)},
        KEYS.backorder_queue(Sku("A")): {"t5": "22"},
    }
    assert state.strings == {KEYS.seen("adjustment", "k3"): "f3\t3"}
    assert state.expires_at_us == {
        KEYS.order("direct", "o"): 6 * S + ORDER_KEPT_US,
        KEYS.reservation(Token("t1")): 6 * S + ORDER_KEPT_US,
        KEYS.reservation(Token("t4")): 36 * S + COMMITTED_RETENTION_MS * 1000,
        KEYS.reservation(Token("t2")): 30 * S + RETENTION_MS * 1000,
        KEYS.reservation(Token("t3")): 32 * S + RETENTION_MS * 1000,
        KEYS.seen("adjustment", "k3"): 2 * S + 7 * 24 * 3600 * S,
    }


def test_a_true_ledger_of_stock_is_believed() -> None:
    replay = replayed(STOCK_LEDGER)
    assert {token: record.status for token, record in replay.records.items()} == {
        "s1": "committed",
        "s2": "voided",
        "s3": "voided",
        "s4": "held",
    }
    state = replay.state()
    assert state.hashes[KEYS.sku(Sku("A"))] == {
        "on_hand": "4",
        "reserved": "1",
        "committed": "2",
        "backordered": "0",
        "safety_stock": "1",
        "sequence": "28",
        "safety_stock_units": "1",
        "category": "flowers",
        "channel_limits": '{"web":6}',
        "inherited": "safety_stock_units",
        "limit:web": "6",
        "promised:web": "2",
        "promised:direct": "1",
    }
    assert state.hashes[KEYS.locations(Sku("A"))] == {
        "on_hand\tmain": "3",
        "allocated\tmain": "2",
        "on_hand\teast": "1",
        "on_hand\tfba": "4",
        "kind\tfba": "dedicated",
    }
    assert state.hashes[KEYS.category("flowers")] == {"safety_stock_units": "1"}
    assert state.zsets[KEYS.category_skus("flowers")] == {"A": "0"}
    assert KEYS.backorders(Sku("A")) not in state.hashes
    assert state.hashes[KEYS.reservation(Token("s1"))]["allocations"] == "A\tmain\t2"
    assert state.expires_at_us[KEYS.reservation(Token("s3"))] == 15 * S + RETENTION_MS * 1000
    assert replay.sequence_of(KEYS.backorder_queue(Sku("A"))) == replay.sequence_of(KEYS.locations(Sku("A"))) == 28
    assert replay.sequence_of(KEYS.reservation(Token("s2"))) == 22


def test_the_oldest_promise_is_covered_first() -> None:
    halfway = replayed(STOCK_LEDGER[:12])
    assert halfway.state().hashes[KEYS.backorders(Sku("A"))] == {"s3": "1", "s4": "1"}
    assert halfway.state().zsets[KEYS.backorder_queue(Sku("A"))] == {"s3": "10", "s4": "11"}


def told(policy: dict[str, str], **lies: Any) -> Lie:
    """The ledger with another policy at its beginning."""
    return said(1, data={"policy": policy}, **lies)


def invented(kind: str, token: str, second: int, **more: Any) -> Lie:
    """The ledger with one entry more at its end, true to the balances of B as if nothing had moved."""
    last = len(LEDGER) + 1
    row = (last, second, kind, "B", 1, 5, 0, 3, 0, 2, {"token": token, "expires_s": 99})
    return lambda entries: [*entries, replace(entry_of(last, row), **more)]


LIES: dict[str, tuple[Lie, int, str]] = {
    "an entry is missing": (lambda entries: entries[:9] + entries[10:], 11, "the ledger has a gap"),
    "an entry comes twice": (lambda entries: entries[:10] + entries[9:], 10, "the ledger has a gap"),
    "the beginning is missing": (lambda entries: entries[1:], 2, "the ledger has a gap"),
    "two entries are swapped": (lambda entries: [*entries[:2], entries[3], entries[2], *entries[4:]], 4, "a gap"),
    "time runs back": (said(16, at_us=29 * S), 16, "is earlier than the entry before it"),
    "a command is another's": (said(5, command=2), 5, "does not belong to the command"),
    "a command is of the future": (said(13, command=14), 13, "does not belong to the command"),
    "a command has two agents": (said(5, agent_id="another"), 5, "does not belong to the command"),
    "a command has two times": (said(5, at_us=4 * S), 5, "does not belong to the command"),
    "a command has two deadlines": (said(7, expires_us=21 * S), 7, "does not belong to the command"),
    "on hand is too much": (said(2, on_hand=11, available=11), 2, "on_hand is 11, but it is 10"),
    "reserved is too little": (said(13, reserved=9, available=1), 13, "reserved is 9, but it is 10"),
    "committed is too much": (said(8, committed=3), 8, "committed is 3, but it is 2"),
    "backordered is hidden": (said(13, backordered=0), 13, "backordered is 0, but it is 1"),
    "available is too much": (said(4, available=8), 4, "says that 8 are available, but 7 are"),
    "a quantity is not what moved": (said(12, quantity=2), 12, "committed is 1, but it is 0"),
    "a hold of nothing": (said(16, quantity=0), 16, "about 0 units"),
    "a hold of less than nothing": (said(16, quantity=-1), 16, "about -1 units"),
    "a hold beyond stock and limit": (told({"backorder_limit": "0"}), 13, "1 units more than are available"),
    "a hold of more than one may": (told({**LIMIT, "max_quantity_per_reservation": "9"}), 13, "holds more than 9"),
    "a hold that is over at once": (said(16, expires_us=31 * S), 16, "until a time that has passed"),
    "a hold of an unknown SKU": (said(16, sku=Sku("C")), 16, "a SKU that never was"),
    "a hold of a token in use": (said(22, token=Token("t4")), 22, "takes a token that is in use"),
    "a hold of a token just ended": (said(22, token=Token("t3")), 22, "takes a token that is in use"),
    "a safety stock out of nothing": (said(2, safety_stock=1, available=9), 2, "withholds 1 units, not 0"),
    "a safety stock forgotten": (told({"safety_stock_units": "2"}, safety_stock=2), 2, "withholds 0 units, not 2"),
    "an adjustment of nowhere": (said(2, location_id=None), 2, "names no location"),
    "a location below zero": (said(21, location_id="east"), 21, "leaves -9 units at east"),
    "a policy that moves stock": (said(1, quantity=1), 1, "changes a policy and a quantity"),
    "a policy that is not said": (said(1, data={}), 1, "does not say a policy"),
    "a policy that is none": (told({"backorder_limit": "x"}), 1, "does not say a policy"),
    "a policy without its words": (said(1, data={"policy": {"backorder_limit": 2}}), 1, "does not say a policy"),
    "an unknown type of a SKU": (said(2, type="stock.found"), 2, "is of type stock.found"),
    "an unknown type of a reservation": (said(12, type="reservation.lost"), 12, "is of type reservation.lost"),
    "a reservation that never was": (said(16, type="reservation.released"), 16, "a reservation that never was"),
    "another agent's reservation": (said(17, agent_id="another"), 17, "another agent's"),
    "another channel's reservation": (said(17, channel="another"), 17, "another agent's"),
    "a deadline moved back": (said(14, expires_us=16 * S), 14, "moves the deadline back"),
    "a deadline moved in secret": (said(17, expires_us=42 * S), 17, "moves the deadline from 41000000"),
    "a line is not extended": (untold(7), 6, "does not account for the lines"),
    "a line is not held any more": (untold(11), 10, "does not account for 2 units of B"),
    "a line is sold in part": (said(9, quantity=2), 11, "does not account for 2 units of B"),
    "a line is sold twice": (said(9, sku=Sku("A")), 11, "sells or returns a line twice"),
    "a strange line is cancelled": (said(12, sku=Sku("C")), 12, "which the reservation does not hold"),
    "more is cancelled than was sold": (said(12, quantity=3), 12, "cancels 3 of 2 units"),
    "a hold expires early": (said(15, at_us=29 * S), 15, "before its deadline"),
    "a payment expires as a hold": (said(15, reason=""), 15, "gives the wrong reason"),
    "a hold expires as a payment": (said(14, type="reservation.extended"), 15, "gives the wrong reason"),
    "a release comes too late": (lambda entries: said(17, at_us=41 * S)(entries[:17]), 17, "whose deadline has passed"),
    "a window ends early": (said(20, at_us=35 * S), 20, "before its time"),
    "a window that is over at once": (said(19, expires_us=34 * S), 19, "a reconciliation window that is over"),
    "a second end: released": (invented("reservation.released", "t3", 39), 23, "a reservation that is released"),
    "a second end: expired": (invented("reservation.expired", "t3", 50), 23, "expires a reservation that is released"),
    "a second end: committed": (invented("reservation.committed", "t2", 39), 23, "a reservation that is expired"),
    "a sale that was none": (invented("reservation.cancelled", "t5", 39), 23, "cancels a reservation that is held"),
    "a life after the sale": (invented("reservation.extended", "t4", 39), 23, "a reservation that is committed"),
    "a sale of what a count took away": (
        lambda entries: [
            *entries,
            entry_of(23, (23, 39, "stock.adjusted", "A", -1, 0, 1, 1, 1, 0, {})),
            entry_of(24, (24, 40, "reservation.committed", "A", 1, 0, 0, 2, 1, 0, {"token": "t5", "expires_s": 48})),
        ],
        24,
        "of which 1 units more are promised than there are",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "sequence", "words"), LIES.values(), ids=LIES)
def test_a_lie_is_named(change: Lie, sequence: int, words: str) -> None:
    with pytest.raises(LedgerBroken) as broken:
        replayed(change(LEDGER))
    assert words in str(broken.value)
    assert broken.value.sequence == sequence


def decided(rows: list[list[Any]], **lies: Any) -> Lie:
    """The fulfilment decision says this."""
    data = {"allocations": rows}
    return both(said(15, data=data), said(16, **{"data": data, **lies}))


STOCK_LIES: dict[str, tuple[Lie, int, str]] = {
    "a category that is a SKU": (said(1, sku=Sku("A")), 1, "is of a category and of a SKU"),
    "a category that is on hand": (said(1, on_hand=1), 1, "is of a category and has units"),
    "a category that withholds": (said(1, safety_stock=1), 1, "withholds 1 units, not 0"),
    "a category without its policy": (said(1, data={"category": "flowers"}), 1, "does not say a policy"),
    "a default forgotten": (
        both(said(1, data={**ROSES["data"], "policy": {}}), said(2, data={"policy": WEB})), 10, "holds 2 units more",
    ),
    "a default kept": (
        both(said(27, data=ROSES["data"]), said(28, data={"policy": {}, "inherited": OF_ROSES})),
        28, "withholds 1 units, not 0",
    ),
    "a default that is not the category's": (
        said(2, data={"policy": WEB, "inherited": {"backorder_limit": "5"}}), 2, "what that does not say",
    ),
    "a default that is not told": (said(28, data={"policy": {}}), 28, "what that does not say"),
    "a channel above its limit": (
        said(2, data={"policy": {**WEB, "channel_limits": '{"web":2}'}, "inherited": OF_ROSES}),
        6, "gives the channel 3 units",
    ),
    "a dedicated location that is sold from": (said(4, location_kind="shared"), 4, "on_hand is 4, but it is 10"),
    "a shared location that is not": (said(3, location_kind="dedicated"), 3, "on_hand is 4, but it is 0"),
    "a location that changes its kind": (said(13, location_kind="dedicated"), 13, "which it is not"),
    "a location of no kind": (said(4, location_kind="other"), 4, "names no location"),
    "a transfer to nowhere": (lambda entries: untold(14)(entries)[:13], 13, "is no transfer"),
    "a transfer that loses a unit": (said(14, quantity=1, on_hand=4), 14, "is no transfer"),
    "a transfer back": (both(said(13, quantity=2), said(14, quantity=-2)), 14, "is no transfer"),
    "a transfer to where it came from": (said(14, location_id="main"), 14, "is no transfer"),
    "a transfer of another SKU": (said(14, sku=Sku("B")), 14, "is no transfer"),
    "a transfer of what is not there": (said(13, location_id="west"), 13, "leaves -2 units at west"),
    "an arrival that covers nobody": (said(12, backordered=3, available=1), 12, "backordered is 3, but it is 2"),
    "a loss that covers": (said(19, backordered=0), 19, "backordered is 0, but it is 1"),
    "a decision that says nothing": (both(said(15, data={}), said(16, data={})), 15, "does not say what it allocates"),
    "a decision about more than was sold": (
        both(decided([["A", "main", 3], ["A", "east", 1]]), said(15, quantity=3)), 16, "allocates 4 of 3 units of A",
    ),
    "a decision with another place": (said(16, location_id="fba"), 16, "allocates something else"),
    "a decision with another number": (said(16, quantity=2), 16, "allocates something else"),
    "a decision in parts": (
        decided([["A", "main", 2]], location_id="main", quantity=2), 16, "allocates something else",
    ),
    "a decision about a dedicated place": (
        decided([["A", "main", 2], ["A", "fba", 1]], location_id="fba"), 16, "allocates units that fba has not",
    ),
    "a decision about no place": (
        decided([["A", "main", 2], ["A", "west", 1]], location_id="west"), 16, "allocates units that west has not",
    ),
    "a decision about what is elsewhere": (
        told_instead(14, (15, 13, "stock.allocated", "A", 3, 5, 4, 3, 2, 0,
                          {**S1, **EAST, "data": {"allocations": [["A", "east", 3]]}})),
        15, "allocates units that east has not",
    ),
    "a decision about what is held": (
        told_instead(14, (15, 13, "stock.allocated", "A", 1, 5, 4, 3, 2, 0,
                          {**S4, **EAST, "data": {"allocations": [["A", "east", 1]]}})),
        15, "allocates units of a reservation that is held",
    ),
    "a cancel that leaves units where they were": (untold(18), 17, "takes other units from their locations"),
    "a cancel that takes from another place": (said(18, location_id="main"), 18, "takes other units"),
    "a cancel that takes too much": (said(18, quantity=-2), 18, "takes other units from their locations"),
    "a cancel that does something else": (said(18, type="reservation.released", quantity=1), 18, "does something else"),
    "a void without a shortfall": (
        told_instead(28, (29, 20, "reservation.voided", "A", 1, 4, 0, 2, 0, 1, {**S4, **SHORT})),
        29, "voids a reservation without a shortfall",
    ),
    "a void of what needs no stock": (
        told_instead(19, (19, 15, "reservation.voided", "A", 1, 2, 3, 2, 0, 0, {**S4, **SHORT})),
        20, "voids a reservation that needs no stock",
    ),
    "a void of a sale": (said(20, token=Token("s1")), 20, "voids a reservation that is committed"),
    "a void for another reason": (said(20, reason="mood"), 20, "voids a reservation that is held"),
    "a void of what is due": (
        lambda entries: [replace(entry, at_us=99 * S) if entry.command == 19 else entry for entry in entries[:22]],
        20, "whose deadline has passed",
    ),
    "a void of a part": (untold(21), 21, "does not account for the lines"),
    "a void of fewer units": (said(20, quantity=1), 20, "does not account for the lines"),
    "a void for another SKU": (
        told_instead(20, (19, 15, "reservation.voided", "A", 1, 2, 1, 2, 1, 0, {**S2, **SHORT}),
                     (19, 15, "reservation.voided", "B", 1, 9, 0, 0, 0, 9, {**S2, **SHORT})),
        22, "voids for another SKU",
    ),
    "a void that a cancel causes": (
        told_instead(18, (17, 14, "reservation.voided", "A", 2, 5, 2, 2, 1, 2, {**S3, **SHORT})),
        19, "voids a reservation without a shortfall",
    ),
    "a release that a count causes": (said(20, type="reservation.released"), 20, "does not belong to the command"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "sequence", "words"), STOCK_LIES.values(), ids=STOCK_LIES)
def test_a_lie_about_stock_is_named(change: Lie, sequence: int, words: str) -> None:
    with pytest.raises(LedgerBroken) as broken:
        replayed(change(STOCK_LEDGER))
    assert words in str(broken.value)
    assert broken.value.sequence == sequence


@pytest.mark.parametrize("ledger", [LEDGER, STOCK_LEDGER], ids=["sales", "stock"])
@pytest.mark.parametrize(
    "name", [name for name in Entry.__slots__ if name not in ("partition", "reason", "data", "source")]
)
def test_no_number_or_name_can_be_changed_unnoticed(ledger: list[Entry], name: str) -> None:
    """Any one field of any one entry; what a ledger is only told (who holds, until when) has no second witness.

    Nor have units at a dedicated location: they are in no balance.
    """
    free = {"token", "agent_id", "channel", "location_id", "expires_us", "at_us"}
    found = [
        entry.sequence
        for entry in unnoticed(ledger, name)
        if (name, entry.type, entry.location_kind) != ("quantity", "stock.adjusted", "dedicated")
    ]
    assert not found or name in free, found


def test_a_token_may_be_taken_again_when_its_record_is_long_forgotten() -> None:
    later_us = 32 * S + TOKEN_REST_US_MIN
    again = replace(LEDGER[21], token=Token("t3"), at_us=later_us, expires_us=later_us + S)
    assert replayed([*LEDGER[:21], again]).records[Token("t3")].status == "held"
    with pytest.raises(LedgerBroken):
        replayed([*LEDGER[:21], replace(again, at_us=later_us - 1)])


@pytest.mark.parametrize("basis_points", [1, 250, 3333, 9999, 10_000])
@pytest.mark.parametrize("on_hand", [0, 1, 7, 9999, 10_001, 10**12 - 1, 10**12])
def test_safety_stock_is_rounded_up(on_hand: int, basis_points: int) -> None:
    replay = replayed(LEDGER)
    stock = replay.stocks[Sku("A")]
    stock.policy = Policy(safety_stock_basis_points=basis_points)
    share, rest = divmod(on_hand * basis_points, 10_000)
    assert stock.safety_stock_at(on_hand) == share + math.ceil(rest / 10_000)
