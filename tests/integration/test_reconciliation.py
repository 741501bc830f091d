"""Reconciliation on a real engine: what differs from an authority's word is found, told, and brought to it once."""

import asyncio

import pytest

from app.domain.errors import EngineBusy
from app.domain.outcomes import Done, Held, SkuAnswered
from app.domain.types import Line, Sku
from app.store.drifts import list_drifts
from app.store.leases import Lease
from app.store.ledger import read_entries
from app.store.store import Store
from app.store.updates import apply_delivery
from app.workflows import reconciliation
from app.workflows.reconciliation import Run, reconcile
from tests.conftest import OpenStore
from tests.gateway import TIME, done, refused, shaped
from tests.scripts.deliveries import deliver, kind_of, say
from tests.service import Home, Service
from tests.virtual_clock import SECOND_US, VirtualClock
from tests.webhooks import SECRET, said
from tests.webhooks import deliver as send

AUTHORITIES = {"main": "erp", "EAST": "erp"}
SKU = "A"


async def count(store: Store, units: int, *, at: int, source: str, location: str = "main", sku: str = SKU) -> None:
    update = say("count", units, at=at, source=source, location=location, sku=sku)
    delivery = deliver(update, source=source, delivery_id="")
    (result,) = await apply_delivery(store.commands, store.keyspace, delivery, kind_of=kind_of)
    assert result.status == "applied"


async def on_hand(store: Store, sku: str = SKU) -> dict[str, int]:
    found = await store.commands.availability(Sku(sku))
    assert isinstance(found, SkuAnswered)
    return {location.location_id: location.on_hand for location in found.state.locations}


async def report(store: Store) -> list[tuple[str, str, str, int, int, str]]:
    """Each difference that was found, newest first: where, by whom, how much here and there, and what became of it."""
    records = await list_drifts(store.client, store.keyspace.sources, after=None, limit=100)
    drifts = [record.drift for record in records]
    return [
        (each.sku, each.location_id, each.source, each.ledger_quantity, each.authority_quantity, each.outcome)
        for each in drifts
    ]


def found(run: Run) -> tuple[int, int, int]:
    return run.checked, run.corrected, run.drift_units.total()


async def test_what_differs_is_brought_to_what_the_authority_said(store: Store) -> None:
    for location, units in (("main", 100), ("EAST", 5)):
        await count(store, units, at=1, source="erp", location=location)
    await count(store, 90, at=2, source="wms")  # a scan, which is believed before the ERP's word
    await count(store, 7, at=2, source="wms", location="WEST")  # where nobody is believed before others
    await count(store, 3, at=2, source="wms", sku="B")  # of which the ERP has said nothing
    run = await reconcile(store, AUTHORITIES)
    assert found(run) == (2, 1, 10)
    assert run.drift_units == {"erp": 10}
    assert await on_hand(store) == {"main": 100, "EAST": 5, "WEST": 7}
    assert await report(store) == [("A", "main", "erp", 90, 100, "corrected")]
    assert found(await reconcile(store, AUTHORITIES)) == (2, 0, 0)
    entries = [entry async for _, page in read_entries(store.client, store.keyspace.partitions[0]) for entry in page]
    (corrected,) = [entry for entry in entries if entry.type == "stock.corrected"]
    assert (corrected.quantity, corrected.source, corrected.location_id) == (10, "erp", "main")


async def test_a_hold_that_the_authority_leaves_no_stock_for_is_voided(store: Store) -> None:
    await count(store, 0, at=1, source="erp")
    await count(store, 2, at=2, source="wms")
    held = await store.commands.reserve(
        [Line(Sku(SKU), 2)], agent_id="a", channel="direct", ttl_us=60 * SECOND_US, allow_backorder=False,
        details=None, idempotency=None,
    )  # fmt: skip
    assert isinstance(held, Held)
    assert found(await reconcile(store, AUTHORITIES)) == (1, 1, 2)
    read = await store.commands.read(held.reservation.token)
    assert isinstance(read, Done)
    assert read.reservation.status == "voided"


