"""A fulfilment decision: where the units of a sale are to be taken from. No sum changes by it."""

import pytest

from tests.scripts.partition import TTL_US, Partition
from tests.virtual_clock import SECOND_US


@pytest.fixture
def sold(partition: Partition) -> str:
    """The token of five units of A, which lies at three places, and one of B."""
    partition.stock("A", 4)
    partition("adjust", location="east", amount=3)
    partition("adjust", location="fba", location_kind="dedicated", amount=9)
    partition.stock("B", 2)
    return partition.sell("A", 5, "B", 1)


def allocated(partition: Partition, sku: str = "A") -> dict[str, int]:
    places = partition("availability", sku=sku).places
    return {name: units for name, (_, _, units) in places.items() if units}


def test_it_changes_the_locations_and_no_sum(partition: Partition, sold: str) -> None:
    before, balances = partition.sequence, partition.balances("A")
    reply = partition("allocate", "A", "main", 3, "A", "east", 2, token=sold)
    assert (reply.status, reply.state, reply.lines) == ("allocated", "committed", "A\t5\t0\nB\t1\t0")
    assert reply.sequence == str(partition.sequence) == str(before + 2)
    assert partition.balances("A") == balances
    assert partition("availability").places == {
        "main": ("shared", 4, 3),
        "east": ("shared", 3, 2),
        "fba": ("dedicated", 9, 0),
    }
    assert partition.record(sold)["allocations"] == "A\tmain\t3\nA\teast\t2"
    main, east = partition.entries(before)
    assert main == {
        "sequence": str(before + 1),
        "type": "stock.allocated",
        "at_us": str(partition.clock.now_us),
        "command": str(before + 1),
        "sku": "A",
        "quantity": "3",
        "on_hand": "7",
        "reserved": "0",
        "committed": "5",
        "backordered": "0",
        "available": "2",
        "token": sold,
        "agent": "agent",
        "channel": "direct",
        "expires_us": reply.expires_us,
        "location": "main",
        "reason": "",
        "data": '{"allocations":[["A","main",3],["A","east",2]]}',
    }
    changed = {"sequence": str(before + 2), "quantity": "2", "location": "east"}
    assert east == {**main, **changed}


def test_a_new_decision_replaces_the_one_about_the_same_sku(partition: Partition, sold: str) -> None:
    partition("allocate", "A", "main", 3, "B", "main", 1, "A", "east", 1, token=sold)
    before = partition.sequence
    partition("allocate", "A", "east", 3, "A", "main", 2, token=sold)
    assert allocated(partition) == {"main": 2, "east": 3}
    assert allocated(partition, "B") == {"main": 1}
    assert partition.record(sold)["allocations"] == "B\tmain\t1\nA\teast\t3\nA\tmain\t2"
    changes = [(entry["location"], entry["quantity"]) for entry in partition.entries(before)]
    assert changes == [("main", "-1"), ("east", "2")]


def test_a_decision_may_leave_units_undecided(partition: Partition, sold: str) -> None:
    partition("allocate", "A", "main", 4, token=sold)
    before = partition.sequence
    partition("allocate", "A", "east", 1, token=sold)
    assert allocated(partition) == {"east": 1}
    assert partition.locations("A")["on_hand main"] == "4"
    assert "allocated main" not in partition.locations("A")
    assert partition.told(before) == [("stock.allocated", "A", "-4", sold), ("stock.allocated", "A", "1", sold)]


def test_a_location_that_stays_as_it_was_has_no_entry(partition: Partition, sold: str) -> None:
    partition("allocate", "A", "main", 2, "A", "east", 2, token=sold)
    before = partition.sequence
    partition("allocate", "A", "main", 2, "A", "east", 3, token=sold)
    assert [entry["location"] for entry in partition.entries(before)] == ["east"]


def test_the_same_decision_again_changes_nothing(partition: Partition, sold: str) -> None:
    first = partition("allocate", "A", "main", 2, "A", "east", 1, token=sold)
    before = partition.snapshot()
    for rest in (("A", "main", 2, "A", "east", 1), ("A", "east", 1, "A", "main", 2)):
        again = partition("allocate", *rest, token=sold)
        assert again.status == "unchanged"
        assert again.same_as(first, but=("status",))
    assert partition.snapshot() == before


