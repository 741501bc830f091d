"""What one caller may hold: open holds, units, a share of a SKU; and who lets holds expire waits before the next."""

import json

import pytest
from redis.exceptions import ResponseError

from tests.scripts.partition import TTL_US, Partition, Reply
from tests.virtual_clock import SECOND_US

ACCOUNT = "agent:agent"
COOLDOWN_US = 60 * SECOND_US


def cap(
    partition: Partition, *, holds: object = "", units: object = "", share: object = "", expired: object = ""
) -> None:
    """Opens the partition as a gateway with these caps does."""
    partition.open(caps=f"{holds}\t{units}\t{share}\t{expired}\t{COOLDOWN_US}")


def account(partition: Partition, name: str = ACCOUNT) -> dict[str, int]:
    fields = partition.client.hgetall(partition.keys.account(name))
    return {field.decode().replace("\t", " "): int(text) for field, text in fields.items()}


def holds(partition: Partition, name: str = ACCOUNT) -> dict[str, int]:
    found = partition.client.zrange(partition.keys.account_holds(name), 0, -1, withscores=True)
    return {token.decode(): int(deadline) for token, deadline in found}


def refused(reply: Reply, cap: str, *, limit: int, current: int, retry_at_us: int = 0, sku: str = "") -> bool:
    about = f"{cap}\t{limit}\t{current}\t{retry_at_us}\t{sku}"
    assert (reply.status, reply.lines) == ("agent_quota_exceeded", about)
    return True


def expire(partition: Partition, *lines: object) -> None:
    partition.hold(*(lines or ("A", 1)))
    partition.clock.advance_us(TTL_US)
    partition("expire")


def test_without_caps_nothing_is_kept_of_who_holds_what(partition: Partition) -> None:
    partition.stock("A")
    token = partition.hold("A", 1)
    assert account(partition) == holds(partition) == {}
    assert "account" not in partition.record(token)


def test_an_account_has_what_is_open_of_its_reservations(partition: Partition) -> None:
    cap(partition, holds=9)
    partition.stock("A", 20)
    partition.stock("B", 20)
    basket, one, other = (
        partition.hold("A", 2, "B", 3),
        partition.hold("A", 4),
        partition.hold("A", 5, account="holder:k"),
    )
    assert account(partition) == {"units": 9, "units A": 6, "units B": 3}
    assert account(partition, "holder:k") == {"units": 5, "units A": 5}
    later = int(partition("extend", token=one).expires_us)
    partition.clock.advance_us(SECOND_US)
    later = int(partition("payment", token=one, ttl_us=2 * TTL_US).expires_us)
    assert holds(partition) == {basket: later - SECOND_US - TTL_US, one: later}
    partition("commit", "A", 1, token=basket)
    assert account(partition) == {"units": 4, "units A": 4}, "what is sold is held no more, nor what goes back by that"
    partition("release", token=one)
    assert account(partition) == holds(partition) == {}
    partition("cancel", token=basket)
    partition.clock.advance_us(TTL_US)
    partition("expire")
    assert account(partition, "holder:k") == holds(partition, "holder:k") == {}
    assert partition("read", token=other).state == "expired"


def test_a_void_and_a_window_leave_the_account(partition: Partition) -> None:
    cap(partition, holds=9)
    partition.stock("A", 5, reconciliation_hold_us=SECOND_US)
    partition("commit", token=partition.hold("A", 2))
    assert account(partition) == holds(partition) == {}, "a window is a sale that waits for its proof"
    partition.hold("A", 3)
    partition("adjust", mode="count", amount=2)
    assert account(partition) == holds(partition) == {}
    partition.clock.advance_us(SECOND_US)
    partition("expire")
    assert account(partition) == {}


def test_open_holds_are_capped(partition: Partition) -> None:
    cap(partition, holds=2)
    partition.stock("A")
    first = partition.hold("A", 1)
    partition.clock.advance_us(SECOND_US)
    second = partition.hold("A", 1)
    deadline_us = holds(partition)[first]
    before = partition.snapshot()
    assert refused(partition("reserve", "A", 1, token="new"), "open_holds", limit=2, current=2, retry_at_us=deadline_us)
    assert partition.snapshot() == before
    partition.hold("A", 1, account="agent:another")
    partition("commit", token=second)
    partition.hold("A", 1)


