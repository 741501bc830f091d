"""The rate of a holder, on a clock that is set by hand."""

import pytest

from app.access import limits
from app.access.limits import RateLimit, Taken


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time in ms, which a test moves."""
    now = [1_000_000]
    monkeypatch.setattr("app.access.limits.time.monotonic_ns", lambda: now[0] * 1_000_000)
    return now


def test_a_burst_then_evenly(clock: list[int]) -> None:
    limit = RateLimit("20/second")
    assert limit.policy == b'"default";q=20;w=1'
    taken = [limit.take("shop") for _ in range(20)]
    assert [each.remaining for each in taken] == list(range(19, -1, -1))
    assert limit.take("shop") == Taken(is_allowed=False, remaining=0, wait_seconds=1)
    assert limit.take("another").is_allowed
    clock[0] += 49
    assert not limit.take("shop").is_allowed
    clock[0] += 1
    assert limit.take("shop") == Taken(is_allowed=True, remaining=0, wait_seconds=1)
    assert not limit.take("shop").is_allowed
    clock[0] += 5000
    assert limit.take("shop").remaining == 19, "no more than a burst is saved up"


def test_seconds_to_wait_are_whole_and_enough(clock: list[int]) -> None:
    limit = RateLimit("2/minute")
    assert [limit.take("shop").is_allowed for _ in range(3)] == [True, True, False]
    clock[0] += 500
    wait_seconds = limit.take("shop").wait_seconds
    assert wait_seconds == 30
    clock[0] += 1000 * wait_seconds
    assert limit.take("shop").is_allowed


def test_what_is_kept_is_bounded(clock: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HOLDERS_MAX", 100)
    limit = RateLimit("1/minute")
    for number in range(1000):
        assert limit.take(f"holder {number}").is_allowed
        assert len(limit._states) <= 100
    assert not limit.take("holder 999").is_allowed
