import pytest

from app.domain.types import Sku
from tests.scripts.partition import DAY_MS, TTL_US, Partition
from tests.virtual_clock import SECOND_US

WINDOW_US = 2 * SECOND_US


def test_commit_sells_all_that_is_held(partition: Partition) -> None:
    partition.stock("A", 5)
    partition.stock("B", 5)
    token = partition.hold("A", 2, "B", 1)
    reply = partition("commit", token=token, order_id="order-1")
    assert (reply.status, reply.state, reply.order_id) == ("committed", "committed", "order-1")
    assert reply.lines == "A\t2\t0\nB\t1\t0"
    assert reply.sequence == str(partition.sequence)
    assert partition.balances("A") == (5, 0, 2, 0)
    assert partition.balances("B") == (5, 0, 1, 0)
    assert partition.client.exists(partition.keys.deadlines, partition.keys.holds(Sku("A"))) == 0
    assert 31 * DAY_MS - 10_000 < partition.ttl_ms(token) <= 31 * DAY_MS, "as long as its order"


def test_a_committed_unit_never_comes_back_by_itself(partition: Partition) -> None:
    partition.stock("A", 1)
    partition("commit", token=partition.hold("A", 1))
    partition.clock.advance_us(100 * TTL_US)
    assert partition("reserve", "A", 1).status == "out_of_stock"


def test_what_is_not_sold_goes_back(partition: Partition) -> None:
    for sku in ("A", "B", "C"):
        partition.stock(sku, 5)
    token = partition.hold("A", 3, "B", 2, "C", 1)
    before = partition.sequence
    reply = partition("commit", "C", 1, "A", 2, token=token)
    assert reply.lines == "A\t2\t0\nC\t1\t0"
    assert [partition.balances(sku) for sku in "ABC"] == [(5, 0, 2, 0), (5, 0, 0, 0), (5, 0, 1, 0)]
    entries = partition.entries(after=before)
    assert [(entry["type"], entry["sku"], entry["quantity"]) for entry in entries] == [
        ("reservation.committed", "A", "2"),
        ("reservation.committed", "C", "1"),
        ("reservation.released", "A", "1"),
        ("reservation.released", "B", "2"),
    ]
    assert {entry["command"] for entry in entries} == {str(before + 1)}


def test_units_promised_beyond_stock_go_back_first(partition: Partition) -> None:
    partition.stock("A", 3, backorder_limit=2)
    token = partition.hold("A", 5, allow_backorder=1)
    reply = partition("commit", "A", 4, token=token)
    assert reply.lines == "A\t4\t1"
    assert partition.balances("A") == (3, 0, 4, 1)


@pytest.mark.parametrize(
    ("first", "again", "status"),
    [
        ((), (), "unchanged"),
        ((), ("A", 2, "B", 1), "unchanged"),
        (("B", 1, "A", 2), (), "unchanged"),
        (("A", 1), ("A", 1), "unchanged"),
        (("A", 1), (), "ended"),
        (("A", 1), ("A", 2), "ended"),
        (("A", 1), ("A", 1, "B", 1), "ended"),
        ((), ("A", 2), "ended"),
        ((), ("A", 2, "C", 1), "ended"),
    ],
)
def test_commit_again(partition: Partition, first: tuple[object, ...], again: tuple[object, ...], status: str) -> None:
    partition.stock("A", 5)
    partition.stock("B", 5)
    token = partition.hold("A", 2, "B", 1)
    committed = partition("commit", *first, token=token, order_id="order-1")
    before = partition.snapshot()
    reply = partition("commit", *again, token=token, order_id="another")
    assert reply.status == status
    assert reply.same_as(committed, but=("status", "details"))
    assert partition.snapshot() == before


@pytest.mark.parametrize("lines", [("A", 3), ("A", 1, "C", 1), ("C", 1)])
def test_more_than_is_held_is_not_sold(partition: Partition, lines: tuple[object, ...]) -> None:
    partition.stock("A", 5)
    partition.stock("C", 5)
    token = partition.hold("A", 2)
    before = partition.snapshot()
    assert partition("commit", *lines, token=token).status == "quantity_exceeds"
    assert partition.snapshot() == before


def test_no_unit_is_sold_that_a_count_took_away(partition: Partition) -> None:
    partition.stock("A", 3)
    held, paying, last = (partition.hold("A", 1) for _ in range(3))
    partition("payment", token=paying)
    partition("adjust", mode="count", amount=0)
    answers = [partition("commit", token=token).status for token in (held, paying, last)]
    assert answers == ["ended", "shortfall", "ended"]
    partition("adjust", amount=1)
    assert partition("commit", token=paying).status == "committed"
    assert partition.balances("A") == (1, 0, 1, 0)


