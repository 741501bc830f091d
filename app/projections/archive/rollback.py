"""Finds an engine that has lost what the archive has: restored from an old backup, or failed over too early.

What was promised in the lost entries would be sold again, so a gateway does not start then; one that serves already
says so, for its own memory refuses the engine when it connects anew.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import structlog

from app.domain.errors import ArchiveUnavailable, EngineError, StartupError
from app.observability import metrics
from app.projections.archive.reader import Archive
from app.settings import Settings
from app.store.readers import ARCHIVE, read_progress
from app.store.store import Store

LOOK_SECONDS = 5

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rollback:
    """A partition of which the engine's ledger ends at `live`, while the archive has entry `archived`."""

    partition: int
    live: int
    archived: int


async def refuse_rollback(settings: Settings, store: Store) -> None:
    """Raises StartupError where the archive has more than the engine; an archive that cannot be asked stops nothing."""
    archive = Archive.of(settings)
    try:
        found = await find_rollback(store, archive)
    finally:
        await archive.close()
    if found:
        raise StartupError(
            f"The engine's ledger of partition {found.partition} ends at {found.live}, but the archive has entry "
            f"{found.archived}: the engine was rolled back, so nothing is held. Rebuild an empty engine from the "
            "archive (lastunit ledger rebuild), or restore a newer backup."
        )


async def remember_archived(store: Store, archive: Archive) -> None:
    """While the engine is away: what the archive has it must have when it comes, or it is refused as rolled back."""
    if store.pipeline.is_open:
        return
    with suppress(ArchiveUnavailable):
        positions = await archive.positions()
        for keys in store.keyspace.partitions:
            store.partitions.saw(keys.index, positions.get(keys.index, 0))


async def find_rollback(store: Store, archive: Archive) -> Rollback | None:
    """Where the archive has more than the engine; None also where one of them cannot be asked."""
    try:
        positions = await archive.positions()
        progress = await read_progress(store.client, store.keyspace, name=ARCHIVE)
    except (ArchiveUnavailable, EngineError):
        return None
    found = [
        Rollback(keys.index, live=progress[keys.index].sequence, archived=positions.get(keys.index, 0))
        for keys in store.keyspace.partitions
    ]
    lost = [rollback for rollback in found if rollback.archived > rollback.live]
    metrics.archive_ahead_entries.set(sum(rollback.archived - rollback.live for rollback in lost))
    return lost[0] if lost else None


async def watch_rollback(store: Store, archive: Archive) -> None:
    """Looks every few seconds until cancelled."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if found := await find_rollback(store, archive):
            log.error("ledger_rolled_back", partition=found.partition, sequence=found.live, archived=found.archived)
