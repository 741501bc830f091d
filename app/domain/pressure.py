"""What an agent should make of a quantity: how scarce it is, and what to do next."""

from dataclasses import dataclass
from typing import Literal

Pressure = Literal["out", "low", "abundant", "normal"]
Action = Literal["proceed", "slow_down", "retry_after", "backorder", "preorder", "substitute", "give_up"]

ABUNDANT_FROM = 100


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do next. `retry_after_ms` and `next_release_us` (engine time) go with retry_after."""

    action: Action
    retry_after_ms: int | None = None
    next_release_us: int | None = None
    next_restock_date: str | None = None
    alternatives: tuple[str, ...] = ()


PROCEED = Advice("proceed")


def pressure_of(available: int, low_stock_threshold: int) -> Pressure:
    """How scarce a SKU is: the first of out, low, abundant, normal that fits."""
    if available <= 0:
        return "out"
    if available <= low_stock_threshold:
        return "low"
    return "abundant" if available >= ABUNDANT_FROM else "normal"


def advice_for(
    *,
    requested: int,
    available: int,
    backorder_left: int,
    next_release_us: int | None,
    releasable: int,
    now_us: int,
    next_restock_date: str | None = None,
    substitutes: tuple[str, ...] = (),
) -> Advice:
    """What to do about a wish for `requested` units: the first that may help, the nearest help first."""
    if requested <= available:
        return PROCEED
    if next_release_us is not None and requested <= releasable:
        retry_after_ms = max(1, -(-(next_release_us - now_us) // 1000))
        return Advice("retry_after", retry_after_ms=retry_after_ms, next_release_us=next_release_us)
    if requested <= max(available, 0) + backorder_left:
        return Advice("backorder")
    if next_restock_date is not None:
        return Advice("preorder", next_restock_date=next_restock_date)
    if substitutes:
        return Advice("substitute", alternatives=substitutes)
    return Advice("give_up")
