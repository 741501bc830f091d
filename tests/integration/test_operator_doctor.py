"""`lastunit doctor`: fine where all is, and each thing that can be wrong named once, with its mend."""

import json
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from app.commands import examination
from app.commands.diagnosis import Level, find_in_clock, find_in_engine
from app.commands.examination import run_doctor
from app.store.keys import Keyspace
from app.store.vitals import Vitals
from tests.commands import sell
from tests.engines import Engine
from tests.service import Home, Service, open_home

pytestmark = pytest.mark.archived

META = Keyspace(1).partitions[0].meta


class Case(NamedTuple):
    """A service that is in order before it is examined."""

    home: Home
    service: Service


@pytest.fixture(scope="module")
def running() -> Iterator[Case]:
    with open_home(is_archived=True) as home:
        service = home.serve()
        sell(service.gateway, service.gateway.stock())
        home.await_archive()
        yield Case(home, service)


Found = tuple[bool, list[dict[str, str]]]  # whether nothing must be mended, and what is not fine
Examine = Callable[..., Found]


@pytest.fixture(autouse=True)
def as_logged_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets logging up for its process; here that is the tests' own."""
    monkeypatch.setattr(examination, "configure_logging", lambda _: None)


@pytest.fixture
def examine(capsys: pytest.CaptureFixture[str]) -> Examine:
    def run(**options: object) -> Found:
        is_healthy = run_doctor(options, None, as_json=True)
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert found["is_healthy"] == is_healthy
        for row in found["findings"]:
            assert (row["mend"] is None) == (row["level"] == "fine"), row
        return is_healthy, [row for row in found["findings"] if row["level"] != "fine"]

    return run


def test_a_service_in_order_is_fine(running: Case, examine: Examine) -> None:
    assert examine(data_dir=running.home.data_dir) == (True, [])
    typed = running.home.command("doctor")
    assert (typed.returncode, typed.stderr) == (0, "")
    for what in ("engine", "clock", "memory", "archive", "disk", "data directory", "connections", "file descriptors"):
        assert f"│ {what} " in typed.stdout


def test_the_memory_is_reckoned_from_what_was_measured(running: Case, capsys: pytest.CaptureFixture[str]) -> None:
    """Mean rate x retention x bytes: of the sold, of the others, of the ledger."""
    run_doctor({"data_dir": running.home.data_dir}, None, as_json=True)
    findings = json.loads(capsys.readouterr().out.splitlines()[-1])["findings"]
    (memory,) = (row["found"] for row in findings if row["what"] == "memory")
    assert "/s x 2,592,000 s x " in memory
    assert "/s x 86,400 s x " in memory
    assert "100,000 entries x " in memory


# Each wrong thing, once


def only(found: Found, what: str, level: str, words: str, mend: str) -> None:
    is_healthy, rows = found
    assert [(row["what"], row["level"]) for row in rows] == [(what, level)]
    assert words in rows[0]["found"]
    assert mend in rows[0]["mend"]
    assert is_healthy == (level != "mend")


@contextmanager
def configured(home: Home, name: str, value: object) -> Iterator[None]:
    """The engine with another setting, for the while."""
    with home.client() as client:
        before = client.config_get(name)[name]
        client.config_set(name, value)
        try:
            yield
        finally:
            client.config_set(name, before)


