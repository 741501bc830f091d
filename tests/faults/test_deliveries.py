"""Systems outside deliver late, twice and in any order, while processes die: what they said in sum is what stands."""

import http.client
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

from app.domain.types import Sku
from app.domain.updates import Delivery
from tests.faults.conftest import Measure
from tests.faults.proof import BACK_SECONDS_MAX
from tests.gateway import Answer, done
from tests.oracle_truth import Truth
from tests.service import Home, eventually
from tests.simulation.sources import LOCATIONS, OBSERVE, SOURCES, Fact, deliver, kind_of, random_fact
from tests.virtual_clock import START_US
from tests.webhooks import SECRET
from tests.webhooks import deliver as send

CONNECTORS = {"wms": "wms", "erp": "erp", "pos": "pos", "robot": "wms"}
TABLES: dict[str, Any] = {
    name: {
        "connector": connector, "secrets": [SECRET], "priority": SOURCES[name][0].name.lower(),
        "deduct_on": SOURCES[name][1].value,
    }
    for name, connector in CONNECTORS.items()
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "sources": TABLES,
    "locations": {name: {"kind": kind_of(name)} for name in LOCATIONS},
}
SKUS = [Sku(f"sku-{number}") for number in range(60)]
ORDERS = 8  # of a SKU
DELTAS_MAX = 64  # a location keeps so many
DELIVERIES_MAX = 1000  # or a location would have more deltas than that
SENDERS = 4
TWICE, LATE_MAX = 0.3, 60
USED = ("applied", "duplicate", "stale")


def happen(chance: random.Random, deliveries: int) -> list[tuple[Fact, Sku, Delivery]]:
    """What sources say, each counting its own deliveries up, in the order in which it happens."""
    counters = dict.fromkeys(CONNECTORS, 0)
    told: list[tuple[Fact, Sku, Delivery]] = []
    while len(told) < deliveries:
        source, sku = chance.choice(list(CONNECTORS)), chance.choice(SKUS)
        clock = {"wms": counters["wms"]} | {source: counters[source] + 1}
        order_id = f"{sku} order {chance.randrange(ORDERS)}"
        fact = random_fact(chance, source, at_us=len(told), clock=clock, order_id=order_id)
        if fact.kind is not OBSERVE:
            counters[source] += 1
            told.append((fact, sku, deliver(source, f"{source}-{counters[source]}", [fact.line(sku)])))
    return told


def body_of(fact: Fact, sku: Sku) -> dict[str, Any]:
    """A fact as it is sent."""
    occurred_at = datetime.fromtimestamp((START_US + fact.at_us) / 1_000_000, UTC)
    named = {"reference": fact.reference, "to_location_id": fact.to_location_id}
    return {
        "type": fact.kind.value,
        "occurred_at": occurred_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "location_id": fact.location_id,
        "clock": dict(fact.clock),
        "lines": [{"sku": sku, "quantity": fact.quantity}],
        **{name: text for name, text in named.items() if text is not None},
    }


def test_deliveries_while_processes_die(home: Home, measure: Measure, chance: random.Random) -> None:
    told = happen(chance, min(measure.commands, DELIVERIES_MAX))
    truth = Truth([delivery for _, _, delivery in told])
    assert truth.deltas_max <= DELTAS_MAX, "more than a location keeps: choose more SKUs"
    arrivals = [(place + chance.randint(0, LATE_MAX), row) for place, row in enumerate(told)]
    arrivals += [(place + chance.randint(0, 2 * LATE_MAX), row) for place, row in arrivals if chance.random() < TWICE]
    arrivals.sort(key=lambda arrival: arrival[0])
    service = home.serve(**SETTINGS)
    gateway, port = service.gateway, service.gateway.peer[1]
    for sku in SKUS:
        done(gateway("PUT", f"skus/{sku}", {}), 201)
    heard: list[Answer] = []

    def bring(arrival: tuple[int, tuple[Fact, Sku, Delivery]]) -> None:
        """As senders do, until it is taken."""
        _, (fact, sku, delivery) = arrival

        def is_taken() -> bool:
            try:
                answer = send(gateway, delivery.source, body_of(fact, sku), delivery_id=delivery.delivery_id)
            except http.client.HTTPException:
                return False
            heard.append(answer)
            return answer.status == 200

        eventually(is_taken, seconds_max=measure.seconds_max)

    with ThreadPoolExecutor(SENDERS) as pool:
        calls = [pool.submit(bring, arrival) for arrival in arrivals]
        for fault in (home.kill_engine, service.kill, home.kill_engine):
            goal = len(heard) + len(arrivals) // 5
            eventually(partial(lambda goal: len(heard) > goal, goal), seconds_max=measure.seconds_max)
            fault()
            if fault == service.kill:
                service = home.serve(port=port, **SETTINGS)
        for call in calls:
            call.result()
    eventually(lambda: gateway.get("/readyz").status == 200, seconds_max=BACK_SECONDS_MAX)
    assert {answer.status for answer in heard} <= {200, 503}
    assert {answer.json["status"] for answer in heard if answer.status == 200} <= {*USED}
    for sku in {sku for _, sku, _ in told}:
        found = gateway.availability(sku)
        places = {place["location_id"]: place["on_hand_quantity"] for place in found["locations"]}
        expected = truth.on_hand(sku)
        assert {name: units for name, units in places.items() if units} == expected, sku
        on_hand = sum(units for name, units in expected.items() if kind_of(name) == "shared")
        committed = truth.committed(sku)
        assert (found["committed_quantity"], found["available_quantity"]) == (committed, max(0, on_hand - committed)), (
            sku
        )
    taken = [entry for entry in gateway.entries() if entry["delivery_id"]]
    print(f"{len(told)} deliveries, {len(heard)} answers, {len(taken)} entries")
    assert done(gateway.get("admin/dead-letters"))["items"] == []
