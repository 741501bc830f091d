from tests.scripts.partition import TTL_US, Partition
from tests.virtual_clock import SECOND_US


def test_what_it_answers(partition: Partition) -> None:
    partition.stock("A", 10, safety_stock_units=2, backorder_limit=3)
    partition("adjust", sku="A", location="east", amount=1)
    partition.hold("A", 4)
    partition("commit", token=partition.hold("A", 2))
    reply = partition("availability", sku="A")
    assert (reply.status, reply.on_hand, reply.reserved, reply.committed) == ("found", "11", "4", "2")
    assert (reply.available, reply.safety_stock, reply.shortfall, reply.backorder_limit) == ("3", "2", "0", "3")
    assert reply.places == {"east": ("shared", 1, 0), "main": ("shared", 10, 0)}
    assert (reply.sequence, reply.channel_left) == (str(partition.sequence), "")


def test_looking_changes_nothing(partition: Partition) -> None:
    partition.stock("A", 10)
    partition.hold("A", 4)
    before = partition.snapshot()
    partition("availability", sku="A")
    assert partition("availability", sku="B").status == "sku_not_found"
    assert partition.snapshot() == before


def test_a_due_hold_is_not_seen(partition: Partition) -> None:
    partition.stock("A", 10)
    partition.hold("A", 4)
    partition.clock.advance_us(TTL_US - 1)
    assert partition("availability", sku="A").available == "6"
    partition.clock.advance_us(1)
    assert partition("availability", sku="A").available == "10"


def test_the_next_release_is_the_earliest_deadline(partition: Partition) -> None:
    partition.stock("A", 10)
    assert partition("availability").next_release_us == "0"
    late, early = partition.hold("A", 1, ttl_us=2 * TTL_US), partition.hold("A", 1)
    start_us = partition.clock.now_us
    assert partition("availability").next_release_us == str(start_us + TTL_US)
    partition("release", token=early)
    assert partition("availability").next_release_us == str(start_us + 2 * TTL_US)
    partition("commit", token=late)
    assert partition("availability").next_release_us == "0"


def test_a_reconciliation_window_is_no_release(partition: Partition) -> None:
    partition.stock("A", 20, reconciliation_hold_us=2 * SECOND_US)
    partition("commit", token=partition.hold("A", 1))
    assert partition("availability").next_release_us == "0"
    partition.hold("A", 1)
    release_us = str(partition.clock.now_us + TTL_US)
    assert partition("availability").next_release_us == release_us
    for _ in range(7):
        partition("commit", token=partition.hold("A", 1))
    assert partition("availability").next_release_us == "0", "of many windows only the first few are looked at"