def test_a_sale_that_was_promised_beyond_stock_is_no_shortfall(partition: Partition) -> None:
    partition.stock("A", 1, backorder_limit=1)
    assert partition("commit", token=partition.hold("A", 2, allow_backorder=1)).status == "committed"


def test_commit_is_in_time_until_the_deadline(partition: Partition) -> None:
    partition.stock("A", 2)
    early, late = partition.hold("A", 1), partition.hold("A", 1)
    partition.clock.advance_us(TTL_US - 1)
    assert partition("commit", token=early).status == "committed"
    partition.clock.advance_us(1)
    reply = partition("commit", token=late)
    assert (reply.status, reply.state) == ("ended", "expired")
    assert partition.balances("A") == (2, 0, 1, 0)


@pytest.mark.parametrize("verb", ["release", "cancel"])
def test_commit_of_what_has_ended(partition: Partition, verb: str) -> None:
    partition.stock("A", 2)
    token = partition.hold("A", 1)
    if verb == "cancel":
        partition("commit", token=token)
    ended = partition(verb, token=token)
    reply = partition("commit", token=token)
    assert (reply.status, reply.state) == ("ended", ended.state)


class TestReconciliationWindow:
    def test_units_stay_reserved_until_it_is_over(self, partition: Partition) -> None:
        partition.stock("A", 2, reconciliation_hold_us=WINDOW_US)
        token = partition.hold("A", 1)
        partition.clock.advance(1)
        reply = partition("commit", token=token)
        assert (reply.status, reply.state) == ("committed", "pending_reconciliation")
        assert reply.expires_us == str(partition.clock.now_us + WINDOW_US)
        assert partition.balances("A") == (2, 1, 0, 0)

        partition.clock.advance_us(WINDOW_US - 1)
        assert partition("read", token=token).state == "pending_reconciliation"
        assert partition.ttl_ms(token) == -1
        partition.clock.advance_us(1)
        assert partition("read", token=token).state == "committed"
        assert 30 * DAY_MS - 10_000 < partition.ttl_ms(token) <= 30 * DAY_MS
        assert partition.balances("A") == (2, 0, 1, 0)
        assert [entry["type"] for entry in partition.entries(after=3)] == [
            "reservation.reconciling",
            "reservation.committed",
        ]

    def test_it_is_the_longest_of_the_lines(self, partition: Partition) -> None:
        partition.stock("A", 2)
        partition.stock("B", 2, reconciliation_hold_us=WINDOW_US)
        partition.stock("C", 2, reconciliation_hold_us=WINDOW_US + 1)
        reply = partition("commit", token=partition.hold("A", 1, "B", 1, "C", 1))
        assert reply.expires_us == str(partition.clock.now_us + WINDOW_US + 1)

    def test_what_is_not_sold_goes_back_at_once(self, partition: Partition) -> None:
        partition.stock("A", 2, reconciliation_hold_us=WINDOW_US)
        partition.stock("B", 1)
        token = partition.hold("A", 2, "B", 1)
        partition("commit", "A", 1, token=token)
        assert partition.balances("A") == (2, 1, 0, 0)
        assert partition.balances("B") == (1, 0, 0, 0)
        assert partition.client.exists(partition.keys.holds(Sku("B"))) == 0
        partition.clock.advance_us(WINDOW_US)
        assert partition("availability", sku="A").committed == "1"

    def test_it_cannot_be_extended_released_or_cancelled(self, partition: Partition) -> None:
        partition.stock("A", 2, reconciliation_hold_us=WINDOW_US)
        token = partition.hold("A", 1)
        partition("commit", token=token)
        for verb in ("extend", "payment", "release", "cancel"):
            reply = partition(verb, token=token)
            assert (reply.status, reply.state) == ("ended", "pending_reconciliation")
        assert partition("commit", token=token).status == "unchanged"

    def test_a_late_retry_of_the_reserve_still_has_the_first_deadline(self, partition: Partition) -> None:
        partition.stock("A", 2, reconciliation_hold_us=WINDOW_US)
        first = partition("reserve", "A", 1, fingerprint="f")
        partition("commit")
        again = partition("reserve", "A", 1, fingerprint="f")
        assert (again.status, again.state) == ("replayed", "pending_reconciliation")
        assert again.expires_us == first.expires_us
