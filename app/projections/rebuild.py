"""Puts what the ledger adds up to beside the engine's live state, or writes it into an empty engine."""

import math
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass, replace

from app.domain.entries import Entry
from app.domain.errors import EngineBusy, LedgerBroken
from app.domain.types import Sku
from app.projections.replay import Replay, Stock
from app.store.keys import PartitionKeys
from app.store.ledger import read_entries
from app.store.state import Client, Meta, State, Value, read_meta, read_state, refuse_used, write_entries, write_state
from app.store.store import Store

LOOKS_MAX = 5
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


async def verify(store: Store) -> Verdict:
    """Replays the ledger of every partition and compares it with the live state. Raises EngineError.

    A service may run meanwhile; EngineBusy says that it never paused long enough for a look at everything.
    """
    entries = 0
    stocks: dict[Sku, Stock] = {}
    for keys in store.keyspace.partitions:
        verdict = await verify_partition(store.client, keys)
        entries += verdict.entries
        stocks |= verdict.stocks
        if verdict.difference:
            return Verdict(entries, stocks, verdict.difference)
    return Verdict(entries, stocks, None)


async def verify_partition(client: Client, keys: PartitionKeys) -> Verdict:
    """The same for one partition."""
    replay = Replay(keys, retention_ms=RETENTION_MS_MIN)
    for _ in range(LOOKS_MAX):
        try:
            async for _, page in read_entries(client, keys, after=replay.sequence):
                for entry in page:
                    replay.feed(entry)
            replay.finish()
        except LedgerBroken as broken:
            return Verdict(replay.sequence, replay.stocks, Difference(keys.index, broken.sequence, str(broken)))
        live = await read_state(client, keys)
        meta, ledger_end = await read_meta(client, keys)
        if ledger_end == replay.sequence:
            return Verdict(replay.sequence, replay.stocks, _compare(live, meta, replay, keys))
    raise EngineBusy(f"the ledger moved on during each of {LOOKS_MAX} looks at the engine")


async def rebuild(pages: AsyncIterable[Sequence[Entry]], target: Client, keys: PartitionKeys, meta: Meta) -> Replay:
    """Writes a partition's entries, and all that follows from them, into an engine that has nothing of it yet.

    `meta` is the partition's own: its secret, so that tokens and remembered answers stay what they are, and its clock.
    Raises LedgerBroken, StartupError where the engine is in use, EngineError.
    """
    await refuse_used(target, keys)
    replay = Replay(keys, retention_ms=meta.retention_ms)
    async for page in pages:
        for entry in page:
            replay.feed(entry)
        await write_entries(target, keys, page)
    replay.finish()
    await write_state(target, keys, replay.state(), replace(meta, sequence=replay.sequence))
    return replay


def first_difference(live: State, replayed: State, *, now_us: int) -> tuple[str, str] | None:
    """(key, what differs) in the order of the keys, or None. A key that may be forgotten by now may be missing."""
    in_engine, by_ledger = live.values(), replayed.values()
    for key in sorted(in_engine.keys() | by_ledger.keys()):
        found, reckoned = in_engine.get(key), by_ledger.get(key)
        if found is None and replayed.expires_at_us.get(key, math.inf) <= now_us + EXPIRY_SLACK_US:
            continue
        if found != reckoned:
            return key, f"is {_unlike(found, reckoned)} in the engine, but {_unlike(reckoned, found)} by the ledger"
        if (key in live.expires_at_us) != (key in replayed.expires_at_us):
            return key, "expires, but is live by the ledger" if key in live.expires_at_us else "never expires"
    return None


def _compare(live: State, meta: Meta, replay: Replay, keys: PartitionKeys) -> Difference | None:
    if meta.sequence != replay.sequence:
        sentence = f"the engine counts {meta.sequence} entries, but the ledger ends at {replay.sequence}"
        return Difference(keys.index, min(meta.sequence, replay.sequence) + 1, sentence)
    found = first_difference(live, replay.state(), now_us=meta.now_us)
    if found is None:
        return None
    key, sentence = found
    return Difference(keys.index, replay.sequence_of(key), f"{key} {sentence}")


def _unlike(value: Value | None, other: Value | None) -> str:
    """A value as it is shown beside another: of a hash or a sorted set only what is not the same there."""
    if value is None:
        return "missing"
    if isinstance(value, dict) and isinstance(other, dict):
        return str({name: text for name, text in value.items() if other.get(name) != text})
    return repr(value)
