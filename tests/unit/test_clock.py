import time

import pytest

from app.store.clock import EngineClock


class Monotonic:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.ns = 123_456_789

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> Monotonic:
    clock = Monotonic()
    monkeypatch.setattr(time, "monotonic_ns", clock)
    return clock


def test_before_the_engine_was_heard_there_is_no_time(monotonic: Monotonic) -> None:
    clock = EngineClock()
    monotonic.ns += 10**9
    assert clock.now_us() == 0


def test_it_goes_on_from_what_it_heard(monotonic: Monotonic) -> None:
    clock = EngineClock()
    clock.hear(1_000_000)
    assert clock.now_us() == 1_000_000
    monotonic.ns += 2_500_999
    assert clock.now_us() == 1_002_500
    clock.hear(5)
    assert clock.now_us() == 5


def test_its_distance_from_the_wall_clock(monotonic: Monotonic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 100.0)
    clock = EngineClock()
    clock.hear(103_500_000)
    assert clock.offset_seconds() == 3.5