@pytest.mark.parametrize("rest", [("A", "main", 3, "A", "east", 3), ("C", "main", 1), ("A", "main", 1, "B", "main", 2)])
def test_no_more_is_allocated_than_was_sold(partition: Partition, sold: str, rest: tuple[object, ...]) -> None:
    before = partition.snapshot()
    assert partition("allocate", *rest, token=sold).status == "quantity_exceeds"
    assert partition.snapshot() == before


@pytest.mark.parametrize(
    "rest", [("A", "fba", 1), ("A", "nowhere", 1), ("A", "east", 4), ("A", "main", 1, "B", "east", 1)]
)
def test_a_location_gives_what_it_has_and_is_sold_from(
    partition: Partition, sold: str, rest: tuple[object, ...]
) -> None:
    before = partition.snapshot()
    assert partition("allocate", *rest, token=sold).status == "location_short"
    assert partition.snapshot() == before


def test_a_location_gives_each_unit_once(partition: Partition, sold: str) -> None:
    other = partition.sell("A", 2)
    assert partition("allocate", "A", "east", 2, token=sold).status == "allocated"
    assert partition("allocate", "A", "east", 2, token=other).status == "location_short"
    assert partition("allocate", "A", "east", 1, token=other).status == "allocated"
    assert partition("allocate", "A", "main", 2, token=sold).status == "allocated"
    assert partition("allocate", "A", "east", 2, token=other).status == "allocated"


def test_where_less_lies_than_was_decided_units_can_be_taken_away_only(partition: Partition, sold: str) -> None:
    partition("allocate", "A", "east", 3, token=sold)
    reply = partition("adjust", location="east", mode="count", amount=1)
    assert reply.places["east"] == ("shared", 1, 3)
    assert partition("allocate", "A", "east", 3, "A", "main", 1, token=sold).status == "allocated"
    assert partition("allocate", "A", "east", 2, "A", "main", 2, token=sold).status == "allocated"
    assert partition("allocate", "A", "east", 3, "A", "main", 2, token=sold).status == "location_short"


@pytest.mark.parametrize("state", ["held", "payment_pending", "pending_reconciliation", "released", "cancelled"])
def test_what_is_not_sold_is_not_allocated(partition: Partition, state: str) -> None:
    partition.stock("A", 5, reconciliation_hold_us=SECOND_US if state == "pending_reconciliation" else 0)
    token = partition.hold("A", 1)
    verbs = {"payment_pending": ["payment"], "released": ["release"], "cancelled": ["commit", "cancel"], "held": []}
    for verb in verbs.get(state, ["commit"]):
        partition(verb, token=token)
    before = partition.snapshot()
    reply = partition("allocate", "A", "main", 1, token=token)
    assert (reply.status, reply.state) == ("ended", state)
    assert partition.snapshot() == before


def test_a_cancel_takes_from_the_last_decided_first(partition: Partition, sold: str) -> None:
    partition("allocate", "A", "main", 2, "B", "main", 1, "A", "east", 2, token=sold)
    partition("cancel", "A", 1, token=sold)
    assert allocated(partition) == {"main": 2, "east": 2}, "one unit was not decided about"
    partition("cancel", "A", 1, token=sold)
    assert allocated(partition) == {"main": 2, "east": 1}
    partition("cancel", "A", 2, token=sold)
    assert allocated(partition) == {"main": 1}
    assert partition.record(sold)["allocations"] == "A\tmain\t1\nB\tmain\t1"
    partition("cancel", "B", 1, token=sold)
    assert (allocated(partition), allocated(partition, "B")) == ({"main": 1}, {})
    partition("cancel", token=sold)
    assert allocated(partition) == {}
    assert "allocations" not in partition.record(sold)


def test_a_cancel_says_what_is_no_longer_allocated(partition: Partition, sold: str) -> None:
    partition("allocate", "A", "main", 3, "B", "main", 1, "A", "east", 2, token=sold)
    before = partition.sequence
    reply = partition("cancel", "A", 3, "B", 1, token=sold, key_hash="k", fingerprint="f")
    entries = partition.entries(before)
    assert [(entry["type"], entry["sku"], entry["quantity"], entry.get("location")) for entry in entries] == [
        ("reservation.cancelled", "A", "3", None),
        ("reservation.cancelled", "B", "1", None),
        ("stock.allocated", "A", "-1", "main"),
        ("stock.allocated", "B", "-1", "main"),
        ("stock.allocated", "A", "-2", "east"),
    ]
    assert {(entry["command"], entry["data"]) for entry in entries} == {(str(before + 1), entries[0]["data"])}
    assert [(entries[at]["committed"], entries[at]["available"]) for at in (0, 4)] == [("2", "5")] * 2
    assert reply.sequence == str(partition.sequence) == entries[4]["sequence"]
    assert (partition("availability").sequence, partition("availability", sku="B").sequence) == (
        entries[4]["sequence"], entries[3]["sequence"],
    )  # fmt: skip


