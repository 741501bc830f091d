"""An order: what we sell and what sources tell of it meet in one record."""

import pytest

from app.domain.types import Sku
from tests.scripts.order_records import OTHER, TOKEN, orders, state
from tests.scripts.partition import DAY_MS, TTL_US, Partition
from tests.virtual_clock import SECOND_US

WINDOW_US = 2 * SECOND_US

pytestmark = pytest.mark.usefixtures("forgotten")


class TestToldTwice:
    def test_our_sale_and_its_channels_word_of_it_are_one(self, partition: Partition) -> None:
        partition.sell("A", 2, token=TOKEN, order_id="o")
        assert partition.balances("A") == (10, 0, 2, 0)
        assert partition.update("sale", 2, order="o", source="shop") == "applied"
        assert partition.balances("A") == (10, 0, 2, 0)
        assert orders(partition) == {"o": (2, 0)}

    def test_the_channels_word_comes_first(self, partition: Partition) -> None:
        partition.update("sale", 2, order="o", source="shop")
        partition.hold("A", 2, token=TOKEN)
        assert partition.balances("A") == (10, 2, 2, 0)
        before = partition.sequence
        reply = partition("commit", token=TOKEN, order_id="o")
        assert (reply.status, reply.state, reply.availability) == ("committed", "committed", "A\t8\t5")
        assert partition.balances("A") == (10, 0, 2, 0)
        assert partition.told(before) == [("reservation.committed", "A", "2", TOKEN)]
        assert partition.client.hget(partition.keys.sku(Sku("A")), "promised:direct") == b"2"

    def test_the_larger_number_holds(self, partition: Partition) -> None:
        partition.sell("A", 2, token=TOKEN, order_id="o")
        partition.update("sale", 3, order="o", source="shop")
        assert partition.balances("A") == (10, 0, 3, 0)
        partition.update("sale", 1, order="o", source="erp")
        assert partition.balances("A") == (10, 0, 3, 0)
        partition.update("sale", 1, order="o", source="shop")
        assert partition.balances("A") == (10, 0, 4, 0)

    def test_the_same_order_of_another_channel_is_another_order(self, partition: Partition) -> None:
        partition.sell("A", 2, token=TOKEN, order_id="o")
        partition.update("sale", 2, order="o", source="shop", channel="web")
        assert partition.balances("A") == (10, 0, 4, 0)
        assert partition.client.hget(partition.keys.sku(Sku("A")), "promised:web") == b"2"

    def test_two_tell_of_one_shipment(self, partition: Partition) -> None:
        """Units leave once: as the warehouse says where, the others what is beyond."""
        partition.sell("A", 3, token=TOKEN, order_id="o")
        partition.update("ship", 2, order="o", source="erp", location="east")
        assert partition.locations("A") == {"on_hand main": "10", "on_hand east": "-2"}
        before = partition.sequence
        partition.update("ship", 2, order="o", source="wms")
        assert partition.locations("A") == {"on_hand main": "8", "on_hand east": "0"}
        assert partition.told(before) == [("stock.shipped", "A", "-2", ""), ("stock.corrected", "A", "2", "")]
        assert partition.balances("A") == (8, 0, 1, 0)
        partition.update("ship", 1, order="o", source="erp", location="east")
        assert partition.locations("A") == {"on_hand main": "8", "on_hand east": "-1"}
        assert (partition.balances("A"), state(partition)) == ((7, 0, 0, 0), ("fulfilled", "A3"))

    def test_what_is_picked_by_one_that_deducts_on_it_and_then_ships_left_once(self, partition: Partition) -> None:
        partition.sell("A", 2, token=TOKEN, order_id="o")
        partition.update("pick", 2, order="o", source="picker")
        assert (partition.balances("A"), state(partition)) == ((8, 0, 0, 0), ("fulfilled", "A2"))
        partition.update("ship", 2, order="o", source="picker")
        assert partition.balances("A") == (8, 0, 0, 0)

    def test_a_till_sells_and_deducts_at_once(self, partition: Partition) -> None:
        partition.update("sale", 2, order="o", source="pos")
        assert (partition.balances("A"), orders(partition)) == ((8, 0, 0, 0), {"o": (0, 2)})
        partition.update("sale", 1, source="pos")
        assert (partition.balances("A"), orders(partition)) == ((7, 0, 0, 0), {"o": (0, 2)})

    def test_a_sale_that_names_no_order_is_one_of_its_own(self, partition: Partition) -> None:
        partition.update("sale", 2, source="shop", delivery_id="d")
        assert (partition.balances("A"), orders(partition)) == ((10, 0, 2, 0), {"\tshop:d#0": (2, 0)})


