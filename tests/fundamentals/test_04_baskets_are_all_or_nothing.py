"""Chapter 4. A table without its chairs helps nobody: a basket is held whole, or not at all."""

import httpx


def test_one_short_line_holds_nothing(shop: httpx.Client) -> None:
    """The refusal lists only what is short. The tables stay available to everybody else."""
    shop.post("/skus/TABLE/adjustments", json={"delta": 2, "reason": "delivery"})
    shop.post("/skus/CHAIR/adjustments", json={"delta": 3, "reason": "delivery"})
    basket = [{"sku": "TABLE", "quantity": 1}, {"sku": "CHAIR", "quantity": 4}]

    refused = shop.post("/reservations", json={"lines": basket, "agent_id": "host", "ttl_seconds": 60})
    assert refused.status_code == 409
    assert [(line["sku"], line["available_quantity"]) for line in refused.json()["lines"]] == [("CHAIR", 3)]
    assert shop.get("/skus/TABLE/availability").json()["reserved_quantity"] == 0

    shop.post("/skus/CHAIR/adjustments", json={"delta": 1, "reason": "delivery"})
    assert shop.post("/reservations", json={"lines": basket, "agent_id": "host", "ttl_seconds": 60}).status_code == 201


def test_lines_of_one_sku_are_one_wish(shop: httpx.Client) -> None:
    """Two and two are four, and there are three: checked line by line, this basket would have been sold."""
    shop.post("/skus/STOOL/adjustments", json={"delta": 3, "reason": "delivery"})
    twice = [{"sku": "STOOL", "quantity": 2}, {"sku": "STOOL", "quantity": 2}]

    refused = shop.post("/reservations", json={"lines": twice, "agent_id": "host", "ttl_seconds": 60}).json()
    assert [line["requested_quantity"] for line in refused["lines"]] == [4]


def test_a_part_is_sold_and_the_rest_goes_back(shop: httpx.Client) -> None:
    """A commit may name fewer units than are held. A cancel undoes a sale, in parts if need be."""
    shop.post("/skus/PLATE/adjustments", json={"delta": 6, "reason": "delivery"})
    wish = {"sku": "PLATE", "quantity": 6, "agent_id": "host", "ttl_seconds": 60}
    token = shop.post("/reservations", json=wish).json()["token"]

    shop.post(f"/reservations/{token}/commit", json={"lines": [{"sku": "PLATE", "quantity": 4}]})
    plates = shop.get("/skus/PLATE/availability").json()
    assert (plates["committed_quantity"], plates["available_quantity"]) == (4, 2)

    shop.post(f"/reservations/{token}/cancel", json={"lines": [{"sku": "PLATE", "quantity": 1}]})
    plates = shop.get("/skus/PLATE/availability").json()
    assert (plates["committed_quantity"], plates["available_quantity"]) == (3, 3)
