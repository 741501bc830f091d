"""Runs `lastunit ledger verify`."""

import gc

import uvloop

from app.commands.console import OnProgress, progress_bar
from app.commands.sources import archive_of
from app.observability.logging import configure_logging
from app.projections.rebuild import Verdict, verify
from app.settings import Settings
from app.store.engine import open_engine, require_data
from app.store.state import read_meta
from app.store.store import make_store


def run_verify(settings: Settings) -> Verdict:
    """Verifies the engine of these settings. Raises CommandRefused, StartupError, EngineError, ArchiveUnavailable."""
    configure_logging("error")
    require_data(settings)
    gc.disable()  # all that is made here stays until the end: the collector would look through it in vain
    with open_engine(settings, exclusive=False) as engine, progress_bar() as on_progress:
        return uvloop.run(_verify(settings, engine.url, on_progress))


async def _verify(settings: Settings, url: str, on_progress: OnProgress) -> Verdict:
    archive = archive_of(settings)
    try:
        async with make_store(settings, url) as store:
            metas = [await read_meta(store.client, keys) for keys in store.keyspace.partitions]
            total = sum(meta.sequence for meta, _ in metas) or 1
            seen = 0

            def count(entries: int) -> None:
                nonlocal seen
                seen += entries
                on_progress("replaying", seen / total)

            return await verify(store, archive, on_entries=count)
    finally:
        if archive is not None:
            await archive.close()
