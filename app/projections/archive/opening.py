"""What a service does about its archive before it answers."""

from contextlib import suppress

from app.domain.errors import ArchiveUnavailable
from app.projections.archive.database import make_database, upgrade
from app.projections.archive.reader import Archive
from app.projections.archive.rollback import refuse_rollback
from app.settings import Settings
from app.store.store import Store


async def is_begun(settings: Settings) -> bool:
    """Whether the archive has anything: then these settings have been served, and their engine is known."""
    archive = Archive.of(settings)
    try:
        return archive.is_on and bool(await archive.positions())
    except ArchiveUnavailable:
        return False
    finally:
        await archive.close()


async def open_archive(settings: Settings, store: Store) -> None:
    """Makes the tables of a new archive, so that lists have an answer before the archiver comes; refuses a rollback.

    An archive that cannot be asked stops nothing: the archiver tries again and again. Raises StartupError.
    """
    archive = Archive.of(settings)
    try:
        is_new = archive.is_on and not await archive.positions()
    except ArchiveUnavailable:
        return
    finally:
        await archive.close()
    if not is_new:
        await refuse_rollback(settings, store)
        return
    assert settings.archive_address
    database = make_database(settings.archive_address, is_writer=True)
    with suppress(ArchiveUnavailable):
        await upgrade(database)
    await database.dispose()
