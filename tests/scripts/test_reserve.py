import pytest

from app.domain.types import Sku
from tests.scripts.partition import TTL_US, Partition
from tests.virtual_clock import SECOND_US

MILLION = 1_000_000
ON_HAND_MAX = 10**12


def test_the_last_unit_is_sold_once(partition: Partition) -> None:
    partition.stock("A", 1)
    assert partition("reserve", "A", 1, token="first").status == "held"
    assert partition("reserve", "A", 1, token="second").status == "out_of_stock"
    assert partition.balances("A") == (1, 1, 0, 0)


def test_what_is_answered_and_what_is_kept(partition: Partition) -> None:
    partition.stock("A", 7)
    reply = partition("reserve", "A", 2, token="t", agent="agent-1", channel="web", details='{"reference":"cart"}')
    now_us, sequence = partition.clock.now_us, str(partition.sequence)
    assert (reply.now_us, reply.created_us, reply.expires_us) == (str(now_us), str(now_us), str(now_us + TTL_US))
    assert (reply.state, reply.sequence, reply.lines, reply.availability) == ("held", sequence, "A\t2\t0", "A\t5\t5")
    assert partition.record("t") == {
        "status": "held",
        "agent": "agent-1",
        "channel": "web",
        "lines": "A\t2\t0",
        "created_us": str(now_us),
        "expires_us": str(now_us + TTL_US),
        "sequence": sequence,
        "details": '{"reference":"cart"}',
        "fingerprint": "",
    }
    assert partition.ttl_ms("t") == -1
    for index in (partition.keys.deadlines, partition.keys.holds(Sku("A"))):
        assert partition.client.zrange(index, 0, -1, withscores=True) == [(b"t", now_us + TTL_US)]


def test_the_entry_says_all_of_it(partition: Partition) -> None:
    partition.stock("A", 7)
    partition("reserve", "A", 2, token="t", agent="agent-1", channel="web", details='{"reference":"cart"}')
    (entry,) = partition.entries(after=1)
    assert entry == {
        "sequence": "2",
        "type": "reservation.held",
        "at_us": str(partition.clock.now_us),
        "command": "2",
        "sku": "A",
        "quantity": "2",
        "on_hand": "7",
        "reserved": "2",
        "committed": "0",
        "backordered": "0",
        "available": "5",
        "token": "t",
        "agent": "agent-1",
        "channel": "web",
        "expires_us": str(partition.clock.now_us + TTL_US),
        "reason": "",
        "data": '{"reference":"cart"}',
    }


def test_a_basket_is_held_whole_or_not_at_all(partition: Partition) -> None:
    for sku in ("A", "B", "C"):
        partition.stock(sku, 2)
    before = partition.snapshot()
    refused = partition("reserve", "A", 1, "B", 3, "C", 4)
    assert refused.status == "out_of_stock"
    assert [row.split("\t")[:2] for row in refused.lines.split("\n")] == [["B", "3"], ["C", "4"]]
    assert refused.availability == "B\t2\t5\nC\t2\t5"
    assert partition.snapshot() == before

    partition.hold("A", 1, "B", 2, "C", 1)
    assert [partition.balances(sku)[1] for sku in "ABC"] == [1, 2, 1]


def test_a_basket_is_one_command(partition: Partition) -> None:
    skus = [f"sku-{number:03}" for number in range(100)]
    for sku in skus:
        partition.stock(sku, 3)
    reply = partition("reserve", *(value for sku in skus for value in (sku, 2)))
    entries = partition.entries(after=100)
    assert [entry["sku"] for entry in entries] == skus
    assert [entry["sequence"] for entry in entries] == [str(number) for number in range(101, 201)]
    assert {entry["command"] for entry in entries} == {"101"}
    assert reply.sequence == "200"
    assert reply.lines.split("\n") == [f"{sku}\t2\t0" for sku in skus]


def test_an_unknown_sku_is_named(partition: Partition) -> None:
    partition.stock("A", 2)
    before = partition.snapshot()
    reply = partition("reserve", "A", 1, "unheard-of", 1)
    assert (reply.status, reply.lines) == ("sku_not_found", "unheard-of")
    assert partition.snapshot() == before


