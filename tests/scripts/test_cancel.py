import pytest

from tests.scripts.partition import DAY_MS, Partition


@pytest.fixture
def sold(partition: Partition) -> str:
    """The token of three units of A, one of them beyond stock, and one of B, all committed."""
    partition.stock("A", 2, backorder_limit=1)
    partition.stock("B", 2)
    token = partition.hold("A", 3, "B", 1, allow_backorder=1)
    partition("commit", token=token, order_id="order-1")
    return token


def test_cancel_takes_the_whole_sale_back(partition: Partition, sold: str) -> None:
    reply = partition("cancel", token=sold)
    assert (reply.status, reply.state, reply.order_id) == ("cancelled", "cancelled", "order-1")
    assert reply.lines == "A\t3\t0\nB\t1\t0", "none of it waits for stock any more"
    assert reply.availability == "A\t2\t5\nB\t2\t5"
    assert partition.balances("A") == (2, 0, 0, 0)
    assert partition.balances("B") == (2, 0, 0, 0)
    assert 30 * DAY_MS < partition.ttl_ms(sold) <= 31 * DAY_MS, "as long as its order"


def test_cancel_takes_a_part_back_and_then_the_rest(partition: Partition, sold: str) -> None:
    part = partition("cancel", "A", 2, token=sold)
    assert (part.status, part.state, part.lines) == ("cancelled", "committed", "A\t1\t0\nB\t1\t0")
    assert partition.balances("A") == (2, 0, 1, 0)
    assert partition.ttl_ms(sold) > 29 * DAY_MS, "as since it was sold"
    assert partition("cancel", "A", 2, token=sold).status == "quantity_exceeds"
    assert partition("cancel", "B", 1, token=sold).lines == "A\t1\t0"
    assert partition("cancel", "B", 1, token=sold).status == "quantity_exceeds"
    rest = partition("cancel", token=sold)
    assert (rest.state, rest.lines) == ("cancelled", "A\t1\t0")
    assert partition.balances("A") == (2, 0, 0, 0)


def test_units_promised_beyond_stock_are_taken_back_first(partition: Partition, sold: str) -> None:
    partition("cancel", "A", 1, token=sold)
    assert partition.balances("A") == (2, 0, 2, 0)


def test_cancel_again(partition: Partition, sold: str) -> None:
    first = partition("cancel", token=sold)
    before = partition.snapshot()
    again = partition("cancel", token=sold)
    assert again.status == "unchanged"
    assert again.same_as(first, but=("status",))
    assert partition("cancel", "A", 1, token=sold).status == "ended"
    assert partition.snapshot() == before


@pytest.mark.parametrize("state", ["held", "payment_pending", "released"])
def test_what_is_not_sold_is_not_cancelled(partition: Partition, state: str) -> None:
    partition.stock("A", 5)
    token = partition.hold("A", 1)
    if state != "held":
        partition({"payment_pending": "payment", "released": "release"}[state], token=token)
    before = partition.snapshot()
    reply = partition("cancel", token=token)
    assert (reply.status, reply.state) == ("ended", state)
    assert partition.snapshot() == before


def test_a_commit_of_the_same_is_the_same_after_a_part_was_cancelled(partition: Partition, sold: str) -> None:
    partition("cancel", "B", 1, token=sold)
    reply = partition("commit", "A", 3, "B", 1, token=sold)
    assert (reply.status, reply.lines) == ("unchanged", "A\t3\t1")
