"""What is said of a location: counts, and units that came and went; what it makes of a SKU."""

import json

import pytest

from app.domain.types import Sku
from tests.scripts.deliveries import DEDICATED, deliver, say
from tests.scripts.partition import Partition

COUNTS_MAX, DELTAS_MAX = 8, 64


def facts(partition: Partition, sku: str = "A") -> dict[str, list[list[str]]]:
    """What is kept of a SKU: by kind and location the rows, their words."""
    fields = partition.client.hgetall(partition.keys.facts(Sku(sku)))
    return {
        name.decode().replace("\t", " "): [row.split("\t") for row in text.decode().split("\n")]
        for name, text in fields.items()
    }


def places(partition: Partition) -> dict[str, int]:
    return {name: on_hand for name, (_, on_hand, _) in partition("availability").places.items()}


class TestEntry:
    """What each kind of line says in the ledger."""

    @pytest.mark.parametrize(
        ("kind", "told", "entry_type", "quantity"),
        [
            ("receive", 3, "stock.received", "3"),
            ("return", 3, "stock.returned", "3"),
            ("adjust", -3, "stock.adjusted", "-3"),
            ("adjust", 0, "stock.adjusted", "0"),
            ("count", 7, "stock.counted", "-3"),
            ("ship", 3, "stock.shipped", "-3"),
        ],
    )
    def test_a_change_of_a_location(
        self, partition: Partition, kind: str, told: int, entry_type: str, quantity: str
    ) -> None:
        partition.update("receive", 10)
        before = partition.sequence
        assert partition.update(kind, told, delivery_id="d", clock={"wms": 9, "erp": 2}) == "applied"
        (entry,) = partition.entries(before)
        on_hand = str(10 + int(quantity))
        expected = {
            "type": entry_type, "sku": "A", "quantity": quantity, "location": "main", "location_kind": "shared",
            "source": "wms", "reason": "", "on_hand": on_hand, "available": on_hand, "command": str(before + 1),
        }  # fmt: skip
        assert {name: entry[name] for name in expected} == expected
        data = json.loads(entry["data"])
        assert (data["delivery_id"], data["line"], data["told"]) == ("d", 0, told)
        assert (data["clock"], data["system"], data["priority"]) == ({"wms": 9, "erp": 2}, "wms", 3)
        assert places(partition) == {"main": 10 + int(quantity)}

    def test_a_sale_that_its_source_deducts_on(self, partition: Partition) -> None:
        partition.update("receive", 10)
        before = partition.sequence
        partition.update("sale", 3, source="pos")
        assert partition.told(before) == [("stock.sale", "A", "-3", "")]
        assert partition.balances("A") == (7, 0, 0, 0)

    def test_a_transfer_is_two(self, partition: Partition) -> None:
        partition.update("receive", 10)
        before = partition.sequence
        partition.update("transfer", 3, to="east")
        left, arrived = partition.entries(before)
        assert (left["type"], left["location"], left["quantity"]) == ("stock.transferred", "main", "-3")
        assert (arrived["type"], arrived["location"], arrived["quantity"]) == ("stock.transferred", "east", "3")
        assert (left["command"], left["data"]) == (arrived["command"], arrived["data"])
        assert places(partition) == {"main": 7, "east": 3}

    def test_an_observation_is_recorded_and_changes_nothing(self, partition: Partition) -> None:
        partition.update("receive", 10)
        before, kept = partition("availability"), facts(partition)
        partition.update("observe", 3, source="shop", location="east")
        (entry,) = partition.entries(1)
        assert (entry["type"], entry["quantity"], entry["location"]) == ("stock.observed", "3", "")
        assert partition("availability").same_as(before, but=("sequence",))
        assert facts(partition) == kept


class TestCounts:
    def test_in_any_order_the_newest_is_believed_with_what_it_had_not_seen(self, partition: Partition) -> None:
        partition.update("count", 7, clock={"wms": 3})
        assert partition.update("receive", 5, clock={"wms": 2}) == "applied"
        assert places(partition) == {"main": 7}
        partition.update("ship", 1, clock={"wms": 4})
        assert places(partition) == {"main": 6}
        assert partition.update("count", 9, clock={"wms": 1}) == "stale"
        assert [row[1:4] for row in facts(partition)["deltas main"]] == [["wms", "2", "5"], ["wms", "4", "-1"]]

    def test_a_late_one_that_is_believed_counts_anew(self, partition: Partition) -> None:
        """A partner's word stands until the warehouse's comes, however late; what it had not seen is added."""
        partition.update("count", 20, source="erp", at=50)
        partition.update("receive", 3, at=40)
        partition.update("receive", 4, at=60)
        assert places(partition) == {"main": 24}
        before = partition.sequence
        partition.update("count", 10, at=45)
        assert partition.told(before) == [("stock.counted", "A", "-10", "")]
        assert places(partition) == {"main": 14}

    def test_one_that_is_not_believed_changes_nothing_and_is_kept(self, partition: Partition) -> None:
        partition.update("count", 10, at=10)
        before = partition.sequence
        assert partition.update("count", 90, source="erp", at=90) == "applied"
        assert partition.told(before) == [("stock.counted", "A", "0", "")]
        assert [row[0] for row in facts(partition)["counts main"]] == ["10", "90"]

    def test_of_two_that_have_seen_the_same_the_smaller_stands(self, partition: Partition) -> None:
        for count, status in ((5, "applied"), (7, "stale"), (5, "stale"), (4, "applied")):
            assert partition.update("count", count, at=1) == status
        assert places(partition) == {"main": 4}

    def test_as_many_as_are_kept(self, partition: Partition) -> None:
        for number in range(COUNTS_MAX + 3):
            partition.update("count", number, clock={"wms": number, "erp": 100 - number})
        kept = facts(partition)["counts main"]
        assert [row[0] for row in kept] == [str(number) for number in range(3, COUNTS_MAX + 3)]
        partition.update("count", 1, clock={"erp": 100, "wms": 100})
        assert len(facts(partition)["counts main"]) == 1

    def test_each_location_has_its_own(self, partition: Partition) -> None:
        partition.update("count", 5, at=9)
        assert partition.update("count", 3, at=1, location="east") == "applied"
        assert places(partition) == {"main": 5, "east": 3}
        assert partition.balances("A")[0] == 8


