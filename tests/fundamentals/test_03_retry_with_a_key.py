"""Chapter 3. The answer was lost on its way. Did it happen? With a key, an agent need not know: it asks again.

An Idempotency-Key names a request. The first success is remembered, and whoever repeats the request gets it again.
"""

import httpx


def test_a_repeated_reserve_holds_once(shop: httpx.Client) -> None:
    """Both answers are the first one; a header tells them apart."""
    shop.post("/skus/RADIO/adjustments", json={"delta": 5, "reason": "delivery"})
    wish = {"sku": "RADIO", "quantity": 2, "agent_id": "cautious", "ttl_seconds": 60}

    first, again = (shop.post("/reservations", json=wish, headers={"Idempotency-Key": "cart-7"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert shop.get("/skus/RADIO/availability").json()["reserved_quantity"] == 2

    # The key belongs to that request. With another one it is a mistake, and nothing happens.
    other = shop.post("/reservations", json={**wish, "quantity": 3}, headers={"Idempotency-Key": "cart-7"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")


def test_a_refusal_is_decided_afresh(shop: httpx.Client) -> None:
    """A refusal had no effect, so there is nothing to remember: with the same key the agent gets the next unit."""
    shop.post("/skus/TENT/adjustments", json={"on_hand_quantity": 0, "reason": "counted"})
    wish = {"sku": "TENT", "agent_id": "persistent", "ttl_seconds": 60}
    key = {"Idempotency-Key": "a key that is tried until it works"}

    assert shop.post("/reservations", json=wish, headers=key).status_code == 409
    shop.post("/skus/TENT/adjustments", json={"delta": 1, "reason": "delivery"})
    assert shop.post("/reservations", json=wish, headers=key).status_code == 201


def test_a_commit_needs_no_key(shop: httpx.Client) -> None:
    """What is sold is sold: the same commit again deducts nothing, and another one is refused."""
    shop.post("/skus/KITE/adjustments", json={"delta": 3, "reason": "delivery"})
    held = shop.post("/reservations", json={"sku": "KITE", "quantity": 2, "agent_id": "once", "ttl_seconds": 60}).json()
    commit = f"/reservations/{held['token']}/commit"

    assert shop.post(commit).json()["sequence"] == shop.post(commit).json()["sequence"]
    other = shop.post(commit, json={"lines": [{"sku": "KITE", "quantity": 1}]})
    assert (other.status_code, other.json()["code"]) == (409, "reservation_committed")
    assert shop.get("/skus/KITE/availability").json()["committed_quantity"] == 2
