"""A gateway's estimate of engine time, kept going by its own monotonic clock between two answers of the engine."""

import time

MICROSECONDS = 1_000_000


class EngineClock:
    """Engine time as last heard plus what has passed here since."""

    __slots__ = ("_heard_ns", "_now_us")

    def __init__(self) -> None:
        self._now_us = 0
        self._heard_ns = 0

    def hear(self, now_us: int) -> None:
        """Takes the engine time (us) of an answer that just came."""
        self._now_us = now_us
        self._heard_ns = time.monotonic_ns()

    def now_us(self) -> int:
        """Engine time now, in us; 0 before the engine was heard."""
        return self._now_us + (time.monotonic_ns() - self._heard_ns) // 1000 if self._now_us else 0

    def offset_seconds(self) -> float:
        """How far engine time is ahead of this machine's wall clock, in seconds: an alarm when it is not near 0.

        0 before the engine was heard.
        """
        return self.now_us() / MICROSECONDS - time.time() if self._now_us else 0.0
