"""Where stock lies: shared locations make up what may be sold, a dedicated one is shown. Transfers between them."""

import pytest

from tests.scripts.partition import Partition

ON_HAND_MAX = 10**12


def test_a_dedicated_location_is_shown_and_not_sold_from(partition: Partition) -> None:
    partition.stock("A", 2)
    reply = partition("adjust", location="fba", location_kind="dedicated", amount=7)
    assert (reply.status, reply.on_hand, reply.available) == ("adjusted", "2", "2")
    assert reply.places == {"main": ("shared", 2, 0), "fba": ("dedicated", 7, 0)}
    entry = partition.entries()[-1]
    assert (entry["quantity"], entry["on_hand"], entry["location"]) == ("7", "2", "fba")
    assert entry["location_kind"] == "dedicated"
    assert partition.locations("A") == {"on_hand main": "2", "on_hand fba": "7", "kind fba": "dedicated"}
    assert partition("reserve", "A", 3).status == "out_of_stock"
    partition.hold("A", 2)
    before = partition.sequence
    assert partition("adjust", location="fba", mode="count", amount=1).shortfall == "0"
    assert [entry["type"] for entry in partition.entries(before)] == ["stock.adjusted"]


def test_a_sku_may_lie_at_dedicated_locations_alone(partition: Partition) -> None:
    reply = partition("adjust", location="fba", location_kind="dedicated", amount=7)
    assert (reply.on_hand, reply.available, reply.places) == ("0", "0", {"fba": ("dedicated", 7, 0)})
    assert partition("adjust", location="fba", location_kind="dedicated", amount=-8).status == "stock_below_zero"


@pytest.mark.parametrize("kinds", [("shared", "dedicated"), ("dedicated", "shared")])
def test_the_first_entry_decides_what_kind_a_location_is(partition: Partition, kinds: tuple[str, str]) -> None:
    partition.stock("B", 1)
    for kind in kinds:
        partition("adjust", location="east", location_kind=kind, amount=1)
    assert partition("availability").places == {"east": (kinds[0], 2, 0)}
    other = partition("adjust", sku="B", location="east", location_kind=kinds[1], amount=1)
    assert other.places["east"] == (kinds[1], 1, 0), "for each SKU by itself"


def test_a_dedicated_location_does_not_change_what_is_withheld(partition: Partition) -> None:
    partition.stock("A", 10, safety_stock_basis_points=1000)
    partition("adjust", amount=-9)
    assert partition("adjust", location="fba", location_kind="dedicated", amount=90).safety_stock == "1"
    assert partition("adjust", location="fba", mode="count", amount=50).safety_stock == "1"


def test_each_location_and_the_shared_sum_end_at_their_limit(partition: Partition) -> None:
    partition("adjust", location="main", amount=ON_HAND_MAX)
    fba = {"location": "fba", "location_kind": "dedicated"}
    assert partition("adjust", **fba, amount=ON_HAND_MAX).status == "adjusted"
    before = partition.snapshot()
    assert partition("adjust", **fba, amount=1).status == "above_limit"
    assert partition("adjust", location="east", amount=1).status == "above_limit"
    assert partition("transfer", from_location="fba", to_location="east").status == "above_limit"
    assert partition("transfer", from_location="main", to_location="fba").status == "above_limit"
    assert partition.snapshot() == before
    assert partition("transfer", to_location="east", quantity=ON_HAND_MAX).status == "transferred"
    assert partition("transfer", from_location="east", to_location="west", to_location_kind="dedicated").on_hand == str(
        ON_HAND_MAX - 1
    )


