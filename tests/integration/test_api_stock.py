"""Stock over HTTP: availability for agents, adjustments and policy for operators, both conditional on If-Match."""

import uuid
from typing import Any
from urllib.parse import quote

import pytest

from tests.gateway import TIME, Gateway, done, refused, shaped

ADVICE = {"action": "proceed"}
AVAILABILITY = {
    "schema_version": "1.0",
    "sku": str,
    "on_hand_quantity": int,
    "available_quantity": int,
    "reserved_quantity": int,
    "committed_quantity": int,
    "backordered_quantity": int,
    "shortfall_quantity": int,
    "incoming_quantity": int,
    "safety_stock": int,
    "pressure": str,
    "advice": dict,
    "is_backorderable": bool,
    "backorder_limit": int,
    "lead_time_days": int | None,
    "next_restock_date": str | None,
    "next_release_at": str | None,
    "locations": list,
    "sequence": int,
    "as_of": TIME,
    "source": "ledger",
}
POLICY_DEFAULTS: dict[str, Any] = {
    "safety_stock": 0,
    "safety_stock_percent": 0.0,
    "backorder_limit": 0,
    "low_stock_threshold": 5,
    "max_quantity_per_reservation": None,
    "lead_time_days": None,
    "next_restock_date": None,
    "incoming_quantity": 0,
    "substitutes": [],
    "variant_group": None,
    "reconciliation_hold_seconds": 0.0,
    "category": None,
    "channel_limits": {},
    "degraded_policy": "refuse",
}
POLICY: dict[str, Any] = {
    "safety_stock": 3,
    "safety_stock_percent": 0.07,
    "backorder_limit": 4,
    "low_stock_threshold": 0,
    "max_quantity_per_reservation": 1_000_000,
    "lead_time_days": 14,
    "next_restock_date": "2030-02-28",
    "incoming_quantity": 500,
    "substitutes": ["B/1", "Grün"],
    "variant_group": "shoes",
    "reconciliation_hold_seconds": 2.5,
    "category": "footwear",
    "channel_limits": {"web": 0, "Köln": 7},
    "degraded_policy": "assume_in_stock",
}
POLICY_TYPES = {
    "safety_stock_percent": float,
    "low_stock_threshold": int,
    "max_quantity_per_reservation": int | None,
    "substitutes": list,
    "variant_group": str | None,
    "reconciliation_hold_seconds": float,
    "category": str | None,
    "channel_limits": dict,
    "degraded_policy": str,
}
LOCATION = {
    "location_id": str,
    "kind": "shared",
    "on_hand_quantity": int,
    "available_quantity": int,
    "reserved_quantity": int,
}


def new_sku() -> str:
    return f"SKU-{uuid.uuid4().hex}"


def adjust(gateway: Gateway, sku: str, **body: object) -> dict[str, Any]:
    return done(gateway.post(f"skus/{sku}/adjustments", {"reason": "test", **body}))


# Availability


def test_availability_shows_every_quantity(gateway: Gateway) -> None:
    sku = gateway.stock(12, safety_stock=2, backorder_limit=3)
    sold = gateway.reserve(sku, 4)
    done(gateway.verb(sold, "commit"))
    held = gateway.reserve(sku, 7, allow_backorder=True)
    answer = gateway.get(f"skus/{sku}/availability")
    found = done(answer)
    shaped(found, {**AVAILABILITY, "next_release_at": held["expires_at"]})
    names = ("on_hand", "available", "reserved", "committed", "backordered", "shortfall")
    assert [found[f"{name}_quantity"] for name in names] == [12, 0, 7, 4, 1, 0]
    assert (found["safety_stock"], found["pressure"], found["advice"]["action"]) == (2, "out", "retry_after")
    assert found["sequence"] == held["sequence"]
    assert answer.headers["etag"] == f'"{held["sequence"]}"'
    (location,) = found["locations"]
    shaped(location, LOCATION)
    assert (location["location_id"], location["on_hand_quantity"]) == ("main", 12)


def test_batch_answers_in_the_order_asked(gateway: Gateway) -> None:
    a, b, missing = gateway.stock(1), gateway.stock(200), new_sku()
    found = done(gateway.post("availability", {"skus": [missing, b, a, b]}))
    shaped(found, {"items": list, "missing": list})
    assert [(item["sku"], item["pressure"]) for item in found["items"]] == [(b, "abundant"), (a, "low")]
    assert found["missing"] == [missing]
    for item in found["items"]:
        shaped(item, {**AVAILABILITY, "advice": dict})
        assert item["advice"] == ADVICE


def test_batch_of_a_hundred(gateway: Gateway) -> None:
    skus = [gateway.stock(number) for number in range(100)]
    items = done(gateway.post("availability", {"skus": skus}))["items"]
    assert [item["on_hand_quantity"] for item in items] == list(range(100))


