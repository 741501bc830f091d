"""Serves: the engine first, then the address, then the gateway's processes; ends in the reverse order."""

import asyncio
import contextlib
import ipaddress
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import httpx
import structlog
import uvicorn
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed
from uvicorn.config import STARTUP_FAILURE
from uvicorn.importer import import_from_string
from uvicorn.supervisors import Multiprocess

from app.domain.errors import EngineAway, EngineError, StartupError
from app.observability.logging import configure_logging
from app.observability.metrics import MULTIPROCESS_ENV
from app.settings import Settings
from app.store.engine import Engine, open_engine, reach_engine
from app.store.store import make_store
from app.workflows.admission import gate_of
from app.workflows.sample_stock import load_sample_stock

GATEWAY = "app.main:worker"
ARCHIVER = "app.projections.archive.process:run"
ARCHIVE_OPENING = "app.projections.archive.opening:open_archive"
ARCHIVE_IS_BEGUN = "app.projections.archive.opening:is_begun"
PROTOCOL = "app.api.protocol:Protocol"
BACKLOG = 4096
GRACEFUL_SECONDS_MAX = 10
KEEP_ALIVE_SECONDS = 75
ANSWER_SECONDS_MAX = 60
ANSWER_LOOK_SECONDS = 0.05
ARCHIVER_LOOK_SECONDS = 0.1
ARCHIVER_SECONDS_MAX = 15
ARCHIVER_PAUSE_SECONDS_MAX = 30

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Gateway:
    """Makes the application, here or in a process that it is sent to: an environment is no place for secrets."""

    settings: Settings

    def __call__(self) -> Any:
        """The application of this process."""
        return import_from_string(GATEWAY)(self.settings)


def serve(settings: Settings) -> None:
    """Runs the service until SIGTERM or SIGINT; raises StartupError where it must not start."""
    os.umask(0o077)  # with the ledger the archive has the secret that tokens are derived from
    configure_logging(settings.log_level)
    if gate_of(settings) is None:  # made once before any worker makes its own, so that a refusal is one sentence
        _check_host(settings.host)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    with _listen(settings) as listener, _find_engine(settings) as engine, tempfile.TemporaryDirectory() as scratch:
        host, port = listener.getsockname()[:2]
        # Named by where the engine is said to be: the address of an embedded one is another each time.
        archive_url = settings.archive_address or ""
        files = {"archive_url": archive_url, "breakers_file": settings.breakers_path}
        bound = settings.model_copy(update={"redis_url": engine.url, "port": port, **files})
        if settings.archive_url is None:
            settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # an engine elsewhere needs none
        if not engine.is_away:
            asyncio.run(_prepare(bound))
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        threading.Thread(target=_announce, args=(address, engine.description), daemon=True).start()
        if settings.workers > 1:
            os.environ[MULTIPROCESS_ENV] = scratch  # where they share their metrics
        with _archiver(bound):
            _run(bound, listener)


def _check_host(host: str) -> None:
    with contextlib.suppress(ValueError):
        if host == "localhost" or ipaddress.ip_address(host).is_loopback:
            return
    raise StartupError(
        f"Without API keys the service listens on loopback only, not on {host}: set api_keys_file, or jwt_jwks, "
        "or use --host 127.0.0.1."
    )


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartupError(
            f"Cannot listen on {settings.host}:{settings.port} ({error.strerror}): end what uses the port, "
            "or choose another with --port."
        ) from None
    return listener


def _find_engine(settings: Settings) -> Engine:
    """The engine, or where it will be again: one that was served before may be away, a new one must be there."""
    try:
        return open_engine(settings)
    except EngineAway as error:
        if settings.redis_url is None or not asyncio.run(import_from_string(ARCHIVE_IS_BEGUN)(settings)):
            raise
        log.warning("engine_away", reason=str(error))
        engine = reach_engine(settings, exclusive=True)
        return replace(engine, description=f"the engine at {engine.address} is away", is_away=True)


async def _prepare(settings: Settings) -> None:
    """Opens the partitions once before any worker does, so that a refusal is one sentence; loads the sample stock."""
    assert settings.redis_url is not None
    try:
        async with make_store(settings, settings.redis_url) as store:
            await import_from_string(ARCHIVE_OPENING)(settings, store)
            if settings.sample_stock:
                await load_sample_stock(store)
    except EngineError as error:
        raise StartupError(f"The engine does not work: {error}.") from None


def _run(settings: Settings, listener: socket.socket) -> None:
    config = uvicorn.Config(
        Gateway(settings),
        factory=True,
        loop="uvloop",
        http=PROTOCOL,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks who the client is
        workers=settings.workers,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACEFUL_SECONDS_MAX,
    )
    if settings.workers > 1:
        supervisor = Multiprocess(config, sockets=[listener])
        supervisor.run()
        has_started = STARTUP_FAILURE not in {process.exitcode for process in supervisor.processes}
    else:
        server = uvicorn.Server(config)
        server.run(sockets=[listener])
        has_started = server.started
    if not has_started:
        raise StartupError("The gateway did not start; the log says why.")


@contextlib.contextmanager
def _archiver(settings: Settings) -> Iterator[None]:
    """Runs the archiver beside the gateway, again whenever it dies. It ends after the gateway, and so archives all."""
    if settings.archive_address is None:
        yield
        return
    end = threading.Event()
    supervisor = threading.Thread(target=_supervise, args=(settings, end), daemon=True)
    supervisor.start()
    try:
        yield
    finally:
        end.set()
        supervisor.join()


def _supervise(settings: Settings, end: threading.Event) -> None:
    """Keeps one archiver running until `end`. Pauses between two that died grow; after a long life they begin anew."""
    spawn = multiprocessing.get_context("spawn")
    pause_seconds = 1.0
    while not end.is_set():
        can_hear = spawn.Event()  # only then is it told to end, and so never ends with something unarchived
        process = spawn.Process(target=import_from_string(ARCHIVER), args=(settings, can_hear))
        started = time.monotonic()
        process.start()
        while process.is_alive() and not end.wait(ARCHIVER_LOOK_SECONDS):
            pass
        while process.is_alive() and not can_hear.wait(ARCHIVER_LOOK_SECONDS):
            pass
        if process.is_alive():
            process.terminate()
            process.join(ARCHIVER_SECONDS_MAX)
        if process.is_alive():
            log.warning("archiver_killed")
            process.kill()
            process.join()
        elif not end.is_set():
            lived_seconds = time.monotonic() - started
            pause_seconds = 1.0 if lived_seconds > ARCHIVER_PAUSE_SECONDS_MAX else pause_seconds
            log.error("archiver_died", status=process.exitcode, again_in_seconds=pause_seconds)
            end.wait(pause_seconds)
            pause_seconds = min(2 * pause_seconds, ARCHIVER_PAUSE_SECONDS_MAX)


def _announce(address: str, engine: str) -> None:
    """Prints the one line that says the service answers, once it does."""
    for attempt in Retrying(
        stop=stop_after_delay(ANSWER_SECONDS_MAX),
        wait=wait_fixed(ANSWER_LOOK_SECONDS),
        retry=retry_if_exception_type(httpx.HTTPError),
        reraise=True,
    ):
        with attempt:
            httpx.get(f"{address}/livez", trust_env=False).raise_for_status()
    print(f"Lastunit answers on {address} ({engine})", flush=True)  # noqa: T201 - the line that CONTRACT promises


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's shape
    """Ends the process in order. uvicorn takes the signals while it serves, finishes, and raises them again."""
    sys.exit(0)
