"""What a source calls our SKUs and locations, on a store that takes plain commands alone."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from redis.asyncio import Redis

from app.domain.errors import MappingsFull, OutcomeUnknown
from app.store import mappings
from app.store.keys import Keyspace
from app.store.mappings import Mapped, Mappings, SourceMapping

KEYS = Keyspace(1).sources


class Watched(FakeAsyncRedis):
    """Counts what it is asked, by command."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked: Counter[str] = Counter()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        self.asked[args[0]] += 1
        return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call] # the library's gap


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[Watched]:
    async with Watched(server=server) as fake:
        yield fake


@pytest.fixture
async def other(server: FakeServer) -> AsyncIterator[Redis]:
    """Another process's client."""
    async with FakeAsyncRedis(server=server) as fake:
        yield fake


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> "Seconds":
    return Seconds(monkeypatch)


class Seconds:
    """The monotonic clock of the cache."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(mappings, "monotonic", lambda: self.now)


async def test_what_is_said_holds_at_once_and_in_a_second_everywhere(
    client: Watched, other: Redis, clock: Seconds
) -> None:
    here, there = Mappings(client, KEYS), Mappings(other, KEYS)
    assert await here.of("wms") == await there.of("wms") == SourceMapping()
    await here.put("wms", Mapped.SKU, "a/ü\tx", "ABC")
    await here.put("wms", Mapped.LOCATION, "a/ü\tx", "EAST")
    await here.put("erp", Mapped.SKU, "version", "V")
    said = SourceMapping({"a/ü\tx": "ABC"}, {"a/ü\tx": "EAST"})
    assert await here.of("wms") == said
    clock.now += 1
    assert await there.of("wms") == said
    assert await there.of("erp") == SourceMapping({"version": "V"})
    await there.put("wms", Mapped.SKU, "a/ü\tx", "DEF")
    clock.now += 1
    assert (await here.of("wms")).skus == {"a/ü\tx": "DEF"}


async def test_all_of_it_is_read_only_where_something_was_changed(client: Watched, clock: Seconds) -> None:
    known = Mappings(client, KEYS)
    await known.put("wms", Mapped.SKU, "1", "A")
    for _ in range(100):
        await known.of("wms")
    assert client.asked == {"HGET": 1, "HSCAN": 1}
    for _ in range(5):
        clock.now += 1
        await asyncio.gather(*(known.of("wms") for _ in range(10)))
    assert client.asked == {"HGET": 6, "HSCAN": 1}
    known.refresh("wms")
    await known.of("wms")
    assert client.asked == {"HGET": 7, "HSCAN": 1}
    await known.put("wms", Mapped.SKU, "1", "B")
    await known.of("wms")
    assert client.asked == {"HGET": 8, "HSCAN": 2}


async def test_mappings_are_bounded(client: Watched, clock: Seconds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mappings, "MAPPINGS_MAX", 2)
    known = Mappings(client, KEYS)
    await known.put("wms", Mapped.SKU, "1", "A")
    await known.put("wms", Mapped.LOCATION, "1", "EAST")
    with pytest.raises(MappingsFull):
        await known.put("wms", Mapped.SKU, "2", "B")
    await known.put("wms", Mapped.SKU, "1", "C")
    await known.put("erp", Mapped.SKU, "2", "B")
    assert await known.of("wms") == SourceMapping({"1": "C"}, {"1": "EAST"})


async def test_without_an_engine_nobody_guesses(client: Watched, server: FakeServer, clock: Seconds) -> None:
    known = Mappings(client, KEYS)
    await known.put("wms", Mapped.SKU, "1", "A")
    assert (await known.of("wms")).skus == {"1": "A"}
    clock.now += 1
    server.connected = False
    with pytest.raises(OutcomeUnknown):
        await known.of("wms")
    server.connected = True
    assert (await known.of("wms")).skus == {"1": "A"}
