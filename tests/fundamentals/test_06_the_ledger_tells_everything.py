"""Chapter 6. Nobody has to be believed: every change is an entry of the ledger, with the balances after it."""

import httpx

# What an entry of each type does with its quantity: to on_hand, to reserved, to committed.
EFFECTS = {
    "stock.adjusted": (1, 0, 0),
    "reservation.held": (0, 1, 0),
    "reservation.released": (0, -1, 0),
    "reservation.committed": (0, -1, 1),
}


def test_a_life_in_five_entries(shop: httpx.Client) -> None:
    """The whole story of a SKU, in order, each chapter of it written by the command that made it true."""
    shop.post("/skus/VASE/adjustments", json={"delta": 3, "reason": "delivery"})
    wish = {"sku": "VASE", "quantity": 2, "agent_id": "collector", "ttl_seconds": 60, "reference": "cart-9"}
    token = shop.post("/reservations", json=wish).json()["token"]
    shop.post(f"/reservations/{token}/commit", json={"lines": [{"sku": "VASE", "quantity": 1}]})
    shop.post(f"/reservations/{token}/cancel")

    story = shop.get("/ledger", params={"sku": "VASE"}).json()["items"]
    assert [(entry["type"], entry["quantity"], entry["available_quantity"]) for entry in story] == [
        ("stock.adjusted", 3, 3),
        ("reservation.held", 2, 1),
        ("reservation.committed", 1, 1),
        ("reservation.released", 1, 2),
        ("reservation.cancelled", 1, 3),
    ]
    # One commit sold a unit and gave one back: two entries of one command.
    assert story[2]["command_id"] == story[3]["command_id"]
    assert story[1]["data"]["reference"] == "cart-9"


def test_the_quantities_add_up_to_what_is_answered(shop: httpx.Client) -> None:
    """Replay it yourself: the sum of what happened is what the service says there is."""
    shop.post("/skus/BOWL/adjustments", json={"delta": 9, "reason": "delivery"})
    for verb in ("commit", "release", "commit"):
        wish = {"sku": "BOWL", "quantity": 2, "agent_id": "collector", "ttl_seconds": 60}
        shop.post(f"/reservations/{shop.post('/reservations', json=wish).json()['token']}/{verb}")

    on_hand = reserved = committed = 0
    for entry in shop.get("/ledger", params={"sku": "BOWL"}).json()["items"]:
        to_on_hand, to_reserved, to_committed = EFFECTS[entry["type"]]
        on_hand += to_on_hand * entry["quantity"]
        reserved += to_reserved * entry["quantity"]
        committed += to_committed * entry["quantity"]
    said = shop.get("/skus/BOWL/availability").json()
    assert (on_hand, reserved, committed) == (9, 0, 4)
    assert (said["on_hand_quantity"], said["reserved_quantity"], said["committed_quantity"]) == (9, 0, 4)


def test_no_number_is_missing(shop: httpx.Client) -> None:
    """The sequence has no gap, whoever wrote: page through it and count."""
    shop.post("/skus/JUG/adjustments", json={"delta": 1, "reason": "delivery"})
    sequences: list[int] = []
    after = "0"
    while after:
        page = shop.get("/ledger", params={"after": after, "limit": 5}).json()
        sequences += [entry["sequence"] for entry in page["items"]]
        after = page["next_cursor"]
    assert sequences == list(range(1, len(sequences) + 1))
