"""Every status that a script declares is produced: each has its scene here, and a status without one fails."""

from collections.abc import Callable

import pytest

from tests.scripts.deliveries import deliver, say
from tests.scripts.partition import SCRIPTS, TTL_US, Partition, Reply
from tests.scripts.scenes import KEYED, WORK, prepare

Scene = Callable[[Partition, str], Reply]


def work(partition: Partition, name: str) -> Reply:
    rest, given = prepare(partition, name, is_keyed=False)
    return partition(name, *rest, **given)


def twice(partition: Partition, name: str) -> Reply:
    rest, given = prepare(partition, name)
    partition(name, *rest, **given)
    return partition(name, *rest, **given)


def twice_otherwise(partition: Partition, name: str) -> Reply:
    rest, given = prepare(partition, name)
    partition(name, *rest, **given)
    return partition(name, *rest, **{**given, "fingerprint": "another"})


def again(partition: Partition, name: str) -> Reply:
    prepare(partition, name)
    rest = WORK[name] if name == "allocate" else ()  # the others take all when nothing is named
    partition(name, *rest)
    return partition(name, *rest)


def too_late(partition: Partition, name: str) -> Reply:
    rest, given = prepare(partition, name)
    return partition(name, *rest, **given, not_after_us=partition.clock.now_us - 1)


def of_a_released_one(partition: Partition, name: str) -> Reply:
    prepare(partition, "commit")
    partition("release")
    return partition(name, *WORK.get(name, ()))


def of_a_committed_one(partition: Partition, name: str) -> Reply:
    prepare(partition, "commit")
    partition("commit")
    return partition(name)


def with_too_many_keys(partition: Partition, name: str) -> Reply:
    prepare(partition, name)
    partition.client.hset(partition.key("reservation"), mapping={f"key:{number}": "" for number in range(300)})
    partition.is_damaged_on_purpose = True
    return partition(name, *WORK.get(name, ()), key_hash="k", fingerprint="f")


def too_much(partition: Partition, name: str) -> Reply:
    prepare(partition, name)
    return partition(name, *WORK[name][:-1], 3)


def in_a_shortfall(partition: Partition, name: str) -> Reply:
    prepare(partition, name)
    partition("payment")
    partition("adjust", mode="count", amount=0)
    return partition(name)


def beyond_the_lifetime(partition: Partition, name: str) -> Reply:
    prepare(partition, name)
    return partition(name, max_lifetime_us=1)


def with_too_much_due(partition: Partition, name: str) -> Reply:
    partition.stock("A", 201)
    partition.hold_many(201)
    partition.clock.advance_us(TTL_US)
    return partition(name, *(("A", 201) if name == "reserve" else WORK.get(name, ())), token="t")


def with_too_much_to_void(partition: Partition, name: str) -> Reply:
    """As much as can be lost at once: what is left of it is too much for one call."""
    if name == "reconcile":
        partition.update("count", 0, source="erp")
        partition.update("count", 201)
    else:
        partition.stock("A", 201)
    partition.hold_many(201)
    if name == "import_stock":
        return partition(name, "A", "main", "shared", 0, "")
    if name == "apply_update":
        return partition.apply(deliver(say("count", 0, at=1)))
    if name == "reconcile":
        return partition(name, "A")
    return partition(name, amount=-201, quantity=201, to_location_kind="dedicated")


def short_until_more_is_settled(partition: Partition, name: str) -> Reply:
    partition.stock("A", 202)
    for ttl_us in (*[TTL_US] * 201, 2 * TTL_US):
        partition("payment", token=partition.hold("A", 1), ttl_us=ttl_us)
    partition("adjust", mode="count", amount=0)
    partition.clock.advance_us(TTL_US)
    return partition(name, token="t202")


def with_every_location_taken(partition: Partition, name: str) -> Reply:
    partition("adjust")
    for number in range(199):
        partition("adjust", location=f"l{number}", amount=0)
    rest = ("A", "one too many", "shared", 1, "") if name == "import_stock" else ()
    return partition(name, *rest, **({"location": "one too many"} if name == "adjust" else {}))


def with_as_many_units_as_there_can_be(partition: Partition, name: str) -> Reply:
    partition.stock("A", 10)
    partition("adjust", location="east", location_kind="dedicated", amount=10**12)
    rest = ("A", "west", "shared", 10**12 - 9, "") if name == "import_stock" else ()
    return partition(name, *rest)


