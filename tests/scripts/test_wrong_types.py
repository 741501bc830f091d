"""An error in mid-script leaves what was written: so a key of the wrong type is met before the first write."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from redis.exceptions import ResponseError

from tests.scripts.partition import CATEGORY, SCRIPTS, TTL_US, Partition
from tests.scripts.scenes import READERS, VERBS, WORK, prepare
from tests.virtual_clock import SECOND_US

BASKET_KEYS = ("sku:A", "sku:B", "holds:A", "holds:B")
MET = {
    name: tuple(dict.fromkeys((*script.keys, *(BASKET_KEYS if name in (*VERBS, "reserve", "expire") else ()))))
    for name, script in SCRIPTS.items()
}
MET["allocate"] += ("locations:A",)
MET["apply_update"] = ("meta", "ledger", "deadlines", "delivery", "sku:A", "locations:A", "facts:A")
MET["close_shortfall"] += ("reservation", "sku:B", "holds:B", "backorders:A", "backorder_queue:A")
MET["import_stock"] += ("sku:A", "holds:A", "locations:A")
MET["reconcile"] += ("sku:A", "locations:A", "facts:A")
MET["put_category"] = ("meta", "ledger", "category")  # it never looks at the deadlines
MET["put_sku"] += ("category", "category_skus")
UNSETTLING = ("acknowledge", "open_partition", "put_category")


def key_named(partition: Partition, name: str) -> str:
    kind, _, sku = name.partition(":")
    if kind == "delivery":
        return partition.key("seen")
    if kind == "order":
        return partition.keys.order("direct", "o")
    return partition.key(kind, {"sku": sku or "A", "token": "t", "key_hash": "k"})


def plant(partition: Partition, name: str) -> dict[bytes, object]:
    """Puts a list, which nothing of ours is, in the place of a key; every key as it is then."""
    partition.is_damaged_on_purpose = True
    key = key_named(partition, name)
    partition.client.delete(key)
    partition.client.rpush(key, "planted")
    return partition.snapshot()


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in MET.items() for key in keys])
def test_a_key_of_the_wrong_type_stops_the_script_before_it_writes(partition: Partition, name: str, key: str) -> None:
    rest, given = prepare(partition, name)
    before = plant(partition, key)
    with suppress(ResponseError) if name in READERS else pytest.raises(ResponseError, match="WRONGTYPE"):
        partition(name, *rest, **given)
    assert partition.snapshot() == before


@pytest.mark.parametrize(
    "key", ["ledger", "deadlines", "reservation", *BASKET_KEYS, "backorders:B", "backorder_queue:B"]
)
@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in UNSETTLING])
def test_settling_meets_its_keys_before_it_writes(partition: Partition, name: str, key: str) -> None:
    partition.stock("A", 10)
    partition.stock("B", 0, backorder_limit=5)
    partition("reserve", "A", 2, "B", 1, token="t", allow_backorder=1)
    partition.clock.advance_us(TTL_US)
    given = {"token": "other"} if name == "reserve" else {}
    before = plant(partition, key)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        partition(name, *WORK.get(name, ()), **given)
    assert partition.snapshot() == before


WAITED_FOR = ("reservation", *BASKET_KEYS, "backorders:A", "backorder_queue:A", "backorders:B", "backorder_queue:B")


@pytest.mark.parametrize("key", WAITED_FOR)
@pytest.mark.parametrize("name", ["adjust", "transfer", "import_stock", "commit", "close_shortfall"])
def test_voiding_meets_its_keys_before_its_command_writes(partition: Partition, name: str, key: str) -> None:
    """The basket `t` is to be voided for A; its line of B waits for stock."""
    partition.stock("B", 0, backorder_limit=5)
    partition.stock("A", 201)
    partition("reserve", "A", 1, "B", 1, token="t", allow_backorder=1)
    if name in ("commit", "close_shortfall"):
        partition.hold_many(199)
        payment = partition.hold("A", 1)
        partition("payment", token=payment)
        assert partition("adjust", mode="count", amount=0).status == "voiding"
        given: dict[str, object] = {"token": payment}
    else:
        given = {"amount": -201, "quantity": 201, "to_location_kind": "dedicated"}
    before = plant(partition, key)
    rest = ("A", "main", "shared", 0, "") if name == "import_stock" else ()
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        partition(name, *rest, **given)
    assert partition.snapshot() == before


GIVING_BACK: dict[str, tuple[object, ...]] = {
    "adjust": (),
    "cancel": (),
    "commit": ("A", 1),
    "import_stock": ("A", "main", "shared", 5, ""),
    "put_sku": ("safety_stock_units", 0),
    "release": (),
    "transfer": (),
}


@pytest.mark.parametrize("key", ["backorders:A", "backorder_queue:A"])
@pytest.mark.parametrize("name", GIVING_BACK)
def test_covering_meets_its_keys_before_its_command_writes(partition: Partition, name: str, key: str) -> None:
    """Another's promise waits for the units that come."""
    partition.stock("A", 3, safety_stock_units=1, backorder_limit=5)
    partition("adjust", location="east", location_kind="dedicated")
    token = partition.hold("A", 2)
    partition.hold("A", 1, allow_backorder=1)
    if name == "cancel":
        partition("commit", token=token)
    before = plant(partition, key)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        partition(name, *GIVING_BACK[name], token=token, from_location="east", to_location="main")
    assert partition.snapshot() == before


