"""The one connection to a real engine when things go wrong on the way: each caller gets its own answer or the truth."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.domain.errors import Backpressure, EngineUnavailable, OutcomeUnknown
from app.domain.outcomes import AdjustOutcome, Done, Held, ReserveOutcome, SkuAnswered
from app.domain.types import Line, Sku
from app.settings import load_settings
from app.store.commands import Idempotency
from app.store.store import Store, make_store
from tests.conftest import OpenStore
from tests.engines import Engine
from tests.faults.proxy import Proxy

A = Sku("A")
IN_FLIGHT_MAX = 256
STORM_CALLS, STORM_SKUS, STORM_BATCH = 4000, 50, 500
FLUSHES, CALLS_A_FLUSH = 40, 50
PATIENCE_SECONDS = 10.0


@pytest.fixture
def proxy(engine: Engine) -> Iterator[Proxy]:
    with Proxy(engine.url, path=Path(engine.url.removeprefix("unix://")).with_name("p")).open() as proxy:
        yield proxy


@asynccontextmanager
async def store_at(url: str, **settings: object) -> AsyncIterator[Store]:
    async with make_store(load_settings(settings), url) as store:
        yield store


def key(name: str) -> Idempotency:
    return Idempotency(scope=("", "agent", "POST", "/", name), fingerprint=name)


async def stock(store: Store, sku: Sku = A, units: int = 10) -> AdjustOutcome:
    return await store.commands.adjust(sku, location_id="main", mode="count", amount=units, reason="test")


async def reserve(store: Store, name: str | None = None, quantity: int = 1) -> ReserveOutcome:
    return await store.commands.reserve(
        [Line(A, quantity)], agent_id="agent", channel="direct", ttl_us=60_000_000, allow_backorder=False, details=None,
        idempotency=key(name) if name else None,
    )  # fmt: skip


async def outcomes(*calls: Awaitable[Any]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


def types(engine: Engine, store: Store) -> list[str]:
    """Of the ledger's entries, in order."""
    entries: Any = engine.client.xrange(store.keyspace.partitions[0].ledger)
    return [fields[b"type"].decode() for _, fields in entries]


@contextmanager
def paused(engine: Engine) -> Iterator[None]:
    engine.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        engine.process.send_signal(signal.SIGCONT)


