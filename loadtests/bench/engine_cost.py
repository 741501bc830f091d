"""What a hold costs the engine: time and memory, beside the least that any hold with a log would cost.

Time is the engine's own account (INFO commandstats): no client, no network, no fsync in it. The scripts are called
over the gateway's pipeline, on an engine with the configuration that `lastunit serve` gives it.
"""

import asyncio
import hashlib
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Protocol, TypeVar

from app.domain.outcomes import Done, Held, SkuAnswered
from app.domain.types import Line, Sku, Token
from app.settings import Settings
from app.store.embedded import EmbeddedEngine, connect
from app.store.keys import Keyspace, new_token
from app.store.scripts import Script, load_scripts
from app.store.store import Store, make_store
from loadtests.bench.proof import prove

BATCH_SIZE = 100
ON_HAND = 1_000_000
TTL_US = 1800 * 1_000_000
STRIDE = 7919  # a prime, so that neighbours in time lie far apart in memory
COPY_PREFIX = "copy:"  # a copy of the data that a script which decides nothing writes to
LOOK_SECONDS_MAX = 60
AGENT, CHANNEL = "agent_xyz", "direct"

Row = TypeVar("Row")
Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True)
class EngineCost:
    """At `holds` SKUs with a live hold each: us of a call, a value a round; bytes of a hold and of its ledger entry."""

    engine: str
    holds: int
    reference_us: list[float]
    commands_us: list[float]
    reserve_us: list[float]
    hold_bytes: float
    entry_bytes: float

    @property
    def ratio(self) -> float:
        """Reserve by reference, of the medians."""
        return median(self.reserve_us) / median(self.reference_us)

    @property
    def ratio_least(self) -> float:
        """Reserve's engine commands alone by reference, of the medians: what no writing of the script goes below."""
        return median(self.commands_us) / median(self.reference_us)


async def measure_engine_cost(name: str, binary: Path, *, holds: int, rounds: int, calls: int) -> EngineCost:
    """Fills an empty engine with that many SKUs and holds, times both scripts in alternating rounds, proves the end."""
    skus = [Sku(f"SKU-{number:06}") for number in range(holds)]
    with tempfile.TemporaryDirectory(prefix="lastunit-") as folder:
        engine = EmbeddedEngine(Path(folder) / "data", binary, exclusive=True)
        url = engine.start()
        try:
            hold_bytes, entry_bytes = await _fill(url, skus)
            async with _open_store(url) as store:
                reference_us, commands_us, reserve_us = await _time(store, skus, rounds=rounds, calls=calls)
                entries = 2 * holds + 2 * rounds * calls  # stocked and held; then held and released
                await prove(store, skus, entries=entries, held_units=holds)
        finally:
            engine.close()
    return EngineCost(name, holds, reference_us, commands_us, reserve_us, hold_bytes, entry_bytes)


async def _fill(url: str, skus: Sequence[Sku]) -> tuple[float, float]:
    """Stocks every SKU and holds a unit of each; returns what a hold took, in bytes: all but its entry, its entry."""
    async with _open_store(url) as store:
        await _in_batches(Reserve(store).stock, skus)
    used_before, ledger_before = _used_bytes(url)
    async with _open_store(url) as store:
        await _in_batches(Reserve(store).hold, skus)
    used_after, ledger_after = _used_bytes(url)
    entry_bytes = (ledger_after - ledger_before) / len(skus)
    return (used_after - used_before) / len(skus) - entry_bytes, entry_bytes


def _used_bytes(url: str) -> tuple[int, int]:
    """What the data takes, and what of it the ledger: as much as a copy of it (MEMORY USAGE guesses an eighth wrong).

    Looks over a connection of its own, so that the buffers of those that did the work are gone with them.
    """
    ledger = Keyspace(1).partitions[0].ledger
    with connect(url, timeout_seconds=LOOK_SECONDS_MAX) as client:
        used = client.info("memory")["used_memory"]
        client.copy(ledger, COPY_PREFIX + ledger)
        used_with_copy = client.info("memory")["used_memory"]
        client.delete(COPY_PREFIX + ledger)
    return used, used_with_copy - used


def _open_store(url: str) -> Store:
    return make_store(Settings(redis_url=url), url)