class TestTransfer:
    def test_it_is_one_command_of_two_entries(self, partition: Partition) -> None:
        partition.stock("A", 10)
        reply = partition("transfer", quantity=4, reason="moved", details='{"reference":"r"}')
        assert (reply.status, reply.sequence, reply.on_hand, reply.available) == ("transferred", "3", "10", "10")
        assert reply.places == {"main": ("shared", 6, 0), "east": ("shared", 4, 0)}
        left, arrived = partition.entries(after=1)
        common = {
            "type": "stock.transferred",
            "at_us": str(partition.clock.now_us),
            "command": "2",
            "sku": "A",
            "reserved": "0",
            "committed": "0",
            "backordered": "0",
            "safety_stock": "0",
            "location_kind": "shared",
            "source": "operator",
            "reason": "moved",
            "data": '{"reference":"r"}',
        }
        assert left == {
            **common, "sequence": "2", "quantity": "-4", "on_hand": "6", "available": "6", "location": "main",
        }  # fmt: skip
        assert arrived == {
            **common, "sequence": "3", "quantity": "4", "on_hand": "10", "available": "10", "location": "east",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("kind_from", "kind_to", "on_hand"),
        [
            ("shared", "shared", 20),
            ("shared", "dedicated", 16),
            ("dedicated", "shared", 14),
            ("dedicated",) * 2 + (10,),
        ],
    )
    @pytest.mark.parametrize("to", ["new", "known"])
    def test_what_may_be_sold_changes_between_kinds_only(
        self, partition: Partition, kind_from: str, kind_to: str, on_hand: int, to: str
    ) -> None:
        partition.stock("A", 10)
        partition("adjust", location="from", location_kind=kind_from, amount=10)
        if to == "known":
            partition("adjust", location=to, location_kind=kind_to, amount=0)
        told_kind = kind_to if to == "new" else "dedicated"
        reply = partition("transfer", from_location="from", to_location=to, to_location_kind=told_kind, quantity=4)
        assert (reply.status, reply.on_hand, reply.available) == ("transferred", str(on_hand), str(on_hand))
        assert reply.places == {"main": ("shared", 10, 0), "from": (kind_from, 6, 0), to: (kind_to, 4, 0)}

    def test_between_shared_locations_nobody_loses_or_gains(self, partition: Partition) -> None:
        """Half way the units are nowhere: that voids nothing, and covers nothing."""
        partition.stock("A", 10, backorder_limit=5)
        held, waiting = partition.hold("A", 10), partition.hold("A", 2, allow_backorder=1)
        before = partition.sequence
        assert partition("transfer", quantity=10).status == "transferred"
        assert [entry["available"] for entry in partition.entries(before)] == ["0", "0"]
        assert partition.record(held)["status"] == "held"
        assert partition.backorders("A") == {waiting: 2}

    def test_to_a_dedicated_location_units_are_lost_for_who_holds_them(self, partition: Partition) -> None:
        partition.stock("A", 5)
        older, newer = partition.hold("A", 2), partition.hold("A", 2)
        before = partition.sequence
        reply = partition("transfer", to_location_kind="dedicated", quantity=2)
        assert (reply.status, reply.available, reply.shortfall) == ("transferred", "1", "0")
        assert partition.told(before) == [
            ("stock.transferred", "A", "-2", ""),
            ("stock.transferred", "A", "2", ""),
            ("reservation.voided", "A", "2", newer),
        ]
        assert {entry["command"] for entry in partition.entries(before)} == {str(before + 1)}
        assert reply.sequence == str(before + 3)
        assert partition.record(older)["status"] == "held"

    def test_what_is_withheld_stays_what_it_was(self, partition: Partition) -> None:
        partition.stock("A", 10, safety_stock_basis_points=5000)
        partition("adjust", location="fba", location_kind="dedicated", amount=10)
        assert partition("transfer", from_location="fba", to_location="main", quantity=10).safety_stock == "5"
        assert partition("transfer", from_location="main", to_location="fba", quantity=20).safety_stock == "5"

    def test_more_than_there_is_does_not_move(self, partition: Partition) -> None:
        partition.stock("A", 5)
        partition("adjust", location="east", amount=5)
        before = partition.snapshot()
        assert partition("transfer", quantity=6).status == "stock_below_zero"
        assert partition("transfer", from_location="nowhere").status == "stock_below_zero"
        assert partition("transfer", sku="B").status == "sku_not_found"
        assert partition("transfer", sku="B", expected_sequence="*").status == "sequence_mismatch"
        assert partition.snapshot() == before
        assert partition("transfer", quantity=5).places["main"] == ("shared", 0, 0)

    def test_locations_are_bounded(self, partition: Partition) -> None:
        partition("adjust")
        for number in range(199):
            partition("adjust", location=f"l{number}", amount=0)
        before = partition.snapshot()
        assert partition("transfer", to_location="one too many").status == "too_many_locations"
        assert partition("transfer", from_location="nowhere", to_location="main").status == "stock_below_zero"
        assert partition.snapshot() == before
        assert partition("transfer", to_location="l7").status == "transferred"

    def test_expected_sequence(self, partition: Partition) -> None:
        partition.stock("A", 5)
        assert partition("transfer", expected_sequence="2").status == "sequence_mismatch"
        assert partition("transfer", expected_sequence="1").status == "transferred"
        assert partition("transfer", expected_sequence="*").status == "transferred"
