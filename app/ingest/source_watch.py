"""Watches the sources: who has fallen silent, and how much of what they sent waits for a person."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

import structlog

from app.connectors.source_settings import SourceSettings
from app.domain.errors import EngineError
from app.observability import metrics
from app.store.clock import MICROSECONDS
from app.store.dead_letters import DONE_KEPT_US, count_open, forget_done
from app.store.source_states import SourceState
from app.store.store import Store

LOOK_SECONDS = 1.0

log = structlog.get_logger()


class Condition(StrEnum):
    """How it is with a source: the first that is so."""

    DISABLED = "disabled"
    FAILING = "failing"
    SILENT = "silent"
    OK = "ok"


def condition_of(source: SourceSettings, state: SourceState, *, now_us: int, is_disabled: bool = False) -> Condition:
    """How it is with a source now. One that never succeeded has been silent since it became known.

    It `is_disabled` while a person keeps its breaker open, so that it is not polled.
    """
    if is_disabled:
        return Condition.DISABLED
    if state.consecutive_failures:
        return Condition.FAILING
    if source.silent_after_seconds is not None:
        heard_us = max(state.last_success_us or 0, state.known_since_us or now_us)
        if now_us - heard_us > source.silent_after_seconds * MICROSECONDS:
            return Condition.SILENT
    return Condition.OK


class Watch:
    """What was seen last of these sources."""

    def __init__(self, store: Store, sources: Mapping[str, SourceSettings]) -> None:
        self._store = store
        self._sources = sources
        self._silent: set[str] = set()

    async def look(self) -> None:
        """Writes down what this process noted, and tells of what all of them have. Raises EngineError."""
        store, states = self._store, self._store.source_states
        now_us = store.now_us()
        await states.introduce(self._sources, at_us=now_us)
        await states.write_notes()
        for name, state in zip(self._sources, await states.read(list(self._sources)), strict=True):
            self._see(name, is_silent=condition_of(self._sources[name], state, now_us=now_us) is Condition.SILENT)
        await forget_done(store.client, store.keyspace.sources, done_before_us=now_us - DONE_KEPT_US)
        metrics.dead_letters_open.set(await count_open(store.client, store.keyspace.sources))

    def _see(self, name: str, *, is_silent: bool) -> None:
        metrics.source_silent.labels(name).set(int(is_silent))
        if is_silent and name not in self._silent:
            log.warning("source_silent", source=name)
        (self._silent.add if is_silent else self._silent.discard)(name)


@asynccontextmanager
async def watched_sources(store: Store, sources: Mapping[str, SourceSettings]) -> AsyncIterator[None]:
    """Looks every second. While the engine is away, what was seen last stands."""
    looking = asyncio.create_task(_look_on(Watch(store, sources)))
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        with suppress(EngineError):
            await store.source_states.write_notes()


async def _look_on(watch: Watch) -> None:
    while True:
        with suppress(EngineError):  # its absence is told by all that needs it
            await watch.look()
        await asyncio.sleep(LOOK_SECONDS)