def test_settings(running: Case, examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    only(examine(data_dir=running.home.data_dir, partitions=0), "settings", "mend", "--partitions", "correct it")
    monkeypatch.setenv("LASTUNIT_SWEEP_ENABLE", "1")
    only(examine(data_dir=running.home.data_dir), "settings", "mend", "LASTUNIT_SWEEP_ENABLE", "correct it")


def test_engine_that_is_not_there(home: Home, examine: Examine) -> None:
    only(examine(redis_url="redis://127.0.0.1:1"), "engine", "mend", "No engine answers at 127.0.0.1:1", "as it says")
    only(examine(data_dir=home.data_dir), "engine", "mend", "has no data of Lastunit", "as it says")
    assert not home.data_dir.exists()


def test_engine_that_is_set_wrongly(running: Case, examine: Examine) -> None:
    home = running.home
    with configured(home, "maxmemory-policy", "allkeys-lru"):
        only(examine(data_dir=home.data_dir), "engine", "mend", "allkeys-lru", "set maxmemory-policy to noeviction")
    with configured(home, "appendfsync", "everysec"):
        only(examine(data_dir=home.data_dir), "engine", "warn", "appendfsync is everysec", "set it to always")


def test_append_only_file_that_could_not_be_written() -> None:
    info = {
        "redis_version": "7.0.15", "role": "master", "maxmemory_policy": "noeviction", "aof_enabled": 1,
        "aof_last_write_status": "err", "aof_last_bgrewrite_status": "ok",
    }  # fmt: skip
    found = [row for row in find_in_engine(info, {"appendfsync": "always"}, address="here") if row.level != Level.FINE]
    assert [(row.what, row.level, row.found) for row in found] == [
        ("append-only file", Level.MEND, "aof_last_write_status is err")
    ]


def test_data_of_another_number_of_partitions(running: Case, examine: Examine) -> None:
    found = examine(data_dir=running.home.data_dir, partitions=2)
    only(found, "data", "mend", "1 partitions, but the setting is 2", "set partitions (LASTUNIT_PARTITIONS) to 1")


def test_no_data_yet(engine: Engine, examine: Examine) -> None:
    engine.client.config_set("appendfsync", "always")
    try:
        only(examine(redis_url=engine.url), "data", "warn", "nothing was ever served", "lastunit serve")
    finally:
        engine.client.config_set("appendfsync", "everysec")


def test_clock(running: Case, examine: Examine) -> None:
    with running.home.client() as client:
        before = client.hget(META, "offset_us")
        client.hset(META, "offset_us", 90_000_000)
        try:
            only(examine(data_dir=running.home.data_dir), "clock", "warn", "engine time is +90.0 s from", "NTP")
        finally:
            client.hset(META, "offset_us", before or 0)
    (apart,) = find_in_clock(Vitals({}, (), (), clock_apart_us=-5_000_000))
    assert (apart.level, "that -5.0 s from this machine's" in apart.found) == (Level.WARN, True)


def test_memory(running: Case, examine: Examine) -> None:
    home = running.home
    with home.client() as client:
        used = client.info("memory")["used_memory"]
    with configured(home, "maxmemory", used // 2):
        only(examine(data_dir=home.data_dir), "memory", "mend", "(maxmemory)", "give it more memory")
    with configured(home, "maxmemory", 60_000_000):
        found = examine(data_dir=home.data_dir, committed_retention_seconds=86_400, ledger_entries_kept=1_000_000)
        only(found, "memory", "mend", "1,000,000 entries x", "lower committed_retention_seconds")


def test_connections(running: Case, examine: Examine) -> None:
    with running.home.client() as client:
        clients = client.info("clients")["connected_clients"]
    with configured(running.home, "maxclients", clients + 1):
        only(examine(data_dir=running.home.data_dir), "connections", "mend", f"of {clients + 1}", "maxclients")


def test_archive(running: Case, examine: Examine, tmp_path: Path) -> None:
    data_dir = running.home.data_dir
    nowhere, ahead, garbage = (tmp_path / name for name in ("nowhere", "ahead", "garbage"))
    only(examine(data_dir=data_dir, archive_url=""), "archive", "warn", "never trimmed", "set archive_url")
    lagging = {"data_dir": data_dir, "archive_url": f"sqlite:///{nowhere}"}
    only(examine(**lagging, archive_lag_entries_max=5), "archive", "mend", "6 entries behind", "start the service")
    only(examine(**lagging, archive_lag_entries_max=10), "archive", "warn", "6 entries behind", "keeps up")
    with closing(sqlite3.connect(running.home.archive)) as source, closing(sqlite3.connect(ahead)) as copy, copy:
        source.backup(copy)
        copy.execute("UPDATE positions SET sequence = 100")
    found = examine(data_dir=data_dir, archive_url=f"sqlite:///{ahead}")
    only(found, "archive", "mend", "it ends at 100, the engine at 6", "lastunit ledger rebuild")
    garbage.write_bytes(os.urandom(5000))
    found = examine(data_dir=data_dir, archive_url=f"sqlite:///{garbage}")
    only(found, "archive", "mend", "does not serve", "correct archive_url")


def test_data_directory_and_disk(running: Case, examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir = running.home.data_dir
    data_dir.chmod(0o755)
    only(examine(data_dir=data_dir), "data directory", "warn", "has mode 755", f"chmod 700 {data_dir}")
    data_dir.chmod(0o700)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        only(examine(data_dir=data_dir), "data directory", "mend", "may not be written", "the user that owns it")
    usage = shutil.disk_usage(data_dir)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=999_000_000))
    only(examine(data_dir=data_dir), "disk", "mend", "999 MB free", "make room for 1,000 MB")


def test_file_descriptors(running: Case, examine: Examine) -> None:
    pid = running.service.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (200, before[1]))
    try:
        only(examine(data_dir=running.home.data_dir), "file descriptors", "mend", "of 200", "LimitNOFILE=65536")
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_what_must_be_mended_is_an_exit_status(running: Case) -> None:
    typed = running.home.command("doctor", "--json", settings={"partitions": 2})
    assert typed.returncode == 1
    assert json.loads(typed.stdout)["is_healthy"] is False