def test_unknown_sku(gateway: Gateway) -> None:
    sku = new_sku()
    for answer in (
        gateway.get(f"skus/{sku}/availability"), gateway.get(f"skus/{sku}"), gateway("PATCH", f"skus/{sku}", {}),
    ):  # fmt: skip
        assert sku in refused(answer, 404, "sku_not_found")["detail"]


# Adjustments


def test_adjustments_by_difference_and_by_count(gateway: Gateway) -> None:
    sku = new_sku()
    created = adjust(gateway, sku, delta=5)
    shaped(created, AVAILABILITY)
    counted = adjust(gateway, sku, on_hand_quantity=40, reference="sheet 7")
    taken = adjust(gateway, sku, delta=-2)
    assert [state["on_hand_quantity"] for state in (created, counted, taken)] == [5, 40, 38]
    entries = gateway.entries(sku=sku)
    assert [entry["quantity"] for entry in entries] == [5, 35, -2]
    assert {entry["type"] for entry in entries} == {"stock.adjusted"}
    assert entries[1]["data"]["reference"] == "sheet 7"
    assert (entries[2]["reason"], entries[2]["location_id"], entries[2]["source"]) == ("test", "main", "operator")


def test_locations_make_up_the_sum(gateway: Gateway) -> None:
    sku = new_sku()
    for location, units in (("WEST", 3), ("EAST", 4), ("Köln", 1)):
        adjust(gateway, sku, delta=units, location_id=location)
    found = adjust(gateway, sku, on_hand_quantity=10, location_id="EAST")
    assert found["on_hand_quantity"] == 14
    at = {location["location_id"]: location["on_hand_quantity"] for location in found["locations"]}
    assert at == {"EAST": 10, "Köln": 1, "WEST": 3}
    body = {"delta": -4, "location_id": "WEST", "reason": "test"}
    refused(gateway.post(f"skus/{sku}/adjustments", body), 409, "stock_below_zero")
    assert gateway.availability(sku) | {"as_of": ""} == found | {"as_of": ""}


def test_a_sku_lies_at_so_many_locations_and_no_more(gateway: Gateway) -> None:
    sku = new_sku()
    for number in range(200):
        adjust(gateway, sku, delta=1, location_id=f"L{number}")
    one_more = {"delta": 1, "reason": "test", "location_id": "L200"}
    (error,) = refused(gateway.post(f"skus/{sku}/adjustments", one_more), 422, "validation_failed")["errors"]
    assert error["field"] == "location_id"
    assert adjust(gateway, sku, delta=1, location_id="L0")["on_hand_quantity"] == 201


def test_a_count_below_what_is_promised_is_a_shortfall(gateway: Gateway) -> None:
    sku = gateway.stock(10)
    done(gateway.verb(gateway.reserve(sku, 6), "commit"))
    found = adjust(gateway, sku, on_hand_quantity=4)
    assert (found["available_quantity"], found["shortfall_quantity"]) == (0, 2)


def test_on_hand_has_a_bound(gateway: Gateway) -> None:
    sku = new_sku()
    assert adjust(gateway, sku, on_hand_quantity=10**12)["available_quantity"] == 10**12
    refused(gateway.post(f"skus/{sku}/adjustments", {"delta": 1, "reason": "test"}), 422, "validation_failed")
    other = {"delta": 1, "reason": "test", "location_id": "EAST"}
    refused(gateway.post(f"skus/{sku}/adjustments", other), 422, "validation_failed")


# Policy


def test_put_creates_and_replaces(gateway: Gateway) -> None:
    sku = new_sku()
    created = gateway("PUT", f"skus/{sku}", POLICY)
    found = done(created, 201)
    shaped(found, {**AVAILABILITY, **POLICY_TYPES})
    assert {name: found[name] for name in POLICY} == POLICY
    assert found["on_hand_quantity"] == 0
    assert done(gateway.get(f"skus/{sku}")) | {"as_of": ""} == found | {"as_of": ""}
    replaced = gateway("PUT", f"skus/{sku}", {"backorder_limit": 1})
    found = done(replaced)
    assert {name: found[name] for name in POLICY_DEFAULTS} == POLICY_DEFAULTS | {"backorder_limit": 1}
    assert int(replaced.headers["etag"].strip('"')) > int(created.headers["etag"].strip('"'))
    assert [entry["type"] for entry in gateway.entries(sku=sku)] == ["sku.updated"] * 2


@pytest.mark.parametrize("name", POLICY)
def test_patch_changes_what_is_named(gateway: Gateway, name: str) -> None:
    sku = new_sku()
    done(gateway("PUT", f"skus/{sku}", POLICY), 201)
    found = done(gateway("PATCH", f"skus/{sku}", {name: POLICY_DEFAULTS[name]}))
    assert {name: found[name] for name in POLICY} == POLICY | {name: POLICY_DEFAULTS[name]}


