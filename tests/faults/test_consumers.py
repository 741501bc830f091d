"""The archiver as a process of its own, under load, while it is killed and what it needs is taken away from it."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.domain.outcomes import Held
from app.domain.types import Line, Sku
from app.projections.archive.reader import Archive
from app.settings import Settings, load_settings
from app.store.readers import ARCHIVE, read_progress
from app.store.store import Store
from tests import engines
from tests.archiving import ArchiverProcess, archiving, entries_of, is_caught_up, prove_archive
from tests.conftest import OpenStore
from tests.databases import Postgres, chosen
from tests.engines import Engine
from tests.faults.disks import small_disk

# Which engine it is makes no difference here; what differs between them is in the tests of the archive itself.
pytestmark = pytest.mark.parametrize("engine", engines.chosen()[:1], indirect=True)

SKUS = [Sku(f"sku-{number}") for number in range(20)]
KILLS = 4
PATIENCE_SECONDS = 30
TTL_US = 3600 * 1_000_000


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    return await open_store(engine_timeout_seconds=8)


@pytest.fixture
def settings(engine: Engine, archive_url: str) -> Settings:
    return load_settings({"redis_url": engine.url, "archive_url": archive_url})


@asynccontextmanager
async def load(store: Store, chance: random.Random) -> AsyncIterator[None]:
    """Commands of all kinds until the end, some hundred a second."""
    is_over = False

    async def go_on() -> None:
        while not is_over:
            await asyncio.gather(*(_live(store, chance) for _ in range(4)))
            await asyncio.sleep(0.02)  # leaves the machine to the archiver

    for sku in SKUS:
        await store.commands.put_sku(sku, {"backorder_limit": "1000"}, may_create=True)
    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        is_over = True
        await task


async def _live(store: Store, chance: random.Random) -> None:
    """A reservation of some SKUs, and what becomes of it."""
    commands = store.commands
    lines = [Line(sku, chance.randint(1, 3)) for sku in chance.sample(SKUS, chance.randint(1, 3))]
    if chance.random() < 0.3:
        await commands.adjust(
            lines[0].sku, location_id="main", mode="delta", amount=chance.randint(0, 5), reason="found"
        )
    outcome = await commands.reserve(
        lines, agent_id=f"agent-{chance.randint(1, 5)}", channel="direct", ttl_us=TTL_US, allow_backorder=True,
        details=None, idempotency=None,
    )  # fmt: skip
    if isinstance(outcome, Held):
        token = outcome.reservation.token
        verb = chance.choice([commands.release, None, None])
        if verb:
            await verb(token)
        elif chance.random() < 0.6:
            await commands.commit(token, order_id="order", lines=lines[: chance.randint(0, 1)])


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():  # noqa: ASYNC110 - it looks at another process
            await asyncio.sleep(0.01)


async def acknowledged(store: Store) -> int:
    return sum(progress.acknowledged for progress in await read_progress(store.client, store.keyspace, name=ARCHIVE))


async def until_it_moves(store: Store) -> None:
    before = await acknowledged(store)

    async def has_moved() -> bool:
        return await acknowledged(store) > before

    await until(has_moved)


async def prove(store: Store, settings: Settings) -> None:
    """All is archived, exactly once."""
    await until(lambda: is_caught_up(store))
    archive = Archive.of(settings)
    try:
        await prove_archive(store, archive, await entries_of(store))
    finally:
        await archive.close()


async def test_killed_again_and_again(store: Store, settings: Settings, tmp_path: Path, chance: random.Random) -> None:
    async with load(store, chance):
        for _ in range(KILLS):
            with archiving(settings, tmp_path / "log"):
                await until_it_moves(store)
                await asyncio.sleep(chance.uniform(0, 0.5))
    with archiving(settings, tmp_path / "log") as archiver:
        await prove(store, settings)
        assert archiver.terminate() == 0


async def test_two_at_once_are_one(store: Store, settings: Settings, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with archiving(settings, log) as one, archiving(settings, log) as other:
        async with load(store, random.Random(1)):
            for _ in range(3):
                await until_it_moves(store)
        await prove(store, settings)
        assert (one.terminate(), other.terminate()) == (0, 0)


async def test_told_to_end_it_archives_what_is_there(store: Store, settings: Settings, tmp_path: Path) -> None:
    with archiving(settings, tmp_path / "log") as archiver:
        async with load(store, random.Random(2)):
            await until_it_moves(store)
        last = len(await entries_of(store))
        assert archiver.terminate() == 0
        assert await acknowledged(store) == last
        assert archiver.events("archive_unfinished") == 0


async def outlast(store: Store, settings: Settings, archiver: ArchiverProcess, *, end: Callable[[], None]) -> None:
    """An interruption that has begun is logged once, however long it lasts; then everything is made up for."""
    async with load(store, random.Random(3)):
        await until(lambda: _is_logged(archiver, "archive_interrupted"))
        before = await acknowledged(store)
        for _ in range(3):  # some of its attempts
            assert not await is_caught_up(store)
            await asyncio.sleep(0.5)
        assert await acknowledged(store) == before
        end()
        await until_it_moves(store)
    await prove(store, settings)
    await until(lambda: _is_logged(archiver, "archive_resumed"))
    assert archiver.events("archive_interrupted") == archiver.events("archive_resumed") == 1
    assert archiver.terminate() == 0


async def _is_logged(archiver: ArchiverProcess, event: str) -> bool:
    return archiver.events(event) > 0


def on_sqlite(engine: Engine, folder: Path) -> Settings:
    return load_settings({"redis_url": engine.url, "archive_url": f"sqlite:///{folder / 'archive.sqlite'}"})


async def test_a_locked_file(store: Store, engine: Engine, tmp_path: Path) -> None:
    settings = on_sqlite(engine, tmp_path)
    with archiving(settings, tmp_path / "log") as archiver:
        async with load(store, random.Random(4)):
            await until_it_moves(store)
        somebody = sqlite3.connect(tmp_path / "archive.sqlite", isolation_level=None, timeout=20)
        somebody.execute("BEGIN IMMEDIATE")
        await outlast(store, settings, archiver, end=somebody.close)


async def test_a_full_disk(store: Store, engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    settings = on_sqlite(engine, folder)
    with small_disk(folder, megabytes=2) as fill, archiving(settings, tmp_path / "log") as archiver:
        assert archiver.process
        enlarge = fill(archiver.process.pid)
        await outlast(store, settings, archiver, end=enlarge)


@pytest.mark.parametrize("name", [name for name in chosen() if name == "postgresql"])
async def test_a_database_that_is_away(
    name: str, store: Store, engine: Engine, postgres: Postgres, tmp_path: Path
) -> None:
    settings = load_settings({"redis_url": engine.url, "archive_url": postgres.new_database()})
    with archiving(settings, tmp_path / "log") as archiver:
        async with load(store, random.Random(5)):
            await until_it_moves(store)
        postgres.kill()
        try:
            await outlast(store, settings, archiver, end=postgres.start)
        finally:
            postgres.start()
