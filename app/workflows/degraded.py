"""What is said of a SKU while the engine is away: by its policy, from what was known last. It never holds anything."""

from dataclasses import dataclass

from app.domain.types import SkuState

HALF_WORTH_US = 60 * 1_000_000  # after so long what was known last is worth half


@dataclass(frozen=True, slots=True)
class Assumed:
    """A SKU as it was known last, and how many units are assumed to be available now.

    `confidence` is what the last known quantities are still worth: 1 at once, 1/2 after a minute, 1/3 after two.
    """

    state: SkuState
    available: int
    age_us: int
    confidence: float


def assume(state: SkuState, *, channel: str | None, now_us: int) -> Assumed | None:
    """By the SKU's degraded_policy; None where that is to say nothing.

    `conservative` is the last known quantity times the confidence, rounded down, so of a single unit nothing is left
    at once. Of a channel that has a limit no more is available than that: what it had of it nobody knows now.
    """
    age_us = max(0, now_us - state.as_of_us)
    match state.policy.degraded_policy:
        case "assume_out_of_stock":
            available = 0
        case "conservative":
            available = state.available * HALF_WORTH_US // (HALF_WORTH_US + age_us)
        case "assume_in_stock":
            available = max(1, state.available)
        case "escalate":
            available = state.available
        case _:
            return None
    if channel is not None:
        available = min(available, state.policy.channel_limits.get(channel, available))
    return Assumed(state, available, age_us, HALF_WORTH_US / (HALF_WORTH_US + age_us))
