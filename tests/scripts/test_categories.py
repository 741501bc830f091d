"""What a category says holds for its SKUs where they say nothing themselves, from when they are next written."""

import json

import pytest

from tests.scripts.partition import CATEGORY, Partition

DEFAULTS = ("backorder_limit", 3, "safety_stock_units", 2, "channel_limits", '{"web":5}', "lead_time_days", 9)


def members(partition: Partition, category: str = CATEGORY) -> set[str]:
    return {sku.decode() for sku in partition.client.zrange(partition.keys.category_skus(category), 0, -1)}


def inherited(partition: Partition, sku: str = "A") -> str:
    named = {"sku": sku, "token": "", "key_hash": ""}
    return (partition.client.hget(partition.key("sku", named), "inherited") or b"").decode()


def test_it_is_an_entry_of_no_sku(partition: Partition) -> None:
    partition.stock("A", 5)
    reply = partition("put_category", "backorder_limit", 3)
    assert (reply.status, reply.sequence, reply.now_us) == ("stored", "2", str(partition.clock.now_us))
    (entry,) = partition.entries(after=1)
    assert entry == {
        "sequence": "2",
        "type": "category.updated",
        "at_us": str(partition.clock.now_us),
        "command": "2",
        "sku": "",
        "quantity": "0",
        "on_hand": "0",
        "reserved": "0",
        "committed": "0",
        "backordered": "0",
        "available": "0",
        "safety_stock": "0",
        "location": "",
        "location_kind": "",
        "source": "operator",
        "reason": "",
        "data": '{"category":"flowers","policy":{"backorder_limit":"3"}}',
    }


def test_it_says_all_that_it_is_told_and_nothing_else(partition: Partition) -> None:
    key = partition.key("category")
    partition("put_category", "backorder_limit", 3, "safety_stock_units", 2)
    partition("put_category", "backorder_limit", 4, "lead_time_days", "")
    assert partition.client.hgetall(key) == {b"backorder_limit": b"4"}
    partition("put_category", "backorder_limit", "")
    assert partition.client.exists(key) == 0


def test_a_sku_takes_what_it_does_not_say(partition: Partition) -> None:
    partition("put_category", *DEFAULTS)
    partition("adjust", amount=10)
    reply = partition("put_sku", "category", CATEGORY, "backorder_limit", 7)
    assert (reply.backorder_limit, reply.safety_stock_units, reply.lead_time_days) == ("7", "2", "9")
    assert (reply.safety_stock, reply.available, reply.category) == ("2", "8", CATEGORY)
    assert inherited(partition) == "safety_stock_units,lead_time_days,channel_limits"
    assert partition("availability", channel="web").channel_left == "5"
    assert members(partition) == {"A"}


def test_a_new_sku_takes_it_at_once(partition: Partition) -> None:
    partition("put_category", *DEFAULTS)
    reply = partition("put_sku", "category", CATEGORY)
    assert (reply.status, reply.backorder_limit) == ("created", "3")


def test_what_a_sku_says_wins_and_taken_back_gives_way(partition: Partition) -> None:
    partition("put_category", *DEFAULTS)
    partition("put_sku", "category", CATEGORY)
    reply = partition("put_sku", "safety_stock_units", 0, "channel_limits", '{"shop":1}')
    assert (reply.safety_stock_units, reply.channel_limits) == ("0", '{"shop":1}')
    assert inherited(partition) == "backorder_limit,lead_time_days"
    assert partition("availability", channel="web").channel_left == ""
    reply = partition("put_sku", "safety_stock_units", "", "channel_limits", "")
    assert (reply.safety_stock_units, reply.channel_limits) == ("2", '{"web":5}')
    assert inherited(partition) == "safety_stock_units,backorder_limit,lead_time_days,channel_limits"


def test_saying_what_the_category_says_is_saying_it(partition: Partition) -> None:
    partition("put_category", *DEFAULTS)
    partition("put_sku", "category", CATEGORY, "backorder_limit", 3)
    partition("put_category", "backorder_limit", 4)
    assert partition("put_sku").backorder_limit == "3"


def test_a_change_holds_from_when_the_sku_is_next_written(partition: Partition) -> None:
    partition.stock("A", 10)
    partition("put_category", *DEFAULTS)
    partition("put_sku", "category", CATEGORY)
    partition("put_category", "safety_stock_units", 6, "degraded_policy", "conservative")
    before = partition("availability")
    assert (before.safety_stock_units, before.available) == ("2", "8")
    assert partition("adjust", amount=1).safety_stock_units == "2"
    reply = partition("put_sku")
    assert (reply.safety_stock_units, reply.available, reply.degraded_policy) == ("6", "5", "conservative")
    assert (reply.backorder_limit, reply.channel_limits, reply.lead_time_days) == ("", "", "")
    assert partition("availability", channel="web").channel_left == ""
    assert inherited(partition) == "safety_stock_units,degraded_policy"


def test_its_entry_says_what_a_sku_has_of_it(partition: Partition) -> None:
    partition("put_category", *DEFAULTS)
    partition("put_sku", "category", CATEGORY, "backorder_limit", 7, "lead_time_days", 1)
    partition("put_sku", "backorder_limit", "")
    partition("put_sku", "category", "")
    said = [json.loads(entry["data"]) for entry in partition.entries(after=1)]
    of_both = {"safety_stock_units": "2", "channel_limits": '{"web":5}'}
    assert said == [
        {
            "policy": {"category": CATEGORY, "backorder_limit": "7", "lead_time_days": "1"},
            "inherited": of_both,
        },
        {"policy": {"backorder_limit": ""}, "inherited": {**of_both, "backorder_limit": "3"}},
        {"policy": {"category": ""}},
    ]


def test_another_category_and_none(partition: Partition) -> None:
    partition("put_category", *DEFAULTS)
    partition("put_sku", "category", CATEGORY, "variant_group", "roses")
    reply = partition("put_sku", "category", "unheard of")
    assert (reply.backorder_limit, reply.variant_group, reply.category) == ("", "roses", "unheard of")
    assert (members(partition), members(partition, "unheard of")) == (set(), {"A"})
    assert inherited(partition) == ""
    assert partition("put_sku", "category", CATEGORY).backorder_limit == "3"
    reply = partition("put_sku", "category", "")
    assert (reply.backorder_limit, reply.category) == ("", "")
    assert (members(partition), members(partition, "unheard of")) == (set(), set())


def test_what_withholds_less_covers_who_waits(partition: Partition) -> None:
    partition("put_category", "safety_stock_units", 5, "backorder_limit", 9)
    partition.stock("A", 5, category=CATEGORY)
    token = partition.hold("A", 3, allow_backorder=1)
    assert partition.backorders("A") == {token: 3}
    partition("put_category", "safety_stock_units", 3, "backorder_limit", 9)
    assert partition("put_sku").backordered == "1"
    assert partition.backorders("A") == {token: 1}


@pytest.mark.parametrize("count", [1, 3])
def test_the_index_has_each_sku_once(partition: Partition, count: int) -> None:
    for sku in "ABC":
        for _ in range(count):
            partition("put_sku", "category", CATEGORY, sku=sku)
    assert members(partition) == {"A", "B", "C"}
