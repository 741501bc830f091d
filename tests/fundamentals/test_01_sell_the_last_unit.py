"""Chapter 1. A hundred agents want the same lamp, and there is one.

Stock arrives by an adjustment. An agent reserves: it gets a token, which holds the unit until a deadline, or it is
refused. With the token it commits, and then the unit is sold.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx


def test_one_unit_is_held_once_and_sold_once(shop: httpx.Client) -> None:
    """An operator finds a lamp on the shelf. Two agents want it, and the first to come holds it."""
    shop.post("/skus/LAMP/adjustments", json={"delta": 1, "reason": "found on the shelf"})

    first = shop.post("/reservations", json={"sku": "LAMP", "agent_id": "first", "ttl_seconds": 60})
    second = shop.post("/reservations", json={"sku": "LAMP", "agent_id": "second", "ttl_seconds": 60})
    assert (first.status_code, second.status_code) == (201, 409)
    assert second.json()["code"] == "out_of_stock"

    # A hold takes nothing off the shelf: it only says that the unit is spoken for.
    held = shop.get("/skus/LAMP/availability").json()
    assert (held["on_hand_quantity"], held["reserved_quantity"], held["available_quantity"]) == (1, 1, 0)

    sold = shop.post(f"/reservations/{first.json()['token']}/commit", json={"order_id": "order-1"})
    assert sold.json()["status"] == "committed"

    # Sold is committed. The lamp is on the shelf until somebody carries it out, and available to nobody.
    after = shop.get("/skus/LAMP/availability").json()
    assert (after["on_hand_quantity"], after["committed_quantity"], after["available_quantity"]) == (1, 1, 0)


def test_a_hundred_agents_at_once(shop: httpx.Client) -> None:
    """The check and the change are one script in the engine, so it makes no difference how many come together."""
    shop.post("/skus/LAST-LAMP/adjustments", json={"delta": 1, "reason": "found another one"})

    def reserve(number: int) -> int:
        body = {"sku": "LAST-LAMP", "agent_id": f"agent-{number}", "ttl_seconds": 60}
        return shop.post("/reservations", json=body).status_code

    with ThreadPoolExecutor(max_workers=20) as agents:
        answers = Counter(agents.map(reserve, range(100)))
    assert answers == {201: 1, 409: 99}
