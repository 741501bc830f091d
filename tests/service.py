"""`lastunit serve` as a person starts it: a process of its own, on a free port, over a data directory of its own."""

import asyncio
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.domain.errors import EngineUnavailable
from app.projections.archive.reader import Archive
from app.projections.rebuild import Verdict, verify
from app.settings import Settings
from app.store.keys import PREFIX
from app.store.store import make_store
from tests.forks import Process as Forked
from tests.forks import fork
from tests.gateway import Gateway

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"Lastunit answers on (http://\S+) \((.+)\)\n")
PATIENCE_SECONDS = 20.0
COMMAND_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.01
NO_SETTINGS: Mapping[str, object] = {}
LASTUNIT = ("-m", "app")
A_NEW_PYTHON = ("-u", *LASTUNIT)  # the same, not forked

Process = subprocess.Popen[str] | Forked

Found = TypeVar("Found")


class Service:
    """A service that answers. `process` is its parent process, `gateway` a client of it."""

    def __init__(self, process: Process, address: str, home: "Home", options: tuple[str, ...]) -> None:
        self.process = process
        self.gateway = Gateway(address)
        self.home = home
        self._options = options

    @property
    def worker_pids(self) -> list[int]:
        """Its gateway processes, where it has several: children of its main thread, as the archiver is not."""
        pids = [
            int(line) for line in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]
        return [pid for pid in pids if b"multiprocessing.spawn" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE_SECONDS)

    def again(self) -> "Service":
        """One like it, where it was: on the same data, at the same address."""
        return self.home.serve(*self._options, port=self.gateway.peer[1])


