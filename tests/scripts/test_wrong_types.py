"""An error in mid-script leaves what was written: so a key of the wrong type is met before the first write."""

from contextlib import suppress

import pytest
from redis.exceptions import ResponseError

from app.domain.types import Sku
from tests.scripts.partition import SCRIPTS, TTL_US, Partition
from tests.scripts.scenes import READERS, VERBS, prepare

BASKET_KEYS = ("sku:A", "sku:B", "holds:A", "holds:B")
MET = {
    name: tuple(dict.fromkeys((*script.keys, *(BASKET_KEYS if name in (*VERBS, "reserve", "expire") else ()))))
    for name, script in SCRIPTS.items()
}


def key_named(partition: Partition, name: str) -> str:
    kind, colon, sku = name.partition(":")
    if not colon:
        return partition.key(name, {"sku": "A", "token": "t", "key_hash": "k"})
    return {"sku": partition.keys.sku, "holds": partition.keys.holds}[kind](Sku(sku))


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


@pytest.mark.parametrize("key", ["ledger", "deadlines", "reservation", *BASKET_KEYS])
@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in ("open_partition", "cancel")])
def test_settling_meets_its_keys_before_it_writes(partition: Partition, name: str, key: str) -> None:
    partition.stock("A", 10)
    partition.stock("B", 10)
    partition("reserve", "A", 2, "B", 1, token="t")
    partition.clock.advance_us(TTL_US)
    rest, given = ("A", 1) if name == "reserve" else (), {"token": "other"} if name == "reserve" else {}
    before = plant(partition, key)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        partition(name, *rest, **given)
    assert partition.snapshot() == before


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in (*READERS, "open_partition")])
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