def test_units_are_capped_over_all_skus(partition: Partition) -> None:
    cap(partition, units=5)
    partition.stock("A")
    partition.stock("B")
    assert refused(partition("reserve", "A", 3, "B", 3), "held_units", limit=5, current=0)
    token = partition.hold("A", 2, "B", 2)
    assert refused(
        partition("reserve", "A", 2, token="new"), "held_units", limit=5, current=4, retry_at_us=holds(partition)[token]
    )
    partition.hold("B", 1)
    partition("commit", "A", 1, token=token)
    partition.hold("A", 4)


@pytest.mark.parametrize(("on_hand", "share", "limit"), [(10, 3000, 3), (11, 3000, 4), (1, 100, 1), (100, 10000, 100)])
def test_a_share_of_a_sku_is_capped(partition: Partition, on_hand: int, share: int, limit: int) -> None:
    cap(partition, share=share)
    partition.stock("A", on_hand)
    partition.stock("B", 1000)
    assert refused(partition("reserve", "B", 1, "A", limit + 1), "sku_share", limit=limit, current=0, sku="A")
    token = partition.hold("A", limit)
    reply, retry_at_us = partition("reserve", "A", 1, token="new"), holds(partition)[token]
    assert refused(reply, "sku_share", limit=limit, current=limit, retry_at_us=retry_at_us, sku="A")
    partition.hold("B", 1)


def test_a_share_is_of_what_could_be_held_if_nobody_held_any(partition: Partition) -> None:
    cap(partition, share=5000)
    partition.stock("A", 10, safety_stock_units=2)
    partition.sell("A", 2, account="")
    partition.hold("A", 3, account="agent:another")
    partition.hold("A", 3)
    assert partition("reserve", "A", 1, token="new").status == "agent_quota_exceeded"


def test_due_holds_of_the_account_do_not_count_wherever_they_are(partition: Partition) -> None:
    cap(partition, holds=5)
    partition.stock("A", 300)
    partition.stock("B", 10)
    for _ in range(5):
        partition.hold("A", 1)
    partition.hold_many(100, account="")
    partition.clock.advance_us(TTL_US)
    partition.hold("B", 1)
    assert list(account(partition)) == ["units", "units B"]


def test_more_of_the_account_may_be_due_than_one_call_settles(partition: Partition) -> None:
    cap(partition, holds=300)
    partition.stock("A", 300)
    partition.stock("B", 10)
    partition.hold_many(300)
    partition.clock.advance_us(TTL_US)
    assert partition("reserve", "B", 1).status == "held", "a cap that is not met needs no proof"
    partition.hold_many(299)
    partition.clock.advance_us(TTL_US)
    cap(partition, holds=50)
    replies = [partition("reserve", "B", 1, token=f"new {number}").status for number in range(2)]
    assert replies == ["reclaiming", "held"]


def test_who_lets_holds_expire_waits(partition: Partition) -> None:
    cap(partition, expired=3)
    partition.stock("A", 10)
    expire(partition)
    expire(partition, "A", 2)
    first_us = partition.clock.now_us - TTL_US
    assert account(partition) == {"expired": 2, "expired_since_us": first_us}
    token = partition.hold("A", 1)
    deadline_us = holds(partition)[token]
    partition("payment", token=token)
    partition.clock.advance_us(TTL_US)
    assert partition("reserve", "A", 1, token="new").lines == f"expired_holds\t3\t3\t{deadline_us + COOLDOWN_US}\t"
    assert account(partition) == {"cooling_until_us": deadline_us + COOLDOWN_US}
    said = [json.loads(entry["data"]) for entry in partition.entries() if entry["type"] == "reservation.expired"]
    assert said == [
        {"expired": 1, "expired_since_us": first_us},
        {"expired": 2, "expired_since_us": first_us},
        {"cooling_until_us": deadline_us + COOLDOWN_US},
    ]
    partition.clock.advance_us(COOLDOWN_US - 1)
    assert partition("reserve", "A", 1, token="new").status == "agent_quota_exceeded"
    partition.clock.advance_us(1)
    partition.hold("A", 1, token="new")


