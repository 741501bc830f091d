"""How it has been going with each source: when it was heard last, what failed, which of its numbers are missing.

A process notes what happens and writes it down about once a second, so that no delivery waits for it. A process that is
killed takes the last of its notes with it: a number heard then may show as missing, though the ledger has it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from app.domain.breakers import BreakerState
from app.domain.errors import EngineError
from app.store.faults import translated
from app.store.keys import SourceKeys

COUNTERS_KEPT = 1000
MISSING_NUMBERS_MAX = 100
ERROR_CHARACTERS_MAX = 500


class ClockKind(StrEnum):
    """How a source orders its facts: by a counter of its own, or by time; never by both."""

    COUNTER = "counter"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class SourceState:
    """How it has been going. Times in us, None for never; `known_since_us` is when a process first knew of it."""

    known_since_us: int | None
    last_delivery_us: int | None
    last_success_us: int | None
    last_error: str | None
    consecutive_failures: int


@dataclass(slots=True)
class Notes:
    """What happened with a source and is not written down yet; the failures are those since the last success."""

    last_delivery_us: int | None = None
    last_success_us: int | None = None
    last_error: str | None = None
    failures: int = 0
    breaker: BreakerState | None = None
    counters: set[int] = field(default_factory=set)

    def follow(self, earlier: "Notes") -> None:
        """Takes in what happened before."""
        if self.last_success_us is None:
            self.last_success_us = earlier.last_success_us
            self.failures += earlier.failures
        self.last_delivery_us = self.last_delivery_us or earlier.last_delivery_us
        self.last_error = self.last_error or earlier.last_error
        self.breaker = self.breaker or earlier.breaker
        self.hear(earlier.counters)

    def hear(self, counters: Iterable[int]) -> None:
        """Takes note of these counters; of very many, of the newest."""
        self.counters.update(counters)
        if len(self.counters) > 2 * COUNTERS_KEPT:
            self.counters = set(sorted(self.counters)[-COUNTERS_KEPT:])


class SourceStates:
    """What this process has noted, and what all of them have written down."""

    def __init__(self, client: Redis, keys: SourceKeys) -> None:
        self._client = client
        self._keys = keys
        self._notes: dict[str, Notes] = {}
        self._clock_kinds: dict[str, ClockKind] = {}

    def note_delivery(self, source: str, *, at_us: int, counters: Iterable[int] = ()) -> None:
        """Something authentic came, with these numbers of the source's own count."""
        notes = self._of(source)
        notes.last_delivery_us = at_us
        notes.hear(counters)

    def note_success(self, source: str, *, at_us: int) -> None:
        """A delivery or a poll was applied."""
        notes = self._of(source)
        notes.last_success_us, notes.failures = at_us, 0

    def note_failure(self, source: str, error: str) -> None:
        """One was not; `error` is for an operator."""
        notes = self._of(source)
        notes.last_error = error[:ERROR_CHARACTERS_MAX]
        notes.failures += 1

    def note_breaker(self, source: str, state: BreakerState) -> None:
        """How its breaker stands, where it is polled."""
        self._of(source).breaker = state

    async def write_notes(self) -> None:
        """Writes down what was noted. Raises EngineError; it is noted still then."""
        noted, self._notes = self._notes, {}
        try:
            with translated():
                async with self._client.pipeline(transaction=False) as pipeline:
                    for source, notes in noted.items():
                        self._write(pipeline, source, notes)
                    await pipeline.execute()
        except EngineError:
            for source, notes in noted.items():
                self._of(source).follow(notes)
            raise

    async def settle_clock_kind(self, source: str, kind: ClockKind) -> ClockKind:
        """How this source orders its facts: as was said of it first. Raises EngineError."""
        if source not in self._clock_kinds:
            key = self._keys.source(source)
            with translated():
                async with self._client.pipeline(transaction=True) as pipeline:
                    pipeline.hsetnx(key, "clock_kind", kind)
                    pipeline.hget(key, "clock_kind")
                    _, settled = await pipeline.execute()
            self._clock_kinds[source] = ClockKind(settled.decode())
        return self._clock_kinds[source]

    async def introduce(self, sources: Iterable[str], *, at_us: int) -> None:
        """Says that these sources are known from now on, where they were not before. Raises EngineError."""
        with translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                for source in sources:
                    pipeline.hsetnx(self._keys.source(source), "known_since_us", at_us)
                await pipeline.execute()

    async def read(self, sources: Sequence[str]) -> list[SourceState]:
        """How it has been going with these, by what is written down. Raises EngineError."""
        with translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                for source in sources:
                    pipeline.hmget(self._keys.source(source), *SourceState.__slots__)
                return [_decode(row) for row in await pipeline.execute()]

    async def read_breakers(self, sources: Iterable[str]) -> dict[str, BreakerState]:
        """How the breakers of these stand with whoever polls them, where that is known. Raises EngineError."""
        names = list(sources)
        with translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.hget(self._keys.source(name), "breaker")
                texts = await pipeline.execute()
        return {
            name: msgspec.json.decode(text, type=BreakerState) for name, text in zip(names, texts, strict=True) if text
        }

    async def missing_numbers(self, source: str) -> list[int]:
        """The newest numbers between two that were heard of the source's own count. Raises EngineError."""
        with translated():
            heard: Any = await self._client.zrange(self._keys.counters(source), 0, -1, desc=True)
        missing: list[int] = []
        for upper, lower in pairwise(int(counter) for counter in heard):
            first = max(lower + 1, upper - MISSING_NUMBERS_MAX + len(missing))
            missing += range(upper - 1, first - 1, -1)
        return missing[::-1]

    def _of(self, source: str) -> Notes:
        return self._notes.setdefault(source, Notes())

    def _write(self, pipeline: Pipeline, source: str, notes: Notes) -> None:
        key, counters_key = self._keys.source(source), self._keys.counters(source)
        for name in ("last_delivery_us", "last_success_us", "last_error"):
            if (value := getattr(notes, name)) is not None:
                pipeline.hset(key, name, value)
        if notes.breaker is not None:
            pipeline.hset(key, "breaker", msgspec.json.encode(notes.breaker))
        if notes.last_success_us is not None:
            pipeline.hset(key, "consecutive_failures", 0)
        if notes.failures:
            pipeline.hincrby(key, "consecutive_failures", notes.failures)
        if notes.counters:
            pipeline.zadd(counters_key, {str(counter): counter for counter in notes.counters})
            pipeline.zremrangebyrank(counters_key, 0, -COUNTERS_KEPT - 1)


def _decode(row: Sequence[bytes | None]) -> SourceState:
    known_since_us, last_delivery_us, last_success_us, last_error, failures = row
    return SourceState(
        known_since_us=_number(known_since_us),
        last_delivery_us=_number(last_delivery_us),
        last_success_us=_number(last_success_us),
        last_error=None if last_error is None else last_error.decode(),
        consecutive_failures=_number(failures) or 0,
    )


def _number(text: bytes | None) -> int | None:
    return None if text is None else int(text)
