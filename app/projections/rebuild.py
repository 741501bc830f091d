"""Puts what the ledger adds up to beside the engine's live state, or writes it into an empty engine."""

import asyncio
import math
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

from app.domain.entries import Entry
from app.domain.errors import EngineBusy, LedgerBroken
from app.domain.types import Sku
from app.projections.archive.reader import Archive
from app.projections.history import read_history
from app.projections.replay import Replay
from app.projections.replayed import Stock
from app.store.keys import PartitionKeys
from app.store.ledger import read_entries
from app.store.state import (
    Client,
    Meta,
    State,
    Value,
    erase,
    read_meta,
    read_moment,
    read_state,
    refuse_used,
    write_entries,
    write_state,
)
from app.store.store import Store

LOOKS_MAX = 5
MOMENT_KEYS_MAX = 1000
NAMED_KEYS_MAX = 100
# What has ended is kept for a day at least, whatever the settings were: what is missing later than that is rightly so.
# The engine counts by the wall clock, which may be a little ahead of engine time.
RETENTION_MS_MIN = 24 * 3600 * 1000
EXPIRY_SLACK_US = 60 * 1_000_000


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the ledger contradicts itself, or the engine contradicts it: at this sequence, in these words."""

    partition: int
    sequence: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a replay found: how many entries it read, the SKUs as they leave them, the first difference if any."""

    entries: int
    stocks: dict[Sku, Stock]
    difference: Difference | None


async def verify(
    store: Store, archive: Archive | None = None, *, on_entries: Callable[[int], None] = lambda _: None
) -> Verdict:
    """Replays the ledger of every partition, from the archive on, and compares it with the live state.

    A service may run meanwhile. `on_entries` hears of how many more were replayed. Raises EngineError,
    ArchiveUnavailable.
    """
    entries = 0
    stocks: dict[Sku, Stock] = {}
    for keys in store.keyspace.partitions:
        verdict = await verify_partition(store.client, keys, archive, on_entries=on_entries)
        entries += verdict.entries
        stocks |= verdict.stocks
        if verdict.difference:
            return Verdict(entries, stocks, verdict.difference)
    return Verdict(entries, stocks, None)


async def verify_partition(
    client: Client,
    keys: PartitionKeys,
    archive: Archive | None = None,
    *,
    on_entries: Callable[[int], None] = lambda _: None,
) -> Verdict:
    """The same for one partition."""
    replay = Replay(keys, retention_ms=RETENTION_MS_MIN, committed_retention_ms=RETENTION_MS_MIN)

    async def replay_on(until: int | None = None) -> None:
        async for _, page in read_history(client, archive, keys, after=replay.sequence, until=until):
            for entry in page:
                replay.feed(entry)
            on_entries(len(page))
        replay.finish()

    try:
        await replay_on()
        difference = await _compare(client, keys, replay, replay_on) or await _compare_archive(client, keys, archive)
    except LedgerBroken as broken:
        difference = Difference(keys.index, broken.sequence, str(broken))
    return Verdict(replay.sequence, replay.stocks, difference)


async def _compare(
    client: Client, keys: PartitionKeys, replay: Replay, replay_on: Callable[[int | None], Awaitable[None]]
) -> Difference | None:
    """Compares the live state with what the replayed ledger says, while both may move.

    What is not the same at first may have changed while it was read. So it is read again, which each time is less, and
    at last in pictures of one moment, to which the ledger is replayed exactly.
    """
    suspects: list[str] | None = None
    live = replayed = State()
    for _ in range(LOOKS_MAX):
        live = await read_state(client, keys, suspects)
        meta, ledger_end = await read_meta(client, keys)
        if meta.sequence != ledger_end:
            sentence = f"the engine counts {meta.sequence} entries, but the ledger ends at {ledger_end}"
            return Difference(keys.index, min(meta.sequence, ledger_end) + 1, sentence)
        await replay_on(None)
        replayed = replay.state()
        suspects = [key for key, _ in _differences(live, replayed, suspects, now_us=meta.now_us)]
        if len(suspects) <= MOMENT_KEYS_MAX:
            break
    assert suspects is not None
    looked_at = suspects[:MOMENT_KEYS_MAX]
    live, meta = await read_moment(client, keys, looked_at, (live, replayed))
    await replay_on(meta.sequence)
    found = list(_differences(live, replay.state(), looked_at, now_us=meta.now_us))
    if not found and len(suspects) > len(looked_at):
        raise EngineBusy(f"the ledger moved on too fast during each of {LOOKS_MAX} looks at the engine")
    named = [Difference(keys.index, replay.sequence_of(key), f"{key} {words}") for key, words in found[:NAMED_KEYS_MAX]]
    return min(named, key=lambda difference: difference.sequence, default=None)


