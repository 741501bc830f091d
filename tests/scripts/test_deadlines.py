"""extend and payment: the two that move a deadline."""

import pytest

from app.domain.types import Sku
from tests.scripts.partition import TTL_US, Partition
from tests.virtual_clock import SECOND_US

LIFETIME_US = 60 * SECOND_US


def deadlines(partition: Partition, token: str) -> set[int]:
    """All that the engine holds of a reservation's deadline on A and B."""
    indexes = (partition.keys.deadlines, partition.keys.holds(Sku("A")), partition.keys.holds(Sku("B")))
    in_record = int(partition.record(token)["expires_us"])
    return {in_record, *(int(partition.client.zscore(index, token) or 0) for index in indexes)}


@pytest.mark.parametrize(
    ("call", "deadline_us"),
    [
        (("extend", {"counted_from": "now", "amount_us": TTL_US}), 4 * SECOND_US + TTL_US),
        (("extend", {"counted_from": "deadline", "amount_us": 3 * SECOND_US}), TTL_US + 3 * SECOND_US),
        (("extend", {"counted_from": "now", "amount_us": SECOND_US}), TTL_US),
        (("payment", {"ttl_us": 30 * SECOND_US}), 34 * SECOND_US),
        (("payment", {"ttl_us": SECOND_US}), TTL_US),
    ],
    ids=["from now", "from the deadline", "never earlier", "payment", "payment never earlier"],
)
def test_the_deadline_moves_everywhere(
    partition: Partition, call: tuple[str, dict[str, object]], deadline_us: int
) -> None:
    partition.stock("A", 5)
    partition.stock("B", 5)
    token = partition.hold("A", 2, "B", 1)
    created_us = partition.clock.now_us
    partition.clock.advance(4)
    before, (name, given) = partition.sequence, call
    reply = partition(name, token=token, **given)
    assert (reply.status, reply.created_us) == ("moved", str(created_us))
    assert reply.expires_us == str(created_us + deadline_us)
    assert deadlines(partition, token) == {created_us + deadline_us}
    assert partition.balances("A") == (5, 2, 0, 0)
    entries = partition.entries(after=before)
    assert [(entry["sku"], entry["quantity"], entry["expires_us"]) for entry in entries] == [
        ("A", "2", reply.expires_us),
        ("B", "1", reply.expires_us),
    ]


@pytest.mark.parametrize("name", ["extend", "payment"])
def test_the_lifetime_is_a_limit(partition: Partition, name: str) -> None:
    partition.stock("A", 5)
    token = partition.hold("A", 2)
    created_us = partition.clock.now_us
    partition.clock.advance(4)
    given = {"token": token, "max_lifetime_us": LIFETIME_US, "counted_from": "now"}
    amount = "amount_us" if name == "extend" else "ttl_us"
    before = partition.snapshot()
    assert partition(name, **given, **{amount: LIFETIME_US - 4 * SECOND_US + 1}).status == "lifetime_exceeded"
    assert partition.snapshot() == before
    reply = partition(name, **given, **{amount: LIFETIME_US - 4 * SECOND_US})
    assert (reply.status, reply.expires_us) == ("moved", str(created_us + LIFETIME_US))


@pytest.mark.parametrize("name", ["extend", "payment"])
def test_a_passed_deadline_is_not_moved(partition: Partition, name: str) -> None:
    partition.stock("A", 5)
    token, other = partition.hold("A", 2), partition.hold("A", 2)
    partition.clock.advance_us(TTL_US - 1)
    assert partition(name, token=token).status == "moved"
    partition.clock.advance_us(1)
    reply = partition(name, token=other)
    assert (reply.status, reply.state) == ("ended", "expired")
    assert partition.balances("A") == (5, 2, 0, 0)


@pytest.mark.parametrize("name", ["extend", "payment"])
@pytest.mark.parametrize("ending", ["commit", "release"])
def test_what_has_ended_is_not_moved(partition: Partition, name: str, ending: str) -> None:
    partition.stock("A", 5)
    token = partition.hold("A", 2)
    state = partition(ending, token=token).state
    before = partition.snapshot()
    reply = partition(name, token=token)
    assert (reply.status, reply.state) == ("ended", state)
    assert partition.snapshot() == before


def test_a_payment_stays_one_when_it_is_extended_and_can_be_repeated(partition: Partition) -> None:
    partition.stock("A", 5)
    token = partition.hold("A", 2)
    assert partition("payment", token=token).state == "payment_pending"
    assert partition("extend", token=token).state == "payment_pending"
    assert partition("payment", token=token, ttl_us=30 * SECOND_US).status == "moved"
    assert partition("commit", token=token).state == "committed"


def test_a_payment_that_expires_says_so(partition: Partition) -> None:
    partition.stock("A", 5)
    paying, holding = partition.hold("A", 2), partition.hold("A", 1)
    partition("payment", token=paying, ttl_us=20 * SECOND_US)
    partition.clock.advance(20)
    partition("expire")
    reasons = {
        entry["token"]: entry["reason"] for entry in partition.entries() if entry["type"] == "reservation.expired"
    }
    assert reasons == {holding: "", paying: "payment_expired"}
    assert partition.record(paying)["status"] == "expired"
