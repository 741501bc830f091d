"""No call works without end: what is left over is said, and done by the next calls."""

import statistics
import time

import pytest
from redis.exceptions import OutOfMemoryError

from app.domain.types import Sku
from tests.scripts.partition import DAY_MS, TTL_US, Partition
from tests.scripts.scenes import WORK
from tests.virtual_clock import SECOND_US

DUE = 20_000
TAKES = (
    "adjust", "allocate", "apply_update", "import_stock", "put_category", "put_sku", "reconcile", "reserve", "transfer",
)  # fmt: skip


def test_a_call_settles_200_lines_and_says_that_there_is_more(partition: Partition) -> None:
    partition.stock("A", 450)
    partition.hold_many(450)
    partition.clock.advance_us(TTL_US)
    assert partition("reserve", "A", 450, token="all").status == "reclaiming"
    assert partition.balances("A")[1] == 250
    assert partition("availability").status == "reclaiming"
    assert partition.balances("A")[1] == 50
    assert partition("reserve", "A", 450, token="all").status == "held"


def test_a_request_that_fits_already_does_not_wait_for_the_rest(partition: Partition) -> None:
    partition.stock("A", 450)
    partition.hold_many(450)
    partition.clock.advance_us(TTL_US)
    assert partition("reserve", "A", 200, token="some").status == "held"
    assert partition.balances("A")[1] == 450


def test_giving_back_works_behind_a_crowd_of_due_holds(partition: Partition) -> None:
    partition.stock("A", 1000)
    partition.hold_many(500)
    token = partition.hold("A", 1, ttl_us=2 * TTL_US)
    partition.clock.advance_us(TTL_US)
    assert partition("release", token=token).status == "released"


def test_twenty_thousand_due_holds_never_hold_the_engine_up(partition: Partition) -> None:
    partition.stock("A", DUE)
    partition.hold_many(DUE)
    partition.clock.advance_us(TTL_US)
    elapsed_ms, status = [], "reclaiming"
    while status == "reclaiming":
        started = time.perf_counter()
        status = partition("reserve", "A", DUE, token="all").status
        elapsed_ms.append((time.perf_counter() - started) * 1000)
    typical_ms = statistics.median(elapsed_ms)
    print(f"{DUE} due holds: {len(elapsed_ms)} calls, {typical_ms:.1f} ms each, {max(elapsed_ms):.1f} ms at most")
    assert status == "held"
    assert len(elapsed_ms) == DUE // 200
    assert typical_ms < 500, "200 lines take a few ms; the machine may be busy"


def test_what_has_ended_leaves_nothing_but_records_that_expire(partition: Partition) -> None:
    """A key without an owner is found here: all that is left belongs to a SKU, or goes by itself."""
    for sku in ("A", "B"):
        partition.stock(sku, 100, backorder_limit=10, reconciliation_hold_us=SECOND_US if sku == "B" else 0)
    for verb in ("release", "commit", "cancel", "extend", "payment", None):
        for lines in (("A", 1), ("A", 2, "B", 1)):
            token = partition.hold(*lines, fingerprint="f")
            if verb == "cancel":
                partition("commit", "A", 1, token=token)
            if verb:
                partition(verb, token=token, key_hash="k", fingerprint="f")
    partition("adjust", key_hash="k", fingerprint="f")
    sold = partition.sell("A", 1, order_id="o")
    for kind in ("pick", "count", "receive", "ship"):
        partition.update(kind, order="o" if kind in ("pick", "ship") else None)
    assert partition.record(sold)["status"] == "fulfilled"
    partition.clock.advance(3600)
    while partition("expire").next_deadline_us != "0":
        pass
    prefix, stays, expires = partition.keys.prefix.encode(), set(), []
    for key in partition.client.scan_iter(match=prefix + b"*"):
        kind = key.removeprefix(prefix).decode().split(":")[0]
        ttl_ms = partition.client.pttl(key)
        if kind in ("seen", "reservation", "order"):
            expires.append(ttl_ms)
        else:
            assert ttl_ms == -1
            stays.add(kind)
    assert stays == {"meta", "ledger", "sku", "locations", "facts"}
    assert all(0 < ttl_ms <= 31 * DAY_MS for ttl_ms in expires)
    assert partition.balances("A")[1] == partition.balances("B")[1] == 0
    assert partition.client.exists(partition.keys.deadlines, *(partition.keys.holds(Sku(sku)) for sku in "AB")) == 0


def test_out_of_memory_stops_what_takes_and_not_what_gives_back(partition: Partition) -> None:
    partition.stock("A", 10)
    held, sold, due = partition.hold("A", 1), partition.hold("A", 1), partition.hold("A", 1, ttl_us=1)
    partition.clock.advance(1)
    partition.client.config_set("maxmemory", 1)
    try:
        for name in TAKES:
            with pytest.raises(OutOfMemoryError):
                partition(name, *WORK.get(name, ()), token=sold)
        assert partition("read", token=due).state == "expired"
        assert partition("release", token=held).status == "released"
        assert partition("commit", token=sold, order_id="o").status == "committed"
        assert partition("cancel", token=sold).status == "cancelled"
        assert partition("close_shortfall").status == "closed"
        assert partition("expire").status == "swept"
        assert partition("availability").available == "10"
    finally:
        partition.client.config_set("maxmemory", 0)


def test_the_bound_is_of_the_call_and_not_of_each_sku(partition: Partition) -> None:
    for sku in ("A", "B"):
        partition.stock(sku, 150)
        for _ in range(150):
            partition.hold(sku, 1)
    partition.clock.advance_us(TTL_US)
    assert partition("reserve", "A", 150, "B", 150, token="all").status == "reclaiming"
    assert (partition.balances("A")[1], partition.balances("B")[1]) == (0, 100)
    assert partition("reserve", "A", 150, "B", 150, token="all").status == "held"
