"""The engine as our own child process on a data directory: started, adopted, watched, ended.

Two engines on one append-only file sell everything twice, so two locks guard the directory. Both are flocks, which
end with their holder, however it ends:

    service.lock   held by the owner of the directory: one service alone or, while none runs, commands together
    engine.lock    inherited by the engine and closed here: held exactly as long as an engine process lives

So an engine whose service was killed is found alive and adopted, and one that died is started anew, on the same URL.
"""

import fcntl
import json
import os
import re
import secrets
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_when_event_set

from app.domain.errors import DataGone, StartupError
from app.settings import ARCHIVE_NAME
from app.store.connections import BEGINNING

log = structlog.get_logger(__name__)

MARKER = "lastunit.json"  # {"format": FORMAT}: makes a directory ours
SERVICE_LOCK = "service.lock"
ENGINE_LOCK = "engine.lock"
RECORD = "engine.json"  # {"url", "pid"} of the engine started last: how an orphan is found
LOG = "engine.log"
FORMAT = 1

POLL_SECONDS = 0.02
WATCH_SECONDS = 0.1
ASK_SECONDS_MAX = 1.0
SILENT_SECONDS_MAX = 5.0  # of an engine that others started
CHILD_SILENT_SECONDS_MAX = 60.0  # of our own, on a disk that may be busy
LOADING_SECONDS_MAX = 3600.0
LOADING_REPORT_SECONDS = 5.0
STOP_SECONDS_MAX = 10.0
RESTART_PAUSE_SECONDS_MIN = 0.1
RESTART_PAUSE_SECONDS_MAX = 2.0
SOCKET_PATH_BYTES_MAX = 103  # what macOS takes; Linux takes 107
LOG_BYTES_MAX = 10_000_000
LOG_TAIL_BYTES = 10_000

ENGINE_CONFIG = """\
appendonly yes
appendfsync always
aof-load-truncated yes
auto-aof-rewrite-min-size 1gb
maxmemory-policy noeviction
save ""
"""


class Answer(Enum):
    """What an engine says when asked whether it serves the directory."""

    READY = "serves"
    LOADING = "reads its append-only file"
    SILENT = "says nothing, or serves another directory"
    ENDED = "is gone: no engine process holds the directory"


def connect(url: str, *, timeout_seconds: float) -> Redis:
    """A plain synchronous client for the few words said outside the gateway: each once, each with a bound."""
    client: Redis = Redis.from_url(
        url,
        **BEGINNING,
        decode_responses=True,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
    )
    return client


