"""A disk that is full, and a ledger's file that was cut off."""

import asyncio
import random
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from app.domain.entries import Entry
from app.projections.rebuild import verify
from app.settings import load_settings
from app.store.engine import open_engine
from app.store.store import make_store
from tests.archiving import entries_of as stored_entries
from tests.faults.conftest import Measure
from tests.faults.disks import small_disk
from tests.faults.proof import BACK_COMMANDS, BACK_SECONDS_MAX, entries_of, heals, prove
from tests.faults.shop import Shop
from tests.gateway import refused
from tests.service import Home, Service, eventually, paused

CUTS = 8
HALF = 0.5
FULL_SECONDS_MAX = 60.0


def test_a_full_disk(home: Home, measure: Measure, chance: random.Random) -> None:
    """The engine rather ends than acknowledge what it cannot keep; with room all goes on, and nothing is lost."""
    home.data_dir.mkdir()
    with small_disk(home.data_dir, megabytes=1) as fill:
        service = home.serve()
        gateway, enlarge = service.gateway, fill(home.engine["pid"])
        with Shop(gateway, chance) as shop:
            brief = shop.hold_briefly(gateway)
            eventually(lambda: "engine_died" in home.stderr, seconds_max=FULL_SECONDS_MAX)
            enlarge()
            heals(shop, gateway, brief)
            shop.advances(measure.commands, seconds_max=measure.seconds_max)
        assert {answer.json["code"] for answer in shop.answers(503)} <= {"outcome_unknown", "ledger_unavailable"}
        prove(home, shop, gateway)
        assert service.terminate() == 0


def sold(home: Home, measure: Measure, chance: random.Random) -> tuple[Service, list[Entry]]:
    """A service that has sold, and its ledger."""
    service = home.serve()
    with Shop(service.gateway, chance) as shop:
        shop.advances(measure.commands, seconds_max=measure.seconds_max)
    prove(home, shop, service.gateway)
    if home.archive.exists():
        home.await_archive()
    return service, entries_of(home)[0]


def cut_off(data_dir: Path, share: float) -> None:
    """Takes this share, from its end, of the file that the ledger is in."""
    (path,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    with path.open("r+b") as file:
        file.truncate(round(path.stat().st_size * (1 - share)))


def test_a_torn_file_is_read_to_its_last_whole_command(
    home: Home, measure: Measure, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home.data_dir.parent))
    service, entries = sold(home, measure, chance)
    service.kill()
    home.kill_engine()

    async def examine(data_dir: Path) -> list[Entry]:
        settings = load_settings({"data_dir": data_dir})
        with open_engine(settings) as engine:
            async with make_store(settings, engine.url) as store:
                assert (await verify(store)).difference is None
                return await stored_entries(store)

    ends = {0, *(before.sequence for before, after in pairwise(entries) if before.command != after.command)}
    lengths = []
    for number in range(CUTS):
        copy = home.data_dir.with_name(f"cut-{number}")
        shutil.copytree(home.data_dir, copy)
        cut_off(copy, chance.random())
        left = asyncio.run(examine(copy))
        assert left == entries[: len(left)]
        assert len(left) in ends, "the first entries of a command and not the others"
        lengths.append(len(left))
    print(f"of {len(entries)} entries stayed {sorted(lengths)}")
    cut_off(home.data_dir, HALF)
    back = service.again()
    assert '"engine_data_truncated"' in home.stderr
    with Shop(back.gateway, chance) as shop:
        shop.advances(BACK_COMMANDS, seconds_max=BACK_SECONDS_MAX)


@pytest.mark.archived
def test_a_torn_file_is_refused_where_the_archive_knows_more(
    home: Home, measure: Measure, chance: random.Random
) -> None:
    service, _ = sold(home, measure, chance)
    service.kill()
    home.kill_engine()
    cut_off(home.data_dir, HALF)
    home.is_damaged_on_purpose = True
    again = home.launch("--port", "0")
    assert again.wait(FULL_SECONDS_MAX) == 1
    assert "but the archive has entry" in home.stderr


def test_a_torn_file_is_refused_by_a_gateway_that_has_seen_more(
    home: Home, measure: Measure, chance: random.Random
) -> None:
    service, _ = sold(home, measure, chance)
    with paused(service.process.pid):
        home.kill_engine()
        cut_off(home.data_dir, HALF)
    home.is_damaged_on_purpose = True
    eventually(lambda: "rolled back" in service.gateway.get("/readyz").json.get("detail", ""))
    answer = service.gateway.post("reservations", {"sku": "sku-1", "agent_id": "agent"})
    refused(answer, 503, "ledger_unavailable")