async def test_what_a_person_said_stands_until_the_authority_says_something_newer(
    store: Store, clock: VirtualClock
) -> None:
    await count(store, 10, at=1, source="erp")
    clock.advance(5)
    await store.commands.adjust(Sku(SKU), location_id="main", mode="count", amount=8, reason="two are broken")
    assert found(await reconcile(store, AUTHORITIES)) == (1, 1, 2)  # its word counts, once
    assert await on_hand(store) == {"main": 10}
    await store.commands.adjust(Sku(SKU), location_id="main", mode="count", amount=8, reason="they really are")
    assert found(await reconcile(store, AUTHORITIES)) == (1, 0, 2)
    assert await on_hand(store) == {"main": 8}
    assert (await report(store))[0] == ("A", "main", "erp", 8, 10, "overridden")
    clock.advance(60)
    await count(store, 9, at=60, source="erp")
    assert found(await reconcile(store, AUTHORITIES)) == (1, 0, 0)
    assert await on_hand(store) == {"main": 9}


async def test_every_sku_is_looked_at_in_every_partition(open_store: OpenStore, clock: VirtualClock) -> None:
    store = await open_store(clock=clock, partitions=3)
    skus = [f"S{number}" for number in range(150)]
    for number, sku in enumerate(skus):
        await count(store, number, at=1, source="erp", sku=sku)
        await count(store, number + 1, at=2, source="wms", sku=sku)
    assert found(await reconcile(store, AUTHORITIES)) == (150, 150, 150)
    assert [await on_hand(store, sku) for sku in skus] == [{"main": number} for number in range(150)]
    places: list[str] = []
    while page := await list_drifts(
        store.client, store.keyspace.sources, after=places[-1] if places else None, limit=40
    ):
        places += [record.place for record in page]
    assert len(set(places)) == 150


async def test_one_run_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await count(store, 1, at=1, source="erp")
    await count(store, 3, at=2, source="wms")
    runs = await asyncio.gather(*(reconcile(store, AUTHORITIES) for _ in range(3)))
    assert sorted(found(run) for run in runs) == [(1, 0, 0), (1, 0, 0), (1, 1, 2)]
    assert await Lease(store.client, store.keyspace.sources.lease("reconciliation")).take()
    monkeypatch.setattr(reconciliation, "TURN_SECONDS_MAX", 0.15)
    with pytest.raises(EngineBusy, match="another reconciliation is on"):
        await reconcile(store, AUTHORITIES)


async def test_without_authorities_nothing_is_compared(store: Store) -> None:
    await count(store, 1, at=1, source="erp")
    assert found(await reconcile(store, {})) == (0, 0, 0)


# Over HTTP

DRIFT = {
    "id": str, "at": TIME, "sku": str, "location_id": str, "source": str, "ledger_quantity": int,
    "authority_quantity": int, "drift": int, "status": str, "sequence": int,
}  # fmt: skip


@pytest.fixture
def service(home: Home) -> Service:
    sources = {name: {"secrets": [SECRET], "unknown_sku": "create"} for name in ("wms", "erp")}
    return home.serve(sources=sources, locations={"WH1": {"authority": "erp"}}, reconciliation_interval_seconds=0)


def test_an_operator_reconciles_and_reads_what_differed(service: Service) -> None:
    gateway = service.gateway.hold_to_its_word()
    for source, units in (("erp", 40), ("wms", 45)):
        for sku in ("A", "B"):
            done(send(gateway, source, said("count", (sku, units))))
    assert gateway.availability("A")["on_hand_quantity"] == 45
    run = done(gateway.post("admin/reconciliations"))
    shaped(run, {"id": str, "checked": int, "corrected": int, "drift_units": int})
    assert (run["checked"], run["corrected"], run["drift_units"]) == (2, 2, 10)
    assert gateway.availability("A")["on_hand_quantity"] == 40
    rows = gateway.items("admin/reconciliations", limit=1)
    for row in rows:
        shaped(row, {**DRIFT, "id": run["id"], "location_id": "WH1", "source": "erp"})
        assert (row["ledger_quantity"], row["authority_quantity"], row["drift"]) == (45, 40, 5)
    assert {row["sku"]: row["status"] for row in rows} == {"A": "corrected", "B": "corrected"}
    corrected = {entry["sequence"] for entry in gateway.entries() if entry["type"] == "stock.corrected"}
    assert {row["sequence"] for row in rows} == corrected
    text = gateway.get("/metrics").body.decode()
    assert 'lastunit_drift_units{source="erp"} 10.0' in text
    assert 'lastunit_drifts_total{source="erp",status="corrected"} 2.0' in text
    refused(gateway.post("admin/reconciliations", {"now": True}), 422, "validation_failed")
    refused(gateway.get("admin/reconciliations?cursor=x"), 422, "validation_failed")
