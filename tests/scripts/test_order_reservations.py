"""The reservations that are sold into an order follow it: they lose units, they are fulfilled, they are kept."""

from collections import Counter

import pytest

from app.domain.types import Token
from tests.scripts.deliveries import DEDICATED, deliver, say
from tests.scripts.order_records import OTHER, TOKEN, orders, state
from tests.scripts.partition import DAY_MS, Partition
from tests.virtual_clock import SECOND_US

WINDOW_US = 2 * SECOND_US
LINES_MAX = 100  # of the reservations of an order

pytestmark = pytest.mark.usefixtures("forgotten")


class TestSeveralReservations:
    def test_of_one_order_are_fulfilled_together(self, partition: Partition) -> None:
        partition.sell("A", 1, token=TOKEN, order_id="o")
        partition.sell("A", 2, token=OTHER, order_id="o")
        assert partition.balances("A") == (10, 0, 3, 0)
        partition.update("ship", 2, order="o")
        assert [state(partition)[0], state(partition, OTHER)[0]] == ["committed", "committed"]
        partition.update("ship", 1, order="o")
        assert [state(partition)[0], state(partition, OTHER)[0]] == ["fulfilled", "fulfilled"]

    def test_the_last_one_loses_units_first(self, partition: Partition) -> None:
        partition.sell("A", 2, token=TOKEN, order_id="o")
        partition.sell("A", 2, "B", 1, token=OTHER, order_id="o")
        partition.update("cancel", 3, order="o", source="shop")
        assert (state(partition), state(partition, OTHER)) == (("committed", "A1"), ("committed", "B1"))
        assert partition.balances("A") == (10, 0, 1, 0)

    def test_one_that_is_fulfilled_has_its_units(self, partition: Partition) -> None:
        partition.sell("A", 1, token=TOKEN, order_id="o")
        partition.update("ship", 1, order="o")
        partition.sell("A", 2, token=OTHER, order_id="o")
        partition.update("cancel", 1, order="o", source="shop")
        assert partition.balances("A") == (9, 0, 1, 0)
        assert (state(partition), state(partition, OTHER)) == (("fulfilled", "A1"), ("committed", "A1"))
        partition.update("ship", 1, order="o")
        assert state(partition, OTHER) == ("fulfilled", "A1")

    def test_one_of_which_nothing_can_be_taken_back_says_so(self, partition: Partition) -> None:
        partition.sell("A", 1, token=TOKEN, order_id="o")
        partition.sell("B", 1, token=OTHER, order_id="o")
        partition.update("ship", 1, order="o")
        before = partition.snapshot()
        assert partition("cancel", token=TOKEN).status == "quantity_exceeds"
        assert partition.snapshot() == before


class TestFulfilled:
    """What each verb answers then."""

    @pytest.fixture(autouse=True)
    def fulfilled(self, partition: Partition, forgotten: Counter[str]) -> None:
        partition.hold("A", 3, token=TOKEN)
        partition("commit", "A", 2, token=TOKEN, order_id="o")
        partition.update("ship", 2, order="o")

    @pytest.mark.parametrize("verb", ["release", "cancel", "extend", "payment"])
    def test_it_has_ended(self, partition: Partition, verb: str) -> None:
        before = partition.snapshot()
        reply = partition(verb, token=TOKEN)
        assert (reply.status, reply.state) == ("ended", "fulfilled")
        assert partition("allocate", "A", "main", 1, token=TOKEN).status == "ended"
        assert partition.snapshot() == before

    def test_a_commit_of_the_same_lines_gets_the_same_answer(self, partition: Partition) -> None:
        reply = partition("commit", "A", 2, token=TOKEN, order_id="o")
        assert (reply.status, reply.state, reply.lines) == ("unchanged", "fulfilled", "A\t2\t0")
        assert partition("commit", "A", 1, token=TOKEN, order_id="o").status == "ended"
        assert partition("commit", token=TOKEN, order_id="o").status == "ended"

    def test_more_that_is_heard_of_it_changes_no_word_of_it(self, partition: Partition) -> None:
        record = partition.record(TOKEN)
        for kind in ("pick", "ship", "cancel"):
            partition.update(kind, 2, order="o")
        assert partition.record(TOKEN) == record


class TestAllocations:
    def test_what_has_left_is_allocated_no_more(self, partition: Partition) -> None:
        partition.sell("A", 3, token=TOKEN, order_id="o")
        partition("allocate", "A", "main", 3, token=TOKEN)
        before = partition.sequence
        partition.update("ship", 3, order="o")
        assert partition.told(before) == [
            ("stock.shipped", "A", "-3", ""),
            ("reservation.fulfilled", "A", "3", TOKEN),
            ("stock.allocated", "A", "-3", TOKEN),
        ]
        assert partition.locations("A") == {"on_hand main": "7"}

    def test_what_the_order_took_back_neither_the_last_decided_first(self, partition: Partition) -> None:
        partition.update("receive", 5, location="east")
        partition.sell("A", 3, token=TOKEN, order_id="o")
        partition("allocate", "A", "main", 2, "A", "east", 1, token=TOKEN)
        partition.update("cancel", 2, order="o", source="shop")
        assert partition.record(TOKEN)["allocations"] == "A\tmain\t1"
        assert partition.locations("A")["allocated main"] == "1"

    def test_they_may_be_decided_and_taken_back_while_a_part_has_left(self, partition: Partition) -> None:
        partition.sell("A", 3, "B", 1, token=TOKEN, order_id="o")
        partition.update("ship", 1, order="o", sku="B")
        partition.update("ship", 1, order="o")
        assert partition("allocate", "A", "main", 2, token=TOKEN).status == "allocated"
        assert partition("cancel", "A", 1, token=TOKEN).status == "cancelled"
        assert partition.record(TOKEN)["allocations"] == "A\tmain\t2"


