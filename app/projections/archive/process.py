"""The archiver as a process of its own, beside the gateway's, so that it never takes the time of their event loops."""

import asyncio
import gc
import os
import signal
from multiprocessing.synchronize import Event

import structlog
import uvloop

from app.domain.errors import StartupError
from app.observability.logging import configure_logging
from app.projections.archive.archiver import Archiver
from app.projections.archive.database import make_database
from app.projections.archive.writer import Writer
from app.settings import Settings
from app.store.readers import ARCHIVE, LedgerReader
from app.workflows.parentage import end_with_parent

# Where the processor is short a sale comes first: the archive may be behind, up to a bound, and catches up afterwards.
NICENESS = 10

log = structlog.get_logger()


def run(settings: Settings, can_hear: Event) -> None:
    """Archives until SIGTERM. Its parent hears SIGINT for it.

    `can_hear` is set when SIGTERM makes it end in order; before that it would just die.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    end_with_parent()
    configure_logging(settings.log_level)
    uvloop.run(archive(settings, can_hear))


async def archive(settings: Settings, can_hear: Event) -> None:
    """Archives the ledger of these settings until the process is told to end."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    can_hear.set()
    address, url = settings.archive_address, settings.redis_url
    if address is None or url is None:
        raise StartupError("There is nothing to archive: archive_url and redis_url name where to, and from where.")
    database = make_database(address, is_writer=True)
    reader = LedgerReader(settings, url, name=ARCHIVE)
    log.info("archive_started", process=os.getpid())
    archiver = Archiver(reader, Writer(database), entries_kept=settings.ledger_entries_kept, stop=stop)
    gc.freeze()  # a batch frees itself; looking for what does not would look through all that is imported, too
    await archiver.run()
    await reader.disconnect()
    await database.dispose()
    log.info("archive_ended")
