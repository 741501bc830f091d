"""An engine that stands still, forgets its scripts, is full, or whose clock is set."""

import random
import re
import time
from collections import Counter

import pytest

from tests.faults.conftest import Measure
from tests.faults.proof import heals, prove
from tests.faults.shop import ANSWER_SECONDS_MAX, Shop
from tests.faults.skewed_clock import FILE, SKEWED, set_clock
from tests.gateway import Gateway, done, refused
from tests.service import Home, eventually

PAUSES = 2
FLUSHES, FLUSH_SECONDS = 100, 0.02
HOUR_SECONDS = 3600
CLOCK_SECONDS_MAX = 60.0  # how much of a step ahead is believed
AWAY_SECONDS = 1.0


def test_an_engine_that_stands_still(home: Home, measure: Measure, chance: random.Random) -> None:
    """Errors in time, and no ghosts: what was given up takes no effect when the engine goes on."""
    service = home.serve()
    with Shop(service.gateway, chance) as shop:
        for _ in range(PAUSES):
            shop.advances(measure.commands // (PAUSES + 1), seconds_max=measure.seconds_max)
            brief = shop.hold_briefly(service.gateway)
            with home.paused_engine():
                time.sleep(chance.uniform(1, measure.pause_seconds_max))
            heals(shop, service.gateway, brief)
        shop.advances(measure.commands // (PAUSES + 1), seconds_max=measure.seconds_max)
    codes = Counter(answer.json["code"] for answer in shop.answers(503))
    assert codes.keys() <= {"outcome_unknown", "ledger_unavailable", "busy"}, codes
    assert shop.seconds_max < ANSWER_SECONDS_MAX
    prove(home, shop, service.gateway)


def test_scripts_are_flushed_under_load(home: Home, measure: Measure, chance: random.Random) -> None:
    """No client sees it."""
    service = home.serve()
    with Shop(service.gateway, chance) as shop, home.client() as client:
        for _ in range(FLUSHES):
            client.script_flush()
            time.sleep(FLUSH_SECONDS)
        shop.advances(measure.commands, seconds_max=measure.seconds_max)
    assert shop.answers(503) == shop.answers(429) == []
    assert all(attempt.answer for call in shop.calls for attempt in call.attempts)
    prove(home, shop, service.gateway)


def test_an_engine_without_memory(home: Home, measure: Measure, chance: random.Random) -> None:
    """It sells nothing more, and takes back, and sells what is held; with room it is as before."""
    service = home.serve()
    gateway = service.gateway
    with Shop(gateway, chance) as shop, home.client() as client:
        shop.advances(measure.commands // 2, seconds_max=measure.seconds_max)
        brief = shop.hold_briefly(gateway)
        held = [shop.hold(gateway, "kept", ttl_seconds=600) for _ in range(3)]
        client.config_set("maxmemory", 1)
        try:
            refused(gateway.post("reservations", {"sku": shop.skus[0], "agent_id": "agent"}), 503, "ledger_unavailable")
            done(shop.ask(gateway, f"reservations/{held[0]}/release", {}, key="r"))
            done(shop.ask(gateway, f"reservations/{held[1]}/commit", {"order_id": "a"}, key="c"))
            done(shop.ask(gateway, f"reservations/{held[2]}/commit", {"order_id": "b"}, key="d"))
            done(shop.ask(gateway, f"reservations/{held[2]}/cancel", {}, key="e"))
            eventually(lambda: gateway.read({"token": brief})["status"] == "expired")
            assert gateway.get("/readyz").status == 200, "it reads, and gives back"
        finally:
            client.config_set("maxmemory", 0)
        heals(shop, gateway, brief)
        shop.advances(measure.commands // 2, seconds_max=measure.seconds_max)
    prove(home, shop, gateway)


@pytest.mark.parametrize("step_seconds", [HOUR_SECONDS, -HOUR_SECONDS], ids=["ahead", "back"])
def test_a_clock_that_is_set(
    home: Home, step_seconds: int, measure: Measure, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No hold of more than a minute ends early, none lives on, and the alarm says that the clocks differ."""
    monkeypatch.setenv(FILE, str(home.data_dir.with_name("skew")))
    home.python = SKEWED
    gateway = home.serve().gateway
    with Shop(gateway, chance) as shop, home.client() as client:
        shop.advances(measure.commands // 3, seconds_max=measure.seconds_max)
        kept = shop.hold(gateway, "kept", ttl_seconds=600)
        for seconds in (step_seconds, 0):
            brief = shop.hold_briefly(gateway)
            set_clock(client, seconds)
            heals(shop, gateway, brief)
            assert gateway.read({"token": kept})["status"] == "held"
            eventually(lambda: abs(offset_seconds(gateway)) > CLOCK_SECONDS_MAX / 2)
            shop.advances(measure.commands // 3, seconds_max=measure.seconds_max)
    prove(home, shop, gateway, is_clock_true=False)


def offset_seconds(gateway: Gateway) -> float:
    """How far engine time is from the machine's clock, as the gateway's metrics have it."""
    metrics = gateway.get("/metrics").body.decode()
    (found,) = re.findall(r"^lastunit_clock_offset_seconds(?:{.*})? (\S+)$", metrics, re.MULTILINE)
    return float(found)


@pytest.mark.archived
def test_an_engine_that_is_away_for_long(home: Home, measure: Measure, chance: random.Random) -> None:
    """Nothing is held, and nobody waits to hear so; what was known is said as such; then all is as before."""
    service = home.serve(breaker_open_after_seconds=AWAY_SECONDS, engine_timeout_seconds=1)
    gateway = service.gateway
    sku = gateway.stock(1000)
    done(gateway("PATCH", f"skus/{sku}", {"degraded_policy": "conservative"}))
    home.await_archive()
    with Shop(gateway, chance) as shop:
        shop.advances(measure.commands // 2, seconds_max=measure.seconds_max)
        brief = shop.hold_briefly(gateway)
        with home.paused_engine():
            eventually(lambda: gateway.get(f"skus/{sku}/availability").status == 200)
            asked = time.monotonic()
            refused(gateway.post("reservations", {"sku": sku, "agent_id": "agent"}), 503, "ledger_unavailable")
            assert gateway.availability(sku)["available_quantity"] < 1000
            assert time.monotonic() - asked < 1
        heals(shop, gateway, brief)
        assert gateway.availability(sku)["available_quantity"] == 1000
        shop.advances(measure.commands // 2, seconds_max=measure.seconds_max)
    prove(home, shop, gateway)
