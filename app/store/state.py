"""What the keys of a partition hold, as plain values: read from an engine, or written into an empty one.

Apart from them are the ledger, which they all follow from, the meta hash, the engine's own (its clock, its secret),
how far the readers of the ledger have come, and what stands around the scripts, of which no entry tells.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec
from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError, ResponseError

from app.domain.entries import Entry
from app.domain.errors import CommandRefused, EngineCorrupt, EngineUnavailable
from app.domain.types import Sku
from app.store.keys import PARTITIONS_MAX, PREFIX, PartitionKeys
from app.store.ledger import encode_entry, sequence_of

BATCH_SIZE_MAX = 1000
ANSWER_SECONDS_MAX = 30.0
IS_MISSING = -2  # what PTTL says of a key that is not there

Value = dict[str, str] | str
Command = tuple[Any, ...]  # its name and arguments
MULTI: Command = ("MULTI",)
EXEC: Command = ("EXEC",)
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

    def kind_of(self, key: str) -> bytes | None:
        """Of what type a key is, as the engine says it."""
        kinds = ((b"hash", self.hashes), (b"zset", self.zsets), (b"string", self.strings))
        return next((kind for kind, keys in kinds if key in keys), None)

    def values(self) -> dict[str, Value]:
        """All of it, whatever its type."""
        return {**self.hashes, **self.zsets, **self.strings}


@dataclass(frozen=True, slots=True)
class Meta:
    """A partition's own hash. Engine time (us) is the wall clock plus `offset_us`; caps: see lua/includes/caps.lua."""

    schema_version: int
    partition: int
    partitions: int
    secret: str
    retention_ms: int
    committed_retention_ms: int
    sequence: int
    wall_us: int
    offset_us: int
    caps: str = ""

    @property
    def now_us(self) -> int:
        """Engine time when it was last stored."""
        return self.wall_us + self.offset_us


@asynccontextmanager
async def open_client(url: str, *, timeout_seconds: float | None = ANSWER_SECONDS_MAX) -> AsyncIterator[Client]:
    """A client that opens no partition: for what examines an engine, or makes one anew.

    Without a timeout it is for writing, which has one of its own for each batch and is spared one for each answer.
    """
    client = Redis.from_url(url, protocol=2, retry=None, socket_timeout=timeout_seconds)
    async with client:
        yield client


async def read_meta(client: Redis, keys: PartitionKeys) -> tuple[Meta, int]:
    """The partition's meta hash and the last sequence of its ledger, at one moment. Raises EngineError."""
    with _translated():
        async with client.pipeline(transaction=True) as pipeline:
            pipeline.hgetall(keys.meta)
            pipeline.xrevrange(keys.ledger, count=1)
            fields, last = await pipeline.execute()
    return _decode_meta(keys, fields), sequence_of(last[0][0]) if last else 0


async def read_state(client: Redis, keys: PartitionKeys, names: Iterable[str] | None = None) -> State:
    """Every key of the partition that follows from its ledger, or these alone.

    It is a picture of one moment only where nothing is written meanwhile. Raises EngineUnavailable, and EngineCorrupt
    for a key of a type that no script uses.
    """
    state = State()
    with _translated():
        meta, _ = await read_meta(client, keys)
        async for found in _scan(client, keys) if names is None else _batches(names):
            types = await _gather(client, found, lambda pipeline, key: pipeline.type(key))
            ttls_ms = await _gather(client, found, lambda pipeline, key: pipeline.pttl(key))
            values = await _gather(client, list(zip(found, types, strict=True)), _ask_value)
            for key, kind, ttl_ms, value in zip(found, types, ttls_ms, values, strict=True):
                _put(state, key, kind, value, expires_at_us=meta.now_us + ttl_ms * 1000 if ttl_ms >= 0 else None)
    return state


async def read_moment(
    client: Redis, keys: PartitionKeys, names: Sequence[str], like: Sequence[State]
) -> tuple[State, Meta]:
    """These keys and the meta hash as they are at one moment. The first that knows a key of `like` says of what type.

    A picture even while others write, and so of few keys: nobody else is served meanwhile. Raises as `read_state`.
    """
    kinds = [next((kind for state in like if (kind := state.kind_of(name))), b"hash") for name in names]
    state = State()
    with _translated():
        async with client.pipeline(transaction=True) as pipeline:
            for row in zip(names, kinds, strict=True):
                _ask_value(pipeline, row)
                pipeline.pttl(row[0])
            pipeline.hgetall(keys.meta)
            try:
                *found, fields = await pipeline.execute()
            except ResponseError:
                raise EngineCorrupt(f"one of {', '.join(names)} is of another type than by the ledger") from None
    meta = _decode_meta(keys, fields)
    for name, kind, value, ttl_ms in zip(names, kinds, found[::2], found[1::2], strict=True):
        if ttl_ms != IS_MISSING:
            _put(state, name, kind, value, expires_at_us=meta.now_us + ttl_ms * 1000 if ttl_ms >= 0 else None)
    return state, meta


def _put(state: State, key: str, kind: bytes, value: Any, *, expires_at_us: int | None) -> None:
    match kind:
        case b"hash":
            state.hashes[key] = _decode_pairs(value)
        case b"zset":
            state.zsets[key] = {member.decode(): str(int(score)) for member, score in value}
        case b"string":
            state.strings[key] = value.decode()
        case b"none":
            return  # its time came while we looked
        case _:
            raise EngineCorrupt(f"{key} is a {kind.decode()}, which nothing of ours is")
    if expires_at_us is not None:
        state.expires_at_us[key] = expires_at_us


