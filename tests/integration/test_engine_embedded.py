"""The engine as our own child on a data directory: locks, adoption, restarts, and nothing acknowledged lost."""

import itertools
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self, TypeVar

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry
from structlog.testing import capture_logs

from app.domain.errors import DataGone, StartupError
from app.settings import Settings, load_settings
from app.store import embedded, engine
from app.store.engine import open_engine

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 20.0
PROCESS = """
import sys
from pathlib import Path
import structlog
from app.settings import load_settings
from app.store import engine
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
data_dir, binary, kind = sys.argv[1:]
engine.find_binary = lambda: Path(binary)
print("imported", flush=True)
sys.stdin.readline()
with engine.open_engine(load_settings({"data_dir": data_dir}), exclusive=kind == "service") as opened:
    print(opened.url, flush=True)
    sys.stdin.read()
"""


# Every real engine that is installed; without one, what find_binary says ends the collection.
FOUND = (engine.find_binary(), shutil.which("valkey-server"), shutil.which("redis-server"))
ENGINES = list(dict.fromkeys(Path(path) for path in FOUND if path))


@pytest.fixture(params=ENGINES, ids=str)
def binary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    path: Path = request.param
    monkeypatch.setattr(engine, "find_binary", lambda: path)
    return path


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of this test alone, empty again at its end."""
    with tempfile.TemporaryDirectory(prefix="lu-") as path:
        monkeypatch.setenv("XDG_RUNTIME_DIR", path)
        yield Path(path)
        assert list(Path(path).iterdir()) == [], "an engine left its socket behind"


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """A data directory whose engine does not outlive the test, however that ends."""
    settings = load_settings({"data_dir": tmp_path / "data"})
    yield settings
    with suppress(OSError, ValueError):
        pid = json.loads((settings.data_dir / "engine.json").read_text())["pid"]
        if Path(f"/proc/{pid}/cwd").samefile(settings.data_dir):
            os.kill(pid, signal.SIGKILL)


def client(url: str) -> Redis:
    return Redis.from_url(url, protocol=2, decode_responses=True, socket_timeout=5, retry=Retry(NoBackoff(), 0))


def pid_of(url: str) -> int:
    with client(url) as redis:
        return int(redis.info("server")["process_id"])


def eventually(attempt: Callable[[], T], *, seconds_max: float = PATIENCE_SECONDS) -> T:
    """The first true result; an engine that does not answer yet counts as false."""
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        with suppress(RedisError):
            if result := attempt():
                return result
        time.sleep(0.01)
    raise AssertionError(f"not so within {seconds_max} s")


def await_another(url: str, pid: int) -> None:
    eventually(lambda: pid_of(url) != pid)


def refusal(settings: Settings) -> str:
    with pytest.raises(StartupError) as raised, open_engine(settings):
        pass
    return str(raised.value)


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


@contextmanager
def process(settings: Settings, binary: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
    """Another process, a `service` or a `command`, that opens the engine when told to; the end of its input ends it."""
    command = [sys.executable, "-c", PROCESS, str(settings.data_dir), str(binary), kind]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as started:
        try:
            assert said(started) == "imported"
            yield started
        finally:
            started.kill()


def tell_to_open(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


@contextmanager
def serving(settings: Settings, binary: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service in another process, and its engine's URL."""
    with process(settings, binary, "service") as service:
        tell_to_open(service)
        yield service, said(service)


def orphan(settings: Settings, binary: Path) -> str:
    """The URL of an engine whose service was killed."""
    with serving(settings, binary) as (service, url):
        service.kill()
        service.wait()
    return url


class Writer:
    """Adds numbers to a set in the engine until told to end, whatever happens; knows which were acknowledged."""

    def __init__(self, url: str) -> None:
        self.acknowledged: set[str] = set()
        self._url = url
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def advances(self, count: int) -> None:
        goal = len(self.acknowledged) + count
        eventually(lambda: len(self.acknowledged) >= goal)

    def lost(self, url: str) -> set[str]:
        with client(url) as redis:
            present: set[str] = redis.smembers("written")
        return self.acknowledged - present

    def _write(self) -> None:
        with client(self._url) as redis:
            for number in map(str, itertools.count()):
                with suppress(RedisError):
                    redis.sadd("written", number)
                    self.acknowledged.add(number)
                if self._ending.is_set():
                    return


