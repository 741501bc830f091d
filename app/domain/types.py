"""The words everything else is said in: ids and the values that commands take and give."""

from dataclasses import dataclass
from typing import NewType

Sku = NewType("Sku", str)
Token = NewType("Token", str)

REVIEW_DUE_AFTER_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """Units of one SKU; `backordered` of them are promised beyond stock."""

    sku: Sku
    quantity: int
    backordered: int = 0


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of a SKU after a command: `available` units, negative never."""

    sku: Sku
    available: int
    low_stock_threshold: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reservation as an answer shows it. Times in us of engine time; `details` is the caller's JSON, empty for none.

    `expires_at_us` is the deadline, or while pending_reconciliation the end of the window.
    """

    token: Token
    status: str
    agent_id: str
    channel: str
    order_id: str
    details: bytes
    created_at_us: int
    expires_at_us: int
    sequence: int
    lines: tuple[Line, ...]
    remaining: tuple[Remaining, ...]

    @property
    def review_due_at_us(self) -> int | None:
        """A day after the promise, where units are promised beyond stock."""
        is_backordered = any(line.backordered for line in self.lines)
        return self.created_at_us + REVIEW_DUE_AFTER_US if is_backordered else None


@dataclass(frozen=True, slots=True)
class Policy:
    """How a SKU may be sold. Quantities in units; None where there is no limit or nothing is known."""

    safety_stock: int = 0
    safety_stock_basis_points: int = 0
    backorder_limit: int = 0
    low_stock_threshold: int = 5
    max_quantity_per_reservation: int | None = None
    reconciliation_hold_us: int = 0
    lead_time_days: int | None = None
    next_restock_date: str | None = None
    incoming: int = 0
    substitutes: tuple[str, ...] = ()
    variant_group: str | None = None


@dataclass(frozen=True, slots=True)
class SkuState:
    """A SKU's quantities, locations and policy as of one moment of engine time (us)."""

    sku: Sku
    as_of_us: int
    sequence: int
    on_hand: int
    reserved: int
    committed: int
    backordered: int
    safety_stock: int
    available: int
    shortfall: int
    next_release_us: int | None
    locations: tuple[tuple[str, int], ...]
    policy: Policy
