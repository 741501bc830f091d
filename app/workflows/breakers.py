"""Stops asking what fails or is slow, for a while.

closed --half of the last calls were bad--> open --pause--> half open --a good call--> closed
                                              ^----------------a bad call------|

A source's breaker judges by its calls. The engine's is told: it is opened when the engine was lost for some seconds,
and closed when its connection has passed the checks again. What a person orders goes before both.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping

import structlog

from app.connectors.source_settings import PollSettings
from app.domain.breakers import ENGINE, BreakerState, Order
from app.observability import metrics

CALLS_LOOKED_AT = 10
BAD_CALLS_MAX = 5
SLOW = 0.5  # of the time that a page may take

log = structlog.get_logger()

Breakers = Mapping[str, "Breaker"]


class Breaker:
    """Of one system. A call is bad that failed, or took `slow_seconds` or longer."""

    def __init__(
        self,
        name: str,
        *,
        slow_seconds: float = math.inf,
        pause_seconds: float = math.inf,
        now_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.order: Order | None = None
        self._ordered = asyncio.Event()
        self.reason: str | None = None
        self._slow_seconds = slow_seconds
        self._pause_seconds = pause_seconds
        self._now_seconds = now_seconds
        self._last_calls: deque[bool] = deque(maxlen=CALLS_LOOKED_AT)  # bad ones are true
        self._opened_seconds: float | None = None
        self._since_us = wall_us()

    @property
    def is_open(self) -> bool:
        """Nothing may be asked now."""
        if self._opened_seconds is None and self.order is None:
            return False  # as a rule, and every question about stock asks
        forced = self.forced
        return self.pause_left_seconds > 0 if forced is None else forced == "open"

    @property
    def forced(self) -> str | None:
        """What a person has ordered it to be."""
        return None if self.order is None else self.order.forced

    @property
    def pause_left_seconds(self) -> float:
        """For how long it asks nothing of its own accord; 0 where it may."""
        if self._opened_seconds is None or self.forced is not None:
            return 0.0
        return max(0.0, self._opened_seconds + self._pause_seconds - self._now_seconds())

    @property
    def state(self) -> BreakerState:
        """How it stands by its own judgement; when its pause is over it is half open."""
        if self._opened_seconds is None:
            return BreakerState("closed", self._since_us)
        left_seconds = self._opened_seconds + self._pause_seconds - self._now_seconds()
        retry_at_us = None if math.isinf(left_seconds) else wall_us() + int(left_seconds * 1_000_000)
        return BreakerState("open" if left_seconds > 0 else "half_open", self._since_us, self.reason, retry_at_us)

    def record(self, *, seconds: float, has_failed: bool) -> None:
        """Takes into account how a call went."""
        is_bad = has_failed or seconds >= self._slow_seconds
        self._last_calls.append(is_bad)
        if self._opened_seconds is not None or sum(self._last_calls) >= BAD_CALLS_MAX:
            if is_bad:
                self.open("too many answers failed or were slow")
            else:
                self.close()

    def open(self, reason: str) -> None:
        """Opens it, or begins its pause anew."""
        is_news = self._opened_seconds is None
        self._opened_seconds, self.reason = self._now_seconds(), reason
        self._last_calls.clear()
        if is_news:
            self._tell("open", reason)

    def close(self) -> None:
        """Closes it; what was before counts no more."""
        is_news = self._opened_seconds is not None
        self._opened_seconds = self.reason = None
        self._last_calls.clear()
        if is_news:
            self._tell("closed", None)

    def obey(self, order: Order) -> None:
        """Takes a person's word, unless it has heard a newer one."""
        if self.order is None or order.at_us > self.order.at_us:
            log.warning("breaker_ordered", breaker=self.name, forced=order.forced, reason=order.reason)
            self.order = order
            self._ordered.set()
            self._ordered = asyncio.Event()

    async def await_order(self) -> None:
        """Returns when a person orders something anew."""
        await self._ordered.wait()

    def _tell(self, standing: str, reason: str | None) -> None:
        self._since_us = wall_us()
        metrics.breaker_changes_total.labels(self.name, standing).inc()
        (log.warning if reason else log.info)(f"breaker_{standing}", breaker=self.name, reason=reason)


def make_breakers(polled: Mapping[str, PollSettings]) -> dict[str, Breaker]:
    """The engine's breaker, and one of each source that is polled."""
    sources = {name: make_source_breaker(name, settings) for name, settings in sorted(polled.items())}
    return {ENGINE: Breaker(ENGINE), **sources}


def make_source_breaker(
    name: str, settings: PollSettings, *, now_seconds: Callable[[], float] = time.monotonic
) -> Breaker:
    """The breaker of a source that is polled."""
    return Breaker(
        name,
        slow_seconds=settings.timeout_seconds * SLOW,
        pause_seconds=settings.backoff_seconds_max,
        now_seconds=now_seconds,
    )


def wall_us() -> int:
    """The machine's wall clock, in us: breakers are spoken of while the engine's clock is away, too."""
    return time.time_ns() // 1000