class TestShipped:
    @pytest.mark.parametrize("kinds", [("pick", "pack", "ship"), ("ship", "pack", "pick"), ("ship",)])
    def test_a_sale_is_fulfilled_once_all_has_left(self, partition: Partition, kinds: tuple[str, ...]) -> None:
        partition.sell("A", 2, token=TOKEN, order_id="o")
        for kind in kinds:
            partition.update(kind, 2, order="o")
        assert (partition.balances("A"), state(partition)) == ((8, 0, 0, 0), ("fulfilled", "A2"))
        assert partition.client.hexists(partition.keys.sku(Sku("A")), "promised:direct") is False

    def test_its_entries(self, partition: Partition) -> None:
        partition.sell("A", 2, "B", 1, token=TOKEN, order_id="o")
        partition.update("ship", 1, order="o", sku="B")
        partition.update("ship", 1, order="o")
        before = partition.sequence
        assert state(partition) == ("committed", "A2 B1")
        partition.update("ship", 1, order="o", location="main")
        assert partition.told(before) == [
            ("stock.shipped", "A", "-1", ""),
            ("reservation.fulfilled", "A", "2", TOKEN),
            ("reservation.fulfilled", "B", "1", TOKEN),
        ]
        assert {entry["command"] for entry in partition.entries(before)} == {str(before + 1)}
        assert partition.entries(before)[0]["location"] == "main"

    def test_before_it_was_sold(self, partition: Partition) -> None:
        """It has left on_hand while the hold still reserves it."""
        partition.hold("A", 2, token=TOKEN)
        partition.update("ship", 2, order="o")
        assert partition.balances("A") == (8, 2, 0, 0)
        reply = partition("commit", token=TOKEN, order_id="o")
        assert (reply.status, reply.state) == ("committed", "fulfilled")
        assert partition.balances("A") == (8, 0, 0, 0)

    def test_more_than_was_sold_stays_on_hand_and_asks_for_a_person(self, partition: Partition) -> None:
        partition.sell("A", 2, token=TOKEN, order_id="o")
        partition.update("ship", 5, order="o")
        assert partition.entries()[-2]["reason"] == "shipped_beyond_sold"
        assert partition.balances("A") == (8, 0, 0, 0)
        before = partition.sequence
        partition.update("sale", 4, order="o", source="shop")
        assert partition.balances("A") == (6, 0, 0, 0)
        assert partition.told(before) == [("stock.sale", "A", "4", ""), ("stock.corrected", "A", "-2", "")]

    def test_a_sale_that_turns_out_smaller_brings_units_back(self, partition: Partition) -> None:
        partition.update("ship", 5, order="o")
        partition.hold("A", 2, token=TOKEN)
        before = partition.sequence
        partition("commit", token=TOKEN, order_id="o")
        assert partition.told(before) == [
            ("reservation.committed", "A", "2", TOKEN),
            ("stock.corrected", "A", "3", ""),
            ("reservation.fulfilled", "A", "2", TOKEN),
        ]
        assert partition.balances("A") == (8, 0, 0, 0)

    def test_beyond_and_sold_again(self, partition: Partition) -> None:
        """Another sale into the order is what had left already."""
        partition.sell("A", 2, token=TOKEN, order_id="o")
        partition.update("pick", 3, order="o")
        partition.update("ship", 3, order="o")
        assert (partition.balances("A"), state(partition)) == ((8, 0, 1, 0), ("committed", "A2"))
        partition.sell("A", 1, token=OTHER, order_id="o")
        assert partition.balances("A") == (7, 0, 0, 0)
        assert state(partition) == ("fulfilled", "A2")
        assert state(partition, OTHER) == ("fulfilled", "A1")

    def test_what_a_count_has_seen_leave_is_not_taken_off_again(self, partition: Partition) -> None:
        partition.sell("A", 2, token=TOKEN, order_id="o")
        partition.update("count", 8, at=50)
        partition.update("ship", 2, order="o", at=40)
        assert (partition.balances("A"), state(partition)) == ((8, 0, 0, 0), ("fulfilled", "A2"))