async def read_members(client: Redis, key: str) -> AsyncIterator[list[Sku]]:
    """The members of a sorted set of SKUs, a batch at a time, by name."""
    after = "-"
    with _translated():
        while members := await client.zrange(key, after, "+", bylex=True, offset=0, num=BATCH_SIZE_MAX):
            skus = [Sku(member.decode()) for member in members]  # type: ignore[union-attr] # bytes: no scores asked
            yield skus
            after = f"({skus[-1]}"


async def count_partitions(client: Redis) -> int:
    """How many partitions the engine's data has; 0 where there is none. Raises EngineUnavailable."""
    names = sorted({PartitionKeys(0, partitions).meta for partitions in range(1, PARTITIONS_MAX + 1)})
    with _translated():
        found = await _gather(client, names, lambda pipeline, name: pipeline.hget(name, "partitions"))
    return max((int(partitions) for partitions in found if partitions), default=0)


async def refuse_used(client: Redis, prefix: str = PREFIX) -> None:
    """Raises CommandRefused where the engine holds a ledger, or parts of one. What was only opened is empty."""
    with _translated():
        async for raw in client.scan_iter(match=f"{prefix}*", count=BATCH_SIZE_MAX):
            _, _, name = raw.split(b":", 2)
            is_apart = name == b"readers" or name.startswith(b"around:")
            is_empty = is_apart or (name == b"meta" and await client.hget(raw, "sequence") == b"0")
            if not is_empty:
                raise CommandRefused("The engine holds a ledger already: rebuild into an empty engine.")


async def erase(client: Redis, keys: PartitionKeys) -> None:
    """Removes a partition from an engine that had no ledger before. Raises EngineUnavailable."""
    with _translated():
        async for found in _scan(client, keys):
            if found:
                await client.unlink(*found)
        await client.unlink(keys.meta, keys.ledger, keys.readers)


async def write_entries(client: Redis, keys: PartitionKeys, entries: Sequence[Entry]) -> None:
    """Appends these entries to the partition's ledger, under their own sequence numbers. Raises EngineUnavailable."""
    rows = ((f"{entry.sequence}-0", encode_entry(entry)) for entry in entries)
    await _write(client, (("XADD", keys.ledger, row_id, *_flat(fields)) for row_id, fields in rows))


async def write_state(client: Redis, keys: PartitionKeys, state: State, meta: Meta) -> None:
    """Writes every key that is not past its time, and meta last: a partition written in part cannot be opened."""
    await _write(client, _state_commands(state, meta.now_us))
    fields = {name: value for name in Meta.__slots__ if (value := getattr(meta, name)) != ""}
    await _write(client, [("DEL", keys.meta, keys.readers), ("HSET", keys.meta, *_flat(fields))])


def _state_commands(state: State, now_us: int) -> Iterator[Command]:
    ttls_ms = {key: (at_us - now_us) // 1000 for key, at_us in state.expires_at_us.items()}
    for key, fields in state.hashes.items():
        if ttls_ms.get(key, 1) > 0:
            yield "HSET", key, *_flat(fields)
    for key, scores in state.zsets.items():
        members = list(scores.items())
        for start in range(0, len(members), BATCH_SIZE_MAX):
            batch = members[start : start + BATCH_SIZE_MAX]
            yield "ZADD", key, *(word for member, score in batch for word in (score, member))
    for key, text in state.strings.items():
        if ttls_ms.get(key, 1) > 0:
            yield "SET", key, text
    for key, ttl_ms in ttls_ms.items():
        if ttl_ms > 0:
            yield "PEXPIRE", key, ttl_ms


async def _write(client: Redis, commands: Iterable[Command]) -> None:
    """Runs commands in transactions, for each of which the engine syncs its file once.

    Packed by hiredis: redis-py's asynchronous pipeline packs in Python, which takes longer than all the rest.
    """
    commands = iter(commands)
    while batch := list(islice(commands, BATCH_SIZE_MAX)):
        with _translated():
            connection = await client.connection_pool.get_connection()
            try:
                async with asyncio.timeout(ANSWER_SECONDS_MAX):
                    await connection.send_packed_command(b"".join(map(pack_command, (MULTI, *batch, EXEC))))
                    for _ in range(len(batch) + 1):
                        await connection.read_response()
                    _raise_first(await connection.read_response())
            except BaseException:
                await connection.disconnect()  # what it would still answer is nobody's
                raise
            finally:
                await client.connection_pool.release(connection)


def _raise_first(answers: Sequence[object]) -> None:
    for answer in answers:
        if isinstance(answer, RedisError):
            raise answer


def _flat(fields: Mapping[Any, Any]) -> list[Any]:
    return [word for pair in fields.items() for word in pair]


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
    """The partition's keys that follow from its ledger, a batch at a time; some may come twice."""
    batch: list[str] = []
    async for raw in client.scan_iter(match=f"{keys.prefix}*", count=BATCH_SIZE_MAX):
        key = raw.decode()
        if key not in (keys.meta, keys.ledger, keys.readers) and not key.startswith(keys.around):
            batch.append(key)
        if len(batch) == BATCH_SIZE_MAX:
            yield batch
            batch = []
    yield batch


async def _batches(names: Iterable[str]) -> AsyncIterator[list[str]]:
    rest = iter(names)
    while batch := list(islice(rest, BATCH_SIZE_MAX)):
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


def _decode_meta(keys: PartitionKeys, fields: dict[Any, Any]) -> Meta:
    try:
        return msgspec.convert(_decode_pairs(fields), Meta, strict=False)
    except msgspec.ValidationError as error:
        raise EngineCorrupt(f"{keys.meta} is not what a partition has: {error}") from None


def _decode_pairs(fields: dict[Any, Any]) -> dict[str, str]:
    return {name.decode(): text.decode() for name, text in fields.items()}


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, TimeoutError) as error:
        raise EngineUnavailable(f"the engine's keys cannot be reached ({type(error).__name__})") from None
