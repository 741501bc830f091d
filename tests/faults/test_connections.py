"""What is between a gateway and its engine loses, tears, delays and holds back what they say; and clients leave."""

import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.settings import load_settings
from app.store.engine import open_engine
from tests.faults.conftest import Measure
from tests.faults.proof import heals, prove
from tests.faults.proxy import Proxy
from tests.faults.shop import Shop
from tests.gateway import Gateway
from tests.service import Home, Service, eventually

KINDS = ("tcp", "unix")
LOSS_SHARE, LOST_MIN = 0.05, 5
DELAY_SECONDS_MAX, LEAVES = 0.02, 0.4
STALL_SECONDS = 3.0  # longer than a call may take
STORM_AGENTS = 64

Served = tuple[Service, Proxy]


@pytest.fixture(params=KINDS)
def served(
    home: Home, monkeypatch: pytest.MonkeyPatch, chance: random.Random, request: pytest.FixtureRequest
) -> Iterator[Served]:
    """A service, and the proxy that it takes for its engine; the engine is as the service would have it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home.data_dir.parent))
    path = Path(home.data_dir.parent, "p") if request.param == "unix" else None
    with (
        open_engine(load_settings({"data_dir": home.data_dir})) as engine,
        Proxy(engine.url, path=path, chance=random.Random(chance.random())).open() as proxy,
    ):
        yield home.serve(redis_url=proxy.url), proxy


@pytest.mark.parametrize("tearing", ["whole", "torn"])
def test_replies_are_lost_after_the_effect(
    home: Home, served: Served, tearing: str, measure: Measure, chance: random.Random
) -> None:
    service, proxy = served
    with Shop(service.gateway, chance) as shop:
        brief = shop.hold_briefly(service.gateway)
        proxy.loss_share, proxy.may_tear = LOSS_SHARE, tearing == "torn"
        shop.advances(measure.commands, seconds_max=measure.seconds_max)
        eventually(lambda: proxy.replies_lost >= LOST_MIN, seconds_max=measure.seconds_max)
        proxy.loss_share = 0
        heals(shop, service.gateway, brief)
    assert "outcome_unknown" in {answer.json["code"] for answer in shop.answers(503)}
    prove(home, shop, service.gateway)


def cut(proxy: Proxy) -> None:
    proxy.cut()


def half_close(proxy: Proxy) -> None:
    proxy.half_close()


def refuse(proxy: Proxy) -> None:
    with proxy.refusing():
        time.sleep(STALL_SECONDS)


def stall(proxy: Proxy) -> None:
    with proxy.stalled():
        time.sleep(STALL_SECONDS)


@pytest.mark.parametrize("fault", [cut, half_close, refuse, stall], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("served", ["tcp"], indirect=True)
def test_a_connection_that_ends_or_falls_silent(
    home: Home, served: Served, fault: Callable[[Proxy], None], measure: Measure, chance: random.Random
) -> None:
    service, proxy = served
    part = measure.commands // 3
    with Shop(service.gateway, chance) as shop:
        for _ in range(2):
            shop.advances(part, seconds_max=measure.seconds_max)
            brief = shop.hold_briefly(service.gateway)
            fault(proxy)
            heals(shop, service.gateway, brief)
        shop.advances(part, seconds_max=measure.seconds_max)
    assert shop.answers(503), "it was seen"
    prove(home, shop, service.gateway)


@pytest.mark.parametrize("served", ["unix"], indirect=True)
def test_a_storm_of_clients_that_leave(home: Home, served: Served, measure: Measure, chance: random.Random) -> None:
    """Each that stays gets its own answer, and nothing is kept for those who left."""
    service, proxy = served
    proxy.delay_seconds_max = DELAY_SECONDS_MAX
    with Shop(service.gateway, chance, agents=STORM_AGENTS, leaves=LEAVES) as shop:
        shop.advances(measure.commands, seconds_max=measure.seconds_max)
    assert sum(1 for call in shop.calls for attempt in call.attempts if not attempt.answer) > measure.commands // 10
    eventually(lambda: gauges(service.gateway) == {"in_flight": 0, "waiting": 0})
    proxy.delay_seconds_max = 0
    prove(home, shop, service.gateway)
    assert "request_failed" not in home.stderr


def gauges(gateway: Gateway) -> dict[str, float]:
    """Calls to the engine that are open, and those that wait."""
    found = re.findall(
        r"^lastunit_engine_(in_flight|waiting) (\S+)$", gateway.get("/metrics").body.decode(), re.MULTILINE
    )
    return {name: float(value) for name, value in found}
