import pytest

from tests.scripts.partition import TTL_US, Partition

ON_HAND_MAX = 10**12


def test_the_first_adjustment_makes_the_sku_and_its_location(partition: Partition) -> None:
    reply = partition("adjust", sku="A", location="east", amount=5, reason="found", details='{"reference":"r"}')
    assert (reply.status, reply.sequence, reply.on_hand, reply.available) == ("adjusted", "1", "5", "5")
    assert (reply.reserved, reply.committed, reply.backordered, reply.shortfall) == ("0", "0", "0", "0")
    assert reply.places == {"east": ("shared", 5, 0)}
    (entry,) = partition.entries()
    assert entry == {
        "sequence": "1",
        "type": "stock.adjusted",
        "at_us": str(partition.clock.now_us),
        "command": "1",
        "sku": "A",
        "quantity": "5",
        "on_hand": "5",
        "reserved": "0",
        "committed": "0",
        "backordered": "0",
        "available": "5",
        "safety_stock": "0",
        "location": "east",
        "location_kind": "shared",
        "source": "operator",
        "reason": "found",
        "data": '{"reference":"r"}',
    }


def test_deltas_add_and_counts_replace_at_their_location(partition: Partition) -> None:
    partition("adjust", location="east", amount=5)
    partition("adjust", location="west", amount=3)
    partition("adjust", location="east", amount=-2)
    reply = partition("adjust", location="west", mode="count", amount=10)
    assert (reply.on_hand, reply.places) == ("13", {"east": ("shared", 3, 0), "west": ("shared", 10, 0)})
    assert [entry["quantity"] for entry in partition.entries()] == ["5", "3", "-2", "7"]
    reply = partition("adjust", location="west", mode="count", amount=0)
    assert (reply.on_hand, reply.places) == ("3", {"east": ("shared", 3, 0), "west": ("shared", 0, 0)})


def test_nothing_goes_below_zero(partition: Partition) -> None:
    partition("adjust", location="east", amount=5)
    partition("adjust", location="west", amount=5)
    before = partition.snapshot()
    assert partition("adjust", location="east", amount=-6).status == "stock_below_zero"
    assert partition("adjust", location="new", amount=-1).status == "stock_below_zero"
    assert partition.snapshot() == before
    assert partition("adjust", location="east", amount=-5).on_hand == "5"


def test_quantities_end_at_their_limit(partition: Partition) -> None:
    assert partition("adjust", location="east", amount=ON_HAND_MAX - 1).on_hand == str(ON_HAND_MAX - 1)
    before = partition.snapshot()
    assert partition("adjust", location="east", amount=2).status == "above_limit"
    assert partition("adjust", location="west", amount=2).status == "above_limit"
    assert partition.snapshot() == before
    assert partition("adjust", location="west", amount=1).on_hand == str(ON_HAND_MAX)
    assert partition("adjust", location="west", mode="count", amount=0).on_hand == str(ON_HAND_MAX - 1)


def test_locations_are_bounded(partition: Partition) -> None:
    for number in range(200):
        partition("adjust", location=f"l{number}", amount=1)
    before = partition.snapshot()
    assert partition("adjust", location="one too many", amount=1).status == "too_many_locations"
    assert partition.snapshot() == before
    assert partition("adjust", location="l7", amount=1).on_hand == "201"


@pytest.mark.parametrize(
    ("expected", "status"),
    [("", "adjusted"), ("*", "adjusted"), ("2", "adjusted"), ("1", "sequence_mismatch"), ("3", "sequence_mismatch")],
)
def test_expected_sequence_of_a_sku(partition: Partition, expected: str, status: str) -> None:
    partition.stock("A", 5)
    partition.hold("A", 1)
    reply = partition("adjust", expected_sequence=expected)
    assert reply.status == status
    assert reply.sequence == ("3" if status == "adjusted" else "2")


@pytest.mark.parametrize(
    ("expected", "status"),
    [("", "adjusted"), ("0", "sequence_mismatch"), ("*", "sequence_mismatch"), ("1", "sequence_mismatch")],
)
def test_expected_sequence_of_a_sku_that_is_not(partition: Partition, expected: str, status: str) -> None:
    reply = partition("adjust", expected_sequence=expected)
    assert (reply.status, reply.sequence) == (status, "1" if status == "adjusted" else "0")


def test_a_due_hold_moves_the_sequence_before_it_is_compared(partition: Partition) -> None:
    partition.stock("A", 5)
    partition.hold("A", 1)
    partition.clock.advance_us(TTL_US)
    reply = partition("adjust", expected_sequence="2")
    assert (reply.status, reply.sequence) == ("sequence_mismatch", "3")


def test_a_change_of_nothing_is_still_recorded(partition: Partition) -> None:
    partition.stock("A", 5)
    assert partition("adjust", amount=0).status == "adjusted"
    assert partition("adjust", amount="-0").on_hand == "5"
    assert [entry["quantity"] for entry in partition.entries()] == ["5", "0", "0"]


@pytest.mark.parametrize(
    ("policy", "on_hand", "withheld"),
    [
        ({"safety_stock_units": 3}, 10, 3),
        ({"safety_stock_basis_points": 1000}, 10, 1),
        ({"safety_stock_basis_points": 1000}, 11, 2),
        ({"safety_stock_basis_points": 1}, 1, 1),
        ({"safety_stock_basis_points": 10_000}, 7, 7),
        ({"safety_stock_units": 3, "safety_stock_basis_points": 5000}, 5, 3),
        ({"safety_stock_units": 3, "safety_stock_basis_points": 5000}, 7, 4),
        ({"safety_stock_basis_points": 9999}, ON_HAND_MAX - 1, 999_900_000_000),
        ({"safety_stock_basis_points": 9999}, ON_HAND_MAX, 999_900_000_000),
    ],
)
def test_safety_stock(partition: Partition, policy: dict[str, object], on_hand: int, withheld: int) -> None:
    reply = partition.stock("A", on_hand, **policy)
    assert (reply.safety_stock, reply.available) == (str(withheld), str(on_hand - withheld))


def test_safety_stock_follows_what_arrives_and_is_counted_only(partition: Partition) -> None:
    partition.stock("A", 100, safety_stock_basis_points=1000)
    partition("commit", token=partition.hold("A", 50))
    assert partition("availability").safety_stock == "10"
    assert partition("adjust", amount=-40).safety_stock == "10"
    assert partition("adjust", amount=20).safety_stock == "8"
    assert partition("adjust", mode="count", amount=50).safety_stock == "5"
