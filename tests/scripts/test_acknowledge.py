import pytest

from tests.scripts.partition import Partition, Reply

ENTRIES = 40


@pytest.fixture
def filled(partition: Partition) -> Partition:
    """With 40 entries, the first ones of which the tests drop: what is left of them is no whole ledger."""
    for _ in range(ENTRIES):
        partition("adjust", amount=1)
    partition.is_damaged_on_purpose = True
    return partition


def acknowledge(partition: Partition, sequence: int, *, reader: str = "archive", kept: int = 1) -> Reply:
    return partition("acknowledge", sequence=sequence, reader=reader, entries_kept=kept)


def sequences(partition: Partition) -> list[int]:
    return [int(entry["sequence"]) for entry in partition.entries()]


def test_what_is_acknowledged_is_dropped(filled: Partition) -> None:
    reply = acknowledge(filled, 15)
    assert (reply.status, reply.acknowledged, reply.first_sequence) == ("acknowledged", "15", "16")
    assert sequences(filled) == list(range(16, ENTRIES + 1))


def test_the_newest_entries_stay_whoever_has_read_them(filled: Partition) -> None:
    assert acknowledge(filled, ENTRIES, kept=7).first_sequence == "34"
    assert sequences(filled) == list(range(34, ENTRIES + 1))
    assert acknowledge(filled, ENTRIES, kept=ENTRIES + 7).first_sequence == "34"
    assert acknowledge(filled, ENTRIES).first_sequence == str(ENTRIES)
    assert filled("adjust", amount=1).sequence == str(ENTRIES + 1), "the ledger goes on"


def test_the_slowest_reader_decides(filled: Partition) -> None:
    assert acknowledge(filled, 0, reader="relay").first_sequence == "1"
    assert acknowledge(filled, 30).first_sequence == "1"
    assert sequences(filled)[0] == 1
    assert acknowledge(filled, 12, reader="relay").first_sequence == "13"
    assert acknowledge(filled, 35, reader="relay").first_sequence == "31"
    assert filled.client.hgetall(filled.keys.readers) == {b"relay": b"35", b"archive": b"30"}


def test_a_late_word_takes_nothing_back(filled: Partition) -> None:
    acknowledge(filled, 20)
    reply = acknowledge(filled, 5)
    assert (reply.acknowledged, reply.first_sequence) == ("20", "21")
    assert filled.client.hget(filled.keys.readers, "archive") == b"20"


def test_a_reader_that_has_seen_more_than_there_is(filled: Partition) -> None:
    before = filled.snapshot()
    reply = acknowledge(filled, ENTRIES + 1)
    assert (reply.status, reply.acknowledged, reply.first_sequence) == ("rolled_back", str(ENTRIES), "1")
    assert filled.snapshot() == before


def test_one_call_drops_so_many_and_the_next_one_goes_on(partition: Partition) -> None:
    partition.is_damaged_on_purpose = True
    pipeline = partition.client.pipeline(transaction=False)
    for sequence in range(1, 25_001):
        pipeline.xadd(partition.keys.ledger, {"type": "planted"}, id=f"{sequence}-0")
    pipeline.hset(partition.keys.meta, "sequence", 25_000)
    pipeline.execute()
    dropped = [int(acknowledge(partition, 25_000, kept=10).first_sequence) for _ in range(4)]
    assert dropped == [10_001, 20_001, 24_991, 24_991]
    assert partition.client.xlen(partition.keys.ledger) == 10


@pytest.mark.parametrize("reader", ["", "x" * 65])
def test_a_reader_has_a_name(partition: Partition, reader: str) -> None:
    with pytest.raises(Exception, match="BADARG"):
        acknowledge(partition, 0, reader=reader)


def test_the_memory_limit_does_not_stop_it(filled: Partition) -> None:
    filled.client.config_set("maxmemory", 1)
    try:
        assert acknowledge(filled, 20).first_sequence == "21"
    finally:
        filled.client.config_set("maxmemory", 0)
