"""Engine time: the wall clock made safe. Deadlines are judged by it, and nothing else is."""

import pytest

from tests.scripts.partition import TIMEOUT_US, TTL_US, Partition
from tests.scripts.scenes import WORK
from tests.virtual_clock import SECOND_US

HOUR = 3600


def now_us(partition: Partition) -> int:
    return int(partition("expire").now_us)


def test_time_is_the_wall_clock_while_nobody_sets_it(partition: Partition) -> None:
    for seconds in (0.000_001, 1, 29, 31, 59):
        partition.clock.advance(seconds)
        assert now_us(partition) == partition.clock.now_us


@pytest.mark.parametrize("seconds", [1, 59, 61, HOUR, 30 * 24 * HOUR])
def test_time_that_the_gateway_saw_pass_counts_whole(partition: Partition, seconds: int) -> None:
    partition.clock.advance(seconds)
    assert now_us(partition) == partition.clock.now_us


def test_a_step_back_adds_nothing_and_time_goes_on(partition: Partition) -> None:
    partition.stock("A", 1)
    before_us = partition.clock.now_us
    token = partition.hold("A", 1)
    partition.clock.step(-HOUR)
    assert now_us(partition) == before_us
    partition.clock.advance_us(TTL_US - 1)
    assert partition("read", token=token).state == "held"
    partition.clock.advance_us(1)
    assert partition("read", token=token).state == "expired"
    assert now_us(partition) == before_us + TTL_US


def test_a_step_ahead_counts_for_a_minute_and_time_goes_on(partition: Partition) -> None:
    partition.stock("A", 2)
    before_us = partition.clock.now_us
    short, long = partition.hold("A", 1, ttl_us=60 * SECOND_US), partition.hold("A", 1, ttl_us=61 * SECOND_US)
    partition.clock.step(2 * HOUR)
    assert now_us(partition) == before_us + 60 * SECOND_US
    assert partition("read", token=short).state == "expired"
    assert partition("read", token=long).state == "held"
    partition.clock.advance_us(SECOND_US - 1)
    assert partition("read", token=long).state == "held"
    partition.clock.advance_us(1)
    assert partition("read", token=long).state == "expired"


def test_a_step_ahead_counts_as_far_as_the_gateway_saw_it(partition: Partition) -> None:
    before_us = partition.clock.now_us
    partition.clock.advance(10 * 60)
    partition.clock.step(2 * HOUR)
    reply = partition("expire", not_after_us=before_us + 600 * SECOND_US + TIMEOUT_US)
    assert int(reply.now_us) == before_us + 600 * SECOND_US + TIMEOUT_US


def test_a_restart_takes_the_time_that_passed_without_it(partition: Partition) -> None:
    partition.stock("A", 1)
    token = partition.hold("A", 1, ttl_us=HOUR * SECOND_US)
    partition.clock.step(2 * HOUR)
    assert partition.open(take_clock=1).now_us == str(partition.clock.now_us)
    assert partition("read", token=token).state == "expired"


def test_a_reconnect_does_not(partition: Partition) -> None:
    before_us = partition.clock.now_us
    partition.clock.step(2 * HOUR)
    assert partition.open(take_clock=0).now_us == str(before_us + 60 * SECOND_US)


def test_a_clock_that_was_set_back_and_forth_loses_what_passed_unseen(partition: Partition) -> None:
    before_us = partition.clock.now_us
    for _ in range(10):
        partition.clock.step(-HOUR)
        assert now_us(partition) == before_us
        partition.clock.step(HOUR)
        before_us += 60 * SECOND_US
        assert now_us(partition) == before_us


def test_readers_alone_store_the_clock_every_half_minute(partition: Partition) -> None:
    stored = partition.client.hget(partition.keys.meta, "wall_us")
    partition.clock.advance(30)
    partition("availability")
    assert partition.client.hget(partition.keys.meta, "wall_us") == stored
    partition.clock.advance_us(1)
    partition("availability")
    assert partition.client.hget(partition.keys.meta, "wall_us") == str(partition.clock.now_us).encode()


def test_an_idle_partition_is_in_time_if_readers_look_in(partition: Partition) -> None:
    for _ in range(10):
        partition.clock.step(31)
        partition("availability")
    assert now_us(partition) == partition.clock.now_us


def test_a_command_past_its_not_after_time_does_nothing(partition: Partition) -> None:
    partition.stock("A", 1)
    token = partition.hold("A", 1)
    partition.clock.advance_us(TTL_US)
    before = partition.snapshot()
    late = {"not_after_us": partition.clock.now_us - 1}
    assert partition("reserve", "A", 1, **late).status == "too_late"
    assert partition("adjust", **late).status == "too_late"
    for name in ("close_shortfall", "expire", "put_category", "put_sku", "transfer"):
        assert partition(name, **late).status == "too_late"
    for name in ("apply_update", "import_stock", "reconcile"):
        assert partition(name, *WORK[name], **late).status == "too_late"
    for verb in ("commit", "release", "extend", "payment", "cancel"):
        assert partition(verb, token=token, **late).status == "too_late"
    assert partition("allocate", *WORK["allocate"], token=token, **late).status == "too_late"
    assert partition.snapshot() == before
    assert partition("release", token=token, not_after_us=partition.clock.now_us).status == "unchanged"


def test_entries_are_in_the_order_of_time_whatever_the_wall_clock_does(partition: Partition) -> None:
    for seconds in (5, -HOUR, 1, 2 * HOUR, -1, 10, -3 * HOUR, 0.5):
        partition.clock.step(seconds)
        partition("expire")  # the gateway hears of it, else its next command would be too late
        assert partition("adjust").status == "adjusted"
    times = [int(entry["at_us"]) for entry in partition.entries()]
    assert times == sorted(times)
    assert len(times) == 8
