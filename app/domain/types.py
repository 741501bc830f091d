"""The words everything else is said in: ids and the values that commands take and give."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

Sku = NewType("Sku", str)
Token = NewType("Token", str)

REVIEW_DUE_AFTER_US = 24 * 3600 * 1_000_000
ALLOCATIONS_MAX = 200  # of a reservation, and of a call


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
class Location:
    """What a SKU has at one place. Only shared ones are sold from.

    Of its units `allocated` are to be taken from there for sales, by a fulfilment decision.
    """

    location_id: str
    is_shared: bool
    on_hand: int
    allocated: int

    @property
    def available(self) -> int:
        """Units nobody has decided about."""
        return max(0, self.on_hand - self.allocated)


@dataclass(frozen=True, slots=True)
class Allocation:
    """Units of a sale that are to be taken from one location."""

    sku: Sku
    location_id: str
    quantity: int


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
    category: str | None = None
    channel_limits: Mapping[str, int] = field(default_factory=dict)
    degraded_policy: str = "refuse"


@dataclass(frozen=True, slots=True)
class SkuState:
    """A SKU's quantities, locations and policy as of one moment of engine time (us).

    `channel_left` is how much more the channel asked about may have, None where it has no limit.
    """

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
    locations: tuple[Location, ...]
    policy: Policy
    channel_left: int | None = None
