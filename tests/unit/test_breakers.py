"""When a breaker opens, and what closes it."""

import pytest

from app.domain.breakers import BreakerState, Forced, Order
from app.workflows.breakers import BAD_CALLS_MAX, CALLS_LOOKED_AT, Breaker

SLOW_SECONDS, PAUSE_SECONDS = 5.0, 60.0


class Clock:
    def __init__(self) -> None:
        self.now_seconds = 1000.0

    def __call__(self) -> float:
        return self.now_seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("partner", slow_seconds=SLOW_SECONDS, pause_seconds=PAUSE_SECONDS, now_seconds=clock)


GOOD, FAILED, SLOW = (0.1, False), (0.1, True), (SLOW_SECONDS, False)


def record(breaker: Breaker, *calls: tuple[float, bool]) -> None:
    for seconds, has_failed in calls:
        breaker.record(seconds=seconds, has_failed=has_failed)


@pytest.mark.parametrize("bad", [FAILED, SLOW])
def test_opens_where_half_of_the_last_calls_were_bad(breaker: Breaker, bad: tuple[float, bool]) -> None:
    for _ in range(BAD_CALLS_MAX - 1):
        record(breaker, bad, GOOD)
        assert not breaker.is_open
    record(breaker, bad)
    assert breaker.is_open
    assert breaker.pause_left_seconds == PAUSE_SECONDS


def test_old_calls_are_forgotten(breaker: Breaker) -> None:
    record(breaker, *[FAILED] * (BAD_CALLS_MAX - 1), *[GOOD] * CALLS_LOOKED_AT, *[FAILED] * (BAD_CALLS_MAX - 1))
    assert not breaker.is_open


def test_one_call_after_the_pause_decides(breaker: Breaker, clock: Clock) -> None:
    record(breaker, *[FAILED] * BAD_CALLS_MAX)
    clock.now_seconds += PAUSE_SECONDS - 1
    assert breaker.pause_left_seconds == 1
    clock.now_seconds += 1
    assert not breaker.is_open
    record(breaker, SLOW)
    assert breaker.pause_left_seconds == PAUSE_SECONDS
    clock.now_seconds += PAUSE_SECONDS
    record(breaker, GOOD)
    assert not breaker.is_open
    record(breaker, *[FAILED] * (BAD_CALLS_MAX - 1))  # what was before the pause counts no more
    assert not breaker.is_open


def test_one_that_is_told_stays_open_until_it_is_told_otherwise(clock: Clock) -> None:
    engine = Breaker("engine", now_seconds=clock)
    engine.open("away")
    clock.now_seconds += 1e9
    assert engine.is_open
    state = engine.state
    assert state == BreakerState("open", state.since_us, "away")
    engine.close()
    assert engine.state.standing == "closed"
    assert engine.pause_left_seconds == 0


def test_when_its_pause_is_over_it_is_half_open_and_says_when(breaker: Breaker, clock: Clock) -> None:
    record(breaker, *[FAILED] * BAD_CALLS_MAX)
    state = breaker.state
    assert (state.standing, state.reason) == ("open", "too many answers failed or were slow")
    assert abs((state.retry_at_us or 0) - state.since_us - PAUSE_SECONDS * 1_000_000) < 1_000_000
    clock.now_seconds += PAUSE_SECONDS
    assert breaker.state.standing == "half_open"


@pytest.mark.parametrize("forced", ["open", "closed"])
def test_what_a_person_orders_goes_before_its_own_judgement(breaker: Breaker, forced: Forced) -> None:
    breaker.obey(Order(forced, "maintenance", 5))
    assert breaker.is_open == (forced == "open")
    record(breaker, *[FAILED] * BAD_CALLS_MAX)
    assert breaker.is_open == (forced == "open")
    assert breaker.pause_left_seconds == 0
    breaker.obey(Order(None, None, 4))
    assert breaker.forced == forced, "an older word is none"
    breaker.obey(Order(None, None, 6))
    assert breaker.is_open, "as it judges"
    assert breaker.pause_left_seconds == PAUSE_SECONDS
