"""Where a ledger is read from: an archive, another engine, another data directory, a backup."""

import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from app.commands.console import OnProgress
from app.domain.entries import Entry
from app.domain.errors import CommandRefused
from app.projections.archive.reader import Archive
from app.projections.history import read_archived, read_history
from app.settings import Settings
from app.store.backups import restore_backup
from app.store.engine import open_engine, require_data
from app.store.keys import Keyspace
from app.store.opening import SECRET_BYTES
from app.store.state import Meta, count_partitions, open_client, read_meta

SQLITE = "sqlite:///"
ENGINES = ("redis://", "rediss://", "unix://")

Pages = AsyncIterator[tuple[int, Sequence[Entry]]]


@dataclass(frozen=True, slots=True)
class Source:
    """A whole ledger: the meta hash of each partition, and its entries from the first on, by its index."""

    metas: tuple[Meta, ...]
    read: Callable[[int], Pages]

    @property
    def entries(self) -> int:
        """How many there are, in all partitions."""
        return sum(meta.sequence for meta in self.metas)


def archive_of(settings: Settings) -> Archive | None:
    """The archive, to be closed; None where it is turned off, or a file that nothing was archived to yet."""
    address = settings.archive_address
    if address is None or (address.startswith(SQLITE) and not Path(address.removeprefix(SQLITE)).exists()):
        return None
    return Archive.of(settings)


async def partitions_at(url: str) -> int:
    """How many partitions the engine's data has; 0 where there is none."""
    async with open_client(url) as client:
        return await count_partitions(client)


def open_source(settings: Settings, name: str | None, on_progress: OnProgress) -> AbstractAsyncContextManager[Source]:
    """The ledger of this name: a URL, a directory or a file; without a name, of the archive of these settings."""
    if name is None:
        return _archived(settings)
    if name.startswith((SQLITE, "postgresql://")):
        return _archived(settings.model_copy(update={"archive_url": name}))
    if name.startswith(ENGINES):
        return _live(settings.model_copy(update={"redis_url": name}))
    if Path(name).is_dir():
        return _live(_of_directory(settings, Path(name)))
    return _backed_up(settings, Path(name), on_progress)


@asynccontextmanager
async def _backed_up(settings: Settings, file: Path, on_progress: OnProgress) -> AsyncIterator[Source]:
    """What a backup has, restored for the while."""
    with tempfile.TemporaryDirectory(prefix="lastunit-") as folder:
        directory = Path(folder, "data")
        restore_backup(file, directory, on_progress=on_progress)
        async with _live(_of_directory(settings, directory)) as source:
            yield source


def _of_directory(settings: Settings, directory: Path) -> Settings:
    """The same for another data directory, with the engine and the archive that are in there."""
    return settings.model_copy(update={"redis_url": None, "data_dir": directory, "archive_url": None})


@asynccontextmanager
async def _archived(settings: Settings) -> AsyncIterator[Source]:
    """What an archive has."""
    archive = archive_of(settings)
    if archive is None:
        raise CommandRefused("There is no archive to rebuild from: name it (archive_url), or another source (--from).")
    try:
        ends = await archive.positions()
        found = [meta for index in sorted(ends) if (meta := await archive.read_meta(index))]
        if not found:
            raise CommandRefused("The archive is empty: name another source (--from).")
        metas = [_new_meta(found[0], index) for index in range(found[0].partitions)]
        for meta in found:
            metas[meta.partition] = replace(meta, sequence=ends[meta.partition])
        yield Source(tuple(metas), lambda index: read_archived(archive, index))
    finally:
        await archive.close()


def _new_meta(example: Meta, index: int) -> Meta:
    """Of a partition without entries: nothing follows from its secret yet."""
    return replace(example, partition=index, sequence=0, secret=secrets.token_hex(SECRET_BYTES))


@asynccontextmanager
async def _live(settings: Settings) -> AsyncIterator[Source]:
    """What an engine has, and of what it has dropped, its archive."""
    require_data(settings)
    with open_engine(settings) as engine:  # alone: what is sold while it is copied would be sold twice
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(open_client(engine.url))
            if archive := archive_of(settings):
                stack.push_async_callback(archive.close)
            keyspace = Keyspace(await count_partitions(client) or 1)
            metas = [(await read_meta(client, keys))[0] for keys in keyspace.partitions]
            yield Source(tuple(metas), lambda index: read_history(client, archive, keyspace.partitions[index]))
