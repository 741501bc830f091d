"""Units that come back or arrive cover what was promised beyond stock: the oldest promise first."""

import pytest

from app.domain.types import Token
from tests.scripts.partition import DAY_MS, TTL_US, Partition
from tests.virtual_clock import SECOND_US

QUEUE_MAX = 5000


@pytest.fixture
def waiting(partition: Partition) -> tuple[str, str, str]:
    """Three tokens that wait for 2, 3 and 1 units of A, behind one unit that another has and one that is withheld."""
    partition.stock("A", 4, backorder_limit=9, safety_stock_units=1)
    partition("adjust", location="fba", location_kind="dedicated", amount=7)
    partition("reserve", "A", 3, token="t", ttl_us=TTL_US)
    long = {"allow_backorder": 1, "ttl_us": 9 * TTL_US}
    first, second = partition.hold("A", 2, **long), partition.hold("A", 3, **long)
    return first, second, partition.hold("A", 1, **long)


COMINGS: dict[str, tuple[tuple[str, tuple[object, ...], dict[str, object]], ...]] = {
    "an arrival": (("adjust", (), {"amount": 3}),),
    "a count": (("adjust", (), {"mode": "count", "amount": 7}),),
    "a transfer": (("transfer", (), {"from_location": "fba", "to_location": "main", "quantity": 3}),),
    "an import": (("import_stock", ("A", "main", "shared", 7, ""), {}),),
    "a release": (("release", (), {}),),
    "a cancel": (("commit", (), {}), ("cancel", (), {})),
    "an expiry": (("availability", (), {}),),
}


@pytest.mark.parametrize("coming", COMINGS)
def test_what_comes_covers_the_oldest_promises(
    partition: Partition, waiting: tuple[str, str, str], coming: str
) -> None:
    first, second, third = waiting
    assert partition.backorders("A") == {first: 2, second: 3, third: 1}
    if coming == "an expiry":
        partition.clock.advance_us(TTL_US)
    for name, rest, given in COMINGS[coming]:
        partition(name, *rest, **given)
    assert partition.backorders("A") == {second: 2, third: 1}
    last = partition.entries()[-1]
    assert (last["backordered"], last["available"]) == ("3", "0"), "the entry that frees them says it"
    reply = partition("availability")
    assert (reply.backordered, reply.available, reply.shortfall) == ("3", "0", "0")
    lines = [partition("read", token=token).lines for token in waiting]
    assert lines == ["A\t2\t0", "A\t3\t2", "A\t1\t1"]
    assert [partition.record(token)["lines"] for token in waiting] == ["A\t2\t2", "A\t3\t3", "A\t1\t1"]


def test_a_part_of_a_release_by_a_commit_covers_too(partition: Partition, waiting: tuple[str, str, str]) -> None:
    _, second, third = waiting
    reply = partition("commit", "A", 1, token="t")
    assert partition.backorders("A") == {second: 3, third: 1}
    assert [(entry["type"], entry["backordered"]) for entry in partition.entries()[-2:]] == [
        ("reservation.committed", "6"),
        ("reservation.released", "4"),
    ]
    assert reply.availability == "A\t0\t5"


def test_a_policy_that_withholds_less_covers(partition: Partition, waiting: tuple[str, str, str]) -> None:
    first, second, third = waiting
    reply = partition("put_sku", "safety_stock_units", 0)
    assert (reply.backordered, reply.available) == ("5", "0")
    assert partition.backorders("A") == {first: 1, second: 3, third: 1}


def test_a_policy_that_withholds_more_uncovers_nothing(partition: Partition, waiting: tuple[str, str, str]) -> None:
    partition("adjust", amount=4)
    assert partition("put_sku", "safety_stock_units", 5).backordered == "2"
    assert sum(partition.backorders("A").values()) == 2


def test_what_is_left_over_when_all_are_covered_is_available(
    partition: Partition, waiting: tuple[str, str, str]
) -> None:
    reply = partition("adjust", amount=8)
    assert (reply.backordered, reply.available) == ("0", "2")
    assert partition.backorders("A") == {}


def test_ones_own_promise_beyond_stock_goes_first(partition: Partition) -> None:
    """Of 4 units, 2 beyond stock, one is given back: nobody gains by it; of the next two one is on hand."""
    partition.stock("A", 2, backorder_limit=9)
    mixed = partition.hold("A", 4, allow_backorder=1)
    other = partition.hold("A", 1, allow_backorder=1)
    partition("commit", token=mixed)
    partition("cancel", "A", 1, token=mixed)
    assert partition.backorders("A") == {mixed: 1, other: 1}
    assert partition.balances("A") == (2, 1, 3, 2)
    partition("cancel", "A", 2, token=mixed)
    assert partition.backorders("A") == {}
    assert partition.balances("A") == (2, 1, 1, 0)


