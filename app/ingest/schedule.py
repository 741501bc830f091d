"""When a source is asked: how often by the hour, and how many requests a second."""

import asyncio
import math
from dataclasses import dataclass
from datetime import UTC, datetime

from app.connectors.source_settings import PollSettings

DAY_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long after one poll the next begins. The peak is in seconds of the UTC day, and may run over midnight."""

    interval_seconds: float
    off_peak_interval_seconds: float
    peak_begins: int
    peak_ends: int

    @classmethod
    def of(cls, settings: PollSettings) -> "Schedule":
        begins, ends = (_seconds_of_day(text) for text in settings.peak_hours.split("-"))
        return cls(settings.interval_seconds, settings.off_peak_interval_seconds, begins, ends)

    def seconds_to_next(self, began: datetime) -> float:
        """From the beginning of a poll to that of the next; off-peak no later than the peak begins."""
        at = began.astimezone(UTC)
        now = at.hour * 3600 + at.minute * 60 + at.second + at.microsecond / 1_000_000
        if self._is_peak(now):
            return self.interval_seconds
        return min(self.off_peak_interval_seconds, (self.peak_begins - now) % DAY_SECONDS)

    def _is_peak(self, now: float) -> bool:
        if self.peak_begins < self.peak_ends:
            return self.peak_begins <= now < self.peak_ends
        return now >= self.peak_begins or now < self.peak_ends


class Pace:
    """A token bucket: so many calls a second, and as many at once; without a rate as many as there are."""

    def __init__(self, calls_per_second: float | None) -> None:
        self._rate = calls_per_second
        self._next_at = -math.inf  # by the loop's clock, if calls came evenly

    async def wait(self) -> None:
        """Returns when the next call may go."""
        if self._rate is None:
            return
        now, burst = asyncio.get_running_loop().time(), max(1.0, self._rate)
        at = max(self._next_at, now - (burst - 1) / self._rate)
        self._next_at = at + 1 / self._rate
        await asyncio.sleep(max(0.0, at - now))


def _seconds_of_day(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 3600 + int(minutes) * 60
