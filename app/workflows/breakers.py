"""Stops asking what fails or is slow, for a while.

closed --half of the last calls were bad--> open --pause--> half open --a good call--> closed
                                              ^----------------a bad call------|
"""

import time
from collections import deque
from collections.abc import Callable

CALLS_LOOKED_AT = 10
BAD_CALLS_MAX = 5


class Breaker:
    """Of one system. A call is bad that failed, or took `slow_seconds` or longer."""

    def __init__(
        self, *, slow_seconds: float, pause_seconds: float, now_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._slow_seconds = slow_seconds
        self._pause_seconds = pause_seconds
        self._now_seconds = now_seconds
        self._last_calls: deque[bool] = deque(maxlen=CALLS_LOOKED_AT)  # bad ones are true
        self._opened_seconds: float | None = None

    @property
    def is_open(self) -> bool:
        """Nothing may be asked now."""
        return self.pause_left_seconds > 0

    @property
    def pause_left_seconds(self) -> float:
        """For how long nothing may be asked; 0 where it may."""
        if self._opened_seconds is None:
            return 0.0
        return max(0.0, self._opened_seconds + self._pause_seconds - self._now_seconds())

    def record(self, *, seconds: float, has_failed: bool) -> None:
        """Takes into account how a call went."""
        is_bad = has_failed or seconds >= self._slow_seconds
        self._last_calls.append(is_bad)
        if self._opened_seconds is not None or sum(self._last_calls) >= BAD_CALLS_MAX:
            self._opened_seconds = self._now_seconds() if is_bad else None
            self._last_calls.clear()
