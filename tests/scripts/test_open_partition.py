import pytest
from redis.exceptions import ResponseError

from tests.scripts.partition import DAY_MS, DEFAULTS, Partition
from tests.virtual_clock import START_US


def test_the_first_opening_makes_the_meta_hash(partition: Partition) -> None:
    assert partition.client.hgetall(partition.keys.meta) == {
        b"schema_version": b"2",
        b"partition": b"0",
        b"partitions": b"1",
        b"secret": str(DEFAULTS["secret"]).encode(),
        b"sequence": b"0",
        b"wall_us": str(START_US).encode(),
        b"offset_us": b"0",
        b"retention_ms": str(DAY_MS).encode(),
        b"committed_retention_ms": str(30 * DAY_MS).encode(),
    }


def test_a_later_opening_keeps_what_there_is(partition: Partition) -> None:
    partition.stock("A", 5)
    partition.clock.advance(5)
    reply = partition.open(secret="another" * 10, sequence_seen=1)
    assert (reply.status, reply.secret, reply.sequence) == ("opened", DEFAULTS["secret"], "1")
    assert reply.now_us == str(partition.clock.now_us)


def test_the_retentions_are_those_of_the_last_opening(partition: Partition) -> None:
    partition.open(retention_ms=3 * DAY_MS, committed_retention_ms=5 * DAY_MS)
    partition.stock("A", 5)
    ended, sold = partition.hold("A", 1), partition.sell("A", 1)
    partition("release", token=ended)
    assert 2 * DAY_MS < partition.ttl_ms(ended) <= 3 * DAY_MS
    assert 4 * DAY_MS < partition.ttl_ms(sold) <= 5 * DAY_MS


@pytest.mark.parametrize(
    ("given", "status", "found"),
    [
        ({"schema_version": 1}, "schema_mismatch", "2"),
        ({"schema_version": 3}, "schema_mismatch", "2"),
        ({"partitions": 2}, "partitions_mismatch", "1"),
        ({"partition": 1}, "partitions_mismatch", "1"),
        ({"partition": 1, "partitions": 2}, "partitions_mismatch", "1"),
        ({"sequence_seen": 2}, "rolled_back", "1"),
    ],
)
def test_another_history_is_not_opened(partition: Partition, given: dict[str, object], status: str, found: str) -> None:
    partition.stock("A", 5)
    before = partition.snapshot()
    reply = partition.open(**given)
    assert (reply.status, reply.sequence) == (status, found)
    assert partition.snapshot() == before


def test_an_emptied_engine_is_a_rollback_to_who_has_seen_more(partition: Partition) -> None:
    partition.client.flushall()
    partition.clock.set(partition.clock.now_us)
    reply = partition.open(sequence_seen=1)
    assert (reply.status, reply.sequence) == ("rolled_back", "0")
    assert partition.open().status == "opened"


def test_a_ledger_without_its_meta_hash_is_not_opened(partition: Partition) -> None:
    partition.stock("A", 5)
    partition.client.delete(partition.keys.meta)
    partition.is_damaged_on_purpose = True
    before = partition.snapshot()
    with pytest.raises(ResponseError, match="INVARIANT"):
        partition.open()
    with pytest.raises(ResponseError, match="INVARIANT"):
        partition("availability")
    assert partition.snapshot() == before