class TestByToken:
    def test_a_sale_without_an_order_has_one_of_its_own(self, partition: Partition) -> None:
        partition.sell("A", 3, "B", 1, token=TOKEN)
        assert orders(partition) == {}
        partition.update("ship", 1, order=TOKEN)
        assert (partition.balances("A"), orders(partition)) == ((9, 0, 2, 0), {TOKEN: (3, 1)})
        partition.update("ship", 2, order=TOKEN)
        partition.update("ship", 1, order=TOKEN, sku="B")
        assert partition.balances("A") == (7, 0, 0, 0)
        assert state(partition) == ("fulfilled", "A3 B1")

    def test_of_a_sale_with_an_order_it_is_that(self, partition: Partition) -> None:
        partition.sell("A", 3, token=TOKEN, order_id="o")
        partition.update("ship", 1, order=TOKEN)
        partition.update("ship", 2, order="o")
        assert orders(partition) == {"o": (0, 3)}
        assert state(partition) == ("fulfilled", "A3")

    def test_what_we_took_back_before_is_known(self, partition: Partition) -> None:
        partition.sell("A", 3, token=TOKEN)
        partition("cancel", "A", 1, token=TOKEN)
        partition.update("ship", 2, order=TOKEN)
        assert (partition.balances("A"), state(partition)) == ((8, 0, 0, 0), ("fulfilled", "A2"))

    def test_a_sale_that_we_took_back_whole(self, partition: Partition) -> None:
        partition.sell("A", 3, token=TOKEN)
        partition("cancel", token=TOKEN)
        partition.update("pick", 3, order=TOKEN)
        assert partition.entries()[-1]["reason"] == "moved_though_cancelled"
        assert (partition.balances("A"), state(partition)) == ((10, 0, 0, 0), ("cancelled", "A3"))

    def test_a_hold_that_is_shipped_is_sold_into_it(self, partition: Partition) -> None:
        partition.hold("A", 2, token=TOKEN)
        partition.update("ship", 2, order=TOKEN)
        assert partition.balances("A") == (8, 2, 0, 0)
        assert partition("commit", token=TOKEN).state == "fulfilled"
        assert partition.balances("A") == (8, 0, 0, 0)

    @pytest.mark.parametrize("end", ["release", "expire"])
    def test_a_hold_that_ended_has_left_all_the_same(self, partition: Partition, end: str) -> None:
        partition.hold("A", 2, token=TOKEN)
        if end == "release":
            partition("release", token=TOKEN)
        partition.clock.advance_us(TTL_US)
        partition.update("ship", 2, order=TOKEN)
        assert (partition.balances("A")[:3], state(partition)[0]) == ((8, 0, 0), f"{end}d")

    def test_of_nobody_or_of_what_it_never_held(self, partition: Partition) -> None:
        partition.hold("A", 1, token=TOKEN)
        before = partition.snapshot()
        assert partition.update("ship", order=OTHER) == "unknown_reference"
        assert partition.update("ship", order=TOKEN, sku="B") == "unknown_reference"
        assert partition.snapshot() == before


