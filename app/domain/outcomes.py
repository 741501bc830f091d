"""What a command can end in, when nothing is broken: values, matched exhaustively.

Statuses are listed in order of precedence, as the scripts decide them.
"""

from dataclasses import dataclass

from app.domain.caps import Cap
from app.domain.types import Line, Remaining, Reservation, Sku, SkuState


@dataclass(frozen=True, slots=True)
class IdempotencyConflict:
    """The Idempotency-Key was used for another request."""


@dataclass(frozen=True, slots=True)
class SkuNotFound:
    """Nobody told of this SKU."""

    sku: Sku


# Reserve


@dataclass(frozen=True, slots=True)
class Held:
    """The units are held; `is_replayed` when this is the remembered first answer."""

    reservation: Reservation
    is_replayed: bool


@dataclass(frozen=True, slots=True)
class QuantityAboveLimit:
    """More units of a SKU than one reservation may hold."""

    sku: Sku
    quantity_max: int


@dataclass(frozen=True, slots=True)
class AgentQuotaExceeded:
    """The caller would hold more than its cap, `limit`; it has `current`. For a share of a SKU, of which.

    `retry_at_us` (engine time) is when something of it may have changed by itself; None where nothing will.
    """

    cap: Cap
    limit: int
    current: int
    retry_at_us: int | None
    as_of_us: int
    sku: Sku | None = None


@dataclass(frozen=True, slots=True)
class ChannelLimitExceeded:
    """The channel would have more units of a SKU, held and sold, than it may: `promised` it has already."""

    sku: Sku
    limit: int
    promised: int


@dataclass(frozen=True, slots=True)
class ShortLine:
    """A line that could not be held, and what would help.

    `backorder_left` units could be promised beyond stock; `releasable` would be available if every hold ended, the next
    of them at `next_release_us`.
    """

    line: Line
    remaining: Remaining
    backorder_left: int
    next_release_us: int | None
    releasable: int
    next_restock_date: str | None = None
    substitutes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OutOfStock:
    """Nothing is held; the lines that are short, at this moment of engine time (us)."""

    lines: tuple[ShortLine, ...]
    as_of_us: int


ReserveOutcome = (
    IdempotencyConflict
    | SkuNotFound
    | QuantityAboveLimit
    | AgentQuotaExceeded
    | ChannelLimitExceeded
    | OutOfStock
    | Held
)


# Verbs on a reservation


@dataclass(frozen=True, slots=True)
class ReservationNotFound:
    """No reservation has this token."""


@dataclass(frozen=True, slots=True)
class TooManyKeys:
    """The record remembers as many Idempotency-Keys as it may."""


@dataclass(frozen=True, slots=True)
class ReservationEnded:
    """The verb does not apply to the state that the reservation is in."""

    reservation: Reservation


@dataclass(frozen=True, slots=True)
class QuantityExceeds:
    """A line asks for more than the reservation holds."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """More is promised than there is, though holds were voided: no unit that a count took away is sold."""


@dataclass(frozen=True, slots=True)
class LocationShort:
    """A location is dedicated, or has fewer units that nobody has decided about than are to be taken from it."""


@dataclass(frozen=True, slots=True)
class TooManyAllocations:
    """The units of the sale would be taken from more places than a reservation may name."""


@dataclass(frozen=True, slots=True)
class LifetimeExceeded:
    """The deadline would pass the reservation's maximum lifetime."""


@dataclass(frozen=True, slots=True)
class Done:
    """The verb has had its effect: now (`has_effect`) or before; `is_replayed` when this is a remembered answer."""

    reservation: Reservation
    is_replayed: bool
    has_effect: bool


VerbOutcome = (
    ReservationNotFound
    | TooManyKeys
    | IdempotencyConflict
    | ReservationEnded
    | QuantityExceeds
    | Shortfall
    | LocationShort
    | TooManyAllocations
    | LifetimeExceeded
    | Done
)


# Commands on a SKU


@dataclass(frozen=True, slots=True)
class SequenceMismatch:
    """The SKU has moved since the caller looked: its sequence is now this, 0 when it does not exist."""

    sequence: int


@dataclass(frozen=True, slots=True)
class TooManyLocations:
    """The SKU lies at as many locations as it may."""


@dataclass(frozen=True, slots=True)
class StockBelowZero:
    """The adjustment would leave less than nothing at the location."""


@dataclass(frozen=True, slots=True)
class AboveLimit:
    """The adjustment would leave more than a quantity can be."""


@dataclass(frozen=True, slots=True)
class SkuAnswered:
    """The SKU as it is after the command; `is_created` when the command made it."""

    state: SkuState
    is_created: bool = False
    is_replayed: bool = False


AdjustOutcome = IdempotencyConflict | SequenceMismatch | TooManyLocations | StockBelowZero | AboveLimit | SkuAnswered
TransferOutcome = AdjustOutcome | SkuNotFound
PutSkuOutcome = SkuNotFound | SequenceMismatch | SkuAnswered
AvailabilityOutcome = SkuNotFound | SkuAnswered


# Imports of stock


@dataclass(frozen=True, slots=True)
class Imported:
    """The stock is as a file says: it has so many rows, of which so many changed something."""

    rows: int
    changed: int
    is_replayed: bool = False


ImportOutcome = IdempotencyConflict | Imported
