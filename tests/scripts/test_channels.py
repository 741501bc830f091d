"""What each channel has of a SKU, reserved and committed, and how much it may have."""

import pytest

from app.domain.types import Sku
from tests.scripts.partition import TTL_US, Partition
from tests.virtual_clock import SECOND_US


def promised(partition: Partition, sku: str = "A") -> dict[str, int]:
    fields = partition.client.hgetall(partition.keys.sku(Sku(sku)))
    return {
        name.decode().removeprefix("promised:"): int(units)
        for name, units in fields.items()
        if name.startswith(b"promised:")
    }


def test_what_a_channel_has_is_counted_through_the_life_of_its_reservations(partition: Partition) -> None:
    partition.stock("A", 20)
    held, sold = partition.hold("A", 5, channel="web"), partition.hold("A", 4, channel="web")
    other = partition.hold("A", 3, channel="shop")
    assert promised(partition) == {"web": 9, "shop": 3}
    partition("extend", token=held)
    partition("payment", token=held)
    partition("commit", "A", 3, token=sold)
    assert promised(partition) == {"web": 8, "shop": 3}, "what is not sold goes back, what is sold counts on"
    partition("allocate", "A", "main", 2, token=sold)
    partition("cancel", "A", 1, token=sold)
    assert promised(partition) == {"web": 7, "shop": 3}
    partition("release", token=other)
    assert promised(partition) == {"web": 7}, "a channel that has nothing has no field"
    partition.clock.advance_us(TTL_US)
    partition("expire")
    assert promised(partition) == {"web": 2}
    partition("cancel", token=sold)
    assert promised(partition) == {}


def test_a_void_takes_from_its_channel_and_a_window_nothing(partition: Partition) -> None:
    partition.stock("A", 5, reconciliation_hold_us=SECOND_US)
    partition("commit", token=partition.hold("A", 2, channel="web"))
    partition.hold("A", 3, channel="shop")
    partition("adjust", mode="count", amount=4)
    assert promised(partition) == {"web": 2}
    partition.clock.advance(1)
    partition("expire")
    assert promised(partition) == {"web": 2}


def test_a_channel_has_no_more_than_its_limit(partition: Partition) -> None:
    partition.stock("A", 20, channel_limits='{"web":5}')
    assert partition("reserve", "A", 6, channel="web").lines == "A\t5\t0"
    token = partition.hold("A", 3, channel="web")
    before = partition.snapshot()
    reply = partition("reserve", "A", 3, channel="web")
    assert (reply.status, reply.lines) == ("channel_limit_exceeded", "A\t5\t3")
    assert partition.snapshot() == before
    partition.hold("A", 2, channel="web")
    partition.hold("A", 9, channel="shop")
    partition("commit", token=token)
    assert partition("reserve", "A", 1, channel="web").status == "channel_limit_exceeded", "what is sold counts"
    partition("cancel", token=token)
    partition.hold("A", 3, channel="web")


def test_a_due_hold_does_not_count(partition: Partition) -> None:
    partition.stock("A", 20, channel_limits='{"web":5}')
    partition.hold("A", 5, channel="web")
    partition.clock.advance_us(TTL_US)
    partition.hold("A", 5, channel="web")


def test_a_limit_of_nothing_closes_a_channel(partition: Partition) -> None:
    partition.stock("A", 20, channel_limits='{"web":0}')
    assert partition("reserve", "A", 1, channel="web").lines == "A\t0\t0"
    partition.hold("A", 1, channel="shop")


def test_a_limit_below_what_the_channel_has_takes_nothing_back(partition: Partition) -> None:
    partition.stock("A", 20)
    token = partition.hold("A", 5, channel="web")
    partition("put_sku", "channel_limits", '{"web":2}')
    assert partition("availability", channel="web").channel_left == "0"
    assert partition("reserve", "A", 1, channel="web").lines == "A\t2\t5"
    assert partition("commit", token=token).status == "committed"
    partition("cancel", "A", 4, token=token)
    assert partition("availability", channel="web").channel_left == "1"
    partition.hold("A", 1, channel="web")


def test_what_is_left_of_a_limit_is_said_to_who_asks_for_the_channel(partition: Partition) -> None:
    partition.stock("A", 20, channel_limits='{"web":5}')
    partition.hold("A", 3, channel="web")
    left = {channel: partition("availability", channel=channel).channel_left for channel in ("web", "shop", "")}
    assert left == {"web": "2", "shop": "", "": ""}


@pytest.mark.parametrize(
    ("limits", "fields"),
    [
        ('{"web":7,"shop":1}', {"limit:web": "7", "limit:shop": "1"}),
        ('{"shop":1000000000000}', {"limit:shop": "1000000000000"}),
        ("{}", {}),
        ("", {}),
    ],
)
def test_limits_replace_those_before(partition: Partition, limits: str, fields: dict[str, str]) -> None:
    partition.stock("A", 20, channel_limits='{"web":5,"till":6}')
    partition("put_sku", "channel_limits", limits)
    stored = partition.client.hgetall(partition.keys.sku(Sku("A")))
    assert {name.decode(): text.decode() for name, text in stored.items() if name.startswith(b"limit:")} == fields


def test_an_order_of_refusals(partition: Partition) -> None:
    """The quantity one reservation may hold, then the channel's share, then the stock; of whichever line."""
    partition.stock("A", 1, channel_limits='{"web":5}', max_quantity_per_reservation=7)
    partition.stock("B", 1, channel_limits='{"web":1}')
    assert partition("reserve", "B", 2, "A", 8, channel="web").status == "quantity_above_limit"
    reply = partition("reserve", "A", 2, "B", 2, channel="web")
    assert (reply.status, reply.lines) == ("channel_limit_exceeded", "B\t1\t0")
    assert partition("reserve", "A", 6, "B", 2, channel="web").lines == "A\t5\t0", "the first line that exceeds"
    assert partition("reserve", "A", 2, "B", 1, channel="web").status == "out_of_stock"


def test_a_promise_beyond_stock_counts_too(partition: Partition) -> None:
    partition.stock("A", 1, channel_limits='{"web":3}', backorder_limit=9)
    partition.hold("A", 3, channel="web", allow_backorder=1)
    reply = partition("reserve", "A", 1, channel="web", allow_backorder=1)
    assert (reply.status, reply.lines) == ("channel_limit_exceeded", "A\t3\t3")
