"""What the outside says of stock: a delivery is some lines of one source, each a fact about a SKU at a location."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from app.domain.types import Sku

COUNTER_MAX = 2**53 - 1


class UpdateKind(StrEnum):
    """What happened. The last is an observation: recorded, believed by nobody."""

    RECEIVE = "receive"
    RETURN = "return"
    ADJUST = "adjust"
    COUNT = "count"
    TRANSFER = "transfer"
    SALE = "sale"
    PICK = "pick"
    PACK = "pack"
    SHIP = "ship"
    CANCEL = "cancel"
    OBSERVE = "observe"


class SourcePriority(IntEnum):
    """Whose count is believed where several stand side by side."""

    MARKETPLACE = 1
    PARTNER = 2
    WAREHOUSE = 3


class UpdateStatus(StrEnum):
    """What became of a line. All but the first three are why it could not be applied, and wait as dead letters."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    STALE = "stale"
    UNKNOWN_SKU = "unknown_sku"
    UNKNOWN_REFERENCE = "unknown_reference"
    TOO_MANY_LOCATIONS = "too_many_locations"
    TOO_MANY_EVENTS = "too_many_events"
    ABOVE_LIMIT = "above_limit"


@dataclass(frozen=True, slots=True)
class StockUpdate:
    """One line. Quantity in units: signed for adjust, what is there for count and observe, else positive.

    `number` is where the line stands in its delivery, from 0. `clock` has the source's own system, named by `system`,
    and of a count whatever else it has seen. `reference` is a token or an order's id in `channel`.
    """

    number: int
    kind: UpdateKind
    sku: Sku
    location_id: str
    quantity: int
    occurred_at_us: int
    clock: Mapping[str, int]
    system: str
    channel: str
    to_location_id: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """Lines of one source. With an id each line is applied once; without one (a poll) clocks alone decide.

    `deduct_on` is which of the source's events takes units off on_hand and committed: sale, pick, pack or ship.
    """

    source: str
    delivery_id: str
    priority: SourcePriority
    deduct_on: UpdateKind
    may_create_skus: bool
    updates: Sequence[StockUpdate]


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What became of the line with this number; `sequence` is its command's last entry, 0 where there is none."""

    number: int
    sku: Sku
    status: UpdateStatus
    sequence: int
