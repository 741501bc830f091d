"""A stock file in batches: what a row changes is written, what is so already is not, and one that cannot be ends it."""

import json

import pytest
from redis.exceptions import ResponseError

from app.domain.types import Sku
from tests.scripts.partition import TTL_US, Partition

UNITS_MAX = 10**12
NO_POLICY = ""


def policy(**fields: str) -> str:
    return json.dumps({"policy": fields})


def rows(*found: tuple[str, str, object, str]) -> list[object]:
    """Arguments of rows of sku, location, on_hand, policy, all at shared locations."""
    return [value for sku, location, on_hand, named in found for value in (sku, location, "shared", on_hand, named)]


def counted(sku: str, on_hand: int, *, location: str = "main", named: str = NO_POLICY) -> list[object]:
    return rows((sku, location, on_hand, named))


def test_a_row_counts_and_sets_the_policy_as_commands_of_their_own(partition: Partition) -> None:
    named = policy(safety_stock_basis_points="1000", lead_time_days="3")
    reply = partition("import_stock", *counted("A", 25, named=named), reason="import")
    assert (reply.status, reply.rows, reply.changed, reply.sequence) == ("done", "1", "1", "2")
    updated, adjusted = partition.entries()
    assert (updated["type"], updated["command"], updated["data"]) == ("sku.updated", "1", named)
    assert (adjusted["type"], adjusted["command"], adjusted["quantity"]) == ("stock.adjusted", "2", "25")
    assert (adjusted["source"], adjusted["reason"], adjusted["safety_stock"]) == ("operator", "import", "3")
    found = partition("availability")
    assert (found.on_hand, found.available, found.lead_time_days) == ("25", "22", "3")


def test_a_row_that_is_so_already_writes_nothing(partition: Partition) -> None:
    batch = [*counted("A", 25, named=policy(backorder_limit="2")), *counted("B", 0), *counted("C", 1)]
    assert partition("import_stock", *batch).changed == "3"
    before = partition.snapshot()
    again = partition("import_stock", *batch)
    assert (again.status, again.rows, again.changed) == ("done", "3", "0")
    assert partition.snapshot() == before


def test_only_what_differs_is_written(partition: Partition) -> None:
    partition("import_stock", *counted("A", 25, named=policy(backorder_limit="2", lead_time_days="3")))
    last = partition.sequence
    partition("import_stock", *counted("A", 24, named=policy(backorder_limit="2")))
    partition("import_stock", *counted("A", 24, named=policy(backorder_limit="4")))
    assert [entry["type"] for entry in partition.entries(last)] == ["stock.adjusted", "sku.updated"]
    assert partition("availability").lead_time_days == "3", "what is not named stays"


def test_a_count_reckons_the_safety_stock_anew(partition: Partition) -> None:
    partition.stock("A", 20, safety_stock_basis_points=5000)
    partition("adjust", amount=-10)
    assert partition("availability").safety_stock == "10"
    assert partition("import_stock", *counted("A", 10)).changed == "1"
    assert partition("availability").safety_stock == "5"


def test_a_policy_that_comes_from_the_category_becomes_the_skus_own(partition: Partition) -> None:
    partition("put_category", "backorder_limit", 3)
    partition("put_sku", "category", "flowers")
    batch = counted("A", 0, named=policy(backorder_limit="3"))
    assert partition("import_stock", *batch).changed == "1"
    partition("put_category", "backorder_limit", 9)
    partition("put_sku", "lead_time_days", 1)
    assert partition("availability").backorder_limit == "3"


def test_a_row_without_a_location_speaks_of_the_policy_alone(partition: Partition) -> None:
    reply = partition("import_stock", *rows(("A", "", "", policy())))
    assert (reply.status, reply.changed) == ("done", "1")
    assert partition("availability").status == "found"
    assert not partition.client.exists(partition.keys.locations(Sku("A")))


def test_a_kind_is_that_of_a_location_new_to_the_sku(partition: Partition) -> None:
    partition("import_stock", "A", "fba", "dedicated", 7, NO_POLICY)
    assert (partition("availability").on_hand, partition.locations("A")["kind fba"]) == ("0", "dedicated")
    partition("import_stock", "A", "fba", "shared", 8, NO_POLICY)
    assert partition("availability").on_hand == "0"