def test_units_that_a_cancel_frees_cover_once(partition: Partition) -> None:
    """Each entry of the cancel takes the same balances; who waits is covered by the first."""
    partition.stock("A", 4, backorder_limit=9)
    partition("adjust", location="east", amount=2)
    token = partition.sell("A", 6)
    partition("allocate", "A", "main", 4, "A", "east", 2, token=token)
    waiting = [partition.hold("A", 2, allow_backorder=1) for _ in range(2)]
    partition("cancel", "A", 3, token=token)
    assert partition.balances("A") == (6, 4, 3, 1)
    assert partition.backorders("A") == {waiting[1]: 1}
    assert allocated(partition) == {"main": 3}


def test_a_sale_that_waited_is_covered_and_cancelled(partition: Partition) -> None:
    partition.stock("A", 2, backorder_limit=9)
    token = partition.sell("A", 4, allow_backorder=1)
    partition("allocate", "A", "main", 2, token=token)
    partition("cancel", "A", 3, token=token)
    assert (partition.balances("A"), partition.backorders("A")) == ((2, 0, 1, 0), {})
    assert allocated(partition) == {"main": 1}


def test_a_reservation_is_taken_from_so_many_places(partition: Partition) -> None:
    for number in range(150):
        partition("adjust", location=f"l{number}", amount=1)
        partition("adjust", sku="B", location=f"l{number}", amount=1)
    token = partition.sell("A", 150, "B", 150)

    def allocate(sku: str, count: int) -> str:
        return partition("allocate", *(each for n in range(count) for each in (sku, f"l{n}", 1)), token=token).status

    assert (allocate("A", 150), allocate("B", 50)) == ("allocated", "allocated")
    before = partition.sequence, partition.record(token)
    assert allocate("B", 51) == "too_many_allocations"
    assert (partition.sequence, partition.record(token)) == before
    assert partition("cancel", token=token).status == "cancelled"
    assert partition.sequence == before[0] + 2 + 200


def test_what_a_line_that_is_gone_had_is_gone_too(partition: Partition, sold: str) -> None:
    partition("allocate", "A", "main", 2, "B", "main", 1, token=sold)
    partition("cancel", "A", 5, token=sold)
    assert (allocated(partition), allocated(partition, "B")) == ({}, {"main": 1})
    assert partition("allocate", "A", "main", 1, token=sold).status == "quantity_exceeds"
    partition("cancel", token=sold)
    assert allocated(partition, "B") == {}


def test_two_hundred_locations_can_be_named(partition: Partition) -> None:
    for number in range(200):
        partition("adjust", location=f"l{number}", amount=2)
    token = partition.sell("A", 200)
    before = partition.sequence
    rest = tuple(value for number in range(200) for value in ("A", f"l{number}", 1))
    assert partition("allocate", *rest, token=token).status == "allocated"
    assert partition.sequence == before + 200
    assert sum(allocated(partition).values()) == 200
    partition("cancel", "A", 199, token=token)
    assert allocated(partition) == {"l0": 1}


def test_a_transfer_leaves_decisions_as_they_are(partition: Partition, sold: str) -> None:
    partition("allocate", "A", "main", 4, token=sold)
    reply = partition("transfer", from_location="main", to_location="east", quantity=2)
    assert reply.places["main"] == ("shared", 2, 4)


def test_a_decision_leaves_the_sales_record_its_time(partition: Partition, sold: str) -> None:
    partition.clock.advance_us(TTL_US)
    ttl_ms = partition.ttl_ms(sold)
    partition("allocate", "A", "main", 1, token=sold)
    assert 0 < partition.ttl_ms(sold) <= ttl_ms
    assert partition("commit", token=sold).status == "unchanged"
