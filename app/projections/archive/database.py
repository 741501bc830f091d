"""The database behind the archive: opened by its URL, brought to the schema of this version, its faults translated."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from sqlalchemy import URL, Connection, event, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.domain.errors import ArchiveUnavailable, StartupError

MIGRATIONS = "app.projections.archive:migrations"
CONNECTIONS_MAX = 4
CONNECT_SECONDS_MAX = 5
ANSWER_SECONDS_MAX = 30
LOCKED_SECONDS_MAX = 2
WRITER_CACHE_KIB = 32 * 1024
CHECKPOINT_PAGES = 10_000
UPGRADE_LOCK = int.from_bytes(hashlib.sha256(b"lastunit archive").digest()[:7], "big")


def make_database(url: str, *, is_writer: bool) -> AsyncEngine:
    """An engine for the archive at a sqlite:// or postgresql:// URL; it connects when it is used.

    Raises StartupError where a driver is missing.
    """
    if url.startswith("sqlite:"):
        return _sqlite(url, is_writer=is_writer)
    if find_spec("asyncpg") is None:
        raise StartupError("archive_url names PostgreSQL, which takes a driver: pip install 'lastunit[postgres]'.")
    options = {"timeout": CONNECT_SECONDS_MAX, "command_timeout": ANSWER_SECONDS_MAX}
    return create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        pool_size=1 if is_writer else CONNECTIONS_MAX,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS_MAX,
        connect_args=options,
    )


def _sqlite(url: str, *, is_writer: bool) -> AsyncEngine:
    """Readers do not make the file, and never wait for the writer: the file has a write-ahead log."""
    path = url.removeprefix("sqlite:///")
    engine = create_async_engine(
        URL.create(
            "sqlite+aiosqlite",
            database=f"file:{quote(path)}",
            query={"mode": "rwc" if is_writer else "rw", "uri": "true"},
        ),
        pool_size=1 if is_writer else CONNECTIONS_MAX,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS_MAX,
        connect_args={"timeout": LOCKED_SECONDS_MAX},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver begins no transaction of its own accord; `begin` does
        cursor = connection.cursor()
        if is_writer:
            cursor.execute("PRAGMA journal_mode = wal")
            # What is acknowledged leaves the engine, so it must be on the disk by then.
            cursor.execute("PRAGMA synchronous = full")
            cursor.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
            cursor.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        else:
            cursor.execute("PRAGMA query_only = on")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")

    return engine


def is_missing(database: AsyncEngine) -> bool:
    """Has nobody written there yet? Only of a file can that be told without asking it."""
    path = (database.url.database or "").removeprefix("file:")
    return database.dialect.name == "sqlite" and not Path(unquote(path)).exists()


async def upgrade(database: AsyncEngine) -> None:
    """Brings the tables to the schema of this version; one process at a time. Raises ArchiveUnavailable."""
    with translated():
        async with database.begin() as connection:
            if connection.dialect.name == "postgresql":
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
            await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - 10 MB that no gateway needs whose archive is there
    from alembic.config import Config  # noqa: PLC0415 - likewise

    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextmanager
def translated() -> Iterator[None]:
    """Raises ArchiveUnavailable, with the database's own words but no URL, where the database cannot serve."""
    try:
        yield
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        cause = getattr(error, "orig", None) or error
        raise ArchiveUnavailable(f"the archive's database does not serve ({type(cause).__name__}: {cause})") from None