class TestDeltas:
    def test_as_many_as_are_kept_and_what_is_forgotten_leaves_a_floor(self, partition: Partition) -> None:
        for number in range(1, DELTAS_MAX + 3):
            partition.update("receive", 1, at=number, clock={"wms": number})
        partition.update("receive", 1, source="erp", at=0, clock={"erp": 7})
        kept = facts(partition)
        assert len(kept["deltas main"]) == DELTAS_MAX
        assert [row[:2] for row in kept["floors main"]] == [["wms", "2"], ["erp", "7"]]
        assert places(partition) == {"main": DELTAS_MAX + 3}
        assert partition.update("count", 100, at=90, clock={"wms": 1}) == "stale"
        assert partition.update("count", 100, at=90, clock={"wms": 90, "erp": 6}) == "stale"
        assert partition.update("count", 100, at=90, clock={"wms": 90, "erp": 7}) == "applied"
        assert places(partition) == {"main": 100}

    def test_nothing_is_kept_of_nothing(self, partition: Partition) -> None:
        partition.update("receive", 1)
        partition.update("adjust", 0)
        assert len(facts(partition)["deltas main"]) == 1


class TestByHand:
    """An operator's adjustment has no clock."""

    def test_it_shifts_what_is_there_and_the_next_newer_count_replaces_it(self, partition: Partition) -> None:
        partition.update("count", 10)
        partition("adjust", amount=-4)
        assert places(partition) == {"main": 6}
        partition.update("receive", 1)
        assert places(partition) == {"main": 7}
        partition.update("count", 12)
        assert places(partition) == {"main": 12}

    def test_a_count_that_is_not_believed_leaves_it(self, partition: Partition) -> None:
        partition.update("count", 10)
        partition("adjust", amount=-4)
        assert partition.update("count", 12, source="erp") == "applied"
        assert places(partition) == {"main": 6}

    def test_it_may_set_a_number_where_less_than_nothing_is(self, partition: Partition) -> None:
        partition.update("receive", 1)
        partition.update("ship", 3)
        assert places(partition) == {"main": -2}
        assert partition("adjust", amount=1).on_hand == "-1"
        assert partition("adjust", amount=-1).status == "stock_below_zero"
        assert partition("adjust", mode="count", amount=5).on_hand == "5"


class TestDedicated:
    def test_what_is_said_of_it_is_shown_and_not_sold(self, partition: Partition) -> None:
        partition.update("receive", 2)
        partition.hold("A", 2)
        for kind, quantity, on_hand in (("receive", 7, 7), ("count", 5, 5), ("ship", 6, -1)):
            assert partition.update(kind, quantity, location=DEDICATED) == "applied"
            assert partition.balances("A") == (2, 2, 0, 0)
            assert places(partition) == {"main": 2, DEDICATED: on_hand}
        assert partition.entries()[-1]["location_kind"] == "dedicated"

    def test_a_transfer_there_leaves_less_to_promise(self, partition: Partition) -> None:
        partition.update("receive", 5)
        older, newer = partition.hold("A", 3), partition.hold("A", 2)
        before = partition.sequence
        partition.update("transfer", 1, to=DEDICATED)
        assert [row[0] for row in partition.told(before)] == ["stock.transferred"] * 2 + ["reservation.voided"]
        assert [partition.record(token)["status"] for token in (older, newer)] == ["held", "voided"]
        assert partition.balances("A") == (4, 3, 0, 0)

    def test_a_transfer_from_there_is_more_to_promise(self, partition: Partition) -> None:
        partition.update("receive", 5, location=DEDICATED)
        partition.update("transfer", 2, location=DEDICATED, to="main")
        assert partition("availability").available == "2"
        assert places(partition) == {DEDICATED: 3, "main": 2}

    def test_one_end_of_a_transfer_may_be_counted_already(self, partition: Partition) -> None:
        partition.update("receive", 5, at=1)
        partition.update("count", 2, at=9, location=DEDICATED)
        partition.update("transfer", 2, at=5, to=DEDICATED)
        assert places(partition) == {"main": 3, DEDICATED: 2}

    def test_a_transfer_to_where_it_came_from_changes_nothing(self, partition: Partition) -> None:
        """Two names of one place, to somebody."""
        partition.update("receive", 5)
        assert partition.update("transfer", 2, to="main") == "applied"
        assert partition("availability").available == "5"
        assert places(partition) == {"main": 5}

    def test_its_kind_is_decided_when_it_is_first_heard_of(self, partition: Partition) -> None:
        partition("adjust", location=DEDICATED, location_kind="shared", amount=1)
        partition.update("receive", 2, location=DEDICATED)
        assert partition.balances("A")[0] == 3
        assert partition.entries()[-1]["location_kind"] == "shared"


