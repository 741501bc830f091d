"""A clock that stands still until a test moves it, on a real engine.

The one include that reads the time is replaced by one that reads a key; all that is built on it is the real thing.
"""

from redis import Redis

from app.store.clock import EngineClock

SECOND_US = 1_000_000
START_US = 1_767_225_600 * SECOND_US  # 2026-01-01T00:00:00Z
KEY = "virtual_clock"

REPLACED_INCLUDES = {
    "wall_clock": f"""
local function wall_clock_us(_meta_key)
  return tonumber(redis.call('GET', '{KEY}'))
end
"""
}


class VirtualClock:
    """The engine's wall clock, in us. `gateways` are the clocks of the stores that live in this time."""

    def __init__(self, engine: Redis) -> None:
        self._engine = engine
        self.gateways: list[EngineClock] = []
        self.set(START_US)

    @property
    def now_us(self) -> int:
        return self._now_us

    def set(self, now_us: int) -> None:
        """Sets the engine's wall clock; no gateway sees time pass."""
        self._now_us = now_us
        self._engine.set(KEY, now_us)

    def step(self, seconds: float) -> None:
        """Moves the engine's wall clock alone: what happens when somebody sets it."""
        self.set(self._now_us + round(seconds * SECOND_US))

    def advance_us(self, us: int) -> None:
        """Lets that much time pass, for the engine and for every gateway."""
        self.set(self._now_us + us)
        for gateway in self.gateways:
            gateway.hear(gateway.now_us() + us)

    def advance(self, seconds: float) -> None:
        self.advance_us(round(seconds * SECOND_US))
