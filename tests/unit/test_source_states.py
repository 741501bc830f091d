"""How it has been going with sources, on a store that takes plain commands alone."""

import random
from collections.abc import AsyncIterator

import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from redis.asyncio import Redis

from app.domain.errors import OutcomeUnknown
from app.domain.updates import COUNTER_MAX
from app.store.keys import Keyspace
from app.store.source_states import (
    COUNTERS_KEPT,
    ERROR_CHARACTERS_MAX,
    MISSING_NUMBERS_MAX,
    ClockKind,
    SourceState,
    SourceStates,
)

KEYS = Keyspace(1).sources
NOTHING = SourceState(None, None, None, None, 0)


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[Redis]:
    async with FakeAsyncRedis(server=server) as fake:
        yield fake


@pytest.fixture
def states(client: Redis) -> SourceStates:
    return SourceStates(client, KEYS)


async def read(states: SourceStates, source: str = "wms") -> SourceState:
    (state,) = await states.read([source])
    return state


async def test_failures_count_until_something_succeeds(states: SourceStates, client: Redis) -> None:
    other = SourceStates(client, KEYS)
    assert await read(states) == NOTHING
    states.note_failure("wms", "away")
    states.note_failure("wms", "x" * 10_000)
    other.note_failure("wms", "late")
    assert await read(states) == NOTHING, "noted, and not written down"
    await states.write_notes()
    await other.write_notes()
    assert await read(states) == SourceState(None, None, None, "late", 3)
    states.note_delivery("wms", at_us=7)
    states.note_success("wms", at_us=7)
    states.note_failure("wms", "x" * 10_000)
    await states.write_notes()
    assert await read(states) == SourceState(None, 7, 7, "x" * ERROR_CHARACTERS_MAX, 1)
    states.note_failure("wms", "again")
    states.note_success("wms", at_us=9)
    await states.write_notes()
    await states.write_notes()
    assert await read(states) == SourceState(None, 7, 9, "again", 0)
    assert await states.read(["erp", "wms"]) == [NOTHING, await read(states)]


async def test_what_could_not_be_written_down_is_noted_still(states: SourceStates, server: FakeServer) -> None:
    states.note_delivery("wms", at_us=1, counters=[1])
    states.note_success("wms", at_us=1)
    states.note_failure("wms", "first")
    states.note_failure("erp", "away")
    server.connected = False
    with pytest.raises(OutcomeUnknown):
        await states.write_notes()
    states.note_delivery("wms", at_us=2, counters=[3])
    states.note_failure("wms", "second")
    states.note_success("erp", at_us=5)
    with pytest.raises(OutcomeUnknown):
        await states.write_notes()
    server.connected = True
    await states.write_notes()
    assert await read(states) == SourceState(None, 2, 1, "second", 2)
    assert await read(states, "erp") == SourceState(None, None, 5, "away", 0)
    assert await states.missing_numbers("wms") == [2]


async def test_a_source_is_known_since_it_was_first_named(states: SourceStates) -> None:
    await states.introduce(["wms", "erp"], at_us=5)
    await states.introduce(["wms", "pos"], at_us=9)
    assert [state.known_since_us for state in await states.read(["wms", "erp", "pos", "x"])] == [5, 5, 9, None]


async def test_a_source_never_mixes_clocks(states: SourceStates, client: Redis) -> None:
    other = SourceStates(client, KEYS)
    assert await states.settle_clock_kind("wms", ClockKind.COUNTER) is ClockKind.COUNTER
    for process in (states, other, SourceStates(client, KEYS)):
        assert await process.settle_clock_kind("wms", ClockKind.TIME) is ClockKind.COUNTER
    assert await other.settle_clock_kind("erp", ClockKind.TIME) is ClockKind.TIME


@pytest.mark.parametrize(
    ("heard", "missing"),
    [
        ([], []),
        ([7], []),
        ([1, 2, 3], []),
        ([3, 1, 1], [2]),
        ([10, 5, 7], [6, 8, 9]),
        ([0, COUNTER_MAX], list(range(COUNTER_MAX - MISSING_NUMBERS_MAX, COUNTER_MAX))),
        ([0, 1000, 1002], [*range(1001 - MISSING_NUMBERS_MAX, 1000), 1001]),
    ],
)
async def test_numbers_that_were_skipped_are_missing(
    states: SourceStates, heard: list[int], missing: list[int]
) -> None:
    for number in heard:
        states.note_delivery("wms", at_us=1, counters=[number])
    await states.write_notes()
    assert await states.missing_numbers("wms") == missing


async def test_a_number_that_comes_late_is_missing_no_more(states: SourceStates, client: Redis) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    numbers = list(range(3 * COUNTERS_KEPT))
    late = [numbers.pop(-7), numbers.pop(-70)]
    random.Random(seed).shuffle(numbers)
    states.note_delivery("wms", at_us=1, counters=numbers)
    await states.write_notes()
    assert await client.zcard(KEYS.counters("wms")) == COUNTERS_KEPT
    assert await states.missing_numbers("wms") == sorted(late)
    for number in late:
        states.note_delivery("wms", at_us=1, counters=[number])
        await states.write_notes()
    assert await states.missing_numbers("wms") == []
    assert await client.zcard(KEYS.counters("wms")) == COUNTERS_KEPT