async def eventually(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_so():  # noqa: ASYNC110 - what is waited for happens in the engine, or inside the pipeline
            await asyncio.sleep(0.005)


# Lost replies

Command = Callable[[Store], Awaitable[Any]]


async def prepare_nothing(store: Store) -> Command:
    return lambda store: reserve(store, "key")


async def prepare_commit(store: Store) -> Command:
    held = await reserve(store)
    assert isinstance(held, Held)
    return lambda store: store.commands.commit(held.reservation.token, order_id="", idempotency=key("key"))


async def prepare_adjustment(store: Store) -> Command:
    return lambda store: store.commands.adjust(
        A, location_id="main", mode="delta", amount=5, reason="test", idempotency=key("key")
    )


@pytest.mark.parametrize("prepare", [prepare_nothing, prepare_commit, prepare_adjustment])
@pytest.mark.parametrize("losses", [1, 3])
async def test_a_lost_reply_is_unknown_and_a_retry_has_the_first_answer(
    engine: Engine, proxy: Proxy, prepare: Callable[[Store], Awaitable[Command]], losses: int
) -> None:
    async with store_at(proxy.url) as store:
        await stock(store)
        command = await prepare(store)
        before = len(types(engine, store))
        for _ in range(losses):
            proxy.replies_to_lose = 1
            with pytest.raises(OutcomeUnknown):
                await command(store)
            await eventually(lambda: store.pipeline.is_open)
        outcome = await command(store)
        assert isinstance(outcome, Held | Done | SkuAnswered)
        assert outcome.is_replayed
        assert len(types(engine, store)) == before + 1


async def test_only_what_was_in_flight_is_unknown(engine: Engine, proxy: Proxy) -> None:
    async with store_at(proxy.url, engine_in_flight_max=10) as store:
        await stock(store, units=100)
        with paused(engine):
            calls = [asyncio.ensure_future(reserve(store)) for _ in range(30)]
            await eventually(lambda: store.pipeline.waiting == 20)
            proxy.cut()
            found = await outcomes(*calls[:10])
        assert {type(outcome) for outcome in found} == {OutcomeUnknown}
        assert {type(outcome) for outcome in await outcomes(*calls[10:])} == {Held}, "they waited, and were sent once"
        assert 20 <= types(engine, store).count("reservation.held") <= 30


async def test_a_connection_comes_back(engine: Engine, proxy: Proxy) -> None:
    async with store_at(proxy.url, engine_timeout_seconds=0.2) as store:
        await stock(store)
        with proxy.refusing():
            await eventually(lambda: not store.pipeline.is_open)
            await asyncio.sleep(0.3)
            started = time.monotonic()
            with pytest.raises(EngineUnavailable):
                await reserve(store)
            assert time.monotonic() - started < 1
            assert types(engine, store) == ["stock.adjusted"], "it was never sent"
        await eventually(lambda: store.pipeline.is_open)
        assert isinstance(await reserve(store), Held)


async def test_a_connection_that_breaks_while_it_is_written_to_comes_back(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store()
    await stock(store)
    broken = store.pipeline._connection

    async def break_off(*_: object, **__: object) -> None:
        raise RuntimeError(
            "unable to perform operation on <UnixTransport closed=True>; the handler is closed"
        )  # uvloop

    monkeypatch.setattr(broken, "send_packed_command", break_off)
    with pytest.raises(OutcomeUnknown):
        await reserve(store)
    await eventually(lambda: store.pipeline.is_open and store.pipeline._connection is not broken)
    assert isinstance(await reserve(store), Held)


# Callers that leave


async def test_no_caller_gets_anothers_answer(open_store: OpenStore) -> None:
    """A SKU's stock is its own number, so that an answer tells whose it is."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    store = await open_store()
    skus = {Sku(f"S{number}"): number for number in range(STORM_SKUS)}
    await asyncio.gather(*(stock(store, sku, units) for sku, units in skus.items()))

    async def ask(sku: Sku) -> int:
        outcome = await store.commands.availability(sku)
        assert isinstance(outcome, SkuAnswered)
        return outcome.state.on_hand

    tally: Counter[str] = Counter()
    for _ in range(STORM_CALLS // STORM_BATCH):
        asked = [chance.choice(list(skus)) for _ in range(STORM_BATCH)]
        calls = [asyncio.create_task(ask(sku)) for sku in asked]
        for call in chance.sample(calls, STORM_BATCH // 2):
            if chance.random() < 0.1:
                await asyncio.sleep(0)
            call.cancel()
        for sku, answer in zip(asked, await outcomes(*calls), strict=True):
            tally[type(answer).__name__] += 1
            assert isinstance(answer, asyncio.CancelledError) or answer == skus[sku]
    assert tally["int"] >= STORM_CALLS // 2
    assert tally["CancelledError"] >= STORM_CALLS // 10
    assert await ask(Sku("S7")) == 7
    assert (store.pipeline.in_flight, store.pipeline.waiting) == (0, 0)


# An engine that forgets its scripts, stands still, is full, or is another


async def test_a_script_flush_is_not_seen(engine: Engine, open_store: OpenStore) -> None:
    store = await open_store()
    await stock(store, units=FLUSHES * CALLS_A_FLUSH)
    held = []
    for _ in range(FLUSHES):
        calls = [asyncio.ensure_future(reserve(store)) for _ in range(CALLS_A_FLUSH)]
        await asyncio.sleep(0)
        engine.client.script_flush()
        held += await asyncio.gather(*calls)
    assert {type(outcome) for outcome in held} == {Held}
    assert types(engine, store).count("reservation.held") == FLUSHES * CALLS_A_FLUSH
    state = await store.commands.availability(A)
    assert isinstance(state, SkuAnswered)
    assert state.state.available == 0


async def test_scripts_that_are_flushed_again_and_again_are_not_missed(
    engine: Engine, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store()
    submit = store.pipeline._submit

    def flushed_before(packed: bytes) -> "asyncio.Future[Any]":
        engine.client.script_flush()
        return submit(packed)

    monkeypatch.setattr(store.pipeline, "_submit", flushed_before)
    await stock(store)
    assert isinstance(await reserve(store), Held)


async def test_an_engine_that_stands_still_leaves_no_ghosts(engine: Engine, open_store: OpenStore) -> None:
    """It runs what was sent to it when it goes on, also what its callers have given up long ago."""
    store = await open_store(engine_timeout_seconds=0.5)
    await stock(store)
    with paused(engine):
        started = time.monotonic()
        found = await outcomes(*(reserve(store, f"key-{number}") for number in range(5)))
        assert {type(outcome) for outcome in found} == {OutcomeUnknown}
        assert time.monotonic() - started < 1
        (late,) = await outcomes(reserve(store))
        assert isinstance(late, OutcomeUnknown | EngineUnavailable)
    await eventually(lambda: store.pipeline.is_open)
    assert isinstance(await reserve(store, quantity=10), Held), "nobody else holds any of the ten"
    assert types(engine, store) == ["stock.adjusted", "reservation.held"]


async def test_more_calls_than_may_be_in_flight_wait(engine: Engine, open_store: OpenStore) -> None:
    store = await open_store()
    await stock(store, units=1000)
    with paused(engine):
        calls = [asyncio.ensure_future(reserve(store)) for _ in range(300)]
        await eventually(lambda: store.pipeline.in_flight == IN_FLIGHT_MAX)
        assert store.pipeline.waiting == 300 - IN_FLIGHT_MAX
    assert {type(outcome) for outcome in await outcomes(*calls)} == {Held}


async def test_more_calls_than_may_wait_are_refused(engine: Engine, open_store: OpenStore) -> None:
    store = await open_store(engine_in_flight_max=10, engine_waiting_max=50, engine_timeout_seconds=0.5)
    await stock(store, units=1000)
    with paused(engine):
        in_flight = [asyncio.ensure_future(reserve(store)) for _ in range(10)]
        await eventually(lambda: store.pipeline.in_flight == 10)
        waiting = [asyncio.ensure_future(reserve(store)) for _ in range(50)]
        await eventually(lambda: store.pipeline.waiting == 50)
        with pytest.raises(Backpressure):
            await reserve(store)
        assert {type(outcome) for outcome in await outcomes(*in_flight)} == {OutcomeUnknown}
        assert {type(outcome) for outcome in await outcomes(*waiting)} <= {Backpressure, EngineUnavailable}
    await eventually(lambda: store.pipeline.is_open)
    assert isinstance(await reserve(store, quantity=1000), Held), "no unit of it is held by those who were refused"


async def test_a_full_engine_takes_back_but_gives_nothing(engine: Engine, open_store: OpenStore) -> None:
    store = await open_store()
    await stock(store)
    held = [await reserve(store) for _ in range(3)]
    engine.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(EngineUnavailable, match="maxmemory"):
            await reserve(store)
        first, second, third = (outcome.reservation.token for outcome in held if isinstance(outcome, Held))
        assert isinstance(await store.commands.release(first), Done)
        assert isinstance(await store.commands.commit(second, order_id=""), Done)
        assert isinstance(await store.commands.commit(third, order_id=""), Done)
        assert isinstance(await store.commands.cancel(third), Done)
        assert isinstance(await store.commands.availability(A), SkuAnswered)
    finally:
        engine.client.config_set("maxmemory", 0)
    assert isinstance(await reserve(store), Held)


async def test_an_engine_is_lost_that_answers_nothing_but_refusals(engine: Engine, open_store: OpenStore) -> None:
    """One without memory is not: it gives back. One that is a replica now is found out by the checks."""
    store = await open_store(engine_timeout_seconds=0.5)
    await stock(store)
    pipeline = store.pipeline

    def lost_for() -> float:
        return 0.0 if pipeline.lost_since is None else time.monotonic() - pipeline.lost_since

    engine.client.config_set("maxmemory", 1)
    with pytest.raises(EngineUnavailable, match="maxmemory"):
        await reserve(store)
    assert not lost_for()
    engine.client.config_set("maxmemory", 0)
    engine.client.replicaof("127.0.0.1", "1")
    with pytest.raises(EngineUnavailable, match="refuses"):
        await reserve(store)
    assert lost_for() > 0
    pipeline.renew()
    await eventually(lambda: "primary" in (pipeline.refusal or ""))
    engine.client.replicaof("NO", "ONE")
    await eventually(lambda: pipeline.is_open)
    assert not lost_for()
    pipeline.held_back = "works"
    with pytest.raises(EngineUnavailable, match="works"):
        await reserve(store)
    pipeline.held_back = None
    assert isinstance(await reserve(store), Held)


@pytest.mark.damaging
async def test_a_ledger_that_was_rolled_back_halts_holds(engine: Engine, open_store: OpenStore) -> None:
    store = await open_store(engine_timeout_seconds=0.2)
    await stock(store)
    await reserve(store)
    engine.client.flushall()
    engine.client.client_kill_filter(_type="normal", skipme=True)
    await eventually(lambda: bool(store.pipeline.refusal and "rolled back" in store.pipeline.refusal))
    with pytest.raises(EngineUnavailable, match="rolled back"):
        await reserve(store)
    assert not store.pipeline.is_open