class EmbeddedEngine:
    """The engine of one data directory, kept alive from `start` to `close`."""

    def __init__(self, data_dir: Path, binary: Path, *, exclusive: bool) -> None:
        self._directory = data_dir.absolute()
        self._binary = binary
        self._exclusive = exclusive
        self._service_lock: int | None = None  # None: a guest of the service that runs here
        self._engine_lock: int | None = None  # held here only while no engine lives
        self._child: subprocess.Popen[bytes] | None = None  # None: another process started the engine
        self._url: str | None = None  # stays the same from the first start or answer on
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="engine-watcher", daemon=True)

    def start(self) -> str:
        """The URL of the engine that serves the directory: adopted, joined, or started. Raises StartupError."""
        try:
            _claim_directory(self._directory)
            self._service_lock = self._take_service_lock()
            self._bring_up()
        except OSError as error:
            self._release()
            raise StartupError(
                f"{self._directory} cannot be the data directory ({error.strerror}): "
                "give --data-dir a directory that this user may write."
            ) from error
        except BaseException:
            self._release()
            raise
        if self._service_lock is not None:
            self._watcher.start()
        assert self._url
        return self._url

    def close(self) -> None:
        """Ends the engine, unless a service or another command still uses it. May be called twice. Raises DataGone."""
        self._stopping.set()
        if self._service_lock is None:
            return
        self._watcher.join()
        # The last command here gets the lock for itself; a service has had it all along.
        try:
            with suppress(BlockingIOError):
                fcntl.flock(self._service_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._shut_down()
        except FileNotFoundError:  # the engine's lock is in the data directory
            assert self._url
            _remove_socket(self._url)
            raise DataGone(
                f"{self._directory} was removed or moved while it was in use: put it back, or restore a backup."
            ) from None
        finally:
            self._release()

    def _release(self) -> None:
        if self._engine_lock is not None and self._url:  # no engine is left, and none can start yet
            _remove_socket(self._url)
        for lock in (self._engine_lock, self._service_lock):
            if lock is not None:
                os.close(lock)
        self._engine_lock = self._service_lock = None

    def _take_service_lock(self) -> int | None:
        path = self._directory / SERVICE_LOCK
        lock = _try_lock(path, fcntl.LOCK_EX if self._exclusive else fcntl.LOCK_SH)
        if lock is None and self._exclusive:
            raise StartupError(
                f"{self._directory} is in use by another lastunit (process {path.read_text().strip() or 'unknown'}): "
                "stop that one, or give this one a --data-dir of its own."
            )
        if lock is not None:
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        return lock

    def _bring_up(self) -> None:
        """Makes the engine answer: the one that holds the directory, or a new one where none does."""
        match self._await_answer(SILENT_SECONDS_MAX):
            case Answer.READY:
                log.info("engine_adopted" if self._service_lock is not None else "engine_joined")
            case Answer.ENDED:
                self._spawn()
            case _:
                pid = _read_json(self._directory / RECORD).get("pid", "unknown")
                raise StartupError(
                    f"An engine (process {pid}) holds {self._directory} but does not answer within "
                    f"{SILENT_SECONDS_MAX:g} s: resume or end that process, then start again."
                )

    def _await_answer(self, silent_seconds_max: float) -> Answer:
        """READY, ENDED, or SILENT after so long without a word. LOADING is a word, up to its own bound."""
        started = heard = reported = time.monotonic()
        while not self._has_ended():
            answer, now = self._ask(), time.monotonic()
            if answer is Answer.READY:
                return answer
            if answer is Answer.LOADING:
                heard = now
                if now - reported > LOADING_REPORT_SECONDS:
                    reported = now
                    log.info("engine_loading", seconds=round(now - started))
            if now - heard > silent_seconds_max or now - started > LOADING_SECONDS_MAX:
                return Answer.SILENT
            if self._stopping.wait(POLL_SECONDS):
                return Answer.SILENT
        return Answer.ENDED

    def _ask(self) -> Answer:
        url = _read_json(self._directory / RECORD).get("url")
        if not isinstance(url, str):
            return Answer.SILENT
        try:
            with connect(url, timeout_seconds=ASK_SECONDS_MAX) as client:
                client.ping()
                served = client.config_get("dir")["dir"]
            if served is None or not self._directory.samefile(served):
                return Answer.SILENT
        except BusyLoadingError:
            return Answer.LOADING
        except (RedisError, OSError):
            return Answer.SILENT
        self._url = url
        return Answer.READY

    def _has_ended(self) -> bool:
        """Whether no engine process is left; then its lock is taken, so that nobody else starts one.

        A guest leaves that to the service.
        """
        if self._service_lock is None:
            return False
        if self._child is not None and self._child.poll() is not None:
            self._end_child()
        if self._child is None and self._engine_lock is None:
            self._engine_lock = _try_lock(self._directory / ENGINE_LOCK, fcntl.LOCK_EX)
        return self._engine_lock is not None

    def _spawn(self) -> None:
        """Starts a new engine and waits until it serves; a failed one is not left behind."""
        self._url = self._url or _choose_url(self._directory)
        log_path = self._directory / LOG
        if log_path.exists() and log_path.stat().st_size > LOG_BYTES_MAX:
            log_path.replace(log_path.with_name(f"{LOG}.1"))
        answer = Answer.SILENT
        try:
            with log_path.open("ab") as output:
                log_start = output.tell()
                self._child = self._launch(_configure(self._url), output)
            write_json(self._directory / RECORD, {"url": self._url, "pid": self._child.pid})
            answer = self._await_answer(CHILD_SILENT_SECONDS_MAX)
        finally:
            if answer is not Answer.READY:
                self._end_child()
        lines = _read_log(log_path, start=log_start)
        marker = self._directory / MARKER
        if answer is not Answer.READY:
            writer = _read_json(marker).get("engine", self._binary.name)
            hint = "" if writer == self._binary.name else f"{writer} wrote its data, run that one, or "
            reason = lines[-1] if lines else "without a word"
            raise StartupError(f"The engine {self._binary} does not start ({reason}): {hint}see {log_path}.")
        write_json(marker, {"format": FORMAT, "engine": self._binary.name})
        log.info("engine_started", binary=str(self._binary))
        for line in lines:
            if "aof-load-truncated" in line:
                log.warning("engine_data_truncated", detail=line)

    def _launch(self, config: str, output: BinaryIO) -> subprocess.Popen[bytes]:
        """The new child process; the engine lock is left to it alone."""
        assert self._engine_lock is not None
        try:
            child = subprocess.Popen(  # noqa: S603 # a fixed command
                [self._binary, "-"],  # configured through stdin: a password must not show on the command line
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                bufsize=0,
                cwd=self._directory,
                pass_fds=(self._engine_lock,),
                start_new_session=True,  # Ctrl-C in the terminal is for the gateway, which ends the engine last
                umask=0o077,
            )
        except OSError as error:
            raise StartupError(
                f"The engine {self._binary} cannot be run ({error.strerror}): install it anew."
            ) from error
        os.close(self._engine_lock)
        self._engine_lock = None
        assert child.stdin
        with suppress(BrokenPipeError), child.stdin as stdin:  # where it ended already, its log says why
            stdin.write(config.encode())
        return child

    def _end_child(self) -> None:
        """Kills our child and what it forked: a rewrite that outlives it would keep its lock and its connections.

        Nothing is lost: what it acknowledged is on disk.
        """
        if self._child is not None:
            with suppress(ProcessLookupError, PermissionError):  # none left; macOS: only a zombie left
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
            self._child = None

    def _watch(self) -> None:
        keep_alive = Retrying(
            retry=retry_if_exception_type((StartupError, OSError)),
            wait=wait_exponential(RESTART_PAUSE_SECONDS_MIN, max=RESTART_PAUSE_SECONDS_MAX),
            sleep=sleep_using_event(self._stopping),
            stop=stop_when_event_set(self._stopping),
            before_sleep=_report_failure,
            retry_error_callback=lambda _: None,
        )
        while not self._stopping.wait(WATCH_SECONDS):
            keep_alive(self._keep_alive)

    def _keep_alive(self) -> None:
        if self._has_ended():
            log.error("engine_died")
            self._bring_up()

    def _shut_down(self) -> None:
        assert self._url
        with suppress(RedisError), connect(self._url, timeout_seconds=ASK_SECONDS_MAX) as client:
            client.shutdown()
        deadline = time.monotonic() + STOP_SECONDS_MAX
        while not self._has_ended():
            if time.monotonic() > deadline:
                log.warning("engine_does_not_stop", killed=self._child is not None)
                if self._child is None:
                    return
                self._end_child()
            time.sleep(POLL_SECONDS)
        log.info("engine_stopped")


def _report_failure(state: RetryCallState) -> None:
    assert state.outcome
    log.error("engine_restart_failed", attempt=state.attempt_number, reason=str(state.outcome.exception()))


def _claim_directory(directory: Path) -> None:
    """Makes a new directory ours; raises StartupError where it belongs to others or to another format."""
    if directory.exists() and not directory.is_dir():
        raise StartupError(f"{directory} is a file: give --data-dir a directory.")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Listed before the marker is looked for, because another start may be writing it at this moment, and its locks
    # after it.
    strangers = strangers_in(directory)
    marker = directory / MARKER
    if marker.exists():
        if (found := _read_json(marker).get("format")) != FORMAT:
            raise StartupError(f"{marker} names format {found}, not {FORMAT}: run the lastunit version that wrote it.")
    elif strangers:
        raise StartupError(
            f"{directory} is no Lastunit data directory (it holds {min(strangers)} and no {MARKER}): "
            "give --data-dir an empty or new one."
        )
    else:
        write_json(marker, {"format": FORMAT})


def strangers_in(directory: Path) -> list[str]:
    """What is in a directory that is to become ours, but for what may be there before.

    That is the configuration, archives of engines elsewhere, and a fresh ext4 volume's lost+found.
    """
    names = (path.name for path in directory.iterdir())
    welcome = ("lastunit.", f"{ARCHIVE_NAME}-")
    return [name for name in names if name == MARKER or not (name.startswith(welcome) or name == "lost+found")]


def engine_of(directory: Path) -> str:
    """The name of the server that wrote its data last."""
    return str(_read_json(directory / MARKER).get("engine"))


@contextmanager
def hold_lock(path: Path) -> Iterator[bool]:
    """Holds a lock, if nobody else does."""
    lock = _try_lock(path, fcntl.LOCK_EX)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def _try_lock(path: Path, operation: int) -> int | None:
    """The descriptor that holds the lock, or None when another holds it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _choose_url(directory: Path) -> str:
    """A unix socket in a private directory, the same for each start on this data; else loopback with a password."""
    identity = directory.stat()
    name = f"lastunit-{identity.st_dev:x}-{identity.st_ino:x}"
    for parent in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir()):
        path = Path(parent, name, "engine.sock")
        if path.is_absolute() and _can_listen(path):
            return f"unix://{quote(os.fsencode(path))}"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return f"redis://:{secrets.token_urlsafe(32)}@127.0.0.1:{port}"


def _can_listen(path: Path) -> bool:
    """Whether a unix socket can be bound here, in a directory that is ours alone. A stale one is removed."""
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        return False
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        owner = path.parent.lstat()
        if not stat.S_ISDIR(owner.st_mode) or owner.st_uid != os.geteuid() or owner.st_mode & 0o077:
            return False
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(path))
        path.unlink()
    except OSError:
        return False
    return True


def _socket_path(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def _remove_socket(url: str) -> None:
    """Leaves nothing in the runtime directory."""
    if url.startswith("unix:"):
        path = _socket_path(url)
        with suppress(OSError):
            path.unlink(missing_ok=True)
            path.parent.rmdir()


def _configure(url: str) -> str:
    """The engine's whole configuration: ENGINE_CONFIG and where the URL says it listens."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        path = str(_socket_path(url)).replace("\\", "\\\\").replace('"', '\\"')
        return f'{ENGINE_CONFIG}port 0\nunixsocket "{path}"\nunixsocketperm 700\n'
    return f"{ENGINE_CONFIG}bind {parts.hostname}\nport {parts.port}\nrequirepass {parts.password}\n"


def _read_json(path: Path) -> dict[str, object]:
    """What the file says, or nothing where it is missing or damaged."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text("utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Replaces the file at once, readable by us alone: a reader sees the old content or the new."""
    descriptor, name = tempfile.mkstemp(prefix="lastunit.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read_log(path: Path, *, start: int) -> list[str]:
    """The last lines the engine logged since `start`, without process, time and level."""
    with path.open("rb") as file:
        file.seek(max(start, path.stat().st_size - LOG_TAIL_BYTES))
        text = file.read(LOG_TAIL_BYTES).decode("utf-8", "replace")
    return [re.sub(r"^\d+:\w .+? [.*#-] ", "", line).strip(" .") for line in text.splitlines() if line.strip()]
