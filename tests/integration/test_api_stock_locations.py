"""Locations over HTTP: shared and dedicated ones, transfers between them, and where a sale's units are taken from."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway import Gateway, done, refused, shaped
from tests.service import open_home

# Nearest first: WEST by its priority, NORTH by its lead time; of MAIN nothing is known.
LOCATIONS = {
    "FBA": {"kind": "dedicated"},
    "WEST": {"priority": 1, "lead_time_days": 5},
    "NORTH": {"priority": 2, "lead_time_days": 1},
}
LOCATION = {
    "location_id": str,
    "kind": str,
    "on_hand_quantity": int,
    "available_quantity": int,
    "reserved_quantity": int,
}


@pytest.fixture(scope="module")
def shop() -> Iterator[Gateway]:
    """A service that knows its locations."""
    with open_home(is_archived=True) as home:
        yield home.serve(locations=json.dumps(LOCATIONS), sweep_enabled=False).gateway.hold_to_its_word()


def put(gateway: Gateway, sku: str, **units: int) -> dict[str, Any]:
    """Counts so many units at each location."""
    found: dict[str, Any] = {}
    for location, on_hand in units.items():
        body = {"location_id": location, "on_hand_quantity": on_hand, "reason": "counted"}
        found = done(gateway.post(f"skus/{sku}/adjustments", body))
    return found


def move(gateway: Gateway, sku: str, quantity: int, origin: str, target: str, **headers: str) -> Any:
    body = {"from_location_id": origin, "to_location_id": target, "quantity": quantity, "reason": "moved"}
    return gateway.post(f"skus/{sku}/transfers", body, **headers)


def at(found: dict[str, Any], name: str = "on_hand_quantity") -> dict[str, int]:
    for location in found["locations"]:
        shaped(location, LOCATION)
    return {location["location_id"]: location[name] for location in found["locations"]}


def sell(gateway: Gateway, sku: str, quantity: int) -> dict[str, Any]:
    return done(gateway.verb(gateway.reserve(sku, quantity), "commit"))


def allocate(gateway: Gateway, sold: dict[str, Any], *lines: tuple[str, str, int], **headers: str) -> Any:
    rows = [{"sku": sku, "location_id": location, "quantity": quantity} for sku, location, quantity in lines]
    return gateway.verb(sold, "allocations", {"lines": rows}, **headers)


# Kinds


def test_what_is_dedicated_is_shown_and_never_sold(shop: Gateway) -> None:
    sku = shop.stock(3)
    found = put(shop, sku, FBA=50)
    assert (found["on_hand_quantity"], found["available_quantity"]) == (3, 3)
    assert at(found) == {"FBA": 50, "main": 3}
    assert {each["location_id"]: each["kind"] for each in found["locations"]} == {"FBA": "dedicated", "main": "shared"}
    refused(shop.post("reservations", {"sku": sku, "quantity": 4, "agent_id": "a"}), 409, "out_of_stock", lines=list)
    assert shop.entries(sku=sku)[-1]["data"]["location_kind"] == "dedicated"
    only_there = put(shop, f"{sku}-FBA", FBA=5)
    assert (only_there["available_quantity"], only_there["pressure"]) == (0, "out")


def test_a_location_narrows_what_is_shown(gateway: Gateway) -> None:
    sku = gateway.stock(3)
    put(gateway, sku, EAST=4)
    whole = gateway.availability(sku)
    for location, on_hand in (("EAST", 4), ("main", 3)):
        found = done(gateway.get(f"skus/{sku}/availability?location_id={location}"))
        assert at(found) == {location: on_hand}
        assert found | {"locations": [], "as_of": ""} == whole | {"locations": [], "as_of": ""}
    assert done(gateway.get(f"skus/{sku}/availability?location_id=NOWHERE"))["locations"] == []


# Transfers


def test_a_transfer_is_one_command_of_two_entries(shop: Gateway) -> None:
    sku = shop.stock(10)
    shop.reserve(sku, 9)
    body = {"from_location_id": "main", "to_location_id": "EAST", "quantity": 4, "reason": "moved", "reference": "T-1"}
    answer = shop.post(f"skus/{sku}/transfers", body)
    found = done(answer)
    assert at(found) == {"EAST": 4, "main": 6}
    assert (found["on_hand_quantity"], found["available_quantity"]) == (10, 1)
    out, into = shop.entries(sku=sku)[-2:]
    assert [(entry["type"], entry["location_id"], entry["quantity"]) for entry in (out, into)] == [
        ("stock.transferred", "main", -4),
        ("stock.transferred", "EAST", 4),
    ]
    assert out["command_id"] == into["command_id"]
    assert (into["sequence"], into["reason"], into["data"]["reference"]) == (found["sequence"], "moved", "T-1")
    assert answer.headers["etag"] == f'"{found["sequence"]}"'


def test_a_transfer_to_a_dedicated_location_leaves_what_is_sold(shop: Gateway) -> None:
    sku = shop.stock(10)
    kept, voided = shop.reserve(sku, 4), shop.reserve(sku, 4)
    found = done(move(shop, sku, 5, "main", "FBA"))
    assert (found["on_hand_quantity"], found["available_quantity"], at(found)) == (5, 1, {"FBA": 5, "main": 5})
    assert [shop.read(each)["status"] for each in (kept, voided)] == ["held", "voided"]
    back = done(move(shop, sku, 5, "FBA", "main"))
    assert (back["on_hand_quantity"], back["available_quantity"]) == (10, 6)


def test_a_transfer_moves_what_is_there(shop: Gateway) -> None:
    sku = shop.stock(3)
    before = shop.entries(sku=sku)
    refused(move(shop, sku, 4, "main", "EAST"), 409, "stock_below_zero")
    refused(move(shop, sku, 1, "EAST", "main"), 409, "stock_below_zero")
    refused(move(shop, f"{sku}-unknown", 1, "main", "EAST"), 404, "sku_not_found")
    refused(move(shop, sku, 1, "main", "EAST", if_match='"1"'), 412, "sequence_mismatch")
    assert shop.entries(sku=sku) == before
    etag = shop.get(f"skus/{sku}").headers["etag"]
    done(move(shop, sku, 3, "main", "EAST", if_match=etag))


def test_a_transfer_repeated_with_its_key_moves_once(shop: Gateway) -> None:
    sku = shop.stock(10)
    first = move(shop, sku, 4, "main", "EAST", idempotency_key="transfer-1")
    again = move(shop, sku, 4, "main", "EAST", idempotency_key="transfer-1")
    assert at(done(again)) == at(done(first)) == {"EAST": 4, "main": 6}
    assert (again.headers["idempotent-replayed"], again.json["sequence"]) == ("true", first.json["sequence"])
    assert "idempotent-replayed" not in first.headers
    refused(move(shop, sku, 5, "main", "EAST", idempotency_key="transfer-1"), 422, "idempotency_conflict")


# Allocations


def test_an_allocation_is_in_the_ledger_and_totals_stay(shop: Gateway) -> None:
    sku = shop.stock(10)
    put(shop, sku, EAST=5)
    sold = sell(shop, sku, 7)
    before = shop.availability(sku)
    body = {
        "lines": [
            {"sku": sku, "location_id": "EAST", "quantity": 5},
            {"sku": sku, "location_id": "main", "quantity": 2},
        ],
        "rationale": "one parcel would not do",
    }
    done_with = done(shop.verb(sold, "allocations", body))
    assert done_with["lines"] == sold["lines"]
    found = shop.availability(sku)
    assert at(found, "reserved_quantity") == {"EAST": 5, "main": 2}
    assert at(found, "available_quantity") == {"EAST": 0, "main": 8}
    names = ("on_hand_quantity", "available_quantity", "reserved_quantity", "committed_quantity")
    assert [found[name] for name in names] == [before[name] for name in names]
    entries = shop.entries(token=sold["token"])[-2:]
    assert [(entry["type"], entry["location_id"], entry["quantity"]) for entry in entries] == [
        ("stock.allocated", "EAST", 5),
        ("stock.allocated", "main", 2),
    ]
    assert {entry["data"]["rationale"] for entry in entries} == {"one parcel would not do"}
    assert done_with["sequence"] == entries[-1]["sequence"]


def test_a_decision_is_replaced_by_the_next(shop: Gateway) -> None:
    sku, other = shop.stock(10), shop.stock(10)
    put(shop, sku, EAST=5)
    lines = [{"sku": sku, "quantity": 4}, {"sku": other, "quantity": 1}]
    held = done(shop.post("reservations", {"lines": lines, "agent_id": "a", "ttl_seconds": 60}), 201)
    done(shop.verb(held, "commit"))
    done(allocate(shop, held, (sku, "EAST", 4), (other, "main", 1)))
    done(allocate(shop, held, (sku, "main", 3)))
    assert at(shop.availability(sku), "reserved_quantity") == {"EAST": 0, "main": 3}
    assert at(shop.availability(other), "reserved_quantity") == {"main": 1}
    same = shop.entries(sku=sku)
    done(allocate(shop, held, (sku, "main", 3)))
    assert shop.entries(sku=sku) == same


def test_what_is_cancelled_is_no_longer_allocated(shop: Gateway) -> None:
    sku = shop.stock(10)
    put(shop, sku, EAST=5)
    sold = sell(shop, sku, 7)
    done(allocate(shop, sold, (sku, "EAST", 4), (sku, "main", 3)))
    done(shop.verb(sold, "cancel", {"lines": [{"sku": sku, "quantity": 4}]}))
    assert at(shop.availability(sku), "reserved_quantity") == {"EAST": 3, "main": 0}
    done(shop.verb(sold, "cancel"))
    assert at(shop.availability(sku), "reserved_quantity") == {"EAST": 0, "main": 0}


def test_an_allocation_is_of_what_is_sold_and_there(shop: Gateway) -> None:
    sku = shop.stock(10)
    put(shop, sku, EAST=2, FBA=50)
    sold, held = sell(shop, sku, 5), shop.reserve(sku, 1)
    before = shop.entries(sku=sku)
    refused(allocate(shop, sold, (sku, "main", 6)), 409, "quantity_exceeds_reservation")
    refused(allocate(shop, sold, (shop.stock(1), "main", 1)), 409, "quantity_exceeds_reservation")
    for location, quantity in (("EAST", 3), ("FBA", 1), ("NOWHERE", 1)):
        refused(allocate(shop, sold, (sku, location, quantity)), 409, "stock_below_zero")
    refused(allocate(shop, held, (sku, "main", 1)), 409, "reservation_not_committed")
    refused(allocate(shop, {"token": f"0-{'A' * 22}"}, (sku, "main", 1)), 404, "reservation_not_found")
    assert shop.entries(sku=sku) == before
    other = sell(shop, sku, 1)
    done(allocate(shop, sold, (sku, "EAST", 2)))
    refused(allocate(shop, other, (sku, "EAST", 1)), 409, "stock_below_zero")
    done(shop.verb(sold, "cancel"))
    done(allocate(shop, other, (sku, "EAST", 1)))
    done(shop.verb(other, "cancel"))
    refused(allocate(shop, other, (sku, "EAST", 1)), 409, "reservation_cancelled")


@pytest.mark.parametrize(
    ("strategy", "quantity", "expected"),
    [
        ("most_stock", 5, {"main": 5}), ("most_stock", 11, {"main": 9, "NORTH": 2}),
        ("priority", 4, {"WEST": 4}), ("priority", 5, {"NORTH": 5}), ("priority", 10, {"WEST": 4, "NORTH": 6}),
        ("lead_time", 4, {"NORTH": 4}), ("lead_time", 7, {"main": 7}),
        ("lead_time", 13, {"NORTH": 6, "WEST": 4, "main": 3}),
    ],
)  # fmt: skip
def test_a_strategy_chooses(shop: Gateway, strategy: str, quantity: int, expected: dict[str, int]) -> None:
    """One location that has all of it, the first in order; else several, in order. Never a dedicated one."""
    sku = shop.stock(9)
    put(shop, sku, WEST=4, NORTH=6, FBA=100)
    sold = sell(shop, sku, quantity)
    done(shop.verb(sold, "allocations", {"strategy": strategy}))
    reserved = at(shop.availability(sku), "reserved_quantity")
    assert {location: units for location, units in reserved.items() if units} == expected
    entry = shop.entries(token=sold["token"])[-1]
    assert (entry["type"], entry["data"]["strategy"]) == ("stock.allocated", strategy)


def test_a_strategy_leaves_what_is_decided_for_others(shop: Gateway) -> None:
    sku = shop.stock(3)
    put(shop, sku, EAST=2)
    first, second, third = (sell(shop, sku, quantity) for quantity in (3, 1, 1))
    for sold in (first, second):
        done(shop.verb(sold, "allocations", {"strategy": "most_stock"}))
    assert at(shop.availability(sku), "reserved_quantity") == {"EAST": 1, "main": 3}
    put(shop, sku, EAST=1)
    refused(shop.verb(third, "allocations", {"strategy": "most_stock"}), 409, "stock_below_zero")


def test_a_reservation_is_taken_from_two_hundred_places_at_most(shop: Gateway) -> None:
    skus = [f"SKU-{uuid.uuid4().hex}" for _ in range(2)]
    rows = [f"{sku},l{number},1\n" for sku in skus for number in range(101)]
    content = f"sku,location_id,on_hand\n{''.join(rows)}".encode()
    done(shop.send("POST", "stock/import", content, [("Content-Type", "text/csv")]))
    lines = [{"sku": sku, "quantity": 101} for sku in skus]
    sold = done(shop.post("reservations", {"lines": lines, "agent_id": "agent"}), 201)
    done(shop.verb(sold, "commit"))
    (error,) = refused(shop.verb(sold, "allocations", {"strategy": "priority"}), 422, "validation_failed")["errors"]
    assert error["field"] == "lines"


def test_an_allocation_repeated_with_its_key_is_one(shop: Gateway) -> None:
    sku = shop.stock(10)
    sold = sell(shop, sku, 4)
    first = allocate(shop, sold, (sku, "main", 3), idempotency_key="allocation-1")
    done(allocate(shop, sold, (sku, "main", 1)))
    again = allocate(shop, sold, (sku, "main", 3), idempotency_key="allocation-1")
    assert (done(again)["sequence"], again.headers["idempotent-replayed"]) == (done(first)["sequence"], "true")
    assert at(shop.availability(sku), "reserved_quantity") == {"main": 1}
    refused(allocate(shop, sold, (sku, "main", 2), idempotency_key="allocation-1"), 422, "idempotency_conflict")