async def _time(store: Store, skus: Sequence[Sku], *, rounds: int, calls: int) -> list[list[float]]:
    """What a call takes, in us, a value a round: of the reference, of reserve's commands, of reserve.

    What a round holds it gives back.
    """
    reference, commands = Writes(store, "reference"), Writes(store, "commands")
    await reference.copy(skus)
    await commands.copy(skus)
    sides: list[tuple[Side, list[float]]] = [(reference, []), (commands, []), (Reserve(store), [])]
    for number in range(rounds):
        chosen = [skus[(number * calls + i) * STRIDE % len(skus)] for i in range(calls)]
        for side, taken_us in reversed(sides) if number % 2 else sides:
            await store.client.config_resetstat()
            tokens = await _in_batches(side.hold, chosen)
            stats = (await store.client.info("commandstats"))["cmdstat_evalsha"]
            assert stats["calls"] == calls, stats
            taken_us.append(round(stats["usec"] / calls, 2))
            await side.give_back(tokens)
    return [taken_us for _, taken_us in sides]


class Side(Protocol):
    """One of the scripts that are compared."""

    async def hold(self, sku: Sku) -> Token: ...

    async def give_back(self, tokens: Sequence[Token]) -> None: ...


class Reserve:
    """The product: its script, called as the gateway calls it."""

    def __init__(self, store: Store) -> None:
        self._commands = store.commands

    async def stock(self, sku: Sku) -> None:
        outcome = await self._commands.adjust(sku, location_id="main", mode="count", amount=ON_HAND, reason="benchmark")
        assert isinstance(outcome, SkuAnswered)

    async def hold(self, sku: Sku) -> Token:
        outcome = await self._commands.reserve(
            [Line(sku, 1)],
            agent_id=AGENT, channel=CHANNEL, ttl_us=TTL_US, allow_backorder=False, details=None, idempotency=None,
        )  # fmt: skip
        assert isinstance(outcome, Held)
        return outcome.reservation.token

    async def give_back(self, tokens: Sequence[Token]) -> None:
        outcomes = await _in_batches(self._commands.release, tokens)
        assert all(isinstance(outcome, Done) for outcome in outcomes)


class Writes:
    """A script beside this file that decides nothing, on a copy of the product's keys of its own."""

    def __init__(self, store: Store, name: str) -> None:
        source = (Path(__file__).parent / f"{name}.lua").read_text("utf-8")
        sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        self._script: Script = replace(load_scripts()["reserve"], name=name, source=source, sha=sha)
        self._store = store
        self._keys = store.keyspace.partitions[0]
        self._sequence = 0
        self._sku_of: dict[Token, Sku] = {}

    async def copy(self, skus: Sequence[Sku]) -> None:
        client, keys = self._store.client, self._keys
        await client.script_load(self._script.source)
        for key in (keys.meta, keys.deadlines, keys.ledger):
            await client.copy(key, self._copied(key))
        for key in [key_of(sku) for key_of in (keys.sku, keys.holds) for sku in skus]:
            await client.copy(key, self._copied(key))
        self._sequence = 2 * len(skus)

    async def hold(self, sku: Sku) -> Token:
        self._sequence += 1
        token, now_us = new_token(self._keys), time.time_ns() // 1000
        self._sku_of[token] = sku
        keys = (
            self._keys.sku(sku), self._keys.deadlines, self._keys.reservation(token), self._keys.ledger,
            self._keys.meta, self._keys.holds(sku),
        )  # fmt: skip
        await self._store.pipeline.call(
            self._script,
            [self._copied(key) for key in keys],
            (
                token, now_us, now_us + TTL_US, self._sequence, f"{self._sequence}-0", sku, 1, AGENT, CHANNEL,
                f"{sku}\t1\t0", ON_HAND, 1, ON_HAND - 1, 0, "",
            ),
        )  # fmt: skip
        return token

    async def give_back(self, tokens: Sequence[Token]) -> None:
        async with self._store.client.pipeline(transaction=False) as pipeline:
            for token in tokens:
                pipeline.zrem(self._copied(self._keys.deadlines), token)
                pipeline.zrem(self._copied(self._keys.holds(self._sku_of.pop(token))), token)
            await pipeline.execute()

    def _copied(self, key: str) -> str:
        return f"{COPY_PREFIX}{self._script.name}:{key}"


async def _in_batches(call: Callable[[Row], Awaitable[Reply]], rows: Sequence[Row]) -> list[Reply]:
    """The replies in order; a batch leaves in one write, and comes back whole before the next."""
    replies: list[Reply] = []
    for start in range(0, len(rows), BATCH_SIZE):
        replies += await asyncio.gather(*(call(row) for row in rows[start : start + BATCH_SIZE]))
    return replies
