"""The ledger is the whole truth: replayed, it is the live state; written into an empty engine, it is that engine."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from app.domain.errors import CommandRefused
from app.domain.outcomes import Done, Held
from app.domain.types import Line, Sku
from app.projections.rebuild import rebuild, verify
from app.settings import load_settings
from app.store.commands import Idempotency
from app.store.keys import PartitionKeys
from app.store.ledger import read_entries
from app.store.state import read_meta, read_state
from app.store.store import Store, make_store
from tests.archiving import entries_of
from tests.conftest import OpenStore
from tests.engines import Engine
from tests.history import History
from tests.virtual_clock import KEY, REPLACED_INCLUDES, SECOND_US, VirtualClock

STEPS = 600
# What every history meets, or it proves less than it seems to.
MET = {
    "reservation.committed", "reservation.cancelled", "reservation.fulfilled", "reservation.voided", "stock.allocated",
    "stock.cancelled", "stock.corrected", "stock.counted", "stock.received", "stock.sale", "stock.shipped",
    "stock.transferred",
}  # fmt: skip


@pytest.fixture
async def other(engine: Engine) -> AsyncIterator[Redis]:
    """Another, empty database of the same engine."""
    async with Redis.from_url(f"{engine.url}?db=1", protocol=2) as client:
        yield client


async def rebuild_all(store: Store, target: Redis) -> None:
    for keys in store.keyspace.partitions:
        meta, _ = await read_meta(store.client, keys)
        pages = (page async for _, page in read_entries(store.client, keys))
        await rebuild(pages, target, keys, meta)


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("seed", range(4))
async def test_a_rebuilt_engine_holds_what_the_live_one_holds(
    open_store: OpenStore, clock: VirtualClock, other: Redis, seed: int, partitions: int
) -> None:
    store = await open_store(clock=clock, partitions=partitions)
    await History(store, clock, seed).live(STEPS)
    verdict = await verify(store)
    assert verdict.difference is None
    assert verdict.entries == sum([await store.client.xlen(keys.ledger) for keys in store.keyspace.partitions]) > 100

    await rebuild_all(store, other)
    assert {entry.type for entry in await entries_of(store)} >= MET
    for keys in store.keyspace.partitions:
        assert await rows_of(other, keys) == await rows_of(store.client, keys)
        assert await other.hgetall(keys.meta) == await store.client.hgetall(keys.meta)
        in_live, in_rebuilt = await read_state(store.client, keys), await read_state(other, keys)
        assert in_rebuilt.values() == in_live.values()
        assert in_rebuilt.expires_at_us.keys() == in_live.expires_at_us.keys()


async def rows_of(client: Redis, keys: PartitionKeys) -> list[tuple[bytes, list[tuple[bytes, bytes]]]]:
    """The ledger's rows, their fields in order."""
    page: Any = await client.xrange(keys.ledger)
    return [(entry_id, list(fields.items())) for entry_id, fields in page]


async def test_a_rebuilt_engine_goes_on_where_the_live_one_stood(
    store: Store, clock: VirtualClock, engine: Engine, other: Redis
) -> None:
    async def reserve(of: Store) -> Held:
        outcome = await of.commands.reserve(
            [Line(Sku("A"), 2)], agent_id="agent", channel="direct", ttl_us=10 * SECOND_US, allow_backorder=False,
            details=None, idempotency=Idempotency(("holder", "key"), "fingerprint"),
        )  # fmt: skip
        assert isinstance(outcome, Held)
        return outcome

    await store.commands.adjust(Sku("A"), location_id="main", mode="delta", amount=5, reason="found")
    first = await reserve(store)
    await rebuild_all(store, other)
    await other.set(KEY, clock.now_us + 1)
    url = f"{engine.url}?db=1"
    async with make_store(load_settings(), url, REPLACED_INCLUDES) as rebuilt:
        again = await reserve(rebuilt)
        assert again.is_replayed
        assert again.reservation == first.reservation
        committed = await rebuilt.commands.commit(first.reservation.token, order_id="order-1")
        assert isinstance(committed, Done)
        assert committed.reservation.sequence == first.reservation.sequence + 1
        assert (await verify(rebuilt)).difference is None


async def test_an_engine_in_use_is_not_rebuilt(store: Store) -> None:
    await store.commands.adjust(Sku("A"), location_id="main", mode="delta", amount=5, reason="found")
    with pytest.raises(CommandRefused, match="rebuild into an empty engine"):
        await rebuild_all(store, store.client)


DAMAGES = {
    "a unit more": (("HINCRBY", "{sku:A}", "reserved", 1), "reserved"),
    "a unit found": (("HINCRBY", "{locations:A}", "on_hand\tmain", 1), "locations:A"),
    "another policy": (("HSET", "{sku:A}", "backorder_limit", 9), "backorder_limit"),
    "a reservation lost": (("DEL", "{reservation}"), "missing in the engine"),
    "a reservation ended": (("HSET", "{reservation}", "status", "released"), "status"),
    "a reservation that fades": (("PEXPIRE", "{reservation}", 100_000), "expires"),
    "a deadline moved": (("ZINCRBY", "{deadlines}", 1, "{token}"), "deadlines"),
    "a deadline lost": (("ZREM", "{holds:A}", "{token}"), "holds:A"),
    "a key of nobody": (("SET", "{prefix}stray", 1), "stray"),
    "an entry lost at the end": (("XDEL", "{ledger}", "2-0"), "counts 2 entries, but the ledger ends at 1"),
    "an entry lost": (("XDEL", "{ledger}", "1-0"), "gap"),
    "an entry of nobody": (("XADD", "{ledger}", "3-0", "type", "stray"), "is not as the scripts write one"),
}


@pytest.mark.damaging
@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
async def test_what_is_not_as_the_ledger_says_is_named(store: Store, damage: tuple[object, ...], words: str) -> None:
    await store.commands.adjust(Sku("A"), location_id="main", mode="delta", amount=5, reason="found")
    held = await store.commands.reserve(
        [Line(Sku("A"), 2)], agent_id="agent", channel="direct", ttl_us=10 * SECOND_US, allow_backorder=False,
        details=None, idempotency=None,
    )  # fmt: skip
    assert isinstance(held, Held)
    (keys,), token = store.keyspace.partitions, held.reservation.token
    names = {
        "{sku:A}": keys.sku(Sku("A")),
        "{locations:A}": keys.locations(Sku("A")),
        "{holds:A}": keys.holds(Sku("A")),
        "{reservation}": keys.reservation(token),
        "{deadlines}": keys.deadlines,
        "{ledger}": keys.ledger,
        "{prefix}stray": f"{keys.prefix}stray",
        "{token}": token,
    }
    assert (await verify(store)).difference is None
    await store.client.execute_command(*(names.get(str(word), word) for word in damage))
    difference = (await verify(store)).difference
    assert difference is not None
    assert difference.sequence in (1, 2, 3)
    assert words in difference.sentence