class Home:
    """A data directory in a folder of its own, and every service that was started on it."""

    def __init__(self, folder: Path, *, is_archived: bool) -> None:
        self._is_archived = is_archived
        self.data_dir = folder / "data"
        self._runtime_dir = folder
        self._log = folder / "stderr"
        self._processes: list[Process] = []
        self._partitions = 1
        self.is_damaged_on_purpose = False
        self.python: Sequence[str] = LASTUNIT  # what services are
        self.root = ROOT  # where their code is

    @property
    def engine(self) -> dict[str, Any]:
        """`url` and `pid` of the engine that was started last."""
        found: dict[str, Any] = json.loads((self.data_dir / "engine.json").read_text())
        return found

    @property
    def stderr(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    @property
    def archiver_pids(self) -> list[int]:
        """The archivers that ran here, the last one last."""
        return [int(pid) for pid in re.findall(r'"process": (\d+), "event": "archive_started"', self.stderr)]

    @property
    def archive(self) -> Path:
        """The archive's file."""
        return self.data_dir / "archive.sqlite"

    def client(self) -> Redis:
        """A plain client of the engine."""
        return Redis.from_url(self.engine["url"], protocol=2, socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def launch(
        self, *options: str, settings: Mapping[str, object] = NO_SETTINGS, python: Sequence[str] = LASTUNIT
    ) -> Process:
        """Starts `lastunit serve` with these options, and settings in its environment; it need not come up."""
        given = settings if self._is_archived else {"archive_url": "", **settings}
        environment = {
            f"LASTUNIT_{name.upper()}": json.dumps(value) if isinstance(value, dict) else str(value)
            for name, value in given.items()
        }
        environment = os.environ | {"XDG_RUNTIME_DIR": str(self._runtime_dir)} | environment
        args = ["serve", "--data-dir", str(self.data_dir), *options]
        process: Process
        with self._log.open("ab") as log:
            if (self.root, python) == (ROOT, LASTUNIT):
                process = fork(args, folder=ROOT, environment=environment, stderr=log.fileno())
            else:
                process = subprocess.Popen(
                    [sys.executable, *python, *args],
                    cwd=self.root,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    start_new_session=True,  # with its workers, so that none of them outlives the test
                )
        self._processes.append(process)
        return process

    def serve(self, *options: str, port: int = 0, **settings: object) -> Service:
        """A service that answers; what it logged, if it does not."""
        self._partitions = int(str(settings.get("partitions", 1)))
        process = self.launch("--port", str(port), *options, settings=settings, python=self.python)
        assert process.stdout
        announced = LINE.fullmatch(process.stdout.readline())
        assert announced, self.stderr
        return Service(process, announced[1], self, options)

    def await_archive(self) -> None:
        """Returns when the archive has all that the ledger has at this moment."""
        with self.client() as client:
            for meta in client.scan_iter(f"{PREFIX}*:meta"):
                sequence = int(client.hget(meta, "sequence") or 0)
                readers = meta.removesuffix(b"meta") + b"readers"
                eventually(partial(_has_read, client, readers, sequence))

    def command(
        self, *args: str, settings: Mapping[str, object] = NO_SETTINGS, data_dir: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """What `lastunit` says when it is typed so, on this data directory or another."""
        environment = {f"LASTUNIT_{name.upper()}": str(value) for name, value in settings.items()}
        environment = os.environ | {"XDG_RUNTIME_DIR": str(self._runtime_dir)} | environment
        typed = [*args, "--data-dir", str(data_dir or self.data_dir)]
        with tempfile.TemporaryFile() as stderr:
            process = fork(typed, folder=ROOT, environment=environment, stderr=stderr.fileno())
            with process.stdout:
                stdout = process.stdout.read()
            status = process.wait(COMMAND_SECONDS_MAX)
            stderr.seek(0)
            return subprocess.CompletedProcess(typed, status, stdout, stderr.read().decode())

    async def verify(self) -> Verdict:
        """What the replay of the ledger says of the engine's state."""
        settings = Settings(partitions=self._partitions, data_dir=self.data_dir)
        archive = Archive.of(settings)
        try:
            async with make_store(settings, self.engine["url"]) as store:
                return await verify(store, archive)
        finally:
            await archive.close()

    @contextmanager
    def paused_engine(self) -> Iterator[None]:
        """SIGSTOP, until the end."""
        with paused(self.engine["pid"]):
            yield

    @staticmethod
    def kill_process(pid: int) -> None:
        """Kill -9."""
        os.kill(pid, signal.SIGKILL)

    def kill_engine(self) -> None:
        """Kill -9."""
        os.kill(self.engine["pid"], signal.SIGKILL)

    def close(self, *, is_proved: bool) -> None:
        """Ends all that runs here. What stands in the engine, if it still runs, must be what the ledger says."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout
            process.stdout.close()
        with suppress(OSError, ValueError):
            if Path(f"/proc/{self.engine['pid']}/cwd").samefile(self.data_dir):
                try:
                    if is_proved and not self.is_damaged_on_purpose:
                        self._prove()
                finally:
                    self.kill_engine()

    def _prove(self) -> None:
        with suppress(EngineUnavailable), ThreadPoolExecutor(1) as pool:  # a loop of its own: the test may run in one
            assert pool.submit(asyncio.run, self.verify()).result().difference is None


def _has_read(client: Redis, readers: bytes, sequence: int) -> bool:
    acknowledged = client.hget(readers, "archive")
    return acknowledged is not None and int(acknowledged) >= sequence


@contextmanager
def open_home(*, is_archived: bool = False) -> Iterator[Home]:
    """A new home; gone afterwards, with all that runs there. An archive is another process to start and to end."""
    with tempfile.TemporaryDirectory(prefix="lu-", ignore_cleanup_errors=True) as folder:
        home = Home(Path(folder), is_archived=is_archived)
        try:
            yield home
        except BaseException:
            home.close(is_proved=False)
            raise
        home.close(is_proved=True)


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """SIGSTOP, until the end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def is_free(peer: tuple[str, int]) -> bool:
    """Nobody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(peer) == errno.ECONNREFUSED


def eventually(attempt: Callable[[], Found], *, seconds_max: float = PATIENCE_SECONDS) -> Found:
    """The first true result; what cannot be reached yet counts as false."""
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        with suppress(OSError):
            if found := attempt():
                return found
        time.sleep(LOOK_SECONDS)
    raise AssertionError(f"not so within {seconds_max} s")