def test_a_promise_keeps_its_place_whatever_happens_to_it(partition: Partition) -> None:
    partition.stock("A", 0, backorder_limit=9)
    first, second = partition.hold("A", 3, allow_backorder=1), partition.hold("A", 2, allow_backorder=1)
    partition("extend", token=first)
    partition("payment", token=first)
    partition("commit", "A", 2, token=first)
    partition("adjust", amount=1)
    assert partition.backorders("A") == {first: 1, second: 2}
    assert partition("commit", token=second).lines == "A\t2\t2"
    partition("adjust", amount=2)
    assert partition.backorders("A") == {second: 1}


def test_each_sku_of_a_basket_waits_for_itself(partition: Partition) -> None:
    for sku in ("A", "B"):
        partition.stock(sku, 0, backorder_limit=9)
    basket = partition.hold("A", 1, "B", 2, allow_backorder=1)
    single = partition.hold("B", 1, allow_backorder=1)
    partition("adjust", sku="B", amount=2)
    assert partition("read", token=basket).lines == "A\t1\t1\nB\t2\t0"
    assert (partition.backorders("A"), partition.backorders("B")) == ({basket: 1}, {single: 1})
    partition("release", token=basket)
    assert (partition.backorders("A"), partition.backorders("B")) == ({}, {})
    assert partition.balances("B") == (2, 1, 0, 0)


def test_a_window_that_ends_and_a_sale_change_nothing(partition: Partition) -> None:
    partition.stock("A", 0, backorder_limit=9, reconciliation_hold_us=SECOND_US)
    token = partition.hold("A", 2, allow_backorder=1)
    partition("commit", token=token)
    partition.clock.advance(1)
    assert partition("read", token=token).lines == "A\t2\t2"
    assert partition.balances("A") == (0, 0, 2, 2)
    partition("adjust", amount=1)
    assert partition.backorders("A") == {token: 1}


def test_a_keyed_answer_says_what_was_uncovered_then(partition: Partition) -> None:
    partition.stock("A", 0, backorder_limit=9)
    token = partition.hold("A", 2, allow_backorder=1, fingerprint="f")
    keyed = {"token": token, "key_hash": "k", "fingerprint": "f"}
    assert partition("commit", **keyed).lines == "A\t2\t2"
    partition("adjust", amount=1)
    assert partition("read", token=token).lines == "A\t2\t1"
    assert partition("commit", **keyed).lines == "A\t2\t2"
    again = partition("reserve", "A", 2, allow_backorder=1, token=token, fingerprint="f")
    assert (again.status, again.lines) == ("replayed", "A\t2\t2")


def test_the_limit_counts_what_is_uncovered_now(partition: Partition) -> None:
    partition.stock("A", 0, backorder_limit=3)
    partition.hold("A", 3, allow_backorder=1)
    assert partition("reserve", "A", 1, allow_backorder=1).status == "out_of_stock"
    partition("adjust", amount=2)
    partition.hold("A", 2, allow_backorder=1)
    assert partition.balances("A") == (2, 5, 0, 3)


def test_five_thousand_may_wait_and_one_arrival_covers_them_all(partition: Partition) -> None:
    partition.stock("A", 0, backorder_limit=10**6)
    tokens = partition.hold_many(QUEUE_MAX, allow_backorder=1)
    refused = partition("reserve", "A", 1, allow_backorder=1)
    assert (refused.status, refused.lines.split("\t")[:3]) == ("out_of_stock", ["A", "1", "0"])
    partition("adjust", amount=1)
    assert partition("reserve", "A", 1, token="u", allow_backorder=1).status == "held"
    assert partition("reserve", "A", 1, allow_backorder=1).status == "out_of_stock"
    partition("adjust", amount=QUEUE_MAX - 300)
    assert list(partition.backorders("A")) == [*tokens[-299:], "u"]
    assert partition("adjust", amount=301).available == "1"
    assert partition.backorders("A") == {}


@pytest.mark.parametrize("count", [99, 100, 101, 200])
def test_any_number_is_covered_at_once(partition: Partition, count: int) -> None:
    partition.stock("A", 0, backorder_limit=10**6)
    tokens = partition.hold_many(count + 1, allow_backorder=1)
    partition("adjust", amount=count)
    assert partition.backorders("A") == {tokens[-1]: 1}


def test_a_sale_that_waits_outlives_its_record_and_its_token_is_not_taken_again(partition: Partition) -> None:
    partition.stock("A", 0, backorder_limit=9)
    partition("reserve", "A", 2, token="t", allow_backorder=1, fingerprint="f")
    partition("commit")
    partition.client.delete(partition.keys.reservation(Token("t")))  # as if its time had come
    partition.clock.advance(31 * DAY_MS / 1000)
    again = partition("reserve", "A", 1, token="t", allow_backorder=1, fingerprint="f")
    assert (again.status, again.lines.split("\t")[2]) == ("out_of_stock", "0")
    partition("adjust", amount=1)
    assert partition.backorders("A") == {"t": 1}
    partition("adjust", amount=3)
    assert partition.backorders("A") == {}
    assert partition("reserve", "A", 1, token="t", fingerprint="f").status == "held"
