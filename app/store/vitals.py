"""What an engine says of itself when it is examined: its INFO, its clock, and what a reservation costs it."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from app.domain.errors import EngineUnavailable
from app.store.keys import Keyspace, PartitionKeys
from app.store.ledger import Fields, sequence_of
from app.store.state import Client, Meta, read_meta

SAMPLE_ENTRIES = 1000
SAMPLE_RECORDS = 100
HOUR_US = 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """What a partition is asked to keep: mean rates a second of entries, of reservations, and of those that are sold.

    Measured over the entries that the engine has; over an hour at least, where they are all there ever were.
    """

    entries_rate: float
    reservations_rate: float
    sales_rate: float
    entry_bytes: float
    record_bytes: float
    ledger_bytes: int


@dataclass(frozen=True, slots=True)
class Vitals:
    """Of the whole engine. `clock_apart_us` is its wall clock minus this machine's."""

    info: Mapping[str, Any]
    metas: tuple[Meta, ...]
    loads: tuple[Load, ...]
    clock_apart_us: int


async def read_vitals(client: Client, keyspace: Keyspace) -> Vitals:
    """Examines an engine, whoever else uses it. Raises EngineError."""
    try:
        info = await client.info()
        seconds, microseconds = await client.time()
        wall_us = seconds * 1_000_000 + microseconds
        apart_us = wall_us - time.time_ns() // 1000
        metas = [(await read_meta(client, keys))[0] for keys in keyspace.partitions]
        loads = [
            await _read_load(client, keys, now_us=wall_us + meta.offset_us)
            for keys, meta in zip(keyspace.partitions, metas, strict=True)
        ]
    except RedisError as error:
        raise EngineUnavailable(f"the engine cannot be examined ({type(error).__name__})") from None
    return Vitals(info, tuple(metas), tuple(loads), apart_us)


async def _read_load(client: Client, keys: PartitionKeys, *, now_us: int) -> Load:
    first: Any = await client.xrange(keys.ledger, count=1)
    newest: Any = await client.xrevrange(keys.ledger, count=SAMPLE_ENTRIES)
    if not newest:
        return Load(0, 0, 0, 0, 0, 0)
    sequence, at_us = sequence_of(first[0][0]), int(first[0][1][b"at_us"])
    count = await client.xlen(keys.ledger)
    ledger_bytes = await client.memory_usage(keys.ledger) or 0
    seconds = max(now_us - at_us, HOUR_US if sequence == 1 else 1) / 1_000_000
    kinds = Counter(fields[b"type"] for _, fields in newest)
    rate = count / seconds
    return Load(
        entries_rate=rate,
        reservations_rate=rate * kinds[b"reservation.held"] / len(newest),
        sales_rate=rate * kinds[b"reservation.committed"] / len(newest),
        entry_bytes=ledger_bytes / count,
        record_bytes=await _mean_record_bytes(client, keys, [fields for _, fields in newest]),
        ledger_bytes=ledger_bytes,
    )


async def _mean_record_bytes(client: Client, keys: PartitionKeys, entries: list[Fields]) -> float:
    tokens = list({fields[b"token"]: None for fields in entries if b"token" in fields})[:SAMPLE_RECORDS]
    async with client.pipeline(transaction=False) as pipeline:
        for token in tokens:
            pipeline.memory_usage(f"{keys.prefix}reservation:{token.decode()}")
        sizes = [size for size in await pipeline.execute() if size]
    return sum(sizes) / len(sizes) if sizes else 0.0
