"""Policy over HTTP beyond one SKU: what categories give, what channels may have."""

import uuid
from typing import Any

import pytest

from tests.gateway import Gateway, done, refused, shaped


def new_name() -> str:
    return f"name-{uuid.uuid4().hex[:12]}"


def policy_of(gateway: Gateway, sku: str, *names: str) -> list[Any]:
    found = done(gateway.get(f"skus/{sku}"))
    return [found[name] for name in names]


# Categories


def test_a_category_says_what_its_skus_do_not(gateway: Gateway) -> None:
    category, defaults = new_name(), {"backorder_limit": 7, "low_stock_threshold": 2, "safety_stock": 1}
    answered = done(gateway("PUT", f"categories/{category}", defaults))
    shaped(answered, {"category": category, "policy": dict, "skus": int})
    assert (answered["policy"], answered["skus"]) == (defaults, 0)
    plain, own = gateway.stock(3, category=category), gateway.stock(3, category=category, backorder_limit=0)
    names = ("category", "backorder_limit", "low_stock_threshold", "safety_stock", "available_quantity")
    assert policy_of(gateway, plain, *names) == [category, 7, 2, 1, 2]
    assert policy_of(gateway, own, *names) == [category, 0, 2, 1, 2]


def test_a_change_of_a_category_reaches_each_of_its_skus(gateway: Gateway) -> None:
    category = new_name()
    skus = [gateway.stock(5, category=category) for _ in range(3)]
    outside = gateway.stock(5)
    before = gateway.availability(skus[0])["sequence"]
    answered = done(gateway("PUT", f"categories/{category}", {"safety_stock": 4, "substitutes": ["OTHER"]}))
    assert answered["skus"] == 3
    for sku in skus:
        assert policy_of(gateway, sku, "safety_stock", "substitutes", "available_quantity") == [4, ["OTHER"], 1]
    assert policy_of(gateway, outside, "safety_stock") == [0]
    assert gateway.availability(skus[0])["sequence"] > before
    done(gateway("PUT", f"categories/{category}", {"backorder_limit": 1}))
    for sku in skus:
        assert policy_of(gateway, sku, "safety_stock", "substitutes", "backorder_limit") == [0, [], 1]


def test_null_lets_the_category_decide_again(gateway: Gateway) -> None:
    category = new_name()
    done(gateway("PUT", f"categories/{category}", {"lead_time_days": 3, "max_quantity_per_reservation": 2}))
    sku = gateway.stock(5, category=category, lead_time_days=9, max_quantity_per_reservation=4)
    names = ("lead_time_days", "max_quantity_per_reservation")
    assert policy_of(gateway, sku, *names) == [9, 4]
    done(gateway("PATCH", f"skus/{sku}", {"lead_time_days": None, "max_quantity_per_reservation": None}))
    assert policy_of(gateway, sku, *names) == [3, 2]
    done(gateway("PATCH", f"skus/{sku}", {"category": None}))
    assert policy_of(gateway, sku, *names) == [None, None]


def test_put_takes_away_what_it_does_not_name(gateway: Gateway) -> None:
    category = new_name()
    done(gateway("PUT", f"categories/{category}", {"backorder_limit": 7}))
    sku = gateway.stock(5, category=category, backorder_limit=1, variant_group="shoes")
    done(gateway("PUT", f"skus/{sku}", {"category": category}))
    assert policy_of(gateway, sku, "backorder_limit", "variant_group") == [7, None]
    done(gateway("PUT", f"skus/{sku}", {}))
    assert policy_of(gateway, sku, "category", "backorder_limit") == [None, 0]


def test_a_category_may_be_named_like_anything(gateway: Gateway) -> None:
    tail = uuid.uuid4().hex
    assert done(gateway("PUT", f"categories/a%2Fb%20%C3%BC{tail}", {}))["category"] == f"a/b ü{tail}"
    sku = gateway.stock(1, category=f"a/b ü{tail}")
    assert done(gateway("PUT", f"categories/a%2Fb%20u%CC%88{tail}", {"lead_time_days": 1}))["skus"] == 1
    assert policy_of(gateway, sku, "lead_time_days") == [1]