def test_a_check_writes_nothing_and_refuses_what_applying_would(partition: Partition) -> None:
    fits = [*counted("A", 5), *counted("B", UNITS_MAX - 1, location="east")]
    too_much = counted("B", 2, location="west")
    before = partition.snapshot()
    checked = partition("import_stock", *fits, *too_much, mode="check")
    assert (checked.status, checked.rows, checked.changed) == ("above_limit", "2", "0")
    assert partition.snapshot() == before
    applied = partition("import_stock", *fits, *too_much)
    assert (applied.status, applied.rows, applied.changed) == ("above_limit", "2", "2")


def test_a_sku_lies_at_200_locations_those_of_the_file_included(partition: Partition) -> None:
    for number in range(198):
        partition("adjust", location=f"l{number}", amount=1)
    batch = [value for name in ("x", "y", "z") for value in counted("A", 1, location=name)]
    for mode in ("check", "apply"):
        reply = partition("import_stock", *batch, mode=mode)
        assert (reply.status, reply.rows) == ("too_many_locations", "2")


def test_what_is_promised_and_gone_is_voided(partition: Partition) -> None:
    partition.stock("A", 10)
    kept, voided = partition.hold("A", 6), partition.hold("A", 4)
    last = partition.sequence
    reply = partition("import_stock", *counted("A", 7), *counted("B", 1))
    assert (reply.status, reply.rows, reply.changed) == ("done", "1", "1"), "the rest is for the next call"
    assert partition.told(last) == [
        ("stock.adjusted", "A", "-3", ""),
        ("reservation.voided", "A", "4", voided),
    ]
    assert partition("read", token=kept).state == "held"


def test_the_policy_of_a_row_covers_before_its_count_voids(partition: Partition) -> None:
    partition.stock("A", 10, safety_stock_units=5, backorder_limit=5)
    token = partition.hold("A", 8, allow_backorder=1)
    assert partition.backorders("A") == {token: 3}
    partition("import_stock", *counted("A", 6, named=policy(safety_stock_units="0")))
    assert partition("read", token=token).state == "voided", "what had stock behind it by then lost it"


def test_more_to_void_than_one_call_may_is_said(partition: Partition) -> None:
    partition.stock("A", 201)
    for _ in range(201):
        partition.hold("A", 1)
    reply = partition("import_stock", *counted("A", 0), *counted("B", 1))
    assert (reply.status, reply.rows, reply.changed) == ("voiding", "1", "1")
    assert partition("close_shortfall").status == "closed"


def test_what_is_due_comes_back_first(partition: Partition) -> None:
    partition.stock("A", 201)
    for _ in range(201):
        partition.hold("A", 1)
    partition.clock.advance_us(TTL_US)
    assert partition("import_stock", *counted("A", 5)).status == "reclaiming"
    assert partition("import_stock", *counted("A", 5)).status == "done"
    assert partition.balances("A")[:2] == (5, 0)


def test_too_late(partition: Partition) -> None:
    before = partition.snapshot()
    reply = partition("import_stock", *counted("A", 5), not_after_us=partition.clock.now_us - 1)
    assert (reply.status, partition.snapshot()) == ("too_late", before)


@pytest.mark.parametrize(
    "row",
    [
        (),
        ("A", "main", "shared", 5),
        ("A", "main", "elsewhere", 5, NO_POLICY),
        ("A", "main", "shared", -1, NO_POLICY),
        ("A", "main", "shared", "1e3", NO_POLICY),
        ("A", "main", "shared", UNITS_MAX + 1, NO_POLICY),
        ("A", "main", "shared", 5, "{"),
        ("A", "main", "shared", 5, "[]"),
        ("A", "main", "shared", 5, policy(unheard_of="1")),
        ("A", "main", "shared", 5, policy(backorder_limit="nan")),
    ],
)
def test_malformed_rows(partition: Partition, row: tuple[object, ...]) -> None:
    before = partition.snapshot()
    with pytest.raises(ResponseError, match=r"^BADARG"):
        partition("import_stock", *counted("B", 1), *row) if row else partition("import_stock")
    assert partition.snapshot() == before


def test_a_call_has_at_most_300_rows(partition: Partition) -> None:
    batch = [value for number in range(301) for value in counted(f"sku-{number}", 1)]
    with pytest.raises(ResponseError, match=r"^BADARG"):
        partition("import_stock", *batch)
    assert partition("import_stock", *batch[5:]).changed == "300"


def test_rows_before_one_that_meets_a_damaged_key_stand(partition: Partition) -> None:
    partition.is_damaged_on_purpose = True
    partition.client.rpush(partition.keys.locations(Sku("B")), "planted")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        partition("import_stock", *counted("A", 5), *counted("B", 5))
    assert partition("availability").on_hand == "5"
    assert partition.sequence == len(partition.entries())