def of_a_limited_sku(partition: Partition, name: str) -> Reply:
    partition.stock("A", 10, max_quantity_per_reservation=1)
    return partition(name, "A", 2)


def of_a_sale_from_elsewhere(partition: Partition, name: str) -> Reply:
    prepare(partition, name)
    return partition(name, "A", "east", 1)


def of_a_sale_from_everywhere(partition: Partition, name: str) -> Reply:
    for number in range(200):
        partition("adjust", location=f"l{number}", amount=1)
    partition.stock("B", 1)
    token = partition.sell("A", 200, "B", 1)
    partition(name, *(value for number in range(200) for value in ("A", f"l{number}", 1)), token=token)
    return partition(name, "B", "main", 1, token=token)


def of_an_empty_sku(partition: Partition, name: str) -> Reply:
    partition.stock("A", 0)
    return partition(name, "A", 1)


def of_a_limited_channel(partition: Partition, name: str) -> Reply:
    partition.stock("A", 10, channel_limits='{"direct":1}')
    return partition(name, "A", 2)


def of_a_capped_caller(partition: Partition, name: str) -> Reply:
    partition.open(caps="1\t\t\t\t60000000")
    partition.stock("A", 10)
    partition.hold("A", 1)
    return partition(name, "A", 1)


def with_stock(**given: object) -> Scene:
    def scene(partition: Partition, name: str) -> Reply:
        partition.stock("A", 10)
        return partition(name, **given)

    return scene


def without_stock(*rest: object, **given: object) -> Scene:
    return lambda partition, name: partition(name, *(rest or WORK.get(name, ())), **given)


SCENES: dict[str, Scene] = {
    "idempotency_conflict": twice_otherwise,
    "replayed": twice,
    "too_late": too_late,
    "not_found": without_stock(),
    "sku_not_found": without_stock(),
    "above_limit": with_as_many_units_as_there_can_be,
    "too_many_locations": with_every_location_taken,
    "voiding": with_too_much_to_void,
    "too_many_keys": with_too_many_keys,
    "lifetime_exceeded": beyond_the_lifetime,
    "quantity_exceeds": too_much,
    "shortfall": in_a_shortfall,
    "ended": of_a_released_one,
    "unchanged": again,
    "reclaiming": with_too_much_due,
    "sequence_mismatch": with_stock(expected_sequence="7"),
    "commit reclaiming": short_until_more_is_settled,
    "release ended": of_a_committed_one,
    "acknowledge rolled_back": with_stock(sequence=7),
    "adjust stock_below_zero": with_stock(amount=-11),
    "adjust above_limit": with_stock(amount=10**12),
    "allocate location_short": of_a_sale_from_elsewhere,
    "allocate too_many_allocations": of_a_sale_from_everywhere,
    "transfer stock_below_zero": with_stock(quantity=11),
    "put_sku sku_not_found": without_stock(may_create=0),
    "put_sku created": without_stock(),
    "reserve agent_quota_exceeded": of_a_capped_caller,
    "reserve channel_limit_exceeded": of_a_limited_channel,
    "reserve quantity_above_limit": of_a_limited_sku,
    "reserve out_of_stock": of_an_empty_sku,
    "open_partition schema_mismatch": with_stock(schema_version=3),
    "open_partition partitions_mismatch": with_stock(partitions=2),
    "open_partition rolled_back": with_stock(sequence_seen=7),
}


@pytest.mark.parametrize(("name", "status"), [(name, status) for name, s in SCRIPTS.items() for status in s.statuses])
def test_status(partition: Partition, name: str, status: str) -> None:
    scene = SCENES.get(f"{name} {status}") or SCENES.get(status) or work
    assert scene(partition, name).status == status


def test_no_scene_is_left_over() -> None:
    declared = {status for script in SCRIPTS.values() for status in script.statuses}
    declared |= {f"{name} {status}" for name, script in SCRIPTS.items() for status in script.statuses}
    assert SCENES.keys() <= declared


def test_what_remembers_an_answer_declares_it() -> None:
    assert {name for name, script in SCRIPTS.items() if "replayed" in script.statuses} == set(KEYED)
