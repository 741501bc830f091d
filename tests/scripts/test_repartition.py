"""A ledger dealt out to another number of partitions proves itself there, and leaves every SKU what it had."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from app.commands.rebuilding import _deal, _meta_of
from app.commands.sources import Source
from app.domain.types import Sku
from app.projections.rebuild import PartitionWriter, verify, verify_partition
from app.projections.replayed import Stock
from app.settings import load_settings
from app.store.keys import Keyspace
from app.store.ledger import read_entries
from app.store.state import read_meta
from app.store.store import Store, make_store
from app.store.updates import apply_delivery
from tests.archiving import prove_views
from tests.conftest import OpenStore
from tests.engines import Engine
from tests.history import CATEGORIES, History, applied, kind_of
from tests.virtual_clock import KEY, REPLACED_INCLUDES, VirtualClock

STEPS = 600


@pytest.fixture
async def other(engine: Engine) -> AsyncIterator[Redis]:
    """Another, empty database of the same engine."""
    async with Redis.from_url(f"{engine.url}?db=1", protocol=2) as client:
        yield client


class WholeHistory(History):
    """A category has the same defaults in every partition, as the gateway sees to."""

    async def _put_category(self) -> object:
        category, units = self._chance.choice(CATEGORIES), str(self._chance.randint(0, 3))
        for keys in self._keyspace.partitions:
            await self._commands.put_category(keys, category, {"safety_stock_units": units, "backorder_limit": "6"})
        return None


async def deal(store: Store, target: Redis, partitions: int, *, wall_us: int) -> dict[Sku, Stock]:
    """Deals the store's ledger out; the SKUs as it leaves them, proved."""
    keyspace = Keyspace(partitions)
    metas = tuple([(await read_meta(store.client, keys))[0] for keys in store.keyspace.partitions])
    source = Source(metas, lambda index: read_entries(store.client, store.keyspace.partitions[index]))
    dealt_metas = [_meta_of(source, index, partitions, wall_us=wall_us) for index in range(partitions)]
    writers = [PartitionWriter(target, *each) for each in zip(keyspace.partitions, dealt_metas, strict=True)]
    await _deal(source, writers, keyspace, lambda _: None)
    stocks: dict[Sku, Stock] = {}
    for keys, writer in zip(keyspace.partitions, writers, strict=True):
        await writer.finish()
        verdict = await verify_partition(target, keys)
        assert verdict.difference is None
        prove_views(writer.replay, [entry async for _, page in read_entries(target, keys) for entry in page])
        assert all(keyspace.of_sku(sku) is keys for sku in verdict.stocks)
        stocks |= verdict.stocks
    return stocks


@pytest.mark.parametrize("counts", [(1, 3), (3, 1), (3, 2)])
@pytest.mark.parametrize("seed", range(3))
async def test_every_sku_has_what_it_had(  # noqa: PLR0917 - fixtures
    open_store: OpenStore, clock: VirtualClock, engine: Engine, other: Redis, seed: int, counts: tuple[int, int]
) -> None:
    before, after = counts
    store = await open_store(clock=clock, partitions=before)
    history = WholeHistory(store, clock, seed)
    await history.live(STEPS)
    clock.advance(7200)  # what is live by then could be torn apart
    stocks: dict[Sku, Stock] = {}
    for keys in store.keyspace.partitions:
        while (await store.commands.expire(keys)).lines:
            pass
        stocks |= (await verify_partition(store.client, keys)).stocks
    dealt = await deal(store, other, after, wall_us=clock.now_us)
    assert dealt.keys() == stocks.keys()
    for sku, stock in stocks.items():
        for name in ("on_hand", "reserved", "committed", "backordered", "safety_stock", "policy", "locations"):
            assert getattr(dealt[sku], name) == getattr(stock, name), (sku, name)

    await other.set(KEY, clock.now_us + 1)
    async with make_store(load_settings({"partitions": after}), f"{engine.url}?db=1", REPLACED_INCLUDES) as dealt_store:
        for delivery in history.deliveries:  # once more: what was applied is remembered where it is now
            results = await apply_delivery(dealt_store.commands, dealt_store.keyspace, delivery, kind_of=kind_of)
            assert history.applied.isdisjoint(applied(delivery, results))
        assert (await verify(dealt_store)).difference is None
