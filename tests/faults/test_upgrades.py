"""A gateway ends in good order, and gateways of two versions serve one engine side by side."""

import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.settings import load_settings
from app.store.engine import open_engine
from tests.faults.conftest import Measure
from tests.faults.history import History
from tests.faults.proof import heals, prove
from tests.faults.shop import Shop
from tests.service import ROOT, Home, Service, open_home

STOPS = 2


@pytest.fixture
def engine_url(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An engine that belongs to no service; it is as a service would have it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home.data_dir.parent))
    with open_engine(load_settings({"data_dir": home.data_dir})) as engine:
        yield engine.url


@pytest.fixture
def next_home(tmp_path: Path) -> Iterator[Home]:
    """Where another version runs: the same code but for its scripts, each of which is another text to the engine."""
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "lua", tmp_path / "lua")
    for script in (tmp_path / "lua").glob("*.lua"):
        script.write_text(f"{script.read_text()}-- The next version.\n")
    settling = tmp_path / "lua" / "includes" / "settle_due.lua"
    text = settling.read_text()
    settling.write_text(text.replace("ELSEWHERE_LINES_MAX = 4", "ELSEWHERE_LINES_MAX = 9"))
    assert settling.read_text() != text
    with open_home() as opened:
        opened.root = tmp_path
        yield opened


def test_versions_side_by_side(
    home: Home, next_home: Home, engine_url: str, measure: Measure, chance: random.Random
) -> None:
    """The next one comes beside, both serve, the old one goes in the middle of the sale; and the same way back."""
    part = measure.commands // 4
    old = home.serve(redis_url=engine_url)
    with home.client() as engine, Shop(old.gateway, chance) as shop:
        shop.advances(part, seconds_max=measure.seconds_max)
        known = _scripts(engine.info("memory"))
        for other in (next_home, home):
            new = other.serve(redis_url=engine_url)
            brief = shop.hold_briefly(new.gateway)
            shop.peers.append(new.gateway.peer)
            shop.advances(part, seconds_max=measure.seconds_max)
            _retire(shop, old)
            heals(shop, new.gateway, brief)
            shop.advances(part, seconds_max=measure.seconds_max)
            old = new
        assert _scripts(engine.info("memory")) == 2 * known, "each version has its own scripts"
    _nobody_is_in_doubt(prove(home, shop, old.gateway))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_gateway_that_ends_leaves_nobody_in_doubt(
    home: Home, engine_url: str, measure: Measure, chance: random.Random, *, workers: int
) -> None:
    """Others serve on. Whoever was not answered by the one that ended was not heard by it."""
    with ExitStack() as stack:
        homes = [home, *(stack.enter_context(open_home()) for _ in range(STOPS))]
        services = [each.serve("--workers", str(workers), redis_url=engine_url) for each in homes]
        with Shop(services[0].gateway, chance) as shop:
            shop.peers = [service.gateway.peer for service in services]
            for service in services[1:]:
                shop.advances(measure.commands // STOPS, seconds_max=measure.seconds_max)
                _retire(shop, service)
            shop.advances(measure.commands // STOPS, seconds_max=measure.seconds_max)
        _nobody_is_in_doubt(prove(home, shop, services[0].gateway))


def _retire(shop: Shop, service: Service) -> None:
    """No new agent comes to it, and it is told to end."""
    shop.peers.remove(service.gateway.peer)
    assert service.terminate() == 0


def _scripts(info: object) -> int:
    assert isinstance(info, dict)
    return int(info["number_of_cached_scripts"])


def _nobody_is_in_doubt(history: History) -> None:
    """What was asked and not answered has had no effect: the retry was the first."""
    unheard = 0
    for call in history.calls:
        answers = [attempt.answer for attempt in call.attempts]
        unheard += sum(answer is None for answer in answers)
        first = next((answer for answer in answers if answer), None)
        if answers[0] is None and call.key:
            has_effect = bool(history.effects[id(call)])
            was_heard = "idempotent-replayed" in first.headers if first else has_effect
            assert not was_heard, call
    print(f"{unheard} were not heard")
