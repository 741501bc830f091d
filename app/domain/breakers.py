"""What a breaker can be, and what a person says of one."""

from dataclasses import dataclass
from typing import Literal

Standing = Literal["closed", "open", "half_open"]
Forced = Literal["open", "closed"]

ENGINE = "engine"  # the engine's breaker; every other has the name of its source


@dataclass(frozen=True, slots=True)
class BreakerState:
    """How a breaker stands, since when and why; at `retry_at_us` it tries again. Times in us of a wall clock."""

    standing: Standing
    since_us: int
    reason: str | None = None
    retry_at_us: int | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """A person's word of a breaker: be open, be closed, or with None judge for yourself. The newest holds."""

    forced: Forced | None
    reason: str | None
    at_us: int