def test_starts_as_designed_and_ends_on_close(binary: Path, settings: Settings, runtime: Path) -> None:
    with open_engine(settings) as opened, client(opened.url) as redis:
        assert re.fullmatch(rf"(valkey|redis) [\d.]+, embedded, {settings.data_dir}", opened.description)
        wanted = {
            "appendonly": "yes",
            "appendfsync": "always",
            "auto-aof-rewrite-min-size": str(1 << 30),
            "maxmemory-policy": "noeviction",
            "save": "",
            "port": "0",
            "dir": str(settings.data_dir),
        }
        assert redis.config_get(*wanted) == wanted
        (directory,) = runtime.iterdir()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert opened.url == f"unix://{directory}/engine.sock"
        pid = pid_of(opened.url)
        assert os.getsid(pid) == pid != os.getsid(0), "Ctrl-C must not reach the engine"
        redis.set("word", "kept")
    assert has_ended(pid)
    assert list(runtime.iterdir()) == []
    opened.close()  # once more changes nothing
    with open_engine(settings) as opened, client(opened.url) as redis:
        assert redis.get("word") == "kept"
    for path in (settings.data_dir, *settings.data_dir.glob("appendonlydir/*")):
        assert path.stat().st_mode & 0o077 == 0, "the ledger is for this user alone"
    assert {path.name for path in settings.data_dir.iterdir()} == {
        "lastunit.json",
        "service.lock",
        "engine.lock",
        "engine.json",
        "engine.log",
        "appendonlydir",
    }


def test_loopback_with_a_password_where_no_socket_fits(
    binary: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with capture_logs() as logs, open_engine(settings) as opened:
        match = re.fullmatch(r"redis://:([\w-]{43})@(127\.0\.0\.1:\d+)", opened.url)
        assert match
        password, address = match.groups()
        pid = pid_of(opened.url)
        assert password not in repr((opened, opened.description, logs))
        assert password.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert stat.S_IMODE((settings.data_dir / "engine.json").stat().st_mode) == 0o600
        assert password not in (settings.data_dir / "engine.log").read_text()
        with client(f"redis://{address}") as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        os.kill(pid, signal.SIGKILL)
        await_another(opened.url, pid)


def test_runtime_directory_of_another_is_not_used(binary: Path, settings: Settings, runtime: Path) -> None:
    with open_engine(settings) as opened:
        (directory,) = runtime.iterdir()
    directory.mkdir(mode=0o755)  # anyone could have made it first
    with open_engine(settings) as opened:
        assert not opened.url.startswith(f"unix://{directory}")
    directory.rmdir()


def test_directory_with_only_its_configuration_is_new(binary: Path, settings: Settings) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "lastunit.toml").touch()
    (settings.data_dir / "lost+found").mkdir()
    open_engine(settings).close()
    assert json.loads((settings.data_dir / "lastunit.json").read_text()) == {"format": 1, "engine": binary.name}


def test_second_service_is_refused(binary: Path, settings: Settings) -> None:
    with serving(settings, binary) as (service, url):
        assert f"in use by another lastunit (process {service.pid}): stop that one" in refusal(settings)
        assert pid_of(url)
        service.communicate()
    with open_engine(settings):
        assert f"process {os.getpid()}" in refusal(settings)


def test_command_joins_the_running_service_and_leaves_it_alone(binary: Path, settings: Settings) -> None:
    with open_engine(settings) as serving:
        with open_engine(settings, exclusive=False) as command:
            assert command.url == serving.url
        assert pid_of(serving.url)


def test_commands_share_an_engine_and_the_last_ends_it(binary: Path, settings: Settings) -> None:
    with ExitStack() as stack:
        commands = [stack.enter_context(process(settings, binary, "command")) for _ in range(3)]
        for command in commands:
            tell_to_open(command)
        (url,) = {said(command) for command in commands}
        assert (settings.data_dir / "engine.log").read_text().count("just started") == 1
        assert "in use by another lastunit" in refusal(settings)
        pid = pid_of(url)
        for command in commands:
            assert pid_of(url) == pid, "whoever started it, it serves until the last command ends"
            command.communicate()
        assert has_ended(pid)


def test_orphan_is_adopted_with_its_data_then_ended(binary: Path, settings: Settings) -> None:
    url = orphan(settings, binary)
    pid = pid_of(url)
    with client(url) as redis:
        redis.set("word", "kept")
    with capture_logs() as logs, open_engine(settings) as opened, client(opened.url) as redis:
        assert (opened.url, pid_of(opened.url), redis.get("word")) == (url, pid, "kept")
        assert [entry["event"] for entry in logs] == ["engine_adopted"]
    assert has_ended(pid)


