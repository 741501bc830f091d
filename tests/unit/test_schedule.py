"""When a source is asked."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.connectors.source_settings import PollSettings
from app.ingest.schedule import Pace, Schedule
from tests.virtual_loop import run_virtually


def schedule(peak_hours: str) -> Schedule:
    return Schedule.of(
        PollSettings.model_validate({"url": "https://p.example", "token": "t", "peak_hours": peak_hours})
    )


@pytest.mark.parametrize(
    ("peak_hours", "time", "seconds"),
    [
        ("00:00-24:00", "00:00:00", 30),
        ("00:00-24:00", "23:59:59", 30),
        ("08:00-18:30", "07:00:00", 300),
        ("08:00-18:30", "07:58:00", 120),  # the peak does not wait for what was planned before
        ("08:00-18:30", "07:59:59.5", 0.5),
        ("08:00-18:30", "08:00:00", 30),
        ("08:00-18:30", "18:29:59", 30),
        ("08:00-18:30", "18:30:00", 300),
        ("22:00-06:00", "21:59:00", 60),
        ("22:00-06:00", "23:00:00", 30),
        ("22:00-06:00", "05:59:59", 30),
        ("22:00-06:00", "06:00:00", 300),
    ],
)
def test_how_long_to_the_next(peak_hours: str, time: str, seconds: float) -> None:
    began = datetime.fromisoformat(f"2030-05-01T{time}+00:00")
    assert schedule(peak_hours).seconds_to_next(began) == pytest.approx(seconds)


def test_hours_are_utc() -> None:
    in_tokyo = datetime(2030, 5, 1, 17, 0, tzinfo=timezone(timedelta(hours=9)))
    assert in_tokyo.astimezone(UTC).hour == 8
    assert schedule("08:00-09:00").seconds_to_next(in_tokyo) == 30


@pytest.mark.parametrize(
    ("rate", "times"), [(2.0, [0, 0, 0.5, 1.0, 11.0, 11.0, 11.5]), (0.5, [0, 2, 4, 6, 16, 18, 20])]
)
def test_a_pace_is_kept_and_saves_up_a_second_at_most(rate: float, times: list[float]) -> None:
    async def scenario() -> list[float]:
        pace, loop = Pace(rate), asyncio.get_running_loop()
        went = []
        for number in range(7):
            if number == 4:
                await asyncio.sleep(10)
            await pace.wait()
            went.append(loop.time())
        return went

    assert run_virtually(scenario()) == pytest.approx(times)


def test_no_pace_waits_for_nothing() -> None:
    async def scenario() -> float:
        for _ in range(1000):
            await Pace(None).wait()
        return asyncio.get_running_loop().time()

    assert run_virtually(scenario()) == 0