# Channels


def reserve(gateway: Gateway, sku: str, quantity: int, channel: str) -> Any:
    body = {"sku": sku, "quantity": quantity, "agent_id": "agent", "channel": channel, "ttl_seconds": 60}
    return gateway.post("reservations", body)


def test_a_channel_has_so_many_units_held_and_sold(gateway: Gateway) -> None:
    sku = gateway.stock(20, channel_limits={"web": 5})
    held = done(reserve(gateway, sku, 2, "web"), 201)
    sold = done(reserve(gateway, sku, 2, "web"), 201)
    done(gateway.verb(sold, "commit"))
    before = gateway.entries(sku=sku)
    detail = refused(reserve(gateway, sku, 2, "web"), 409, "channel_limit_exceeded")["detail"]
    assert "5" in detail
    assert "4" in detail
    assert gateway.entries(sku=sku) == before
    done(reserve(gateway, sku, 9, "direct"), 201)
    done(reserve(gateway, sku, 1, "web"), 201)
    refused(reserve(gateway, sku, 1, "web"), 409, "channel_limit_exceeded")
    done(gateway.verb(held, "release"))
    done(reserve(gateway, sku, 2, "web"), 201)
    done(gateway.verb(sold, "cancel"))
    done(reserve(gateway, sku, 2, "web"), 201)


def test_availability_is_what_the_channel_may_still_have(gateway: Gateway) -> None:
    sku = gateway.stock(20, channel_limits={"web": 5, "none": 0})
    done(reserve(gateway, sku, 2, "web"), 201)

    def available(query: str) -> tuple[int, str, str]:
        found = done(gateway.get(f"skus/{sku}/availability{query}"))
        return found["available_quantity"], found["pressure"], found["advice"]["action"]

    assert available("") == available("?channel=direct") == (18, "normal", "proceed")
    assert available("?channel=web") == (3, "low", "proceed")
    assert available("?channel=none")[:2] == (0, "out")
    done(reserve(gateway, sku, 17, "direct"), 201)
    assert available("?channel=web")[0] == 1


def test_a_limit_below_what_a_channel_has_stops_it_and_takes_nothing_back(gateway: Gateway) -> None:
    sku = gateway.stock(20)
    held = done(reserve(gateway, sku, 6, "web"), 201)
    done(gateway("PATCH", f"skus/{sku}", {"channel_limits": {"web": 2}}))
    refused(reserve(gateway, sku, 1, "web"), 409, "channel_limit_exceeded")
    assert done(gateway.get(f"skus/{sku}/availability?channel=web"))["available_quantity"] == 0
    assert done(gateway.verb(held, "commit"))["status"] == "committed"
    done(gateway("PATCH", f"skus/{sku}", {"channel_limits": {}}))
    done(reserve(gateway, sku, 1, "web"), 201)


def test_a_basket_is_held_whole_or_not_at_all(gateway: Gateway) -> None:
    free, limited = gateway.stock(5), gateway.stock(5, channel_limits={"web": 1})
    lines = [{"sku": free, "quantity": 1}, {"sku": limited, "quantity": 2}]
    body = {"lines": lines, "agent_id": "agent", "channel": "web"}
    refused(gateway.post("reservations", body), 409, "channel_limit_exceeded")
    assert gateway.availability(free)["reserved_quantity"] == 0


@pytest.mark.parametrize(
    "degraded_policy", ["refuse", "assume_out_of_stock", "conservative", "assume_in_stock", "escalate"]
)
def test_a_degraded_policy_is_kept(gateway: Gateway, degraded_policy: str) -> None:
    sku = gateway.stock(1, degraded_policy=degraded_policy)
    assert policy_of(gateway, sku, "degraded_policy") == [degraded_policy]
