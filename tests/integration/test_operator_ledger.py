"""`lastunit ledger`: the proof beside a running service, what it names where something is wrong, a lost engine anew."""

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.store.keys import Keyspace
from tests.commands import refusal, said, sell, selling
from tests.gateway import Gateway, done
from tests.service import Home
from tests.webhooks import SOURCES, deliver
from tests.webhooks import said as said_of

pytestmark = pytest.mark.archived

PROVED = re.compile(r"All ([\d,]+) entries replay without a gap to exactly the live state\.")


# verify


def test_a_service_that_sells_is_proved(home: Home) -> None:
    service = home.serve()
    sku = service.gateway.stock(1_000_000)
    sell(service.gateway, sku)
    with selling(service.gateway, sku) as answered:
        for _ in range(3):
            before = len(answered)
            proved = PROVED.fullmatch(said(home.command("ledger", "verify")))
            assert proved
            assert int(proved[1].replace(",", "")) > 2 * before
            assert len(answered) > before, "it was sold meanwhile"


def test_data_without_a_service_are_proved(home: Home) -> None:
    service = home.serve()
    sell(service.gateway, service.gateway.stock())
    assert service.terminate() == 0
    assert said(home.command("ledger", "verify")).startswith("All ")


def test_a_record_that_was_tampered_with_is_named(home: Home) -> None:
    gateway = home.serve().gateway
    sku = gateway.stock()
    first, second = gateway.reserve(sku), gateway.reserve(sku)
    key = Keyspace(1).partitions[0].reservation(second["token"])
    home.is_damaged_on_purpose = True
    home.client().hset(key, "status", "released")
    command = home.command("ledger", "verify")
    assert (command.returncode, command.stderr) == (1, "")
    assert f"sequence {second['sequence']} of partition 0" in command.stdout
    assert key in command.stdout
    assert first["token"] not in command.stdout


def test_of_two_differences_the_first_is_named(home: Home) -> None:
    gateway = home.serve().gateway
    skus = [gateway.stock() for _ in range(2)]
    held = [gateway.reserve(sku) for sku in skus]
    keys = Keyspace(1).partitions[0]
    home.is_damaged_on_purpose = True
    for reservation in reversed(held):
        home.client().hset(keys.reservation(reservation["token"]), "agent", "another")
    command = home.command("ledger", "verify")
    assert command.returncode == 1
    assert f"sequence {held[0]['sequence']} of" in command.stdout


def test_an_archived_entry_that_was_tampered_with_is_named(home: Home) -> None:
    service = home.serve(ledger_entries_kept=1)
    sku = service.gateway.stock()
    held = service.gateway.reserve(sku, 2)
    sell(service.gateway, sku)
    assert service.terminate() == 0
    assert said(home.command("ledger", "verify")).startswith("All ")
    with closing(sqlite3.connect(home.data_dir / "archive.sqlite")) as archive, archive:
        archive.execute("UPDATE entries SET quantity = 1 WHERE sequence = ?", (held["sequence"],))
    command = home.command("ledger", "verify")
    assert command.returncode == 1
    assert f"They differ first at sequence {held['sequence']} of partition 0: " in command.stdout


def test_a_directory_without_data_is_not_made_one(home: Home) -> None:
    assert "has no data of Lastunit" in refusal(home.command("ledger", "verify"))
    assert not home.data_dir.exists()


# rebuild


def lose_engine(home: Home) -> None:
    shutil.rmtree(home.data_dir / "appendonlydir")


def hear(gateway: Gateway, *skus: str, delivery_id: str) -> dict[str, Any]:
    """The warehouse receives two of each; what is said of the delivery."""
    answer = done(deliver(gateway, "wms", said_of("receive", *((sku, 2) for sku in skus)), delivery_id=delivery_id))
    return {"status": answer["status"], "sequences": [row["sequence"] for row in answer["results"]]}


@pytest.mark.parametrize("kept", [1, 100_000])
def test_a_lost_engine_is_rebuilt_from_the_archive(home: Home, kept: int) -> None:
    service = home.serve(ledger_entries_kept=kept, sources=SOURCES)
    sku = service.gateway.stock(100)
    body = {"sku": sku, "agent_id": "agent", "ttl_seconds": 600}
    held = done(service.gateway.post("reservations", body, idempotency_key="key"), 201)
    sell(service.gateway, sku)
    heard = hear(service.gateway, sku, delivery_id="of-before")
    before = service.gateway.availability(sku), service.gateway.entries()
    assert service.terminate() == 0
    lose_engine(home)

    rebuilt = said(home.command("ledger", "rebuild", settings={"ledger_entries_kept": kept}))
    assert f"Rebuilt from {before[0]['sequence']:,} entries" in rebuilt
    assert said(home.command("ledger", "verify")).startswith(f"All {before[0]['sequence']:,} entries ")
    service = home.serve(ledger_entries_kept=kept, sources=SOURCES)
    assert hear(service.gateway, sku, delivery_id="of-before") == {**heard, "status": "duplicate"}
    after = service.gateway.availability(sku), service.gateway.entries()
    for found in (before, after):
        for name in ("as_of", "next_release_at"):
            found[0].pop(name)
    assert after == before
    again = service.gateway.post("reservations", body, idempotency_key="key")
    assert again.headers["idempotent-replayed"] == "true"
    assert done(again, 201)["token"] == held["token"]
    assert service.gateway.reserve(sku)["sequence"] == before[0]["sequence"] + 1
    assert len(home.client().keys("*")) > 0


