"""Two ways into one service: `lastunit serve` in a process of its own, and FastAPI's own router beside it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from app.api.protocol import Protocol
from app.api.routing import HotTable
from app.main import create_app
from app.settings import load_settings
from tests.gateway import Gateway
from tests.service import Home, Service, eventually, open_home
from tests.webhooks import SOURCES

# Nothing sweeps, so that nothing moves by itself; and a machine with other things to do is waited for.
SETTINGS: dict[str, Any] = {"sweep_enabled": False, "engine_timeout_seconds": 8, "sources": SOURCES}


@pytest.fixture
def home(request: pytest.FixtureRequest) -> Iterator[Home]:
    """An empty home for a service of the test's own; with an archive where the test is marked `archived`."""
    with open_home(is_archived=request.node.get_closest_marker("archived") is not None) as opened:
        yield opened


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """One service for all tests that leave it running."""
    with open_home(is_archived=True) as opened:
        service = opened.serve(**SETTINGS)
        service.gateway.hold_to_its_word()
        opened.await_archive()
        yield service


@pytest.fixture(scope="session")
def routed(service: Service) -> Iterator[Gateway]:
    """The same application on the same engine without its table: every call goes through FastAPI's router."""
    home = service.home
    places = {
        "redis_url": home.engine["url"],
        "archive_url": f"sqlite:///{home.archive}",
        "breakers_file": home.data_dir / "lastunit.breakers.json",
    }
    settings = load_settings({**places, **SETTINGS})
    app = create_app(settings)
    app._table = HotTable(())
    with _served(uvicorn.Server(uvicorn.Config(app, http=Protocol, log_config=None))) as address:
        yield Gateway(address).hold_to_its_word()


@pytest.fixture(params=["table", "router"])
def way(request: pytest.FixtureRequest) -> str:
    """How calls go: hot ones are found in a table, or by the router. Tests of no hot route have but one."""
    return str(request.param)


@pytest.fixture
def gateway(way: str, request: pytest.FixtureRequest, service: Service) -> Gateway:
    """Where a test calls: it runs through both ways, and both must answer it the same."""
    if way == "table":
        return service.gateway
    routed: Gateway = request.getfixturevalue("routed")
    return routed


@pytest.fixture
def archived(service: Service) -> Callable[[], None]:
    """Returns, when it is called, once the archive has all that was written before."""
    return service.home.await_archive


@contextmanager
def _served(server: uvicorn.Server) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            eventually(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
