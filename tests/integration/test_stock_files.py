"""Stock goes in as a file and comes out as one: by the command, over HTTP, on a service that runs or none."""

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
import unicodedata
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import RedisError

from app.domain.outcomes import Imported
from app.domain.types import Sku
from app.projections.rebuild import verify
from app.settings import load_settings
from app.store.store import Store, make_store
from app.workflows.stock_files.columns import DEGRADED_POLICIES
from app.workflows.stock_files.exporting import export_stock
from app.workflows.stock_files.importing import ImportInterrupted, import_stock
from app.workflows.stock_files.tables import HEADER
from tests.conftest import OpenStore
from tests.engines import Engine
from tests.gateway import Answer, Gateway, done, refused
from tests.service import ROOT, Home, eventually

FIXTURES = Path(__file__).parent
HEAD = "sku,location_id,on_hand"
CSV = [("Content-Type", "text/csv")]
KIND = load_settings().kind_of
MIBS_MAX = 128
ROWS = 1_000_000
TOO_MUCH = "the SKU would have more than 1000000000000 units on hand"


def lastunit(home: Home, *args: str) -> "subprocess.CompletedProcess[str]":
    """What the command says, on the home's data directory."""
    return subprocess.run(
        [sys.executable, "-m", "app", *args, "--data-dir", str(home.data_dir)],
        cwd=ROOT,
        env=os.environ | {"XDG_RUNTIME_DIR": str(home.data_dir.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


def written(path: Path, *lines: str) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return str(path)


def post(gateway: Gateway, content: str | bytes, headers: list[tuple[str, str]] = CSV) -> Answer:
    return gateway.send("POST", "stock/import", content.encode() if isinstance(content, str) else content, headers)


async def put_in(store: Store, text: str) -> Imported:
    return await import_stock(store, io.BytesIO(text.encode()), kind_of=KIND)


async def taken_out(store: Store) -> str:
    file = io.StringIO()
    await export_stock(store, file)
    return file.getvalue()


# The command


def test_a_flower_shop_opens(home: Home, samples_dir: Path | None) -> None:
    """What the command put in while nothing ran, the service sells."""
    path = samples_dir / "ucp" / "inventory.csv" if samples_dir else FIXTURES / "flower_shop.csv"
    imported = lastunit(home, "stock", "import", str(path))
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert (imported.returncode, imported.stdout) == (
        0,
        f"{len(rows)} rows are as the file says; {len(rows)} of them changed something.\n",
    )
    gateway = home.serve().gateway
    for row in rows:
        units = int(row["quantity"])
        assert gateway.availability(row["product_id"])["available_quantity"] == units
        if units:
            gateway.reserve(row["product_id"], units)
        refused(
            gateway.post("reservations", {"sku": row["product_id"], "agent_id": "late"}),
            409,
            "out_of_stock",
            lines=list,
        )


def test_amazons_summaries_sell(home: Home, samples_dir: Path | None) -> None:
    name = "fbaInventory.getInventorySummaries.200.0.json"
    path = samples_dir / "amazon-sp-api" / name if samples_dir else FIXTURES / "inventory_summaries.json"
    gateway = home.serve().gateway
    assert lastunit(home, "stock", "import", str(path)).returncode == 0
    answer = msgspec.json.decode(path.read_bytes())
    payload = answer.get("response", answer)["payload"]
    for summary in payload["inventorySummaries"]:
        details, sku = summary["inventoryDetails"], summary["sellerSku"]
        found = done(gateway.get(f"skus/{sku.replace(' ', '%20')}/availability"))
        assert found["available_quantity"] == details["fulfillableQuantity"]
        assert [each["location_id"] for each in found["locations"]] == [payload["granularity"]["granularityId"]]
        assert found["incoming_quantity"] == sum(units for name, units in details.items() if name.startswith("inbound"))
        if details["fulfillableQuantity"]:
            assert gateway.verb(gateway.reserve(sku, details["fulfillableQuantity"]), "commit").status == 200


def test_a_command_uses_the_engine_of_the_service_that_runs(home: Home, tmp_path: Path) -> None:
    service = home.serve()
    engine = home.engine
    assert lastunit(home, "stock", "import", written(tmp_path / "in.csv", HEAD, "A,east,5")).returncode == 0
    assert service.gateway.availability("A")["on_hand_quantity"] == 5
    service.gateway.reserve("A", 2)
    exported = lastunit(home, "stock", "export", str(tmp_path / "out.csv"))
    assert (exported.returncode, exported.stdout) == (0, f"1 SKUs are in {tmp_path / 'out.csv'}.\n")
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith("A,east,5,")
    assert home.engine == engine, "neither replaced nor ended"
    assert service.gateway.availability("A")["available_quantity"] == 3


def test_a_wrong_row_anywhere_and_nothing_is_applied(home: Home, tmp_path: Path) -> None:
    good = [f"SKU-{number},main,1" for number in range(500)]
    path = written(tmp_path / "in.csv", HEAD, *good, "B,main,-1")
    failed = lastunit(home, "stock", "import", path)
    assert failed.returncode == 1
    assert failed.stderr.endswith(
        "lastunit: line 502, column on_hand: must be a whole number from 0 to 1000000000000, in digits alone.\n"
    )
    lastunit(home, "stock", "export", str(tmp_path / "out.csv"))
    assert (tmp_path / "out.csv").read_text().splitlines() == [",".join(HEADER)]


def test_files_that_cannot_be_used(home: Home, tmp_path: Path) -> None:
    missing = lastunit(home, "stock", "import", str(tmp_path / "none.csv"))
    assert (missing.returncode, "cannot be read (No such file or directory)" in missing.stderr) == (1, True)
    nowhere = lastunit(home, "stock", "export", str(tmp_path / "none" / "out.csv"))
    assert (nowhere.returncode, "cannot be written (No such file or directory)" in nowhere.stderr) == (1, True)


def test_an_export_that_fails_leaves_the_file_as_it_was(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("before")
    failed = lastunit(home, "stock", "export", str(path), "--redis-url", f"unix://{tmp_path}/none")
    assert (failed.returncode, path.read_text()) == (1, "before")
    assert list(tmp_path.iterdir()) == [path]


async def test_an_import_that_broke_off_is_finished_by_repeating_it(home: Home) -> None:
    """The engine is killed as soon as the first rows are applied; the service starts it anew."""
    home.serve()
    text = "".join(f"SKU-{number:05d},main,{number}\n" for number in range(5000))
    steps: list[str] = []

    def on_progress(step: str, done: int, total: int) -> None:
        if step == "apply" and "apply" not in steps:
            home.kill_engine()
        steps.append(step)

    file = io.BytesIO(f"{HEAD}\n{text}".encode())
    async with make_store(load_settings(), home.engine["url"]) as store:
        with pytest.raises(ImportInterrupted, match="rows are applied: import the file again, which completes it"):
            await import_stock(store, file, kind_of=KIND, on_progress=on_progress)
    await asyncio.to_thread(eventually, lambda: does_answer(home))
    async with make_store(load_settings(), home.engine["url"]) as store:
        imported = await put_in(store, f"{HEAD}\n{text}")
        assert imported.rows == 5000
        assert 0 < imported.changed < 5000, "what was applied stayed"
        assert (await put_in(store, f"{HEAD}\n{text}")).changed == 0


def does_answer(home: Home) -> bool:
    try:
        with home.client() as client:
            return bool(client.ping())
    except RedisError:
        return False


# Over HTTP


def test_a_file_is_posted(gateway: Gateway) -> None:
    one, other = uuid.uuid4().hex, uuid.uuid4().hex
    content = f"{HEAD},safety_stock,next_restock_date\r\n{one},east,5,1,2030-01-31\r\n{one},west,2,,\r\n{other},,,,\r\n"
    assert done(post(gateway, content)) == {"rows": 3, "changed": 3}
    found = gateway.availability(one)
    assert (found["on_hand_quantity"], found["available_quantity"], found["next_restock_date"]) == (7, 6, "2030-01-31")
    assert gateway.availability(other)["on_hand_quantity"] == 0
    assert done(post(gateway, content)) == {"rows": 3, "changed": 0}
    kinds = [(entry["type"], entry["source"], entry["reason"] or "") for entry in gateway.entries(sku=one)]
    assert kinds == [("sku.updated", "operator", ""), *[("stock.adjusted", "operator", "import")] * 2]


@pytest.mark.parametrize(
    "headers", [[("Content-Type", f"text/csv{rest}")] for rest in ("; charset=utf-8", ";header=present")]
)
def test_content_types(gateway: Gateway, headers: list[tuple[str, str]]) -> None:
    assert done(post(gateway, HEAD, headers)) == {"rows": 0, "changed": 0}


@pytest.mark.parametrize(
    "headers", [[], [("Content-Type", "application/json")], [("Content-Type", "text/csv; charset=latin-1")]]
)
def test_other_content_types(gateway: Gateway, headers: list[tuple[str, str]]) -> None:
    refused(post(gateway, HEAD, headers), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("content", "field", "message"),
    [
        (b"", "", "the file is empty: its first line must name the columns sku, location_id, on_hand"),
        (b"sku,on_hand\n", "line 1", "must name the columns, separated by commas; missing: location_id"),
        (f"{HEAD}\ngood,main,1\nA,main,c4n4ry\n".encode(), "line 3, column on_hand", "must be a whole number"),
        (f"{HEAD}\ngood,main,5\nc4n4ry\xff,main,1".encode("latin-1"), "line 3", "is not UTF-8"),
        (f"{HEAD}\ngood,main,5\nB,main,5\ngood,main,6\n".encode(), "line 4", "has sku and location_id of line 2"),
        (f"{HEAD}\ngood,,\ngood,,\n".encode(), "line 3", "has sku and location_id of line 2"),
        (
            f"{HEAD},lead_time_days\ngood,east,5,1\ngood,west,5,2\n".encode(),
            "line 3, column lead_time_days",
            "is another than in line 2, which has the same sku",
        ),
        (
            f"{HEAD}\ngood,east,{10**12}\ngood,west,1\n".encode(),
            "line 3",
            TOO_MUCH,
        ),
        (
            (f"{HEAD}\n" + "".join(f"good,l{number:03d},1\n" for number in range(300))).encode(),
            "line 203",
            "the SKU would lie at more locations than a SKU may",
        ),
    ],
)
def test_a_wrong_file_is_422_and_nothing_happens(gateway: Gateway, content: bytes, field: str, message: str) -> None:
    good = uuid.uuid4().hex
    content = content.replace(b"good", good.encode())
    problem = refused(post(gateway, content), 422, "validation_failed")
    assert [(error["field"], error["message"].startswith(message)) for error in problem["errors"]] == [(field, True)]
    assert "c4n4ry" not in str(problem)
    refused(gateway.get(f"skus/{good}/availability"), 404, "sku_not_found")


def test_what_the_ledger_would_refuse_is_known_before_anything_is_applied(gateway: Gateway) -> None:
    full, new = gateway.stock(10**12), uuid.uuid4().hex
    problem = refused(post(gateway, f"{HEAD}\n{new},main,1\n{full},east,1\n"), 422, "validation_failed")
    assert problem["errors"] == [{"field": "line 3", "message": TOO_MUCH}]
    refused(gateway.get(f"skus/{new}/availability"), 404, "sku_not_found")


def test_a_file_over_the_bound_is_413(gateway: Gateway) -> None:
    content = f"{HEAD}\n" + f"{'x' * 120},main,1\n" * 40_000
    refused(post(gateway, content), 413, "body_too_large")


def test_what_an_import_takes_away_is_voided(gateway: Gateway) -> None:
    sku = gateway.stock(5)
    reservation = gateway.reserve(sku, 5)
    done(post(gateway, f"{HEAD}\n{sku},main,4\n"))
    assert gateway.read(reservation)["status"] == "voided"


# There and back


names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12).map(str.strip).filter(bool)
ids = st.one_of(st.sampled_from(["A", "B/1", 'quote"d', "com,ma", "Gr\u00fcn"]), names)
units = st.integers(0, 10**9)
cells = st.fixed_dictionaries(
    {},
    optional={
        "safety_stock": units.map(str),
        "safety_stock_percent": st.integers(0, 10_000).map(lambda points: f"{points / 100:.2f}"),
        "backorder_limit": units.map(str),
        "low_stock_threshold": units.map(str),
        "max_quantity_per_reservation": st.integers(1, 10**6).map(str),
        "lead_time_days": st.integers(0, 3650).map(str),
        "next_restock_date": st.dates().map(str),
        "incoming_quantity": units.map(str),
        "category": names,
        "substitutes": st.lists(names, min_size=1, max_size=3).map(json.dumps),
        "variant_group": names,
        "channel_limits": st.dictionaries(names, units, min_size=1, max_size=3).map(json.dumps),
        "degraded_policy": st.sampled_from(DEGRADED_POLICIES),
        "reconciliation_hold_seconds": st.integers(0, 60_000).map(lambda ms: f"{ms / 1000:.3f}"),
    },
)
catalogues = st.dictionaries(
    ids.map(partial(unicodedata.normalize, "NFC")),
    st.tuples(st.dictionaries(ids.map(partial(unicodedata.normalize, "NFC")), units, max_size=3), cells),
    max_size=8,
)


@given(catalogue=catalogues, partitions=st.sampled_from([1, 3]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_import_export_import_gives_the_same(engine: Engine, catalogue: dict[str, Any], partitions: int) -> None:
    file = io.StringIO()
    writer = csv.DictWriter(file, HEADER, restval="")
    writer.writeheader()
    for sku, (locations, policy) in catalogue.items():
        for location, on_hand in locations.items() or [("", "")]:
            writer.writerow({"sku": sku, "location_id": location, "on_hand": on_hand, **policy})

    async def through(text: str) -> str:
        """What comes out of an empty engine that this was put into; a second time it changes nothing."""
        engine.client.flushall()
        async with make_store(load_settings({"partitions": partitions}), engine.url) as store:
            await put_in(store, text)
            exported = await taken_out(store)
            assert (await put_in(store, exported)).changed == 0
            assert (await put_in(store, text)).changed == 0
            verdict = await verify(store)
            assert verdict.difference is None
            return exported

    first = asyncio.run(through(file.getvalue()))
    assert asyncio.run(through(first)) == first
    rows = [(row["sku"], row["location_id"], row["on_hand"]) for row in csv.DictReader(io.StringIO(first))]
    assert rows == sorted(rows)
    assert set(rows) == {
        (sku, location, str(on_hand))
        for sku, (locations, _) in catalogue.items()
        for location, on_hand in locations.items() or [("", "")]
    }


async def test_what_a_category_says_is_not_the_skus_own(open_store: OpenStore) -> None:
    store = await open_store()
    for keys in store.keyspace.partitions:
        await store.commands.put_category(keys, "flowers", {"backorder_limit": "7"})
    await put_in(store, f"{HEAD},category\nrose,main,5,flowers\n")
    (row,) = csv.DictReader(io.StringIO(await taken_out(store)))
    assert (row["category"], row["backorder_limit"]) == ("flowers", "")


async def test_a_refusal_while_applying_says_that_rows_are_applied(open_store: OpenStore) -> None:
    """The ledger moved between the check and the row."""
    store = await open_store()
    text = f"{HEAD}\n" + "".join(f"{sku},main,1\n" for sku in ("A", "B"))
    planted: list[asyncio.Task[object]] = []

    def on_progress(step: str, done: int, total: int) -> None:
        if (step, done) == ("check", total):
            adjust = store.commands.adjust(
                Sku("B"), location_id="east", mode="count", amount=10**12, reason="meanwhile"
            )
            planted.append(asyncio.create_task(adjust))

    with pytest.raises(ImportInterrupted, match=f"line 3: {TOO_MUCH}; at least 0 of 2 rows are applied"):
        await import_stock(store, io.BytesIO(text.encode()), kind_of=KIND, on_progress=on_progress)
    await asyncio.gather(*planted)


# Bounds


READ_AND_SORT = """
import re, sys
from app.workflows.stock_files.staging import Staging
from app.workflows.stock_files.tables import read_table
with open(sys.argv[1], "rb") as file, Staging() as staging:
    staging.add(read_table(file))
    rows = sum(len(group) for group in staging.sort())
print(rows, int(re.search(r"VmHWM:\\s+([0-9]+) kB", open("/proc/self/status").read())[1]) // 1024)
"""


def test_a_million_rows_take_less_memory_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "stock.csv"
    with path.open("w") as file:
        file.write(f"{HEAD},variant_group\n")
        for number in range(ROWS):
            file.write(f"{'SKU-' * 30}{number * 7919 % ROWS:07d},main,5,{'v' * 60}{number % 1000}\n")
    shown = subprocess.check_output([sys.executable, "-c", READ_AND_SORT, str(path)], cwd=ROOT, text=True)
    rows, mibs = map(int, shown.split())
    print(f"{path.stat().st_size / 2**20:.0f} MiB of CSV, {mibs} MiB of memory")
    assert rows == ROWS
    assert mibs < MIBS_MAX < path.stat().st_size / 2**20