def test_only_an_empty_engine_is_rebuilt(home: Home) -> None:
    service = home.serve()
    assert "is in use by another lastunit" in refusal(home.command("ledger", "rebuild"))
    service.gateway.stock()
    assert service.terminate() == 0
    assert "rebuild into an empty engine" in refusal(home.command("ledger", "rebuild"))
    assert said(home.command("ledger", "verify")).startswith("All 1 entries")


def test_an_archive_that_contradicts_itself_is_not_rebuilt(home: Home) -> None:
    service = home.serve()
    sku = service.gateway.stock()
    sell(service.gateway, sku)
    assert service.terminate() == 0
    lose_engine(home)
    with closing(sqlite3.connect(home.data_dir / "archive.sqlite")) as archive, archive:
        archive.execute("UPDATE entries SET reserved = reserved + 1 WHERE sequence = 3")
    assert "ledger entry 3 says that reserved is" in refusal(home.command("ledger", "rebuild"))
    with closing(sqlite3.connect(home.data_dir / "archive.sqlite")) as archive, archive:
        archive.execute("UPDATE entries SET reserved = reserved - 1 WHERE sequence = 3")
    assert said(home.command("ledger", "rebuild")).startswith("Rebuilt from ")


def test_without_an_archive_there_is_nothing_to_rebuild_from(home: Home) -> None:
    assert "There is no archive to rebuild from" in refusal(home.command("ledger", "rebuild"))


# rebuild for another number of partitions


@pytest.fixture
def other(home: Home) -> Path:
    """Where to rebuild to."""
    return home.data_dir.with_name("other")


def test_partitions_are_dealt_out_anew(home: Home, other: Path) -> None:
    service = home.serve(sources=SOURCES)
    stocked = [service.gateway.stock() for _ in range(6)]
    for sku in stocked:
        sell(service.gateway, sku)
    hear(service.gateway, *stocked, delivery_id="of-before")
    basket = {"lines": [{"sku": sku, "quantity": 1} for sku in stocked], "agent_id": "agent", "ttl_seconds": 600}
    sold, shipped = (done(service.gateway.post("reservations", basket), 201) for _ in range(2))
    for each in (sold, shipped):
        done(service.gateway.verb(each, "commit"))
    ship = said_of("ship", *((sku, 1) for sku in stocked), reference=shipped["token"])
    done(deliver(service.gateway, "wms", ship, delivery_id="of-the-parcel"))
    held = [service.gateway.reserve(sku, ttl_seconds=600) for sku in stocked]
    before = {sku: service.gateway.availability(sku) for sku in stocked}
    assert service.terminate() == 0

    more = said(home.command("ledger", "rebuild", "--from", str(home.data_dir), "--partitions", "3", data_dir=other))
    assert "set partitions (LASTUNIT_PARTITIONS) to 3. Idempotency-Keys of before are forgotten" in more
    assert "set partitions" in refusal(home.command("ledger", "verify", data_dir=other))
    three = {"partitions": 3}
    assert said(home.command("ledger", "verify", settings=three, data_dir=other)).startswith("All ")

    home.data_dir.rename(home.data_dir.with_name("before"))
    other.rename(home.data_dir)
    gateway = home.serve(**three, sources=SOURCES).gateway
    assert hear(gateway, *stocked, delivery_id="of-before")["status"] == "duplicate"
    assert done(deliver(gateway, "wms", ship, delivery_id="of-the-parcel"))["status"] == "duplicate"
    for sku, found in before.items():
        after = gateway.availability(sku)
        for name in ("on_hand_quantity", "available_quantity", "reserved_quantity", "committed_quantity"):
            assert after[name] == found[name]
        sell(gateway, sku)
    for reservation in held:
        done(gateway.verb(reservation, "commit"))
    assert (gateway.read(sold)["status"], gateway.read(shipped)["status"]) == ("committed", "fulfilled")
    assert said(home.command("ledger", "verify", settings=three)).startswith("All ")


def test_a_live_basket_is_not_torn_apart(home: Home, other: Path) -> None:
    service = home.serve()
    stocked = [service.gateway.stock() for _ in range(6)]
    basket = {"lines": [{"sku": sku, "quantity": 1} for sku in stocked], "agent_id": "agent", "ttl_seconds": 600}
    held = done(service.gateway.post("reservations", basket), 201)
    assert service.terminate() == 0
    to_three = ("ledger", "rebuild", "--from", str(home.data_dir), "--partitions", "3")
    sentence = refusal(home.command(*to_three, data_dir=other))
    assert held["token"] in sentence
    assert all(sku in sentence for sku in stocked)
    service = home.serve()
    done(service.gateway.verb(held, "release"))
    assert service.terminate() == 0
    assert said(home.command(*to_three, data_dir=other)).startswith("Rebuilt from ")


def test_an_archive_of_other_numbers_is_not_continued(home: Home) -> None:
    service = home.serve()
    service.gateway.stock()
    assert service.terminate() == 0
    lose_engine(home)
    assert "name a new archive" in refusal(home.command("ledger", "rebuild", "--partitions", "2"))
    assert said(home.command("ledger", "rebuild")).startswith("Rebuilt from 1 entries")
