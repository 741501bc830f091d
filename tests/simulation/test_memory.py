"""Memory is rate x retention, not time: 34 days of the same traffic in virtual time take no more than 32.

The engine forgets keys by its own clock, which no test can move; so each key's time to live is shortened by the hours
that have passed, and a key whose time has come is deleted, as the engine would.
"""

import asyncio
from dataclasses import dataclass
from itertools import pairwise

import pytest

from app.domain.outcomes import Held, SkuAnswered
from app.domain.types import Line, Sku
from app.settings import load_settings
from app.store.commands import Commands, Idempotency
from app.store.readers import ARCHIVE, LedgerReader
from app.store.store import Store
from tests.conftest import OpenStore
from tests.engines import Engine
from tests.virtual_clock import KEY, VirtualClock

DAY_SECONDS = 24 * 3600
HOUR_MS = 3600 * 1000
HOURS = 3  # from one hour of trade to the next
DAYS = 34
SETTLED_DAY = 32  # what is kept longest are sales of an order: 31 days
ENTRIES_KEPT = 200
SKUS = [Sku(f"SKU-{number}") for number in range(3)]
US = 1_000_000


@dataclass(frozen=True, slots=True)
class Size:
    """Of the engine at the end of a day."""

    keys: int
    entries: int
    bytes: int


@pytest.mark.damaging  # what the reader acknowledged is dropped, and no archive has it
async def test_memory_is_bounded(open_store: OpenStore, engine: Engine, clock: VirtualClock) -> None:
    store = await open_store(clock=clock, record_retention_seconds=DAY_SECONDS, committed_retention_seconds=DAY_SECONDS)
    reader = LedgerReader(load_settings(), engine.url, name=ARCHIVE)
    sizes: list[Size] = []
    for day in range(DAYS):
        for hour in range(0, 24, HOURS):
            await _trade(store.commands, number=day * 24 + hour)
            clock.advance(HOURS * 3600)
            await _settle(store)
            _age(engine)
            keys = store.keyspace.partitions[0]
            await reader.acknowledge(keys, store.partitions.sequences[0], entries_kept=ENTRIES_KEPT)
        sizes.append(_measure(engine, store))
    await reader.disconnect()
    assert sizes[0].keys < sizes[SETTLED_DAY - 1].keys, "what is kept for days adds up at first"
    for before, after in pairwise(sizes[SETTLED_DAY - 1 :]):
        assert after.keys == before.keys
        assert after.entries == before.entries == ENTRIES_KEPT
        assert after.bytes < 1.1 * before.bytes


async def _trade(commands: Commands, *, number: int) -> None:
    """An hour: stock comes, of five holds two are sold, one is released, one expires, one sale is taken back."""
    await asyncio.gather(*(_sell(commands, sku, number) for sku in SKUS))


async def _sell(commands: Commands, sku: Sku, number: int) -> None:
    key = Idempotency(("", "adjust", sku, str(number)), "f")
    stocked = await commands.adjust(
        sku, location_id="main", mode="count", amount=100_000, reason="delivery", idempotency=key
    )
    assert isinstance(stocked, SkuAnswered)
    tokens = []
    for _ in range(5):
        held = await commands.reserve(
            [Line(sku, 1)], agent_id="a", channel="direct", ttl_us=60 * US,
            allow_backorder=False, details=None, idempotency=None,
        )  # fmt: skip
        assert isinstance(held, Held)
        tokens.append(held.reservation.token)
    await commands.commit(tokens[0], order_id=f"{sku}-{number}")
    await commands.commit(tokens[1], order_id="", idempotency=Idempotency(("", "commit", tokens[1]), "f"))
    await commands.release(tokens[2])
    await commands.commit(tokens[3], order_id="")
    await commands.cancel(tokens[3])


async def _settle(store: Store) -> None:
    while (await store.commands.expire(store.keyspace.partitions[0])).lines:
        pass


def _age(engine: Engine) -> None:
    """Some hours less to live for every key that the engine will forget."""
    keys = [key for key in engine.client.scan_iter(count=1000) if key != KEY.encode()]
    asking = engine.client.pipeline(transaction=False)
    for key in keys:
        asking.pttl(key)
    telling = engine.client.pipeline(transaction=False)
    for key, ttl_ms in zip(keys, asking.execute(), strict=True):
        if ttl_ms > HOURS * HOUR_MS:
            telling.pexpire(key, ttl_ms - HOURS * HOUR_MS)
        elif ttl_ms >= 0:
            telling.delete(key)
    telling.execute()


def _measure(engine: Engine, store: Store) -> Size:
    return Size(
        keys=engine.client.dbsize(),
        entries=engine.client.xlen(store.keyspace.partitions[0].ledger),
        bytes=engine.client.info("memory")["used_memory_dataset"],  # without buffers, which come and go
    )