class TestSafetyStock:
    """A fifth of what is there is withheld: of what arrives or is counted, not of what goes."""

    @pytest.fixture(autouse=True)
    def policy(self, partition: Partition) -> None:
        partition("put_sku", "safety_stock_basis_points", 2000)
        partition.update("receive", 10)

    @pytest.mark.parametrize(
        ("kind", "quantity", "withheld"),
        [("receive", 1, "3"), ("return", 5, "3"), ("adjust", 5, "3"), ("adjust", -5, "2"), ("count", 5, "1"),
         ("count", 11, "3"), ("ship", 5, "2"), ("sale", 5, "2")],
    )  # fmt: skip
    def test_after(self, partition: Partition, kind: str, quantity: int, withheld: str) -> None:
        partition.update(kind, quantity, source="pos" if kind == "sale" else "wms")
        assert partition("availability").safety_stock == withheld

    def test_after_a_transfer(self, partition: Partition) -> None:
        partition.update("receive", 90, location=DEDICATED)
        partition.update("transfer", 40, location=DEDICATED, to="main")
        assert partition("availability").safety_stock == "2"

    def test_after_a_count_that_is_not_believed(self, partition: Partition) -> None:
        """It is reckoned anew all the same: what is there is what is there."""
        partition.update("count", 10)
        partition.update("ship", 5)
        assert partition("availability").safety_stock == "2"
        partition.update("count", 99, source="erp")
        assert partition("availability").safety_stock == "1"

    def test_of_less_than_nothing_nothing_is_withheld(self, partition: Partition) -> None:
        partition.update("ship", 12)
        partition.update("count", 0, location="east")
        reply = partition("availability")
        assert (reply.on_hand, reply.safety_stock, reply.available, reply.shortfall) == ("-2", "0", "0", "2")


class TestShortfall:
    @pytest.mark.parametrize(
        ("kind", "quantity", "source"),
        [("count", 4, "wms"), ("sale", 6, "pos"), ("ship", 6, "wms"), ("adjust", -6, "wms")],
    )
    def test_what_is_gone_is_voided_the_newest_first(
        self, partition: Partition, kind: str, quantity: int, source: str
    ) -> None:
        partition.update("receive", 10)
        tokens = [partition.hold("A", units) for units in (3, 3, 4)]
        before = partition.sequence
        partition.update(kind, quantity, source=source)
        voided = [entry for entry in partition.entries(before) if entry["type"] == "reservation.voided"]
        assert [entry["token"] for entry in voided] == [tokens[2], tokens[1]]
        assert {entry["command"] for entry in partition.entries(before)} == {str(before + 1)}
        assert partition.balances("A") == (4, 3, 0, 0)

    def test_what_a_count_has_seen_leave_voids_nothing(self, partition: Partition) -> None:
        partition.update("count", 5, at=9)
        token = partition.hold("A", 5)
        partition.update("ship", 5, at=8)
        assert partition.record(token)["status"] == "held"

    def test_less_than_nothing_is_there_until_what_had_come_is_heard_of(self, partition: Partition) -> None:
        partition.update("receive", 1, at=1)
        partition.update("ship", 3, at=9)
        assert partition("reserve", "A", 1).status == "out_of_stock"
        assert partition("availability").on_hand == "-2"
        partition.update("receive", 5, at=5)
        assert partition("availability").available == "3"


def test_lines_of_one_delivery_see_each_other(partition: Partition) -> None:
    lines = (say("receive", 5, at=1), say("ship", 2, at=2, number=1), say("count", 9, at=3, number=2))
    reply = partition.apply(deliver(*lines))
    assert reply.lines_told == [("applied", 1), ("applied", 2), ("applied", 3)]
    assert [entry["on_hand"] for entry in partition.entries()] == ["5", "3", "9"]


def test_what_arrives_covers_what_was_promised_beyond_stock(partition: Partition) -> None:
    partition("put_sku", "backorder_limit", 5)
    token = partition.hold("A", 4, allow_backorder=1)
    partition.update("receive", 3)
    assert partition.backorders("A") == {token: 1}
    partition.update("count", 9)
    assert (partition.backorders("A"), partition.balances("A")) == ({}, (9, 4, 0, 0))
