"""What stands around the scripts: no entry tells of it, so no proof misses it, and no rebuild needs it or loses it."""

from collections.abc import AsyncIterator, Sequence

import pytest
from redis.asyncio import Redis

from app.domain.dead_letters import LetterStatus
from app.domain.entries import Entry
from app.domain.errors import LedgerBroken
from app.domain.types import Sku
from app.ingest.source_watch import watched_sources
from app.projections.rebuild import rebuild, verify
from app.store.dead_letters import close, forget_done, keep, list_places, read_letter
from app.store.keys import Keyspace, PartitionKeys
from app.store.ledger import read_entries
from app.store.mappings import Mapped, Mappings
from app.store.source_states import ClockKind, SourceStates
from app.store.state import read_meta
from app.store.store import Store
from tests.conftest import OpenStore
from tests.engines import Engine

BODY = bytes(range(256))


@pytest.fixture
async def other(engine: Engine) -> AsyncIterator[Redis]:
    """Another, empty database of the same engine."""
    async with Redis.from_url(f"{engine.url}?db=1", protocol=2) as client:
        yield client


async def fill(client: Redis, keyspace: Keyspace) -> set[bytes]:
    """What stands around the scripts, in keys of every type and in bytes that are no text; their names."""
    keys = keyspace.sources
    for number in range(3):
        letter_id = await keep(
            client, keys, source="wms", delivery_id=str(number), received_at_us=number, reason="unknown_sku",
            headers={}, body=BODY,
        )  # fmt: skip
        if number:
            await close(client, keys, letter_id, list(LetterStatus)[number], at_us=number)
    await Mappings(client, keys).put("wms", Mapped.SKU, "1", "A")
    states = SourceStates(client, keys)
    await states.introduce(["wms"], at_us=1)
    await states.settle_clock_kind("wms", ClockKind.COUNTER)
    states.note_delivery("wms", at_us=1, counters=[1, 3])
    await states.write_notes()
    await client.set(keys.lease("wms"), "somebody", px=60_000)
    await client.xadd(f"{keyspace.partitions[0].around}of another type", {"a": "1"})
    return await around(client, keyspace)


async def around(client: Redis, keyspace: Keyspace) -> set[bytes]:
    return {key async for key in client.scan_iter(f"{keyspace.partitions[0].around}*")}


@pytest.mark.parametrize("partitions", [1, 3])
async def test_a_rebuild_neither_takes_it_along_nor_loses_what_is_there(
    open_store: OpenStore, other: Redis, partitions: int
) -> None:
    store = await open_store(partitions=partitions)
    for number in range(5):
        await adjust(store, Sku(f"SKU-{number}"))
    there = await fill(other, store.keyspace)
    for keys in store.keyspace.partitions:
        meta, _ = await read_meta(store.client, keys)
        await rebuild(pages_of(store, keys), other, keys, meta)
    assert await around(store.client, store.keyspace) == set()
    assert await around(other, store.keyspace) == there
    assert await fill(store.client, store.keyspace) == there
    assert (await verify(store)).difference is None


async def test_a_rebuild_that_fails_leaves_it(store: Store, other: Redis) -> None:
    await adjust(store, Sku("A"))
    (keys,) = store.keyspace.partitions
    meta, _ = await read_meta(store.client, keys)
    there = await fill(other, store.keyspace)

    async def broken() -> AsyncIterator[Sequence[Entry]]:
        async for page in pages_of(store, keys):
            yield page
        raise LedgerBroken(2, "is not there")

    with pytest.raises(LedgerBroken):
        await rebuild(broken(), other, keys, meta)
    assert {key async for key in other.scan_iter()} == there


async def test_a_letter_lives_in_every_engine(store: Store) -> None:
    """The commands of a dead letter's life, which the tests of their meaning give to a stand-in."""
    client, keys = store.client, store.keyspace.sources
    await fill(client, store.keyspace)
    for place, status in enumerate(LetterStatus):
        ((received_at_us, letter_id),) = await list_places(client, keys, status, after=None, limit=10)
        assert received_at_us == place
        found = await read_letter(client, keys, letter_id)
        assert found
        assert (found[0].status, found[1].body) == (status, BODY)
        assert await list_places(client, keys, status, after=(received_at_us, letter_id), limit=10) == []
    assert await forget_done(client, keys, done_before_us=2) == 1
    assert await list_places(client, keys, LetterStatus.REPLAYED, after=None, limit=10) == []
    assert await forget_done(client, keys) == 1
    assert await SourceStates(client, keys).missing_numbers("wms") == [2]
    assert (await Mappings(client, keys).of("wms")).skus == {"1": "A"}


async def test_what_was_noted_is_written_down_at_the_end(store: Store) -> None:
    async with watched_sources(store, {}):
        store.source_states.note_success("wms", at_us=7)
    (state,) = await SourceStates(store.client, store.keyspace.sources).read(["wms"])
    assert state.last_success_us == 7


async def adjust(store: Store, sku: Sku) -> None:
    await store.commands.adjust(sku, location_id="main", mode="delta", amount=5, reason="found")


async def pages_of(store: Store, keys: PartitionKeys) -> AsyncIterator[Sequence[Entry]]:
    async for _, page in read_entries(store.client, keys):
        yield page
