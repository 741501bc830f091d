"""What operators look after: promises beyond stock, and all that waits for a person's decision."""

from collections.abc import Callable
from typing import Any

import pytest

from app.store.keys import Keyspace
from tests.gateway import TIME, Gateway, done, shaped
from tests.service import Home, Service, eventually
from tests.webhooks import deliver, numbers, said

pytestmark = pytest.mark.archived

Archived = Callable[[], None]
BACKORDER = {
    "sku": str,
    "backordered_quantity": int,
    "promised_at": TIME,
    "review_due_at": TIME,
    "is_review_due": bool,
    "token": str,
    "status": str,
    "agent_id": str,
    "channel": str,
    "reference": str | None,
    "order_id": str | None,
    "sequence": int,
}
REVIEW = {
    "kind": str,
    "since": TIME,
    "sku": str | None,
    "token": str | None,
    "channel": str | None,
    "order_id": str | None,
    "quantity": int | None,
    "advice": dict,
}
HOUR_US = 3600 * 1_000_000


@pytest.fixture
def way() -> str:
    """None of these routes is in the table."""
    return "table"


def count(gateway: Gateway, sku: str, units: int) -> None:
    done(gateway.post(f"skus/{sku}/adjustments", {"on_hand_quantity": units, "reason": "counted"}))


def reviews_of(gateway: Gateway, kind: str, **about: str) -> list[dict[str, Any]]:
    found = gateway.items("admin/reviews", limit=100)
    return [item for item in found if item["kind"] == kind and about.items() <= item.items()]


def test_backorders_are_listed_oldest_first_until_stock_covers_them(gateway: Gateway, archived: Archived) -> None:
    sku = gateway.stock(3, backorder_limit=10)
    covered = gateway.reserve(sku, 2, allow_backorder=True)
    first = gateway.reserve(sku, 3, allow_backorder=True, reference="cart-7", channel="web")
    second = gateway.reserve(sku, 4, allow_backorder=True)
    sold = done(gateway.verb(second, "commit", {"order_id": "order-1"}))
    archived()
    found = gateway.items("admin/backorders", sku=sku)
    for item in found:
        shaped(item, {**BACKORDER, "sku": sku, "agent_id": "agent"})
    assert [(item["token"], item["backordered_quantity"]) for item in found] == [
        (first["token"], 2),
        (second["token"], 4),
    ]
    one, other = found
    assert one["promised_at"] == first["created_at"]
    assert (one["review_due_at"], one["is_review_due"]) == (first["review_due_at"], False)
    assert (one["status"], one["reference"], one["channel"], one["order_id"]) == ("held", "cart-7", "web", None)
    assert (other["status"], other["order_id"], other["sequence"]) == ("committed", "order-1", second["sequence"])
    assert sold["lines"] == [{"sku": sku, "quantity": 4, "backordered": 4}]

    count(gateway, sku, 6)
    archived()
    (left,) = gateway.items("admin/backorders", sku=sku)
    assert (left["token"], left["backordered_quantity"]) == (second["token"], 3)
    done(gateway.verb(covered, "release"))
    done(gateway.verb(sold, "cancel", {"lines": [{"sku": sku, "quantity": 1}]}))
    archived()
    assert gateway.items("admin/backorders", sku=sku) == []


def test_backorders_are_paged_by_sku(gateway: Gateway, archived: Archived) -> None:
    made = []
    for _ in range(3):
        sku = gateway.stock(0, backorder_limit=10)
        made += [(sku, gateway.reserve(sku, allow_backorder=True)["sequence"]) for _ in range(3)]
    archived()
    for limit in (1, 2, 1000):
        found = [(item["sku"], item["sequence"]) for item in gateway.items("admin/backorders", limit=limit)]
        assert found == sorted(set(found))
        assert set(made) <= set(found)


def test_a_payment_that_expired_is_reviewed(gateway: Gateway, archived: Archived) -> None:
    sku = gateway.stock(5)
    paying, other = gateway.reserve(sku, ttl_seconds=1), gateway.reserve(sku, ttl_seconds=1)
    paying = done(gateway.verb(paying, "payment", {"ttl_seconds": 1}))
    eventually(lambda: gateway.read(paying)["status"] == gateway.read(other)["status"] == "expired")
    archived()
    (review,) = reviews_of(gateway, "payment_expired", token=paying["token"])
    shaped(review, REVIEW)
    assert review["since"] >= paying["expires_at"]
    assert (review["sku"], review["quantity"], review["advice"]["action"]) == (None, None, "void_payment")
    assert reviews_of(gateway, "payment_expired", token=other["token"]) == []