async def _compare_archive(client: Client, keys: PartitionKeys, archive: Archive | None) -> Difference | None:
    """What both have, the engine and the archive, must be the same in both: the first entry that is not."""
    if archive is None or not archive.is_on:
        return None
    archived = (await archive.positions()).get(keys.index, 0)
    async for last, page in read_entries(client, keys, until=archived):
        copies = await archive.read_entries(
            keys.index, after=page[0].sequence - 1, until=last, limit=last - page[0].sequence + 1
        )
        by_sequence = {copy.sequence: copy for copy in copies}
        for entry in page:
            if by_sequence.get(entry.sequence) != entry:
                sentence = f"ledger entry {entry.sequence} is another one in the archive than in the engine"
                return Difference(keys.index, entry.sequence, sentence)
    return None


async def rebuild(pages: AsyncIterable[Sequence[Entry]], target: Client, keys: PartitionKeys, meta: Meta) -> Replay:
    """Writes a partition's entries, and all that follows from them, into an engine that has nothing of it yet.

    `meta` is the partition's own: its secret, so that tokens and remembered answers stay what they are, and its clock.
    Raises LedgerBroken, CommandRefused where the engine is in use, EngineError.
    """
    await refuse_used(target, keys.prefix)
    async with PartitionWriter(target, keys, meta) as writer:
        async for page in pages:
            await writer.add(page)
        return await writer.finish()


class PartitionWriter:
    """Writes a partition into an empty engine, and leaves it empty where that fails.

    Entries are written while the next ones are replayed; those up to `skipped` are replayed only: the archive has them.
    """

    def __init__(self, target: Client, keys: PartitionKeys, meta: Meta, *, skipped: int = 0) -> None:
        self._target = target
        self._keys = keys
        self._meta = meta
        self._skipped = skipped
        self._writing: asyncio.Task[None] | None = None
        self.replay = Replay(keys, retention_ms=meta.retention_ms, committed_retention_ms=meta.committed_retention_ms)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
        if kind is not None:
            await erase(self._target, self._keys)

    async def add(self, entries: Sequence[Entry]) -> None:
        """Takes the next entries."""
        for entry in entries:
            self.replay.feed(entry)
        await self._end_writing()
        written = [entry for entry in entries if entry.sequence > self._skipped]
        self._writing = asyncio.create_task(write_entries(self._target, self._keys, written))

    async def finish(self) -> Replay:
        """Writes what follows from the entries: there are no more of them."""
        await self._end_writing()
        self.replay.finish()
        wall_us = max(self._meta.wall_us, self.replay.at_us - self._meta.offset_us)
        meta = replace(self._meta, sequence=self.replay.sequence, wall_us=wall_us)
        await write_state(self._target, self._keys, self.replay.state(), meta)
        return self.replay

    async def _end_writing(self) -> None:
        if self._writing is not None:
            await self._writing


def first_difference(live: State, replayed: State, *, now_us: int) -> tuple[str, str] | None:
    """(key, what differs) in the order of the keys, or None. A key that may be forgotten by now may be missing."""
    return next(_differences(live, replayed, None, now_us=now_us), None)


def _differences(
    live: State, replayed: State, names: Iterable[str] | None, *, now_us: int
) -> Iterator[tuple[str, str]]:
    """The same for every key that differs, or for those of these."""
    in_engine, by_ledger = live.values(), replayed.values()
    for key in sorted(in_engine.keys() | by_ledger.keys() if names is None else names):
        found, reckoned = in_engine.get(key), by_ledger.get(key)
        if found is None and replayed.expires_at_us.get(key, math.inf) <= now_us + EXPIRY_SLACK_US:
            continue
        if found != reckoned:
            yield key, f"is {_unlike(found, reckoned)} in the engine, but {_unlike(reckoned, found)} by the ledger"
        elif (key in live.expires_at_us) != (key in replayed.expires_at_us):
            yield key, "expires, but is live by the ledger" if key in live.expires_at_us else "never expires"


def _unlike(value: Value | None, other: Value | None) -> str:
    """A value as it is shown beside another: of a hash or a sorted set only what is not the same there."""
    if value is None:
        return "missing"
    if isinstance(value, dict) and isinstance(other, dict):
        return str({name: text for name, text in value.items() if other.get(name) != text})
    return repr(value)
