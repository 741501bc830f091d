"""The engine is away: what is still said, what is refused at once, and that nobody has to do anything when it is back.

The engine stands still (SIGSTOP), because one that dies is started anew before anybody is without it.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import engines
from tests.gateway import Answer, Gateway, done, refused
from tests.service import Home, Service, eventually, open_home, paused

pytestmark = pytest.mark.archived

WORKERS = 2
FAST: dict[str, Any] = {
    "breaker_open_after_seconds": 0.3,
    "engine_timeout_seconds": 0.5,
    "engine_connect_timeout_seconds": 0.5,
    "sweep_interval_seconds_max": 0.1,
}
NOWHERE = {"connector": "rest", "poll": {"url": "http://127.0.0.1:1/", "token": "t", "backoff_seconds_max": 1}}
BACK_SECONDS_MAX, AT_ONCE_SECONDS = 5.0, 0.25
HEARD_SECONDS_MAX = 3.0  # a second, and what a machine that is busy adds; see tests/unit/test_breaker_watch.py
POLICIES = ("refuse", "assume_out_of_stock", "conservative", "assume_in_stock", "escalate")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """One for all tests here, each of which leaves it as it was."""
    with open_home(is_archived=True) as opened:
        service = opened.serve("--workers", str(WORKERS), sources={"partner": NOWHERE}, **FAST)
        service.gateway.hold_to_its_word()
        yield service


@pytest.fixture
def gateway(service: Service) -> Gateway:
    return service.gateway


def everywhere(attempt: Callable[[], bool], *, seconds_max: float = BACK_SECONDS_MAX) -> None:
    """In every worker: whichever takes the connection. Of 20 in a row one would have gone to the other."""
    eventually(lambda: all(attempt() for _ in range(20)), seconds_max=seconds_max)


def reserve(gateway: Gateway, sku: str) -> Answer:
    return gateway.post("reservations", {"sku": sku, "agent_id": "agent"})


def is_away(gateway: Gateway) -> bool:
    answer = gateway.get("/readyz")
    return answer.status == 503 and "breaker" in answer.json["detail"]


def is_back(gateway: Gateway, sku: str) -> bool:
    return reserve(gateway, sku).status == 201


def metrics(gateway: Gateway) -> str:
    return gateway.get("/metrics").body.decode()


def breaker(gateway: Gateway, name: str) -> dict[str, Any]:
    items: list[dict[str, Any]] = done(gateway.get("admin/breakers"))["items"]
    (found,) = [each for each in items if each["name"] == name]
    return found


def force(gateway: Gateway, name: str, forced: str | None, **reason: str) -> dict[str, Any]:
    return done(gateway("PUT", f"admin/breakers/{name}", {"forced": forced, **reason}))


def test_each_policy_while_the_engine_is_away(service: Service, gateway: Gateway) -> None:
    skus = {policy: gateway.stock(1000, degraded_policy=policy) for policy in POLICIES}
    limited = gateway.stock(1000, degraded_policy="escalate", channel_limits={"web": 3})
    empty = gateway.stock(0, degraded_policy="assume_in_stock")
    service.home.await_archive()
    workers = service.worker_pids
    with service.home.paused_engine():
        everywhere(lambda: is_away(gateway))
        assert done(gateway.get("/livez")) == {"status": "alive"}
        began = time.monotonic()
        refused(reserve(gateway, skus["assume_in_stock"]), 503, "ledger_unavailable")
        refused(gateway.post("reservations/0-AAAAAAAAAAAAAAAAAAAAAA/commit"), 503, "ledger_unavailable")
        refused(gateway.get(f"skus/{skus['escalate']}/availability?as_of=1"), 503, "ledger_unavailable")
        refused(gateway.get(f"skus/{skus['refuse']}/availability"), 503, "ledger_unavailable")
        refused(gateway.get("skus/unheard-of/availability"), 503, "ledger_unavailable")
        refused(gateway.post("availability", {"skus": [skus["refuse"], "unheard-of"]}), 503, "ledger_unavailable")
        assert time.monotonic() - began < 6 * AT_ONCE_SECONDS, "nobody waits for who is away"

        said = {policy: gateway.availability(sku) for policy, sku in skus.items() if policy != "refuse"}
        for policy, answer in said.items():
            assert (answer["source"], answer["degraded_policy"]) == ("last_known", policy)
            assert answer["advice"] == {"action": "retry_after", "retry_after_ms": 1000}
            assert 0 < answer["age_seconds"] < 60
            assert answer["confidence"] == pytest.approx(1 / (1 + answer["age_seconds"] / 60), abs=0.001)
            assert answer["on_hand_quantity"] == 1000
        assert said["assume_out_of_stock"]["available_quantity"] == 0
        assert said["assume_out_of_stock"]["pressure"] == "out"
        conservative = said["conservative"]
        assert conservative["available_quantity"] == pytest.approx(1000 * conservative["confidence"], abs=1)
        assert said["assume_in_stock"]["available_quantity"] == said["escalate"]["available_quantity"] == 1000
        assert gateway.availability(empty)["available_quantity"] == 1
        assert done(gateway.get(f"skus/{limited}/availability?channel=web"))["available_quantity"] == 3
        assert done(gateway.get(f"skus/{limited}/availability?location_id=elsewhere"))["locations"] == []
        batch = done(gateway.post("availability", {"skus": [skus["refuse"], skus["escalate"], "unheard-of"]}))
        assert [item["sku"] for item in batch["items"]] == [skus["escalate"]]
        assert (batch["missing"], batch["unavailable"]) == ([], [skus["refuse"], "unheard-of"])

        found = breaker(gateway, "engine")
        assert (found["state"], found["forced"], found["retry_at"]) == ("open", None, None)
        assert found["reason"]
        eventually(lambda: 'lastunit_breaker_open{name="engine"} 1.0' in metrics(gateway))
        assert 'lastunit_degraded_answers_total{policy="escalate"}' in metrics(gateway)
    everywhere(lambda: is_back(gateway, skus["refuse"]))
    assert service.worker_pids == workers, "nobody was restarted"
    assert done(gateway.get("/readyz")) == {"status": "ready"}
    assert gateway.availability(skus["assume_out_of_stock"])["source"] == "ledger"
    assert breaker(gateway, "engine")["state"] == "closed"


def test_a_worker_that_begins_while_the_engine_is_away(service: Service, gateway: Gateway) -> None:
    sku = gateway.stock(1000, degraded_policy="escalate")
    service.home.await_archive()
    with service.home.paused_engine():
        everywhere(lambda: is_away(gateway))
        before = set(service.worker_pids)
        os.kill(before.pop(), signal.SIGKILL)
        eventually(lambda: len(set(service.worker_pids) - before) == WORKERS - 1)
        everywhere(lambda: is_away(gateway), seconds_max=20)
        assert service.process.poll() is None
        assert {gateway.availability(sku)["available_quantity"] for _ in range(20)} == {1000}
    everywhere(lambda: is_back(gateway, sku))


def test_a_breaker_is_forced_in_every_worker(service: Service, gateway: Gateway) -> None:
    sku = gateway.stock(1000, degraded_policy="escalate")
    service.home.await_archive()
    found = force(gateway, "engine", "open", reason="the disk is exchanged")
    assert (found["state"], found["forced"], found["reason"]) == ("open", "open", "the disk is exchanged")
    everywhere(lambda: is_away(gateway), seconds_max=HEARD_SECONDS_MAX)
    assert "the disk is exchanged" in gateway.get("/readyz").json["detail"]
    refused(reserve(gateway, sku), 503, "ledger_unavailable")
    assert gateway.availability(sku)["source"] == "last_known"
    force(gateway, "engine", "closed")
    everywhere(lambda: is_back(gateway, sku), seconds_max=HEARD_SECONDS_MAX)
    with service.home.paused_engine():
        eventually(lambda: gateway.get("/readyz").status == 503)
        time.sleep(2 * FAST["breaker_open_after_seconds"])
        assert not is_away(gateway), "it never opens by itself"
        assert gateway.get(f"skus/{sku}/availability").status == 503
        force(gateway, "engine", None)
        everywhere(lambda: is_away(gateway))
        force(gateway, "partner", "open")
        everywhere(lambda: breaker(gateway, "partner")["forced"] == "open", seconds_max=HEARD_SECONDS_MAX)
    everywhere(lambda: is_back(gateway, sku))
    assert done(gateway.get("admin/connectors"))["items"][0]["state"] == "disabled"
    force(gateway, "partner", None)
    everywhere(lambda: done(gateway.get("admin/connectors"))["items"][0]["state"] == "failing")


def test_a_sources_breaker_is_seen_from_every_worker(gateway: Gateway) -> None:
    everywhere(lambda: breaker(gateway, "partner")["state"] != "closed", seconds_max=20)
    found = breaker(gateway, "partner")
    assert (found["reason"], found["retry_at"] > found["since"]) == ("too many answers failed or were slow", True)


def test_the_breakers_by_name(gateway: Gateway) -> None:
    items = done(gateway.get("admin/breakers"))["items"]
    assert [item["name"] for item in items] == ["engine", "partner"]
    for item in items:
        assert item.keys() == {"name", "state", "forced", "since", "reason", "retry_at"}
    refused(gateway("PUT", "admin/breakers/nobody", {"forced": "open"}), 404, "not_found")


def test_a_service_that_starts_while_its_engine_is_away(home: Home) -> None:
    """One that was served before may be away; where nothing ever was, that is an address to be corrected."""
    with engines.running(engines.chosen()[0]) as engine:
        service = home.serve(redis_url=engine.url, **FAST)
        sku = service.gateway.stock(1000, degraded_policy="escalate")
        held = service.gateway.reserve(sku)
        eventually(lambda: service.gateway.items("reservations", sku=sku))
        force(service.gateway, "engine", "open", reason="works")
        assert service.terminate() == 0
        with paused(engine.process.pid):
            gateway = home.serve(redis_url=engine.url, **FAST).gateway
            assert done(gateway.get("/livez")) == {"status": "alive"}
            assert breaker(gateway, "engine")["reason"] == "works", "what was ordered outlives who heard it"
            force(gateway, "engine", None)
            eventually(lambda: is_away(gateway))
            assert gateway.availability(sku)["available_quantity"] == 999
            refused(reserve(gateway, sku), 503, "ledger_unavailable")
        eventually(lambda: is_back(gateway, sku), seconds_max=BACK_SECONDS_MAX)
        assert gateway.read(held)["status"] == "held"