@pytest.mark.parametrize("name", ["extend", "payment", "commit", "release"])
@pytest.mark.parametrize("key", ["backorders:A", "backorder_queue:A"])
def test_what_was_covered_is_looked_up_before_anything_is_written(partition: Partition, name: str, key: str) -> None:
    """No unit of A waits any more, but the record's lines say that one did."""
    partition.stock("A", 1, backorder_limit=1)
    token = partition.hold("A", 2, allow_backorder=1)
    partition("adjust", amount=1)
    before = plant(partition, key)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        partition(name, token=token)
    assert partition.snapshot() == before


OF_AN_ORDER: dict[str, Callable[[Partition], object]] = {
    "a ship": lambda partition: partition.update("ship", 2, order="o"),
    "a cancel": lambda partition: partition.update("cancel", 2, order="o"),
    "our sale": lambda partition: partition("commit", token="t2", order_id="o"),
    "our cancel": lambda partition: partition("cancel", "A", 1),
    "the end of a window": lambda partition: partition("expire"),
}
ITS_KEYS = (
    "ledger", "deadlines", "order", "reservation", *BASKET_KEYS, "locations:A", "locations:B", "facts:A",
    "backorders:B", "backorder_queue:B",
)  # fmt: skip


MEETS = [(event, key) for event in OF_AN_ORDER for key in ITS_KEYS if (event, key) != ("a cancel", "facts:A")]


@pytest.mark.parametrize(("event", "key"), MEETS)
def test_an_order_meets_its_keys_before_its_command_writes(partition: Partition, event: str, key: str) -> None:
    """All of B has left, of which a unit waited for stock. The event fulfils the sale `t`, or takes units from it."""
    partition.stock("A", 10)
    partition.stock("B", 1, backorder_limit=5)
    partition("reserve", "A", 2, "B", 2, token="t", allow_backorder=1)
    partition("commit", order_id="o")
    partition("allocate", "A", "main", 2, "B", "main", 1)
    partition.update("ship", 2, order="o", sku="B")
    if event in ("our sale", "the end of a window"):  # one more was picked and has left than is known as sold
        if event == "the end of a window":
            partition("put_sku", "reconciliation_hold_us", SECOND_US)
        partition("reserve", "A", 1, token="t2")
        partition.update("pick", 3, order="o")
        partition.update("ship", 3, order="o")
        if event == "the end of a window":
            assert partition("commit", token="t2", order_id="o").state == "pending_reconciliation"
            partition.clock.advance(1)
    assert partition.record("t")["status"] == "committed"
    before = plant(partition, key)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        OF_AN_ORDER[event](partition)
    assert partition.snapshot() == before


def test_cancelling_meets_the_locations_before_it_writes(partition: Partition) -> None:
    rest, given = prepare(partition, "allocate")
    partition("allocate", *rest, **given)
    before = plant(partition, "locations:A")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        partition("cancel")
    assert partition.snapshot() == before


def test_leaving_a_category_meets_its_index_before_it_writes(partition: Partition) -> None:
    partition("put_sku", "category", CATEGORY)
    before = plant(partition, "category_skus")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        partition("put_sku", "category", "")
    assert partition.snapshot() == before


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in (*READERS, "acknowledge", "open_partition")])
def test_a_ledger_that_is_ahead_of_its_partition_stops_it(partition: Partition, name: str) -> None:
    rest, given = prepare(partition, name)
    partition.is_damaged_on_purpose = True
    partition.client.xadd(partition.keys.ledger, {"type": "planted"}, id=f"{partition.sequence + 5}-0")
    before = partition.snapshot()
    with pytest.raises(ResponseError, match="ID specified in XADD is equal or smaller"):
        partition(name, *rest, **given)
    assert partition.snapshot() == before


def test_a_deadline_without_its_reservation_is_an_error_and_no_loop(partition: Partition) -> None:
    partition.stock("A", 10)
    token = partition.hold("A", 1)
    partition.client.delete(partition.key("reservation", {"sku": "A", "token": token, "key_hash": ""}))
    partition.is_damaged_on_purpose = True
    partition.clock.advance_us(TTL_US)
    before = partition.snapshot()
    for name in ("availability", "expire"):
        with pytest.raises(ResponseError, match="INVARIANT"):
            partition(name)
    assert partition.snapshot() == before
