"""What tests stand on: every installed engine, real and empty, and stores on it, in real or in virtual time."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import Protocol

import pytest

from app.domain.errors import EngineUnavailable
from app.projections.rebuild import verify
from app.settings import load_settings
from app.store.store import Store, make_store
from tests import databases, engines
from tests.databases import Postgres, running_postgres
from tests.engines import Engine
from tests.virtual_clock import REPLACED_INCLUDES, VirtualClock

SAMPLES_DIR = os.environ.get("LASTUNIT_SAMPLES_DIR")


def pytest_configure() -> None:
    """The developer's own settings change no test. What is said to the tests is read by now; the service refuses it."""
    for name in [name for name in os.environ if name.startswith("LASTUNIT_")]:
        del os.environ[name]


def pytest_report_header() -> list[str]:
    return [engines.describe(), databases.describe()]


@pytest.fixture
def samples_dir() -> Path | None:
    """Where shops' own files lie, if `LASTUNIT_SAMPLES_DIR` says so."""
    return Path(SAMPLES_DIR) if SAMPLES_DIR else None


@pytest.fixture(scope="session")
def running_engines() -> Iterator[dict[str, Engine]]:
    """Every engine of this run, by name, started once. Not emptied: see `engine`."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(engines.running(name)) for name in engines.chosen()}


@pytest.fixture(params=engines.chosen())
def engine(request: pytest.FixtureRequest, running_engines: dict[str, Engine]) -> Engine:
    """One engine, empty. A test that asks for it runs once with each."""
    chosen = running_engines[request.param]
    chosen.client.flushall()
    return chosen


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server that runs."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=databases.chosen())
def archive_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an archive may be made. A test that asks for it runs once with each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'archive.sqlite'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def clock(engine: Engine) -> VirtualClock:
    """The engine's time where a store was opened with it."""
    return VirtualClock(engine.client)


class OpenStore(Protocol):
    """Opens a store on the test's engine, closed when the test ends; `settings` are those of the service."""

    async def __call__(self, *, clock: VirtualClock | None = None, **settings: object) -> Store: ...


@pytest.fixture
async def open_store(engine: Engine, request: pytest.FixtureRequest) -> AsyncIterator[OpenStore]:
    """What a test leaves in the engine must be what its ledger says, unless the test is marked `damaging`."""
    opened_stores: list[Store] = []
    async with AsyncExitStack() as stack:

        async def open_one(*, clock: VirtualClock | None = None, **settings: object) -> Store:
            patient = {"engine_timeout_seconds": 8, **settings}  # the machine may have other things to do
            made = make_store(load_settings(patient), engine.url, REPLACED_INCLUDES if clock else None)
            opened = await stack.enter_async_context(made)
            if clock:
                clock.gateways += opened.partitions.clocks
            opened_stores.append(opened)
            return opened

        yield open_one
        if opened_stores and request.node.get_closest_marker("damaging") is None:
            with suppress(EngineUnavailable):  # then the test ended it
                assert (await verify(opened_stores[-1])).difference is None


@pytest.fixture
async def store(open_store: OpenStore, clock: VirtualClock) -> Store:
    """A store in virtual time: `clock` moves it. For real time, ask for `open_store`."""
    return await open_store(clock=clock)
