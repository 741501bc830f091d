"""Keeps a gateway's breakers as they should be: by the engine's absence, and by what persons ordered."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from app.domain.breakers import Order
from app.domain.errors import EngineError, EngineUnavailable
from app.observability import metrics
from app.store.breaker_orders import newest, read_orders, read_orders_file, write_orders, write_orders_file
from app.store.store import Store
from app.workflows.breakers import Breaker, Breakers

LOOK_SECONDS = 0.05
ORDERS_LOOK_SECONDS = 0.25
ENGINE_SECONDS_MAX = 0.4  # an engine that does not answer must not keep anybody from the file


async def watch_engine(store: Store, breaker: Breaker, *, open_after_seconds: float) -> None:
    """Until cancelled: opens the engine's breaker when it was lost for so long, and closes it when it is back."""
    while True:
        lost_since = store.pipeline.lost_since
        if lost_since is None:
            breaker.close()
        elif _may_open(breaker) and time.monotonic() - lost_since >= open_after_seconds:
            breaker.open(store.pipeline.refusal or "the engine does not answer, or refuses every call")
            store.pipeline.renew()  # its checks are what closes the breaker again
        store.pipeline.held_back = _why(breaker) if breaker.is_open else None
        await asyncio.sleep(LOOK_SECONDS)


async def watch_orders(store: Store, breakers: Breakers, path: Path) -> None:
    """Until cancelled: hears what persons ordered, wherever they did, and tells it to who has not heard."""
    while True:
        await follow_orders(store, breakers, path)
        for name, breaker in breakers.items():
            metrics.breaker_open.labels(name).set(breaker.is_open)
        await asyncio.sleep(ORDERS_LOOK_SECONDS)


async def follow_orders(store: Store, breakers: Breakers, path: Path) -> None:
    """One look at the file, and at the engine where it answers."""
    in_file = await asyncio.to_thread(read_orders_file, path)
    known = newest(in_file, {name: breaker.order for name, breaker in breakers.items() if breaker.order})
    with suppress(EngineError, TimeoutError):
        if store.pipeline.is_open:
            async with asyncio.timeout(ENGINE_SECONDS_MAX):
                in_engine = await read_orders(store.client, store.keyspace.sources)
                known = newest(known, in_engine)
                if known != in_engine:
                    await write_orders(store.client, store.keyspace.sources, known)
    if known != in_file:
        with suppress(OSError):  # the engine has it, or another look writes it
            await asyncio.to_thread(write_orders_file, path, known)
    _obey(breakers, known)


async def give_order(store: Store, breakers: Breakers, path: Path, name: str, order: Order) -> None:
    """Orders a breaker here and now, elsewhere within a second. Raises EngineUnavailable where nobody can keep it."""
    is_kept = False
    with suppress(OSError):
        await asyncio.to_thread(write_orders_file, path, {name: order})
        is_kept = True
    with suppress(EngineError, TimeoutError):
        if store.pipeline.is_open:
            async with asyncio.timeout(ENGINE_SECONDS_MAX):
                await write_orders(store.client, store.keyspace.sources, {name: order})
                is_kept = True
    if not is_kept:
        raise EngineUnavailable("neither the engine nor the data directory takes what was ordered")
    _obey(breakers, {name: order})


def _obey(breakers: Breakers, orders: Mapping[str, Order]) -> None:
    for name, order in orders.items():
        if name in breakers:
            breakers[name].obey(order)


def _may_open(breaker: Breaker) -> bool:
    return breaker.forced != "closed" and breaker.state.standing == "closed"


def _why(breaker: Breaker) -> str:
    if breaker.order is not None and breaker.order.forced == "open":
        return f"an operator has opened its breaker ({breaker.order.reason or 'no reason given'})"
    return breaker.reason or ""