class TestWindow:
    @pytest.fixture(autouse=True)
    def sold(self, partition: Partition, forgotten: Counter[str]) -> None:
        partition("put_sku", "reconciliation_hold_us", WINDOW_US)
        partition.hold("A", 3, token=TOKEN)
        partition("commit", token=TOKEN, order_id="o")

    def test_what_is_sold_into_the_order_is_so_when_it_is_over(self, partition: Partition) -> None:
        assert (partition.balances("A"), orders(partition)) == ((10, 3, 0, 0), {})
        partition.clock.advance_us(WINDOW_US)
        assert state(partition) == ("committed", "A3")
        assert (partition.balances("A"), orders(partition)) == ((10, 0, 3, 0), {"o": (3, 0)})

    def test_what_was_heard_meanwhile_holds(self, partition: Partition) -> None:
        partition.update("sale", 3, order="o", source="shop")
        partition.update("ship", 1, order=TOKEN)
        partition.update("cancel", 1, order="o", source="shop")
        assert partition.balances("A") == (9, 3, 1, 0)
        partition.clock.advance_us(WINDOW_US)
        assert state(partition) == ("committed", "A2")
        assert partition.balances("A") == (9, 0, 1, 0)

    def test_it_may_be_shipped_whole_meanwhile(self, partition: Partition) -> None:
        partition.update("ship", 3, order="o")
        partition.clock.advance_us(WINDOW_US)
        assert state(partition) == ("fulfilled", "A3")
        assert partition.balances("A") == (7, 0, 0, 0)

    def test_its_end_may_move_on_another_that_is_asked_about(self, partition: Partition) -> None:
        """The verb that settles it sees what has become of its own reservation."""
        partition.clock.advance_us(WINDOW_US)
        partition("put_sku", "reconciliation_hold_us", WINDOW_US)
        partition.hold("A", 1, token=OTHER)
        partition.update("pick", 4, order="o")
        partition.update("ship", 4, order="o")
        partition("commit", token=OTHER, order_id="o")
        assert state(partition) == ("committed", "A3")
        partition.clock.advance_us(WINDOW_US)
        reply = partition("cancel", "A", 1, token=TOKEN)
        assert (reply.status, reply.state) == ("ended", "fulfilled")


class TestVoids:
    def test_a_sale_told_from_outside_may_leave_holds_without_stock(self, partition: Partition) -> None:
        older, newer = partition.hold("A", 6), partition.hold("A", 4)
        before = partition.sequence
        partition.update("sale", 3, order="o", source="shop")
        assert partition.told(before) == [("stock.sale", "A", "3", ""), ("reservation.voided", "A", "4", newer)]
        assert state(partition, older)[0] == "held"

    def test_a_departure_that_no_sale_explains(self, partition: Partition) -> None:
        token = partition.hold("A", 10)
        partition.update("ship", 1, order="o")
        assert state(partition, token)[0] == "voided"

    def test_a_departure_from_a_dedicated_location_leaves_as_much_to_sell(self, partition: Partition) -> None:
        token = partition.hold("A", 10)
        partition.update("ship", 1, order="o", location=DEDICATED)
        assert state(partition, token)[0] == "held"
        assert partition.balances("A") == (10, 10, 0, 0)

    def test_a_correction(self, partition: Partition) -> None:
        """The units that are known as sold by now had left long ago."""
        partition.sell("A", 1, token=TOKEN, order_id="o")
        partition.update("ship", 3, order="o")
        token = partition.hold("A", 9)
        before = partition.sequence
        partition.update("sale", 2, order="o", source="shop")
        assert [row[0] for row in partition.told(before)] == ["stock.sale", "stock.corrected", "reservation.voided"]
        assert state(partition, token)[0] == "voided"

    def test_promises_beyond_stock_that_the_order_took_back_stand_for_nothing(self, partition: Partition) -> None:
        """Units left that somebody holds: it shows when the rest of the sale, which had no stock, is taken back."""
        partition("put_sku", "backorder_limit", 3)
        token = partition.hold("A", 10)
        partition.sell("A", 3, token=TOKEN, order_id="o", allow_backorder=1)
        partition.update("ship", 2, order="o")
        assert (partition.balances("A"), state(partition, token)[0]) == ((8, 10, 1, 3), "held")
        partition.update("cancel", 2, order="o", source="shop")
        assert (partition.balances("A"), state(partition, token)[0]) == ((8, 0, 0, 0), "voided")


