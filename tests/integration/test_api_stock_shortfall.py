"""A count below what is promised, over HTTP: who is voided, what he sees, and what is left for a person."""

from typing import Any

from tests.gateway import Gateway, done, refused


def count(gateway: Gateway, sku: str, units: int, **headers: str) -> Any:
    return gateway.post(f"skus/{sku}/adjustments", {"on_hand_quantity": units, "reason": "counted"}, **headers)


def statuses(gateway: Gateway, *reservations: dict[str, Any]) -> list[str]:
    return [gateway.read(each)["status"] for each in reservations]


def test_the_newest_holds_are_voided_until_the_rest_is_there(gateway: Gateway) -> None:
    sku = gateway.stock(10)
    first, second, third = (gateway.reserve(sku, units) for units in (4, 3, 2))
    found = done(count(gateway, sku, 6))
    assert statuses(gateway, first, second, third) == ["held", "voided", "voided"]
    assert (found["reserved_quantity"], found["available_quantity"], found["shortfall_quantity"]) == (4, 2, 0)
    adjusted, *voids = gateway.entries(sku=sku)[-3:]
    assert adjusted["type"] == "stock.adjusted"
    assert [(entry["type"], entry["token"], entry["quantity"], entry["reason"]) for entry in voids] == [
        ("reservation.voided", third["token"], 2, "shortfall"),
        ("reservation.voided", second["token"], 3, "shortfall"),
    ]
    assert {entry["command_id"] for entry in voids} == {adjusted["command_id"]}


def test_the_etag_after_voids_is_the_last_sequence(gateway: Gateway) -> None:
    sku = gateway.stock(10)
    gateway.reserve(sku, 9)
    counted = count(gateway, sku, 1)
    last = gateway.entries(sku=sku)[-1]
    assert last["type"] == "reservation.voided"
    assert done(counted)["sequence"] == last["sequence"]
    assert counted.headers["etag"] == f'"{last["sequence"]}"' == gateway.get(f"skus/{sku}").headers["etag"]
    done(count(gateway, sku, 2, if_match=counted.headers["etag"]))


def test_what_its_agent_is_told(gateway: Gateway) -> None:
    sku = gateway.stock(5)
    held = gateway.reserve(sku, 5)
    done(count(gateway, sku, 4))
    found = gateway.read(held)
    assert (found["status"], found["lines"]) == ("voided", held["lines"])
    assert found["sequence"] > held["sequence"]
    for verb, body in (("commit", {}), ("extend", {"ttl_seconds": 5}), ("payment", {})):
        problem = refused(gateway.verb(held, verb, body), 409, "reservation_voided")
        assert "Reserve again" in problem["detail"]
    refused(gateway.verb(held, "cancel"), 409, "reservation_not_committed")
    assert done(gateway.verb(held, "release")) == found
    assert gateway.reserve(sku, 4)["status"] == "held"


def test_a_void_is_of_the_whole_basket(gateway: Gateway) -> None:
    short, other = gateway.stock(5), gateway.stock(5)
    lines = [{"sku": other, "quantity": 2}, {"sku": short, "quantity": 2}]
    held = done(gateway.post("reservations", {"lines": lines, "agent_id": "agent", "ttl_seconds": 60}), 201)
    assert done(count(gateway, short, 1))["sequence"] == gateway.read(held)["sequence"]
    assert gateway.availability(other)["available_quantity"] == 5


def test_what_is_promised_beyond_stock_on_purpose_is_no_shortfall(gateway: Gateway) -> None:
    sku = gateway.stock(3, backorder_limit=10)
    there, beyond = gateway.reserve(sku, 3), gateway.reserve(sku, 4, allow_backorder=True)
    found = done(count(gateway, sku, 2))
    assert statuses(gateway, there, beyond) == ["voided", "held"]
    assert (found["shortfall_quantity"], found["backordered_quantity"], found["available_quantity"]) == (0, 2, 0)


def test_windows_are_voided_after_holds(gateway: Gateway) -> None:
    sku = gateway.stock(6, reconciliation_hold_seconds=60)
    window, held = gateway.reserve(sku, 3), gateway.reserve(sku, 3)
    assert done(gateway.verb(window, "commit"))["status"] == "pending_reconciliation"
    done(count(gateway, sku, 3))
    assert statuses(gateway, window, held) == ["pending_reconciliation", "voided"]
    done(count(gateway, sku, 2))
    assert statuses(gateway, window) == ["voided"]


def test_payments_and_sales_stay_for_a_person(gateway: Gateway) -> None:
    sku = gateway.stock(6)
    sold, paying, held = gateway.reserve(sku, 2), gateway.reserve(sku, 3), gateway.reserve(sku, 1)
    done(gateway.verb(sold, "commit"))
    done(gateway.verb(paying, "payment"))
    found = done(count(gateway, sku, 4))
    assert statuses(gateway, sold, paying, held) == ["committed", "payment_pending", "voided"]
    assert found["shortfall_quantity"] == 1
    problem = refused(gateway.verb(paying, "commit", {"expected_sequence": paying["sequence"]}), 409, "shortfall")
    assert problem["retryable"]
    assert statuses(gateway, paying) == ["payment_pending"]
    done(gateway.post(f"skus/{sku}/adjustments", {"delta": 1, "reason": "found"}))
    assert done(gateway.verb(paying, "commit"))["status"] == "committed"


def test_a_count_repeated_with_its_key_voids_once(gateway: Gateway) -> None:
    sku = gateway.stock(5)
    gateway.reserve(sku, 5)
    first = count(gateway, sku, 4, idempotency_key="count-1")
    kept = gateway.reserve(sku, 4)
    again = count(gateway, sku, 4, idempotency_key="count-1")
    assert (done(again)["sequence"], again.headers["idempotent-replayed"]) == (done(first)["sequence"], "true")
    assert statuses(gateway, kept) == ["held"]


def test_stock_that_arrives_covers_the_oldest_promise_first(gateway: Gateway) -> None:
    sku = gateway.stock(0, backorder_limit=10)
    first, second = gateway.reserve(sku, 3, allow_backorder=True), gateway.reserve(sku, 4, allow_backorder=True)
    assert first["review_due_at"] is not None
    found = done(gateway.post(f"skus/{sku}/adjustments", {"delta": 5, "reason": "came"}))
    assert (found["backordered_quantity"], found["available_quantity"]) == (2, 0)
    lines = [gateway.read(each)["lines"][0]["backordered"] for each in (first, second)]
    assert lines == [0, 2]
    assert gateway.read(first)["review_due_at"] is None
    done(gateway.verb(first, "release"))
    assert gateway.read(second)["lines"][0]["backordered"] == 0
    assert gateway.availability(sku)["available_quantity"] == 1