def test_expiries_far_apart_and_holds_given_back_do_not_add_up(partition: Partition) -> None:
    cap(partition, expired=2)
    partition.stock("A", 10)
    expire(partition)
    partition("release", token=partition.hold("A", 1))
    partition.clock.advance_us(COOLDOWN_US - TTL_US)
    expire(partition)
    assert account(partition) == {"expired": 1, "expired_since_us": partition.clock.now_us}
    partition.hold("A", 1)


def test_a_pause_ends_with_the_cap(partition: Partition) -> None:
    cap(partition, expired=1)
    partition.stock("A", 10)
    expire(partition)
    assert partition("reserve", "A", 1, token="new").status == "agent_quota_exceeded"
    cap(partition, holds=1)
    partition.hold("A", 1)


def test_what_an_idle_account_is_remembered_for_is_forgotten_and_what_it_holds_is_not(partition: Partition) -> None:
    cap(partition, expired=5)
    partition.stock("A", 10)
    expire(partition)
    key = partition.keys.account(ACCOUNT)
    assert 0 < partition.client.pttl(key) <= 24 * 3600 * 1000
    partition.hold("A", 1)
    assert partition.client.pttl(key) == -1


def test_caps_that_are_taken_away_leave_nothing_behind(partition: Partition) -> None:
    cap(partition, holds=2)
    partition.stock("A", 10)
    counted = partition.hold("A", 1)
    partition.open(caps="keep")
    assert partition.record(counted)["account"] == ACCOUNT
    partition.hold("A", 1)
    partition.open(caps="")
    partition.hold("A", 1)
    uncounted = partition.hold("A", 1)
    assert account(partition) == {"units": 2, "units A": 2}
    cap(partition, holds=3)
    partition("release", token=uncounted)
    partition("release", token=counted)
    assert account(partition) == {"units": 1, "units A": 1}


def test_an_order_of_refusals(partition: Partition) -> None:
    """The quantity one reservation may hold, then the caller's caps, then the channel's share, then the stock."""
    cap(partition, holds=1, units=3, share=10000, expired=1)
    partition.stock("A", 2, max_quantity_per_reservation=5, channel_limits='{"direct":1}')
    assert partition("reserve", "A", 6).status == "quantity_above_limit"
    assert partition("reserve", "A", 4).lines.startswith("held_units")
    assert partition("reserve", "A", 3).lines.startswith("sku_share")
    assert partition("reserve", "A", 2).status == "channel_limit_exceeded"
    assert partition("reserve", "A", 2, channel="web").status == "held"
    assert partition("reserve", "A", 4, token="new").lines.startswith("open_holds")
    partition.clock.advance_us(TTL_US)
    assert partition("reserve", "A", 4, token="new").lines.startswith("expired_holds")


@pytest.mark.parametrize(
    "caps", ["1", "1\t2\t3\t4", "1\t2\t3\t4\t", "-1\t\t\t\t1", "\t\t\t\t1.5", "1\t2\t3\t4\t5\t6", "kept"]
)
def test_caps_that_are_none_are_refused(partition: Partition, caps: str) -> None:
    with pytest.raises(ResponseError, match="BADARG caps"):
        partition.open(caps=caps)


@pytest.mark.parametrize("key", ["account", "account_holds"])
@pytest.mark.parametrize("name", ["reserve", "release", "commit", "extend", "expire", "adjust"])
def test_a_key_of_the_wrong_type_stops_a_script_before_it_writes(partition: Partition, name: str, key: str) -> None:
    cap(partition, holds=9, expired=2)
    partition.stock("A", 3)
    partition.hold("A", 3, token="t")
    partition.is_damaged_on_purpose = True
    planted = getattr(partition.keys, key)(ACCOUNT)
    partition.client.delete(planted)
    partition.client.rpush(planted, "planted")
    if name == "expire":
        partition.clock.advance_us(TTL_US)
    before = partition.snapshot()
    work = (("A", 1), "new") if name == "reserve" else ((), "t")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        partition(name, *work[0], amount=0, mode="count", token=work[1])
    assert partition.snapshot() == before
