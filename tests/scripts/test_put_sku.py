import pytest

from tests.scripts.partition import Partition

POLICY = {
    "safety_stock_units": "1",
    "safety_stock_basis_points": "250",
    "backorder_limit": "3",
    "low_stock_threshold": "4",
    "max_quantity_per_reservation": "5",
    "reconciliation_hold_us": "2000000",
    "lead_time_days": "6",
    "next_restock_date": "2026-03-01",
    "incoming": "7",
    "substitutes": '["B"]',
    "variant_group": "shirts",
    "category": "flowers",
    "channel_limits": '{"web":8}',
    "degraded_policy": "conservative",
}


def flat(policy: dict[str, str]) -> list[str]:
    return [text for pair in policy.items() for text in pair]


def test_it_creates_a_sku_with_its_policy(partition: Partition) -> None:
    reply = partition("put_sku", *flat(POLICY))
    assert (reply.status, reply.sequence, reply.on_hand, reply.available) == ("created", "1", "0", "0")
    assert {name: getattr(reply, name) for name in POLICY} == POLICY
    (entry,) = partition.entries()
    assert (entry["type"], entry["quantity"], entry["location"]) == ("sku.updated", "0", "")


def test_it_changes_what_is_named(partition: Partition) -> None:
    partition("put_sku", *flat(POLICY))
    partition("adjust", amount=100)
    reply = partition("put_sku", "backorder_limit", "0", "variant_group", "")
    assert (reply.status, reply.on_hand) == ("updated", "100")
    assert {name: getattr(reply, name) for name in POLICY} == {**POLICY, "backorder_limit": "0", "variant_group": ""}


@pytest.mark.parametrize("field", POLICY)
def test_an_empty_text_takes_a_field_away(partition: Partition, field: str) -> None:
    partition("put_sku", *flat(POLICY))
    assert getattr(partition("put_sku", field, ""), field) == ""
    assert partition.client.hexists(partition.key("sku"), field) is False


def test_a_new_policy_changes_what_is_withheld(partition: Partition) -> None:
    partition.stock("A", 100)
    assert partition("put_sku", "safety_stock_basis_points", 2500).available == "75"
    assert partition("put_sku", "safety_stock_units", 30).available == "70"
    assert partition("put_sku", "safety_stock_units", 0, "safety_stock_basis_points", 0).available == "100"


def test_it_creates_only_where_it_may(partition: Partition) -> None:
    before = partition.snapshot()
    assert partition("put_sku", may_create=0).status == "sku_not_found"
    assert partition("put_sku", may_create=0, expected_sequence="*").status == "sequence_mismatch"
    assert partition("put_sku", may_create=1, expected_sequence="*").status == "sequence_mismatch"
    assert partition("put_sku", may_create=1, expected_sequence="0").status == "sequence_mismatch"
    assert partition.snapshot() == before
    assert partition("put_sku", may_create=1).status == "created"


@pytest.mark.parametrize(("expected", "status"), [("*", "updated"), ("1", "updated"), ("2", "sequence_mismatch")])
def test_expected_sequence(partition: Partition, expected: str, status: str) -> None:
    partition.stock("A", 5)
    assert partition("put_sku", expected_sequence=expected).status == status


def test_a_limit_below_what_is_promised_takes_nothing_back(partition: Partition) -> None:
    partition.stock("A", 1, backorder_limit=5)
    token = partition.hold("A", 4, allow_backorder=1)
    assert partition("put_sku", "backorder_limit", 1).backordered == "3"
    assert partition("reserve", "A", 1, allow_backorder=1).lines.split("\t")[2] == "0"
    assert partition("commit", token=token).status == "committed"
