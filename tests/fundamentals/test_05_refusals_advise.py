"""Chapter 5. "No" is an answer that an agent can act on: it says what would help, the nearest help first."""

from typing import Any

import httpx


def refusal(shop: httpx.Client, sku: str, quantity: int = 1, **wish: object) -> dict[str, Any]:
    """The advice for an agent that wants more than there is."""
    body = {"sku": sku, "quantity": quantity, "agent_id": "eager", "ttl_seconds": 60, **wish}
    answer = shop.post("/reservations", json=body)
    assert answer.status_code == 409
    advice: dict[str, Any] = answer.json()["lines"][0]["advice"]
    return advice


def test_the_advice_is_the_nearest_help(shop: httpx.Client) -> None:
    """Each policy brings help nearer than the one before."""
    shop.post("/skus/BIKE/adjustments", json={"delta": 1, "reason": "delivery"})
    assert refusal(shop, "BIKE", 2) == {"action": "give_up"}

    shop.patch("/skus/BIKE", json={"substitutes": ["SCOOTER"]})
    assert refusal(shop, "BIKE", 2) == {"action": "substitute", "alternatives": ["SCOOTER"]}

    shop.patch("/skus/BIKE", json={"next_restock_date": "2030-05-01"})
    assert refusal(shop, "BIKE", 2) == {"action": "preorder", "next_restock_date": "2030-05-01"}

    shop.patch("/skus/BIKE", json={"backorder_limit": 1})
    assert refusal(shop, "BIKE", 2) == {"action": "backorder"}

    held = shop.post("/reservations", json={"sku": "BIKE", "agent_id": "quick", "ttl_seconds": 60}).json()
    advice = refusal(shop, "BIKE")
    assert (advice["action"], advice["next_release_at"]) == ("retry_after", held["expires_at"])


def test_an_agent_that_takes_the_advice(shop: httpx.Client) -> None:
    """A backorder is a promise beyond stock, made on purpose and up to a limit."""
    shop.put("/skus/BOAT", json={"backorder_limit": 1})
    assert refusal(shop, "BOAT")["action"] == "backorder"

    wish = {"sku": "BOAT", "agent_id": "eager", "ttl_seconds": 60, "allow_backorder": True}
    promised = shop.post("/reservations", json=wish).json()
    assert promised["lines"] == [{"sku": "BOAT", "quantity": 1, "backordered": 1}]
    assert refusal(shop, "BOAT", allow_backorder=True)["action"] == "retry_after"


def test_pressure_is_said_before_it_is_too_late(shop: httpx.Client) -> None:
    """Availability tells how scarce a SKU is: abundant, normal, low, out."""
    pressures = []
    for units in (100, 99, 5, 0):
        shop.post("/skus/OAR/adjustments", json={"on_hand_quantity": units, "reason": "counted"})
        pressures.append(shop.get("/skus/OAR/availability").json()["pressure"])
    assert pressures == ["abundant", "normal", "low", "out"]
