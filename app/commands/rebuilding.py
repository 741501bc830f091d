"""Runs `lastunit ledger rebuild`."""

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import uvloop

from app.commands.console import OnProgress, progress_bar
from app.commands.sources import ENGINES, Source, archive_of, open_source
from app.domain.entries import Entry
from app.domain.errors import CommandRefused, LedgerBroken
from app.observability.logging import configure_logging
from app.projections.rebuild import PartitionWriter
from app.projections.repartition import Deal, merge
from app.settings import Settings
from app.store.engine import open_engine
from app.store.keys import Keyspace
from app.store.state import Meta, open_client, refuse_used

PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of it: entries read, how long it took, the partitions there are now, if they were others, and where."""

    entries: int
    seconds: float
    partitions: int
    is_repartitioned: bool
    description: str


def run_rebuild(settings: Settings, source: str | None, partitions: int | None) -> Rebuilt:
    """Rebuilds into the engine of these settings, which must be empty, and is again where this fails.

    Raises CommandRefused, StartupError, ArchiveUnavailable, EngineError.
    """
    configure_logging("error")
    gc.disable()  # all that is made here stays until the end: the collector would look through it in vain
    started = time.perf_counter()
    try:
        with open_engine(settings) as engine, progress_bar() as on_progress:
            entries, before, after = uvloop.run(_run(settings, engine.url, source, partitions, on_progress))
    except LedgerBroken as broken:
        raise CommandRefused(f"Nothing was rebuilt: {broken}. Take another source (--from).") from None
    return Rebuilt(entries, time.perf_counter() - started, after, before != after, engine.description)


async def _run(
    settings: Settings, url: str, name: str | None, partitions: int | None, on_progress: OnProgress
) -> tuple[int, int, int]:
    async with (
        open_client(url, timeout_seconds=None) as target,
        open_source(settings, name, on_progress) as source,
    ):
        await refuse_used(target)
        count = partitions or len(source.metas)
        keyspace = Keyspace(count)
        archived = await _archived(settings, source, name, count)
        metas = [_meta_of(source, index, count, wall_us=time.time_ns() // 1000) for index in range(count)]
        async with AsyncExitStack() as stack:
            writers = [
                await stack.enter_async_context(
                    PartitionWriter(
                        target, keys, meta,
                        skipped=max(0, archived.get(keys.index, 0) - settings.ledger_entries_kept),
                    )
                )
                for keys, meta in zip(keyspace.partitions, metas, strict=True)
            ]  # fmt: skip
            total = source.entries or 1
            if count == len(source.metas):
                await _copy(source, writers, lambda read: on_progress("replaying", read / total))
            else:
                await _deal(source, writers, keyspace, lambda read: on_progress("replaying", read / total))
            for index, writer in enumerate(writers):
                on_progress("writing the state", index / count)
                await writer.finish()
        return source.entries, len(source.metas), count


async def _archived(settings: Settings, source: Source, name: str | None, count: int) -> dict[int, int]:
    """How far the archive that the rebuilt engine will have is: it must be of this very ledger, or empty."""
    if (archive := archive_of(settings)) is None:
        return {}
    try:
        positions = await archive.positions()
    finally:
        await archive.close()
    is_own = (name is None or name.startswith(ENGINES)) and count == len(source.metas)
    if positions and not is_own:
        raise CommandRefused(
            "The archive has entries already, whose numbers the rebuilt ledger would not continue: name a new archive "
            "(archive_url), or with --data-dir a new data directory."
        )
    return positions


def _meta_of(source: Source, index: int, count: int, *, wall_us: int) -> Meta:
    """The meta hash of a partition as it will be. Engine time goes on from the latest there was, and never back."""
    if count == len(source.metas):
        return replace(source.metas[index], wall_us=wall_us)
    offset_us = max(meta.offset_us for meta in source.metas)
    return replace(source.metas[0], partition=index, partitions=count, wall_us=wall_us, offset_us=offset_us)


async def _copy(source: Source, writers: Sequence[PartitionWriter], on_read: Callable[[int], None]) -> None:
    read = 0
    for index, writer in enumerate(writers):
        async for _, page in source.read(index):
            await writer.add(page)
            read += len(page)
            on_read(read)


async def _deal(
    source: Source, writers: Sequence[PartitionWriter], keyspace: Keyspace, on_read: Callable[[int], None]
) -> None:
    deal, read = Deal(keyspace), 0
    pages: list[list[Entry]] = [[] for _ in writers]
    async for command in merge([source.read(index) for index in range(len(source.metas))]):
        for entry in deal.deal(command):
            pages[entry.partition].append(entry)
            if len(pages[entry.partition]) >= PAGE_SIZE:
                await writers[entry.partition].add(pages[entry.partition])
                pages[entry.partition] = []
        read += len(command)
        on_read(read)
    deal.refuse_parted()
    for writer, page in zip(writers, pages, strict=True):
        await writer.add(page)