def test_adopted_orphan_is_watched_too(binary: Path, settings: Settings) -> None:
    pid = pid_of(orphan(settings, binary))
    with open_engine(settings) as opened:
        os.kill(pid, signal.SIGKILL)
        await_another(opened.url, pid)


def test_paused_orphan_is_refused_in_time(binary: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "SILENT_SECONDS_MAX", 1.0)
    pid = pid_of(orphan(settings, binary))
    os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    assert f"An engine (process {pid}) holds {settings.data_dir} but does not answer within 1 s" in refusal(settings)
    assert time.monotonic() - started < 5
    os.kill(pid, signal.SIGCONT)
    with open_engine(settings) as opened:
        assert pid_of(opened.url) == pid, "the refusal did not end it"


def test_copied_directory_has_an_engine_of_its_own(binary: Path, settings: Settings) -> None:
    copy = load_settings({"data_dir": settings.data_dir.with_name("copy")})
    with open_engine(settings) as original:
        shutil.copytree(settings.data_dir, copy.data_dir)
        with open_engine(copy) as opened:
            assert pid_of(opened.url) != pid_of(original.url)


def test_engine_of_another_directory_is_not_adopted(
    binary: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "SILENT_SECONDS_MAX", 0.5)
    url = orphan(settings, binary)
    own = (settings.data_dir / "engine.json").read_text()
    other = load_settings({"data_dir": settings.data_dir.with_name("other")})
    with open_engine(other):
        shutil.copy(other.data_dir / "engine.json", settings.data_dir)
        assert "does not answer" in refusal(settings)
    (settings.data_dir / "engine.json").write_text(own)
    with open_engine(settings) as opened:
        assert opened.url == url


def test_killed_engine_comes_back_with_all_it_acknowledged(binary: Path, settings: Settings) -> None:
    with open_engine(settings) as opened:
        with Writer(opened.url) as writer:
            for _ in range(3):
                writer.advances(50)
                pid, killed_at = pid_of(opened.url), time.monotonic()
                os.kill(pid, signal.SIGKILL)
                await_another(opened.url, pid)
                print(f"served again after {time.monotonic() - killed_at:.2f} s")
                assert time.monotonic() - killed_at < 5
            writer.advances(50)
        assert writer.lost(opened.url) == set()


def test_nothing_acknowledged_is_lost_when_service_and_engine_are_killed(binary: Path, settings: Settings) -> None:
    with serving(settings, binary) as (service, url), Writer(url) as writer:
        writer.advances(100)
        pid = pid_of(url)
        service.kill()
        os.kill(pid, signal.SIGKILL)
    with open_engine(settings) as opened:
        assert pid_of(opened.url) != pid
        assert writer.lost(opened.url) == set()


def test_rewrite_that_outlives_its_engine_is_ended(binary: Path, settings: Settings) -> None:
    with open_engine(settings) as opened, client(opened.url) as redis:
        redis.set("word", "kept")
        redis.config_set("rdb-key-save-delay", 60_000_000)  # a rewrite takes a minute
        redis.bgrewriteaof()
        eventually(lambda: redis.info("persistence")["aof_rewrite_in_progress"])
        pid, killed_at = pid_of(opened.url), time.monotonic()
        os.kill(pid, signal.SIGKILL)
        await_another(opened.url, pid)
        assert time.monotonic() - killed_at < 5
        with client(opened.url) as fresh:
            eventually(lambda: not fresh.info("persistence")["loading"])
            assert fresh.get("word") == "kept"


