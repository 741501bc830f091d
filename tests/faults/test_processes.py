"""Processes end in every way in the middle of a sale, again and again."""

import os
import random
import signal
from collections.abc import Callable

import pytest
from redis.exceptions import RedisError

from tests.faults.conftest import Measure
from tests.faults.proof import BACK_SECONDS_MAX, heals, prove
from tests.faults.shop import Shop
from tests.service import Home, Service, eventually, is_free


def terminate(service: Service) -> Service:
    assert service.terminate() == 0
    with pytest.raises(RedisError):
        service.home.client().ping()
    return service.again()


def kill_gateway(service: Service) -> Service:
    engine = service.home.engine
    service.kill()
    back = service.again()
    assert service.home.engine == engine, "the orphan is adopted"
    return back


def kill_engine(service: Service) -> Service:
    pid = service.home.engine["pid"]
    service.home.kill_engine()
    eventually(lambda: service.home.engine["pid"] != pid, seconds_max=BACK_SECONDS_MAX)
    return service


def kill_both(service: Service) -> Service:
    service.kill()
    service.home.kill_engine()
    return service.again()


def kill_parent(service: Service) -> Service:
    service.kill()
    eventually(lambda: is_free(service.gateway.peer), seconds_max=BACK_SECONDS_MAX)
    return service.again()


def kill_worker(service: Service) -> Service:
    """One of two that serve; the other goes on, while a new one starts."""
    with service.home.client() as engine:
        eventually(lambda: sum(each["cmd"] == "evalsha" for each in engine.client_list()) == len(service.worker_pids))
    first, second = service.worker_pids
    os.kill(first, signal.SIGKILL)
    eventually(lambda: len(service.worker_pids) == 2 and first not in service.worker_pids)
    assert second in service.worker_pids
    return service


# What happens, to a service of so many workers, and how often: whatever starts the service anew takes its time.
FAULTS: list[tuple[Callable[[Service], Service], int, int]] = [
    (terminate, 1, 1),
    (terminate, 2, 1),
    (kill_gateway, 1, 2),
    (kill_engine, 1, 4),
    (kill_both, 1, 1),
    (kill_parent, 2, 1),
    (kill_worker, 2, 2),
]


@pytest.mark.parametrize(("fault", "workers", "times"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_nothing_acknowledged_is_lost(
    home: Home,
    measure: Measure,
    chance: random.Random,
    *,
    fault: Callable[[Service], Service],
    workers: int,
    times: int,
) -> None:
    """A basket has two lines at least: what ends in the middle of one is there whole, or not at all."""
    service = home.serve("--workers", str(workers))
    part = measure.commands // (times + 1)
    with Shop(service.gateway, chance, lines_min=2) as shop:
        for _ in range(times):
            shop.advances(part, seconds_max=measure.seconds_max)
            brief = shop.hold_briefly(service.gateway)
            service = fault(service)
            heals(shop, service.gateway, brief)
        shop.advances(part, seconds_max=measure.seconds_max)
    # A service that starts takes connections before it can answer.
    prove(home, shop, service.gateway, is_prompt=fault in (kill_engine, kill_worker))