def test_a_shortfall_that_no_void_can_close_is_reviewed_until_it_is_closed(
    gateway: Gateway, archived: Archived
) -> None:
    sku = gateway.stock(5)
    sold, held = gateway.reserve(sku, 3), gateway.reserve(sku, 2)
    done(gateway.verb(sold, "commit"))
    count(gateway, sku, 1)
    archived()
    (review,) = reviews_of(gateway, "shortfall", sku=sku)
    shaped(review, {**REVIEW, "sku": sku})
    assert (review["token"], review["quantity"], review["advice"]["action"]) == (None, 2, "recount")
    assert gateway.read(held)["status"] == "voided"
    count(gateway, sku, 3)
    archived()
    assert reviews_of(gateway, "shortfall", sku=sku) == []


def test_more_left_than_was_sold_is_reviewed_until_the_sale_is_told(gateway: Gateway, archived: Archived) -> None:
    sku, order_id = gateway.stock(5), f"order-{next(numbers)}"
    order = {"reference": order_id, "channel": "web"}
    tell(gateway, "shop", "sale", sku, 1, **order)
    tell(gateway, "wms", "ship", sku, 3, **order)
    archived()
    (review,) = reviews_of(gateway, "shipped_beyond_sold", sku=sku)
    shaped(review, {**REVIEW, "sku": sku, "channel": "web", "order_id": order_id})
    assert review["advice"]["action"] == "check_shipment"
    assert review["since"] == gateway.entries(sku=sku)[-1]["at"]
    tell(gateway, "shop", "sale", sku, 1, **order)
    archived()
    assert reviews_of(gateway, "shipped_beyond_sold", sku=sku) == [review]  # one is still beyond
    tell(gateway, "shop", "sale", sku, 1, **order)
    archived()
    assert reviews_of(gateway, "shipped_beyond_sold", sku=sku) == []


def test_what_moved_though_it_was_cancelled_is_reviewed_under_the_name_of_its_order(
    gateway: Gateway, archived: Archived
) -> None:
    sku, order_id = gateway.stock(5), f"order-{next(numbers)}"
    sold = gateway.reserve(sku, 2)
    tell(gateway, "shop", "cancel", sku, 2, reference=sold["token"])
    tell(gateway, "shop", "sale", sku, 2, reference=sold["token"])
    tell(gateway, "wms", "pick", sku, 2, reference=sold["token"])
    archived()
    (review,) = reviews_of(gateway, "moved_though_cancelled", sku=sku)
    assert (review["channel"], review["order_id"]) == ("direct", sold["token"])
    assert review["advice"]["action"] == "stop_shipment"
    done(gateway.verb(sold, "commit", {"order_id": order_id}))
    archived()
    assert reviews_of(gateway, "moved_though_cancelled", sku=sku) == [{**review, "order_id": order_id}]
    tell(gateway, "shop", "sale", sku, 2, reference=order_id, channel="direct")
    archived()
    assert reviews_of(gateway, "moved_though_cancelled", sku=sku) == []


def tell(gateway: Gateway, source: str, kind: str, sku: str, quantity: int, **of_order: str) -> None:
    (row,) = done(deliver(gateway, source, said(kind, (sku, quantity), location_id="main", **of_order)))["results"]
    assert row["status"] == "applied"


def test_a_promise_beyond_stock_is_reviewed_after_a_day(home: Home) -> None:
    gateway = home.serve().gateway
    sku = gateway.stock(1, backorder_limit=10)
    sold = done(gateway.verb(gateway.reserve(sku, 3, allow_backorder=True), "commit"))
    for hours, is_due in ((0, False), (23, False), (2, True)):
        pass_time(home, hours)
        gateway.availability(sku)
        home.await_archive()
        (backorder,) = gateway.items("admin/backorders")
        assert (backorder["review_due_at"], backorder["is_review_due"]) == (sold["review_due_at"], is_due), hours
        assert len(reviews_of(gateway, "backorder_due")) == is_due
    (review,) = gateway.items("admin/reviews")
    shaped(review, {**REVIEW, "sku": sku, "token": sold["token"]})
    assert (review["since"], review["quantity"]) == (sold["review_due_at"], 2)
    assert review["advice"]["action"] == "settle_backorder"


def pass_time(home: Home, hours: int) -> None:
    """Sets engine time ahead."""
    home.is_damaged_on_purpose = True
    with home.client() as client:
        client.hincrby(Keyspace(1).partitions[0].meta, "offset_us", hours * HOUR_US)


def test_reviews_of_all_kinds_are_paged_newest_first(service: Service, archived: Archived) -> None:
    gateway = service.gateway
    for _ in range(4):
        sku = gateway.stock(2)
        done(gateway.verb(gateway.reserve(sku, 2), "commit"))
        count(gateway, sku, 0)
    archived()
    whole = gateway.items("admin/reviews", limit=1000)
    assert len(whole) >= 4
    assert [item["since"] for item in whole] == sorted((item["since"] for item in whole), reverse=True)
    for limit in (1, 3):
        assert gateway.items("admin/reviews", limit=limit) == whole