@pytest.fixture
def slow(binary: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A data directory that takes two seconds to load."""
    with open_engine(settings) as opened, client(opened.url) as redis:
        redis.mset({f"key-{number}": "word" * 100 for number in range(400)})
        redis.bgrewriteaof()
        eventually(lambda: redis.info("persistence")["aof_base_size"] > 1000)
    delay = "key-load-delay 5000\nloading-process-events-interval-bytes 1024\n"
    monkeypatch.setattr(embedded, "ENGINE_CONFIG", embedded.ENGINE_CONFIG + delay)
    return settings


def test_loading_engine_is_awaited(slow: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "CHILD_SILENT_SECONDS_MAX", 1.0)
    monkeypatch.setattr(embedded, "LOADING_REPORT_SECONDS", 0.5)
    with capture_logs() as logs, open_engine(slow) as opened, client(opened.url) as redis:
        assert redis.dbsize() == 400
        assert {entry["event"] for entry in logs} == {"engine_loading", "engine_started"}
        os.kill(pid_of(opened.url), signal.SIGKILL)
        eventually(lambda: logs[-1]["event"] == "engine_died")
        closed_at = time.monotonic()
    assert time.monotonic() - closed_at < 1.5, "closing does not wait for the restart to load"


def test_torn_tail_is_cut_off_and_said(binary: Path, settings: Settings) -> None:
    with open_engine(settings) as opened, client(opened.url) as redis:
        redis.set("word", "kept")
        redis.set("word", "never acknowledged, had the power been cut here")
    (incremental,) = (settings.data_dir / "appendonlydir").glob("*.incr.aof")
    os.truncate(incremental, incremental.stat().st_size - 5)
    with capture_logs() as logs, open_engine(settings) as opened, client(opened.url) as redis:
        assert redis.get("word") == "kept"
        assert [entry["event"] for entry in logs] == ["engine_started", "engine_data_truncated"]


def test_damaged_data_is_refused_with_the_engines_last_word(binary: Path, settings: Settings) -> None:
    with open_engine(settings) as opened, client(opened.url) as redis:
        for number in range(10):
            redis.set(f"key-{number}", "word")
    (incremental,) = (settings.data_dir / "appendonlydir").glob("*.incr.aof")
    incremental.write_bytes(incremental.read_bytes().replace(b"$5\r\nkey-5", b"$?\r\nkey-5"))
    log_path = settings.data_dir / "engine.log"
    assert re.search(rf"does not start \(Bad file format.*\): see {log_path}\.$", refusal(settings))
    marker = settings.data_dir / "lastunit.json"
    marker.write_text(json.dumps({"format": 1, "engine": "other-server"}))
    assert f"): other-server wrote its data, run that one, or see {log_path}." in refusal(settings)


@pytest.fixture
def link(binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A way to the binary that a test may take away."""
    path = tmp_path / binary.name
    path.symlink_to(binary)
    monkeypatch.setattr(engine, "find_binary", lambda: path)
    return path


def test_restart_is_tried_until_it_succeeds(binary: Path, link: Path, settings: Settings) -> None:
    with capture_logs() as logs, open_engine(settings) as opened:
        pid = pid_of(opened.url)
        link.unlink()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: sum(entry["event"] == "engine_restart_failed" for entry in logs) >= 2)
        link.symlink_to(binary)
        await_another(opened.url, pid)


def test_close_while_a_restart_fails_is_prompt(link: Path, settings: Settings) -> None:
    with capture_logs() as logs, open_engine(settings) as opened:
        link.unlink()
        os.kill(pid_of(opened.url), signal.SIGKILL)
        eventually(lambda: any(entry["event"] == "engine_restart_failed" for entry in logs))
        started = time.monotonic()
    assert time.monotonic() - started < 2


def test_adopted_orphan_whose_data_is_removed_is_ended(binary: Path, settings: Settings) -> None:
    pid = pid_of(orphan(settings, binary))
    opened = open_engine(settings)
    shutil.rmtree(settings.data_dir)
    with pytest.raises(DataGone, match=f"^{settings.data_dir} was removed or moved"):
        opened.close()
    opened.close()  # once more changes nothing
    eventually(lambda: has_ended(pid))


def test_paused_engine_is_ended_by_force(
    binary: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, runtime: Path
) -> None:
    monkeypatch.setattr(embedded, "STOP_SECONDS_MAX", 0.5)
    with capture_logs() as logs, open_engine(settings) as opened:
        pid = pid_of(opened.url)
        os.kill(pid, signal.SIGSTOP)
    assert has_ended(pid)
    assert [entry["event"] for entry in logs] == ["engine_started", "engine_does_not_stop", "engine_stopped"]
    open_engine(settings).close()


def test_unsafe_engine_is_ended_with_the_refusal(
    binary: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "ENGINE_CONFIG", embedded.ENGINE_CONFIG.replace("noeviction", "allkeys-lru"))
    assert "set maxmemory-policy to noeviction" in refusal(settings)
    assert has_ended(json.loads((settings.data_dir / "engine.json").read_text())["pid"])
