"""What one caller may hold at a time, so that nobody keeps stock from others without buying it (OWASP OAT-021)."""

from dataclasses import dataclass
from typing import Literal

Cap = Literal["open_holds", "held_units", "sku_share", "expired_holds"]


@dataclass(frozen=True, slots=True)
class Caps:
    """None caps nothing. A share is of what could be held of a SKU if nobody held any, rounded up, one unit at least.

    A caller that lets `expired_holds` holds expire within the cooldown holds nothing new for as long after the last.
    """

    open_holds: int | None = None
    held_units: int | None = None
    sku_share_basis_points: int | None = None
    expired_holds: int | None = None
    cooldown_us: int = 60_000_000

    @property
    def is_any(self) -> bool:
        """Something is capped."""
        limits = (self.open_holds, self.held_units, self.sku_share_basis_points, self.expired_holds)
        return any(limit is not None for limit in limits)


NO_CAPS = Caps()