def test_a_refusal_says_what_would_help(partition: Partition) -> None:
    partition.stock("A", 5, backorder_limit=3, next_restock_date="2026-03-01", substitutes='["B"]')
    partition.hold("A", 4, ttl_us=60 * SECOND_US)
    partition.hold("A", 1, ttl_us=30 * SECOND_US)
    reply = partition("reserve", "A", 2)
    next_release_us = partition.clock.now_us + 30 * SECOND_US
    assert reply.lines == f'A\t2\t3\t{next_release_us}\t5\t2026-03-01\t["B"]'
    assert reply.availability == "A\t0\t5"


def test_backorders_begin_where_the_stock_ends_and_end_at_their_limit(partition: Partition) -> None:
    partition.stock("A", 2, backorder_limit=3)
    assert partition("reserve", "A", 3).status == "out_of_stock"
    assert partition("reserve", "A", 6, allow_backorder=1).status == "out_of_stock"
    partition.hold("A", 4, allow_backorder=1)
    assert partition.balances("A") == (2, 4, 0, 2)
    assert partition("reserve", "A", 2, allow_backorder=1).status == "out_of_stock"
    assert partition.record(partition.hold("A", 1, allow_backorder=1))["lines"] == "A\t1\t1"
    refused = partition("reserve", "A", 1, allow_backorder=1)
    assert refused.lines.split("\t")[:3] == ["A", "1", "0"]


def test_safety_stock_is_not_sold(partition: Partition) -> None:
    partition.stock("A", 10, safety_stock_units=3)
    assert partition("reserve", "A", 8).status == "out_of_stock"
    partition.hold("A", 7)
    assert partition("reserve", "A", 1).status == "out_of_stock"


def test_a_backorder_does_not_eat_the_safety_stock(partition: Partition) -> None:
    partition.stock("A", 10, safety_stock_units=3, backorder_limit=5)
    partition.hold("A", 9, allow_backorder=1)
    assert partition.balances("A") == (10, 9, 0, 2)


def test_one_reservation_takes_no_more_than_its_limit(partition: Partition) -> None:
    partition.stock("A", 10, max_quantity_per_reservation=4)
    reply = partition("reserve", "A", 5)
    assert (reply.status, reply.lines) == ("quantity_above_limit", "A\t4")
    partition.hold("A", 4)


@pytest.mark.parametrize("quantity", [ON_HAND_MAX + 1, 2**53 - 2, 2**53 - 1])
def test_large_numbers_keep_their_digits(partition: Partition, quantity: int) -> None:
    partition.stock("A", ON_HAND_MAX)
    partition.hold("A", ON_HAND_MAX - 1)
    assert partition("reserve", "A", 2).availability == "A\t1\t5"
    refused = partition("reserve", "A", quantity)
    assert refused.lines.split("\t")[:2] == ["A", str(quantity)]
    partition.hold("A", 1)
    assert partition.balances("A") == (ON_HAND_MAX, ON_HAND_MAX, 0, 0)
    assert [entry["reserved"] for entry in partition.entries(after=1)] == [str(ON_HAND_MAX - 1), str(ON_HAND_MAX)]


def test_a_hold_is_back_the_microsecond_its_deadline_is_reached(partition: Partition) -> None:
    partition.stock("A", 1)
    token = partition.hold("A", 1, ttl_us=TTL_US)
    partition.clock.advance_us(TTL_US - 1)
    assert partition("reserve", "A", 1, token="early").status == "out_of_stock"
    partition.clock.advance_us(1)
    assert partition("reserve", "A", 1, token="next").status == "held"
    assert partition.record(token)["status"] == "expired"
    expired, held = partition.entries(after=2)
    assert (expired["type"], expired["token"], expired["command"]) == (
        "reservation.expired",
        token,
        expired["sequence"],
    )
    assert (held["type"], held["token"], held["command"]) == ("reservation.held", "next", held["sequence"])
    assert expired["at_us"] == held["at_us"] == str(partition.clock.now_us)


def test_what_is_due_elsewhere_is_settled_a_little_at_a_time(partition: Partition) -> None:
    partition.stock("A", 10)
    partition.stock("B", 10)
    for _ in range(10):
        partition.hold("B", 1)
    partition.clock.advance_us(TTL_US)
    partition.hold("A", 1)
    assert partition.balances("B")[1] == 6
    partition.hold("A", 1)
    assert partition.balances("B")[1] == 2


def test_a_reservation_of_a_due_basket_frees_all_of_its_skus(partition: Partition) -> None:
    partition.stock("A", 1)
    partition.stock("B", 1)
    partition.hold("A", 1, "B", 1)
    partition.clock.advance_us(TTL_US)
    partition.hold("B", 1)
    assert partition.balances("A") == (1, 0, 0, 0)