class TestMerged:
    """A commit names an order after the token was told of."""

    def test_into_a_new_order(self, partition: Partition) -> None:
        partition.hold("A", 3, token=TOKEN)
        partition.update("ship", 1, order=TOKEN)
        partition("commit", token=TOKEN, order_id="o")
        assert orders(partition) == {"o": (2, 1)}
        assert partition.balances("A") == (9, 0, 2, 0)
        partition.update("ship", 2, order=TOKEN)
        assert state(partition) == ("fulfilled", "A3")

    def test_into_one_that_is_known(self, partition: Partition) -> None:
        partition.update("sale", 3, order="o", source="shop")
        partition.hold("A", 3, token=TOKEN)
        partition.update("ship", 1, order=TOKEN)
        partition.update("pick", 2, order=TOKEN)
        partition("commit", token=TOKEN, order_id="o")
        assert orders(partition) == {"o": (2, 1)}
        assert partition.balances("A") == (9, 0, 2, 0)
        assert "has_order" not in partition.record(TOKEN)

    def test_into_an_order_that_it_is_sold_into_when_a_window_is_over(self, partition: Partition) -> None:
        """What was told of the token is told of the order at once: others' word of it is there."""
        partition("put_sku", "reconciliation_hold_us", WINDOW_US)
        partition.update("sale", 3, order="o", source="shop")
        partition.hold("A", 3, token=TOKEN)
        partition.update("pick", 3, order=TOKEN)
        assert partition.balances("A") == (10, 3, 6, 0)
        assert partition("commit", token=TOKEN, order_id="o").state == "pending_reconciliation"
        assert (partition.balances("A"), orders(partition)) == ((10, 3, 3, 0), {"o": (3, 0)})
        partition.clock.advance_us(WINDOW_US)
        assert state(partition) == ("committed", "A3")
        assert (partition.balances("A"), orders(partition)) == ((10, 0, 3, 0), {"o": (3, 0)})

    def test_of_what_the_commit_leaves_out(self, partition: Partition) -> None:
        """B was sold by the shop, and left by the token; the commit sells A alone."""
        partition.update("sale", 1, order="o", source="shop", sku="B")
        partition.hold("A", 1, "B", 1, token=TOKEN)
        partition.update("ship", 1, order=TOKEN, sku="B")
        partition("commit", "A", 1, token=TOKEN, order_id="o")
        assert orders(partition) == {"o": (1, 1)}
        assert partition.balances("B") == (9, 0, 0, 0)


