"""The archive beside a service: kept while it serves, whole when it ends; a sale does not outrun it without bound."""

import itertools
import re
import sqlite3
from contextlib import closing, suppress
from typing import Any

import pytest

from app.store.keys import Keyspace
from tests import engines
from tests.gateway import Gateway, done, refused
from tests.service import Home, eventually

pytestmark = pytest.mark.archived

NOWHERE = "postgresql://127.0.0.1:1/none"  # nothing listens on port 1
SETTINGS: dict[str, Any] = {"sweep_enabled": False, "engine_timeout_seconds": 8}


def archived(home: Home) -> int:
    """The archive's position; 0 before there is one."""
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(f"file:{home.archive}?mode=ro", uri=True)) as found,
    ):
        return int(found.execute("SELECT max(sequence) FROM positions").fetchone()[0] or 0)
    return 0


def metric(gateway: Gateway, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", gateway.get("/metrics").body.decode(), re.MULTILINE)
    assert found, name
    return float(found[1])


def sell(gateway: Gateway, units: int) -> str:
    """Makes a SKU and sells it, a hold and a commit a unit."""
    sku = gateway.stock(units)
    for _ in range(units):
        done(gateway.verb(gateway.reserve(sku, 1), "commit", {}))
    return sku


def test_it_is_kept_while_the_service_serves(home: Home) -> None:
    service = home.serve(**SETTINGS, ledger_entries_kept=5)
    sku = sell(service.gateway, 20)
    entries = service.gateway.entries(sku=sku)
    assert len(entries) == 41
    eventually(lambda: metric(service.gateway, "lastunit_archive_lag_entries") == 0)
    eventually(lambda: metric(service.gateway, "lastunit_ledger_dropped_entries") >= len(entries) - 5)
    assert home.client().xlen(Keyspace(1).partitions[0].ledger) == 5
    assert service.gateway.entries(sku=sku) == entries, "the ledger is read where it is"
    assert metric(service.gateway, "lastunit_archived_entries") >= len(entries)
    assert metric(service.gateway, "lastunit_archive_stalled_seconds") < 1
    assert metric(service.gateway, "lastunit_archive_ahead_entries") == 0
    assert service.terminate() == 0


def test_a_service_that_ends_has_archived_everything(home: Home) -> None:
    service = home.serve(**SETTINGS)
    last = service.gateway.entries(sku=sell(service.gateway, 30))[-1]["sequence"]
    assert service.terminate() == 0
    assert archived(home) == last
    assert '"event": "archive_ended"' in home.stderr
    again = service.again()
    assert len(again.gateway.entries()) == last
    assert again.terminate() == 0


def test_an_archiver_that_dies_is_started_again(home: Home) -> None:
    service = home.serve("--workers", "2", **SETTINGS)
    sell(service.gateway, 2)
    eventually(lambda: archived(home) > 0)
    home.kill_process(home.archiver_pids[-1])
    last = service.gateway.entries(sku=sell(service.gateway, 2))[-1]["sequence"]
    eventually(lambda: archived(home) == last)
    assert len(service.worker_pids) == 2
    assert service.terminate() == 0
    assert home.stderr.count('"event": "archiver_died"') == 1


def test_it_outlives_the_engine(home: Home) -> None:
    service = home.serve(**SETTINGS)
    sell(service.gateway, 2)
    eventually(lambda: archived(home) > 0)
    home.kill_engine()
    eventually(lambda: service.gateway.get("/readyz").status == 200)
    last = service.gateway.entries(sku=sell(service.gateway, 2))[-1]["sequence"]
    eventually(lambda: archived(home) == last)
    assert len(home.archiver_pids) == 1
    assert service.terminate() == 0


def test_beyond_the_lag_nothing_new_is_held_and_everything_is_given_back(home: Home) -> None:
    service = home.serve(**SETTINGS, archive_url=NOWHERE, archive_lag_entries_max=6)
    gateway = service.gateway
    sku = gateway.stock(10)
    held = [gateway.reserve(sku, 1) for _ in range(6)]
    answers = (gateway.post("reservations", {"sku": sku, "agent_id": "a"}) for _ in itertools.count())
    answer = eventually(lambda: next((found for found in itertools.islice(answers, 1) if found.status == 429), None))
    assert answer is not None
    assert refused(answer, 429, "backpressure")["retryable"]
    assert int(answer.headers["retry-after"]) >= 1
    done(gateway.verb(held[0], "extend", {"additional_seconds": 1}))
    done(gateway.verb(held[1], "payment", {}))
    done(gateway.verb(held[2], "release", {}))
    done(gateway.verb(held[3], "commit", {}))
    done(gateway.verb(held[3], "cancel", {}))
    assert metric(gateway, "lastunit_archive_lag_entries") >= 7
    eventually(lambda: metric(gateway, "lastunit_archive_stalled_seconds") > 0.3)
    assert home.stderr.count('"event": "archive_behind"') == 1
    eventually(lambda: '"event": "archive_interrupted"' in home.stderr)
    assert service.terminate() == 0

    service = home.serve(**SETTINGS, archive_lag_entries_max=6)  # with an archive that works
    eventually(lambda: service.gateway.post("reservations", {"sku": sku, "agent_id": "a"}).status == 201)
    assert service.terminate() == 0


def test_an_archive_that_is_turned_off(home: Home) -> None:
    service = home.serve(**SETTINGS, archive_url="")
    sku = sell(service.gateway, 3)
    assert len(service.gateway.entries(sku=sku)) == 7
    assert home.archiver_pids == []
    assert service.terminate() == 0
    assert not home.archive.exists()


def test_engines_that_are_served_from_one_directory_have_archives_of_their_own(home: Home) -> None:
    with engines.running(engines.chosen()[0]) as engine:
        service = home.serve("--redis-url", engine.url, **SETTINGS, ledger_entries_kept=5)
        sell(service.gateway, 3)
        assert service.terminate() == 0
        verified = home.command("ledger", "verify", "--redis-url", engine.url)
        assert (verified.returncode, "All 7 entries" in verified.stdout) == (0, True), "two of them are archived only"
    service = home.serve(**SETTINGS)
    last = service.gateway.entries(sku=sell(service.gateway, 1))[-1]["sequence"]
    assert service.terminate() == 0
    assert archived(home) == last
    assert '"event": "archive_interrupted"' not in home.stderr


def test_an_engine_that_lost_what_the_archive_has_is_not_served(home: Home) -> None:
    service = home.serve(**SETTINGS)
    last = service.gateway.entries(sku=sell(service.gateway, 3))[-1]["sequence"]
    assert service.terminate() == 0
    with closing(sqlite3.connect(home.archive)) as connection, connection:
        connection.execute("UPDATE positions SET sequence = sequence + 1")
    process = home.launch("--port", "0", settings=SETTINGS)
    assert process.wait(20) == 1
    assert f"ends at {last}, but the archive has entry {last + 1}" in home.stderr
