"""What the keys of a partition hold, as plain values: read from an engine, or written into an empty one.

Apart from them are the ledger, which they all follow from, and the meta hash, the engine's own (its clock, its secret).
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from app.domain.entries import Entry
from app.domain.errors import EngineCorrupt, EngineUnavailable, StartupError
from app.store.keys import PartitionKeys
from app.store.ledger import encode_entry, sequence_of

BATCH_SIZE_MAX = 1000

Value = dict[str, str] | str
Client = Redis  # what reads and writes here; others know it by this name, for the store alone imports redis


@dataclass(frozen=True, slots=True)
class State:
    """Values by key, as the engine's text; a sorted set is member -> score.

    `expires_at_us` has the keys that the engine forgets by itself, and when, in us of engine time.
    """

    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    zsets: dict[str, dict[str, str]] = field(default_factory=dict)
    strings: dict[str, str] = field(default_factory=dict)
    expires_at_us: dict[str, int] = field(default_factory=dict)

    def values(self) -> dict[str, Value]:
        """All of it, whatever its type."""
        return {**self.hashes, **self.zsets, **self.strings}


@dataclass(frozen=True, slots=True)
class Meta:
    """A partition's own hash. Engine time (us) is the wall clock plus `offset_us`."""

    schema_version: int
    partition: int
    partitions: int
    secret: str
    retention_ms: int
    sequence: int
    wall_us: int
    offset_us: int

    @property
    def now_us(self) -> int:
        """Engine time when it was last stored."""
        return self.wall_us + self.offset_us


async def read_meta(client: Redis, keys: PartitionKeys) -> tuple[Meta, int]:
    """The partition's meta hash and the last sequence of its ledger, at one moment. Raises EngineError."""
    with _translated():
        async with client.pipeline(transaction=True) as pipeline:
            pipeline.hgetall(keys.meta)
            pipeline.xrevrange(keys.ledger, count=1)
            fields, last = await pipeline.execute()
    try:
        meta = msgspec.convert(_decode_pairs(fields), Meta, strict=False)
    except msgspec.ValidationError as error:
        raise EngineCorrupt(f"{keys.meta} is not what a partition has: {error}") from None
    return meta, sequence_of(last[0][0]) if last else 0


async def read_state(client: Redis, keys: PartitionKeys) -> State:
    """Every key of the partition but meta and ledger: a picture of one moment only if nothing was written meanwhile.

    Raises EngineUnavailable, and EngineCorrupt for a key of a type that no script uses.
    """
    state = State()
    with _translated():
        meta, _ = await read_meta(client, keys)
        async for found in _scan(client, keys):
            types = await _gather(client, found, lambda pipeline, key: pipeline.type(key))
            ttls_ms = await _gather(client, found, lambda pipeline, key: pipeline.pttl(key))
            values = await _gather(client, list(zip(found, types, strict=True)), _ask_value)
            for key, kind, ttl_ms, value in zip(found, types, ttls_ms, values, strict=True):
                match kind:
                    case b"hash":
                        state.hashes[key] = _decode_pairs(value)
                    case b"zset":
                        state.zsets[key] = {member.decode(): str(int(score)) for member, score in value}
                    case b"string":
                        state.strings[key] = value.decode()
                    case b"none":
                        continue  # its time came while we looked
                    case _:
                        raise EngineCorrupt(f"{key} is a {kind.decode()}, which nothing of ours is")
                if ttl_ms >= 0:
                    state.expires_at_us[key] = meta.now_us + ttl_ms * 1000
    return state


async def refuse_used(client: Redis, keys: PartitionKeys) -> None:
    """Raises StartupError where the partition holds anything already."""
    with _translated():
        if await client.exists(keys.meta, keys.ledger):
            raise StartupError("The engine holds a ledger already: rebuild into an empty engine.")


async def write_entries(client: Redis, keys: PartitionKeys, entries: Sequence[Entry]) -> None:
    """Appends these entries to the partition's ledger, under their own sequence numbers."""
    with _translated():
        await _gather(client, entries, lambda pipeline, entry: _append(pipeline, keys, entry))


async def write_state(client: Redis, keys: PartitionKeys, state: State, meta: Meta) -> None:
    """Writes every key that is not past its time, and meta last: a partition written in part cannot be opened."""
    ttls_ms = [(key, (at_us - meta.now_us) // 1000) for key, at_us in state.expires_at_us.items()]
    with _translated():
        await _gather(client, list(state.hashes.items()), lambda pipeline, row: pipeline.hset(row[0], mapping=row[1]))
        await _gather(client, list(state.zsets.items()), lambda pipeline, row: pipeline.zadd(*row))
        await _gather(client, list(state.strings.items()), lambda pipeline, row: pipeline.set(*row))
        await _gather(client, ttls_ms, lambda pipeline, row: pipeline.pexpire(*row))  # not above 0: deletes
        await client.hset(keys.meta, mapping={name: getattr(meta, name) for name in Meta.__slots__})


def _append(pipeline: Pipeline, keys: PartitionKeys, entry: Entry) -> object:
    return pipeline.xadd(keys.ledger, encode_entry(entry), id=f"{entry.sequence}-0")


def _ask_value(pipeline: Pipeline, row: tuple[str, bytes]) -> object:
    key, kind = row
    match kind:
        case b"hash":
            return pipeline.hgetall(key)
        case b"zset":
            return pipeline.zrange(key, 0, -1, withscores=True)
        case b"string":
            return pipeline.get(key)
        case _:
            return pipeline.exists(key)


async def _scan(client: Redis, keys: PartitionKeys) -> AsyncIterator[list[str]]:
    """The partition's keys but meta and ledger, a batch at a time; some may come twice."""
    batch: list[str] = []
    async for raw in client.scan_iter(match=f"{keys.prefix}*", count=BATCH_SIZE_MAX):
        if (key := raw.decode()) not in (keys.meta, keys.ledger):
            batch.append(key)
        if len(batch) == BATCH_SIZE_MAX:
            yield batch
            batch = []
    yield batch


async def _gather(client: Redis, rows: Sequence[Any], ask: Callable[[Pipeline, Any], object]) -> list[Any]:
    """One command a row, sent in batches; the answers in order."""
    answers: list[Any] = []
    for start in range(0, len(rows), BATCH_SIZE_MAX):
        async with client.pipeline(transaction=False) as pipeline:
            for row in rows[start : start + BATCH_SIZE_MAX]:
                ask(pipeline, row)
            answers += await pipeline.execute()
    return answers


def _decode_pairs(fields: dict[Any, Any]) -> dict[str, str]:
    return {name.decode(): text.decode() for name, text in fields.items()}


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise EngineUnavailable(f"the engine's keys cannot be reached ({type(error).__name__})") from None