class TestKept:
    """How long, in days: an order is forgotten 30 after its last news, by engine time; the keys are kept one more."""

    KEPT_MS = 31 * DAY_MS

    @pytest.fixture(autouse=True)
    def sold(self, partition: Partition, forgotten: Counter[str]) -> None:
        partition.sell("A", 2, token=TOKEN, order_id="o")

    def test_a_sale_is_kept_as_long_as_its_order(self, partition: Partition) -> None:
        order = partition.keys.order("direct", "o")
        for kind in ("pick", "ship", "pick"):
            partition.client.pexpire(order, DAY_MS)
            partition.client.pexpire(partition.keys.reservation(Token(TOKEN)), DAY_MS)
            partition.clock.advance(20 * 24 * 3600)
            partition.update(kind, 2, order="o")
            for ttl_ms in (partition.client.pttl(order), partition.ttl_ms(TOKEN)):
                assert self.KEPT_MS - 10_000 < ttl_ms <= self.KEPT_MS
        assert state(partition) == ("fulfilled", "A2")

    def test_and_longer_where_sales_are(self, partition: Partition) -> None:
        partition.open(committed_retention_ms=90 * DAY_MS)
        partition.update("ship", 2, order="o")
        assert 90 * DAY_MS - 10_000 < partition.ttl_ms(TOKEN) <= 90 * DAY_MS

    def test_a_cancelled_one_is_kept_as_long(self, partition: Partition) -> None:
        partition.update("cancel", 2, order="o", source="shop")
        assert self.KEPT_MS - 10_000 < partition.ttl_ms(TOKEN) <= self.KEPT_MS

    def test_what_is_told_of_a_forgotten_order_is_told_of_a_new_one(
        self, partition: Partition, forgotten: Counter[str]
    ) -> None:
        partition.clock.advance(30 * 24 * 3600)
        partition.update("pick", 1, order="o")
        assert orders(partition) == {"o": (2, 0)}
        partition.clock.advance(30 * 24 * 3600 + 1)
        partition.update("pick", 1, order="o")
        assert orders(partition) == {"o": (1, 0)}
        forgotten["A"] = 2


class TestBounds:
    def test_of_so_many_lines_one_more_has_an_order_of_its_own(self, partition: Partition) -> None:
        """No event moves on more than can be done at once."""
        partition("adjust", amount=LINES_MAX + 10)
        for _ in range(LINES_MAX - 1):
            partition.sell("A", 1, order_id="o")
        partition.sell("A", 1, "B", 1, token=TOKEN, order_id="o")
        partition.sell("A", 1, order_id="o")
        assert orders(partition) == {"o": (LINES_MAX, 0), TOKEN: (2, 0)}
        partition.update("ship", 1, order=TOKEN)
        partition.update("ship", 1, order=TOKEN, sku="B")
        assert state(partition) == ("fulfilled", "A1 B1")
        before = partition.sequence
        partition.update("ship", LINES_MAX, order="o")
        assert len(partition.entries(before)) == 1 + LINES_MAX

    @pytest.mark.parametrize("kind", ["sale", "pick", "pack", "cancel"])
    def test_nobody_tells_of_more_units_than_there_can_be(self, partition: Partition, kind: str) -> None:
        assert partition.update(kind, 10**12, order="o", source="shop") == "applied"
        before = partition.snapshot()
        assert partition.update(kind, 1, order="o", source="shop") == "above_limit"
        assert partition.snapshot() == before

    def test_all_orders_have_no_more_together(self, partition: Partition) -> None:
        partition.update("sale", 10**12 - 1, order="o", source="shop")
        assert partition.update("sale", 2, order="other", source="shop") == "above_limit"
        assert partition.update("sale", 1, order="other", source="shop") == "applied"

    def test_what_is_told_in_one_delivery_is_told_in_order(self, partition: Partition) -> None:
        partition.sell("A", 2, "B", 1, token=TOKEN, order_id="o")
        lines = (say("ship", 2, at=1, order="o"), say("ship", 1, at=1, order="o", sku="B", number=1))
        assert [status for status, _ in partition.apply(deliver(*lines)).lines_told] == ["applied", "applied"]
        assert state(partition) == ("fulfilled", "A2 B1")


@pytest.mark.parametrize("end", ["cancelled", "voided"])
def test_what_an_order_names_is_not_forgotten_before_it(partition: Partition, end: str) -> None:
    """Else a request that is repeated after a day would take its token, and the order take it for the one it knew."""
    partition.stock("A", 5, reconciliation_hold_us=SECOND_US if end == "voided" else 0)
    token = partition.sell("A", 2, order_id="o")
    if end == "voided":
        partition("adjust", mode="count", amount=0)
    else:
        partition("cancel", token=token)
    assert partition.record(token)["status"] == end
    assert partition.ttl_ms(token) > 30 * DAY_MS