class TestCancelled:
    def test_by_us_after_a_part_was_shipped_only_the_rest(self, partition: Partition) -> None:
        partition.sell("A", 3, token=TOKEN, order_id="o")
        partition.update("ship", 1, order="o")
        assert partition("cancel", "A", 3, token=TOKEN).status == "quantity_exceeds"
        reply = partition("cancel", token=TOKEN)
        assert (reply.status, reply.state, reply.lines) == ("cancelled", "fulfilled", "A\t1\t0")
        assert partition.balances("A") == (9, 0, 0, 0)

    def test_by_us_in_parts(self, partition: Partition) -> None:
        partition.sell("A", 3, "B", 2, token=TOKEN, order_id="o")
        partition.update("ship", 2, order="o", sku="B")
        assert partition("cancel", "A", 1, token=TOKEN).state == "committed"
        assert partition.balances("A") == (10, 0, 2, 0)
        assert partition("cancel", "B", 1, token=TOKEN).status == "quantity_exceeds"
        reply = partition("cancel", token=TOKEN)
        assert (reply.state, reply.lines) == ("fulfilled", "B\t2\t0")

    def test_by_its_channel(self, partition: Partition) -> None:
        partition.sell("A", 3, token=TOKEN, order_id="o")
        before = partition.sequence
        partition.update("cancel", 1, order="o", source="shop")
        assert partition.told(before) == [("stock.cancelled", "A", "1", ""), ("reservation.cancelled", "A", "1", TOKEN)]
        assert [entry["reason"] for entry in partition.entries(before)] == ["", "order"]
        assert (partition.balances("A"), state(partition)) == ((10, 0, 2, 0), ("committed", "A2"))
        partition.update("cancel", 2, order="o", source="shop")
        assert (partition.balances("A"), state(partition)) == ((10, 0, 0, 0), ("cancelled", "A2"))
        assert 30 * DAY_MS < partition.ttl_ms(TOKEN) <= 31 * DAY_MS, "as long as its order"

    def test_by_both_of_the_same_units(self, partition: Partition) -> None:
        """What we take back is more than was taken back; what the channel tells then is all of it."""
        partition.sell("A", 4, token=TOKEN, order_id="o")
        partition.update("cancel", 1, order="o", source="shop")
        assert partition("cancel", "A", 1, token=TOKEN).lines == "A\t2\t0"
        assert partition.balances("A") == (10, 0, 2, 0)
        partition.update("cancel", 1, order="o", source="shop")
        assert (partition.balances("A"), state(partition)) == ((10, 0, 2, 0), ("committed", "A2"))
        partition.update("cancel", 1, order="o", source="shop")
        assert (partition.balances("A"), state(partition)) == ((10, 0, 1, 0), ("committed", "A1"))

    def test_before_it_is_sold(self, partition: Partition) -> None:
        partition.hold("A", 3, token=TOKEN)
        partition.update("cancel", 2, order="o", source="shop")
        before = partition.sequence
        reply = partition("commit", token=TOKEN, order_id="o")
        assert (reply.status, reply.state, reply.lines) == ("committed", "committed", "A\t1\t0")
        assert partition.told(before) == [
            ("reservation.committed", "A", "3", TOKEN), ("reservation.cancelled", "A", "2", TOKEN),
        ]  # fmt: skip
        assert partition.balances("A") == (10, 0, 1, 0)

    def test_a_retry_gets_the_first_answer(self, partition: Partition) -> None:
        keyed = {"token": TOKEN, "order_id": "o", "key_hash": "k", "fingerprint": "f"}
        partition.hold("A", 3, token=TOKEN)
        partition.update("cancel", 2, order="o", source="shop")
        first = partition("commit", **keyed)
        again = partition("commit", **keyed)
        assert (again.status, again.lines) == ("replayed", "A\t1\t0")
        assert again.same_as(first, but=("status",))

    def test_whole_before_it_is_sold(self, partition: Partition) -> None:
        partition.hold("A", 3, token=TOKEN)
        partition.update("cancel", 3, order="o", source="shop")
        reply = partition("commit", token=TOKEN, order_id="o")
        assert (reply.status, reply.state) == ("committed", "cancelled")
        assert partition.balances("A") == (10, 0, 0, 0)
        assert partition("commit", token=TOKEN).status == "ended"

    def test_more_than_was_sold(self, partition: Partition) -> None:
        partition.sell("A", 2, token=TOKEN, order_id="o")
        partition.update("cancel", 9, order="o", source="shop")
        assert (partition.balances("A"), state(partition)) == ((10, 0, 0, 0), ("cancelled", "A2"))

    def test_what_is_backordered_goes_first(self, partition: Partition) -> None:
        partition("put_sku", "backorder_limit", 5)
        partition.sell("A", 12, token=TOKEN, order_id="o", allow_backorder=1)
        assert partition.balances("A") == (10, 0, 12, 2)
        partition.update("cancel", 1, order="o", source="shop")
        assert (partition.balances("A"), partition.backorders("A")) == ((10, 0, 11, 1), {TOKEN: 1})
        partition.update("ship", 11, order="o")
        assert (partition.balances("A")[0], partition.balances("A")[2]) == (-1, 0)
        partition.update("receive", 5)
        assert (partition.balances("A"), partition.backorders("A")) == ((4, 0, 0, 0), {})

    def test_it_covers_what_another_was_promised_beyond_stock(self, partition: Partition) -> None:
        partition("put_sku", "backorder_limit", 5)
        partition.sell("A", 10, token=TOKEN, order_id="o")
        waiting = partition.hold("A", 2, allow_backorder=1)
        assert partition.backorders("A") == {waiting: 2}
        partition.update("cancel", 1, order="o", source="shop")
        assert (partition.balances("A"), partition.backorders("A")) == ((10, 2, 9, 1), {waiting: 1})

    @pytest.mark.parametrize("is_sold_first", [True, False])
    def test_a_promise_beyond_stock_that_is_gone_covers_nobodys(
        self, partition: Partition, *, is_sold_first: bool
    ) -> None:
        partition("put_sku", "backorder_limit", 5)
        partition.sell("A", 10)
        waiting = partition.hold("A", 1, allow_backorder=1)
        partition.hold("A", 2, token=TOKEN, allow_backorder=1)
        for does_sell in (is_sold_first, not is_sold_first):
            if does_sell:
                partition("commit", token=TOKEN, order_id="o")
            else:
                partition.update("cancel", 1, order="o", source="shop")
        assert partition.balances("A") == (10, 1, 11, 2)
        assert partition.backorders("A") == {waiting: 1, TOKEN: 1}
        assert partition("availability").shortfall == "0"
