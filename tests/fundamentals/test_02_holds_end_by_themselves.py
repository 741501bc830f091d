"""Chapter 2. An agent that forgets its hold harms nobody: at the deadline the unit is back.

No timer has to fire for that. Whoever asks next, asks a script that looks at the clock first.
"""

import time

import httpx


def test_the_unit_is_back_at_the_deadline(shop: httpx.Client) -> None:
    """The refusal says when the next unit may come back. An agent that waits until then gets it."""
    shop.post("/skus/CLOCK/adjustments", json={"delta": 1, "reason": "delivery"})
    wish = {"sku": "CLOCK", "ttl_seconds": 2}
    forgotten = shop.post("/reservations", json={"agent_id": "forgetful", **wish}).json()

    refused = shop.post("/reservations", json={"agent_id": "patient", **wish}).json()
    advice = refused["lines"][0]["advice"]
    assert advice["action"] == "retry_after"
    assert advice["next_release_at"] == forgotten["expires_at"]

    time.sleep(advice["retry_after_ms"] / 1000)
    assert shop.post("/reservations", json={"agent_id": "patient", **wish}).status_code == 201

    # Too late is too late: a hold is committed, released or expired, and only one of the three.
    late = shop.post(f"/reservations/{forgotten['token']}/commit")
    assert (late.status_code, late.json()["code"]) == (410, "reservation_expired")


def test_an_agent_that_needs_longer_says_so(shop: httpx.Client) -> None:
    """`additional_seconds` counts from the deadline, `ttl_seconds` from now; a deadline never moves back."""
    shop.post("/skus/WATCH/adjustments", json={"delta": 1, "reason": "delivery"})
    held = shop.post("/reservations", json={"sku": "WATCH", "agent_id": "slow", "ttl_seconds": 20}).json()

    longer = shop.post(f"/reservations/{held['token']}/extend", json={"additional_seconds": 10}).json()
    assert longer["ttl_seconds"] == 30
    not_shorter = shop.post(f"/reservations/{held['token']}/extend", json={"ttl_seconds": 5}).json()
    assert not_shorter["expires_at"] == longer["expires_at"]


def test_an_agent_that_changed_its_mind_gives_the_unit_back(shop: httpx.Client) -> None:
    """Release does not wait for the deadline. A second time it changes nothing, and says so in the same words."""
    shop.post("/skus/BELL/adjustments", json={"delta": 1, "reason": "delivery"})
    held = shop.post("/reservations", json={"sku": "BELL", "agent_id": "fickle", "ttl_seconds": 60}).json()

    for _ in range(2):
        released = shop.post(f"/reservations/{held['token']}/release")
        assert (released.status_code, released.json()["status"]) == (200, "released")
    assert shop.get("/skus/BELL/availability").json()["available_quantity"] == 1
