"""Watches how far the archive is behind, so that a sale never outruns it without bound."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from app.domain.errors import EngineError
from app.observability import metrics
from app.store.readers import ARCHIVE, Progress, read_progress
from app.store.store import Store

LOOK_SECONDS = 0.25

log = structlog.get_logger()


@dataclass(slots=True)
class Watch:
    """Whether the archive is further behind than it may be: new holds wait then, and all that gives back goes on."""

    lag_entries_max: int
    is_behind: bool = False
    whole_us: int = 0  # the last engine time at which it is known to have had everything
    _archived: int = field(default=0, repr=False)
    _moved_seconds: float = field(default_factory=time.monotonic, repr=False)

    def see(self, found: list[Progress]) -> None:
        """Takes a look at every partition into account."""
        lag = sum(progress.lag for progress in found)
        is_behind = any(progress.lag > self.lag_entries_max for progress in found)
        if is_behind != self.is_behind:
            self.is_behind = is_behind
            (log.error if is_behind else log.info)("archive_behind" if is_behind else "archive_caught_up", lag=lag)
        archived = sum(progress.acknowledged for progress in found)
        now_seconds = time.monotonic()
        if archived != self._archived or lag == 0:
            self._archived, self._moved_seconds = archived, now_seconds
        metrics.archive_lag_entries.set(lag)
        metrics.archived_entries.set(archived)
        metrics.archive_stalled_seconds.set(now_seconds - self._moved_seconds)
        metrics.ledger_dropped_entries.set(sum(progress.first_sequence - 1 for progress in found))


async def watch_archive(store: Store, watch: Watch) -> None:
    """Looks several times a second until cancelled. While the engine is away, what was seen last stands."""
    while True:
        with suppress(EngineError):  # its absence is told by all that needs it
            asked_us = store.now_us()
            found = await read_progress(store.client, store.keyspace, name=ARCHIVE)
            watch.see(found)
            if all(progress.lag == 0 for progress in found):
                watch.whole_us = asked_us
        await asyncio.sleep(LOOK_SECONDS)
