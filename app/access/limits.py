"""How often a key may call: N in a second or a minute, all of them at once if it likes, then evenly.

The arithmetic is pyrate-limiter's GCRA; what it needs to know of a holder is one number, kept here. Each process counts
for itself.
"""

import re
import time
from dataclasses import dataclass
from itertools import islice

from pyrate_limiter import GCRA, Rate

PATTERN = re.compile(r"([1-9][0-9]{0,6})/(second|minute)")
WINDOW_SECONDS = {"second": 1, "minute": 60}
HOLDERS_MAX = 10_000
MS = 1000


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a call: how many more may follow at once, and in how many seconds there are more again."""

    is_allowed: bool
    remaining: int
    wait_seconds: int


class RateLimit:
    """The same rate for every holder."""

    def __init__(self, text: str) -> None:
        match = PATTERN.fullmatch(text)
        assert match, "settings have checked it"
        self._calls_max, self._window_seconds = int(match[1]), WINDOW_SECONDS[match[2]]
        self._rates = [Rate(self._calls_max, self._window_seconds * MS)]
        self._algorithm = GCRA()
        self._states: dict[str, tuple[float, ...]] = {}
        self.policy = f'"default";q={self._calls_max};w={self._window_seconds}'.encode()

    def take(self, holder: str) -> Taken:
        """One call of the holder's."""
        now_ms = time.monotonic_ns() // 1_000_000
        state = self._states.get(holder)
        if state is None:
            state = self._algorithm.initial(self._rates)
            self._make_room(now_ms)
        state, decision = self._algorithm.step(self._rates, state, now_ms, 1)
        self._states[holder] = state
        if not decision.allowed:
            return Taken(is_allowed=False, remaining=0, wait_seconds=_seconds(decision.retry_after_ms or MS))
        consumed = self._algorithm.consumed(self._rates, state, now_ms)
        full_in_ms = consumed * self._window_seconds * MS // self._calls_max
        return Taken(is_allowed=True, remaining=self._calls_max - consumed, wait_seconds=_seconds(full_in_ms))

    def _make_room(self, now_ms: int) -> None:
        """Forgets who has all of its calls again, and if nobody has, the tenth that came first."""
        if len(self._states) >= HOLDERS_MAX:
            busy = {
                name: state
                for name, state in self._states.items()
                if self._algorithm.consumed(self._rates, state, now_ms)
            }
            first = HOLDERS_MAX // 10 if len(busy) == len(self._states) else 0
            self._states = dict(islice(busy.items(), first, None))


def _seconds(ms: int) -> int:
    """Whole seconds, one at least."""
    return max(1, -(-ms // MS))
