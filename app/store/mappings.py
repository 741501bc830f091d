"""What a source calls our SKUs and locations, as operators have said while the service runs.

A process keeps what it has read for a second at most: then it asks whether anything was changed, and reads all of it
again only if so.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic

from redis.asyncio import Redis

from app.domain.errors import MappingsFull
from app.store.faults import translated
from app.store.keys import SourceKeys

MAPPINGS_MAX = 100_000  # of a source
FRESH_SECONDS = 0.9
BATCH_SIZE = 1000
VERSION = "version"


class Mapped(StrEnum):
    """What is called by another name."""

    SKU = "sku"
    LOCATION = "location"


@dataclass(frozen=True, slots=True)
class SourceMapping:
    """A source's name -> ours."""

    skus: Mapping[str, str] = field(default_factory=dict)
    locations: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Cached:
    mapping: SourceMapping
    version: int = 0
    asked_seconds: float = float("-inf")
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Mappings:
    """Every source's mapping, as one process knows it."""

    def __init__(self, client: Redis, keys: SourceKeys) -> None:
        self._client = client
        self._keys = keys
        self._cached: dict[str, _Cached] = {}

    async def of(self, source: str) -> SourceMapping:
        """What was so a second ago at most. Raises EngineError."""
        cached = self._cached.setdefault(source, _Cached(SourceMapping()))
        if monotonic() - cached.asked_seconds < FRESH_SECONDS:
            return cached.mapping
        async with cached.asking:
            asked_seconds = monotonic()
            if asked_seconds - cached.asked_seconds >= FRESH_SECONDS:
                with translated():
                    version = int(await self._client.hget(self._keys.mapping(source), VERSION) or 0)
                    if version != cached.version:
                        cached.mapping = await self._read(source)
                cached.version, cached.asked_seconds = version, asked_seconds
        return cached.mapping

    async def put(self, source: str, what: Mapped, name: str, ours: str) -> None:
        """Says what a source means by a name. Raises MappingsFull, EngineError."""
        key, row = self._keys.mapping(source), f"{what}\t{name}"
        with translated():
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.hexists(key, row)
                pipeline.hlen(key)
                is_known, rows = await pipeline.execute()
            if not is_known and rows > MAPPINGS_MAX:  # the version is a row too
                raise MappingsFull(f"{source} has {MAPPINGS_MAX} mappings already")
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.hset(key, row, ours)
                pipeline.hincrby(key, VERSION, 1)
                await pipeline.execute()
        self.refresh(source)

    def refresh(self, source: str) -> None:
        """The next question about this source asks the engine."""
        if cached := self._cached.get(source):
            cached.asked_seconds = float("-inf")

    async def _read(self, source: str) -> SourceMapping:
        """All of it, a batch at a time. What changes meanwhile changes the version too, and is read next time."""
        named: dict[str, dict[str, str]] = {Mapped.SKU: {}, Mapped.LOCATION: {}}
        async for row, ours in self._client.hscan_iter(self._keys.mapping(source), count=BATCH_SIZE):
            what, _, name = row.decode().partition("\t")
            if what != VERSION:
                named[what][name] = ours.decode()
        return SourceMapping(named[Mapped.SKU], named[Mapped.LOCATION])