@pytest.mark.parametrize(
    ("on_hand", "units", "percent", "safety_stock"),
    [
        (100, 3, 10, 10), (100, 30, 10, 30), (101, 0, 10, 11), (1, 0, 0.01, 1), (0, 0, 100, 0), (7, 0, 100, 7),
        (10**12, 0, 33.33, 333_300_000_000), (10_000, 0, 0.29, 29), (10_000, 0, 1.15, 115),
    ],
)  # fmt: skip
def test_safety_stock_is_the_larger_and_rounded_up(
    gateway: Gateway, on_hand: int, units: int, percent: float, safety_stock: int
) -> None:
    sku = gateway.stock(on_hand)
    found = done(gateway("PUT", f"skus/{sku}", {"safety_stock": units, "safety_stock_percent": percent}))
    assert found["safety_stock"] == safety_stock
    assert found["available_quantity"] == on_hand - safety_stock


# If-Match

REQUESTS = [
    ("POST", "skus/SKU/adjustments", {"delta": 1, "reason": "test"}),
    ("PUT", "skus/SKU", {"backorder_limit": 1}),
    ("PATCH", "skus/SKU", {"backorder_limit": 1}),
]


@pytest.mark.parametrize(
    ("method", "path", "body"), REQUESTS, ids=lambda value: value if value in ("POST", "PUT", "PATCH") else ""
)
class TestIfMatch:
    def test_moves_only_what_was_looked_at(self, gateway: Gateway, method: str, path: str, body: object) -> None:
        sku = gateway.stock()
        path = path.replace("SKU", sku)
        seen = gateway.get(f"skus/{sku}").headers["etag"]
        moved = gateway(method, path, body, if_match=seen)
        assert done(moved)["sequence"] == int(moved.headers["etag"].strip('"')) > int(seen.strip('"'))
        for stale in (seen, f"W/{moved.headers['etag']}", moved.headers["etag"].strip('"'), '"0"', '""', "", "garbage"):
            refused(gateway(method, path, body, if_match=stale), 412, "sequence_mismatch")
        padded = moved.headers["etag"].replace('"', '"0', 1)
        refused(gateway(method, path, body, if_match=padded), 412, "sequence_mismatch")
        assert gateway.entries(sku=sku)[-1]["sequence"] == moved.json["sequence"]
        done(gateway(method, path, body, if_match="*"))

    def test_finds_nothing_where_nothing_is(self, gateway: Gateway, method: str, path: str, body: object) -> None:
        sku = new_sku()
        for given in ("*", '"1"', "garbage"):
            refused(gateway(method, path.replace("SKU", sku), body, if_match=given), 412, "sequence_mismatch")
        assert gateway.entries(sku=sku) == []


# SKUs in paths


@pytest.mark.parametrize(
    "name",
    [
        "A/1", "A%2F1", "x/availability", "x/adjustments", "100%", "a+b c&d=e?f#g", "..", "Grün", "日本",
        "A;b=1", '"q"', "x" * 110, "%", "%zz", "{sku}", "\\",
    ],
)  # fmt: skip
def test_any_name_survives_a_path(gateway: Gateway, name: str) -> None:
    sku = f"{name}{uuid.uuid4().hex[:8]}"
    path = f"skus/{quote(sku, safe='')}"
    adjusted = done(gateway.post(f"{path}/adjustments", {"delta": 1, "reason": "test"}))
    assert adjusted["sku"] == sku
    assert done(gateway.get(f"{path}/availability"))["sku"] == sku
    assert done(gateway("PUT", path, {"backorder_limit": 1}))["sku"] == sku
    assert done(gateway.get(path))["backorder_limit"] == 1
    assert gateway.reserve(sku)["sku"] == sku
    assert gateway.entries(sku=quote(sku, safe=""))[0]["sku"] == sku


def test_a_sku_is_one_however_it_is_written(gateway: Gateway) -> None:
    tail = uuid.uuid4().hex
    composed, decomposed = f"Grün{tail}", f"Gru\u0308n{tail}"
    assert adjust(gateway, quote(decomposed), delta=2)["sku"] == composed
    assert gateway.availability(quote(composed))["on_hand_quantity"] == 2
    assert gateway.reserve(decomposed)["sku"] == composed
    lines = [{"sku": composed, "quantity": 1}, {"sku": decomposed, "quantity": 1}]
    answer = gateway.post("reservations", {"lines": lines, "agent_id": "agent"})
    assert refused(answer, 409, "out_of_stock", lines=list)["lines"][0]["requested_quantity"] == 2
    assert done(gateway.post("availability", {"skus": [decomposed, composed]}))["missing"] == []
