"""What a service does about its archive before it answers."""

from contextlib import suppress

from app.domain.errors import ArchiveUnavailable
from app.projections.archive.database import make_database, upgrade
from app.projections.archive.reader import Archive
from app.projections.archive.rollback import refuse_rollback
from app.settings import Settings
from app.store.store import Store


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
