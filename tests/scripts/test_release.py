import pytest

from app.domain.types import Sku
from tests.scripts.partition import DAY_MS, TTL_US, Partition


def test_release_gives_everything_back(partition: Partition) -> None:
    partition.stock("A", 5, backorder_limit=1)
    partition.stock("B", 5)
    token = partition.hold("A", 6, "B", 1, allow_backorder=1)
    reply = partition("release", token=token)
    assert (reply.status, reply.state, reply.lines) == ("released", "released", "A\t6\t0\nB\t1\t0")
    assert reply.availability == "A\t5\t5\nB\t5\t5"
    assert partition.balances("A") == (5, 0, 0, 0)
    assert partition.balances("B") == (5, 0, 0, 0)
    indexes = (partition.keys.deadlines, partition.keys.holds(Sku("A")), partition.keys.holds(Sku("B")))
    assert partition.client.exists(*indexes) == 0


def test_an_ended_record_is_kept_for_its_retention(partition: Partition) -> None:
    partition.stock("A", 1)
    token = partition.hold("A", 1)
    assert partition.ttl_ms(token) == -1
    partition("release", token=token)
    assert DAY_MS - 10_000 < partition.ttl_ms(token) <= DAY_MS


def test_a_second_release_gives_nothing_back(partition: Partition) -> None:
    partition.stock("A", 5)
    token = partition.hold("A", 2)
    partition.hold("A", 2)
    first = partition("release", token=token)
    before = partition.snapshot()
    again = partition("release", token=token)
    assert again.status == "unchanged"
    assert again.same_as(first, but=("status",))
    assert partition.snapshot() == before


def test_release_after_the_deadline_finds_it_expired(partition: Partition) -> None:
    partition.stock("A", 5)
    token = partition.hold("A", 2)
    partition.clock.advance_us(TTL_US)
    reply = partition("release", token=token)
    assert (reply.status, reply.state) == ("unchanged", "expired")
    assert partition.balances("A") == (5, 0, 0, 0)
    assert partition.entries()[-1]["type"] == "reservation.expired"


def test_release_just_before_the_deadline(partition: Partition) -> None:
    partition.stock("A", 5)
    token = partition.hold("A", 2)
    partition.clock.advance_us(TTL_US - 1)
    assert partition("release", token=token).status == "released"


@pytest.mark.parametrize("then", ["commit", "cancel"])
def test_what_is_sold_is_not_released(partition: Partition, then: str) -> None:
    partition.stock("A", 5)
    token = partition.hold("A", 2)
    partition("commit", token=token)
    if then == "cancel":
        partition("cancel", token=token)
    before = partition.snapshot()
    assert partition("release", token=token).status == "ended"
    assert partition.snapshot() == before


def test_release_while_a_payment_runs(partition: Partition) -> None:
    partition.stock("A", 5)
    token = partition.hold("A", 2)
    partition("payment", token=token)
    assert partition("release", token=token).status == "released"
