"""The bodies that requests carry and answers have, as /openapi.json shows them. The contract's words, its bounds."""

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, WithJsonSchema, model_validator

from app.api.requests import Id, StrictModel
from app.domain.types import ALLOCATIONS_MAX

QUANTITY_MAX = 1_000_000
UNITS_MAX = 10**12
LINES_MAX = 100
SKUS_MAX = 100
SUBSTITUTES_MAX = 20
CHANNEL_LIMITS_MAX = 100
METADATA_PAIRS_MAX = 20
METADATA_CHARACTERS_MAX = 500

Quantity = Annotated[int, Field(ge=1, le=QUANTITY_MAX)]
Units = Annotated[int, Field(ge=0, le=UNITS_MAX)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
# What is written as it is, to databases too, and not all of them take a NUL.
NO_NUL = r"^[^\x00]*$"
Reference = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=NO_NUL)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=NO_NUL)]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=METADATA_CHARACTERS_MAX)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=METADATA_PAIRS_MAX)]
ReservationStatus = Literal[
    "held", "payment_pending", "pending_reconciliation", "committed", "fulfilled", "released", "expired", "cancelled",
    "voided",
]  # fmt: skip


class LineBody(StrictModel):
    """Units of one SKU."""

    sku: Id
    quantity: Quantity


Lines = Annotated[list[LineBody], Field(min_length=1, max_length=LINES_MAX)]


class ReserveBody(StrictModel):
    """Either sku (and quantity) or lines."""

    sku: Id = ""
    quantity: Quantity = 1
    lines: Lines = Field(default_factory=list)
    agent_id: Id
    ttl_seconds: Seconds = 0.0
    channel: Id = "direct"
    reference: Reference | None = None
    allow_backorder: bool = False
    rationale: Annotated[str, StringConstraints(max_length=500)] = ""
    metadata: Metadata = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_way_to_name_units(self) -> Self:
        given = self.model_fields_set
        if ("sku" in given) == ("lines" in given):
            raise ValueError("give either sku or lines")
        if "lines" in given and "quantity" in given:
            raise ValueError("quantity goes with sku; lines have their own")
        return self


class CommitBody(StrictModel):
    """What to sell, and for which order; without lines, everything held."""

    order_id: Id | None = None
    lines: Lines = Field(default_factory=list)
    expected_sequence: Annotated[int, Field(ge=0, le=2**53 - 1)] = 0


class ReleaseBody(StrictModel):
    """Nothing to say."""


class ExtendBody(StrictModel):
    """Exactly one of the two: ttl_seconds counts from now, additional_seconds from the deadline."""

    ttl_seconds: Seconds = 0.0
    additional_seconds: Annotated[float, Field(ge=1, le=1800, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("give exactly one of ttl_seconds and additional_seconds")
        return self


class PaymentBody(StrictModel):
    """How long the payment may take."""

    ttl_seconds: Annotated[float, Field(ge=1, le=1800, allow_inf_nan=False)] = 0.0


class CancelBody(StrictModel):
    """What to take back; without lines, the whole sale."""

    lines: Lines = Field(default_factory=list)


class AvailabilityBody(StrictModel):
    """The SKUs asked about."""

    skus: Annotated[list[Id], Field(min_length=1, max_length=SKUS_MAX)]


class AdjustmentBody(StrictModel):
    """Exactly one of delta and on_hand_quantity."""

    location_id: Id = "main"
    delta: Annotated[int, Field(ge=-UNITS_MAX, le=UNITS_MAX)] = 0
    on_hand_quantity: Units = -1  # not 0: a request to count 0 is another than one to add 0
    reason: Reason
    reference: Reference | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.model_fields_set & {"delta", "on_hand_quantity"}) != 1:
            raise ValueError("give exactly one of delta and on_hand_quantity")
        return self


class TransferBody(StrictModel):
    """Units that move from one location to another."""

    from_location_id: Id
    to_location_id: Id
    quantity: Annotated[int, Field(ge=1, le=UNITS_MAX)]
    reason: Reason
    reference: Reference | None = None

    @model_validator(mode="after")
    def _two_places(self) -> Self:
        if self.from_location_id == self.to_location_id:
            raise ValueError("from_location_id and to_location_id are the same")
        return self


class AllocationLineBody(StrictModel):
    """Units of one SKU, and where they are to be taken from."""

    sku: Id
    location_id: Id
    quantity: Quantity


class AllocationsBody(StrictModel):
    """Either lines, or a strategy by which the service chooses them for all that is sold."""

    lines: Annotated[list[AllocationLineBody], Field(min_length=1, max_length=ALLOCATIONS_MAX)] = Field(
        default_factory=list
    )
    strategy: Literal["most_stock", "priority", "lead_time"] = "most_stock"
    rationale: Annotated[str, StringConstraints(max_length=500)] = ""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.model_fields_set & {"lines", "strategy"}) != 1:
            raise ValueError("give exactly one of lines and strategy")
        pairs = [(line.sku, line.location_id) for line in self.lines]
        if len(set(pairs)) < len(pairs):
            raise ValueError("lines name a SKU at a location twice")
        return self


def _iso_date(value: str) -> str:
    return date.fromisoformat(value).isoformat()


RestockDate = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
    AfterValidator(_iso_date),
    WithJsonSchema({"type": "string", "format": "date"}),
]
DegradedPolicy = Literal["refuse", "assume_out_of_stock", "conservative", "assume_in_stock", "escalate"]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False, multiple_of=0.01)]


class DefaultsBody(StrictModel):
    """How SKUs may be sold. Quantities in units."""

    safety_stock: Units = 0
    safety_stock_percent: Percent = 0.0
    backorder_limit: Units = 0
    low_stock_threshold: Units = 5
    max_quantity_per_reservation: Quantity | None = None
    lead_time_days: Annotated[int, Field(ge=0, le=3650)] | None = None
    next_restock_date: RestockDate | None = None
    incoming_quantity: Units = 0
    substitutes: Annotated[list[Id], Field(max_length=SUBSTITUTES_MAX)] = Field(default_factory=list)
    variant_group: Id | None = None
    channel_limits: Annotated[dict[Id, Units], Field(max_length=CHANNEL_LIMITS_MAX)] = Field(default_factory=dict)
    degraded_policy: DegradedPolicy = "refuse"
    reconciliation_hold_seconds: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 0.0


class PolicyBody(DefaultsBody):
    """How a SKU may be sold. What it does not name comes from its category, if it has one."""

    category: Id | None = None


Count = Annotated[int, Field(ge=0)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class AdviceAnswer(BaseModel):
    """What to do next; the other members go with their action."""

    action: Literal["proceed", "slow_down", "retry_after", "backorder", "preorder", "substitute", "give_up"]
    retry_after_ms: int | None = None
    next_release_at: str | None = None
    next_restock_date: str | None = None
    alternatives: list[str] | None = None


class RemainingAnswer(BaseModel):
    """What is left of a SKU after the command."""

    sku: str
    available_quantity: int
    pressure: Literal["out", "low", "abundant", "normal"]
    advice: AdviceAnswer


class LineAnswer(BaseModel):
    """Units of one SKU, `backordered` of them promised beyond stock."""

    sku: str
    quantity: int
    backordered: int


class ReservationAnswer(BaseModel):
    """A reservation. `sku` and `quantity` only where it has a single line; `final_at` while pending_reconciliation."""

    token: str
    status: ReservationStatus
    agent_id: str
    channel: str
    reference: str | None
    order_id: str | None
    lines: list[LineAnswer]
    sku: str | None = None
    quantity: int | None = None
    created_at: str
    expires_at: str
    ttl_seconds: float
    final_at: str | None = None
    sequence: int
    review_due_at: str | None
    availability: list[RemainingAnswer]
    metadata: dict[str, str]


class LocationAnswer(BaseModel):
    """A location's part of the stock."""

    location_id: str
    kind: Literal["shared", "dedicated"]
    on_hand_quantity: int
    available_quantity: Count
    reserved_quantity: Count


class AvailabilityAnswer(BaseModel):
    """A SKU's quantities: the unified schema, version 1.0.

    Where `source` is last_known, the ledger is away: `available_quantity` is what `degraded_policy` makes of what was
    known at `as_of`, `age_seconds` ago, and `confidence` what that is still worth.
    """

    schema_version: Literal["1.0"]
    sku: str
    on_hand_quantity: int
    available_quantity: Count
    reserved_quantity: Count
    committed_quantity: Count
    backordered_quantity: Count
    shortfall_quantity: Count
    incoming_quantity: Count
    safety_stock: Count
    pressure: Literal["out", "low", "abundant", "normal"]
    advice: AdviceAnswer
    is_backorderable: bool
    backorder_limit: Count
    lead_time_days: Count | None
    next_restock_date: Annotated[str, Field(json_schema_extra={"format": "date"})] | None
    next_release_at: Time | None
    locations: list[LocationAnswer]
    sequence: int
    as_of: Time
    source: Literal["ledger", "last_known"]
    degraded_policy: DegradedPolicy | None = None
    age_seconds: Annotated[float, Field(ge=0)] | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None


class SkuAnswer(AvailabilityAnswer):
    """A SKU's quantities with its policy beside them."""

    safety_stock_percent: float
    low_stock_threshold: int
    max_quantity_per_reservation: int | None
    substitutes: list[str]
    variant_group: str | None
    reconciliation_hold_seconds: float
    category: str | None
    channel_limits: dict[str, int]
    degraded_policy: DegradedPolicy


class CategoryAnswer(BaseModel):
    """A category: what its SKUs take where they say nothing, and how many took it."""

    category: str
    policy: dict[str, Any]
    skus: int


class AvailabilityListAnswer(BaseModel):
    """The SKUs that exist, in the order asked; the others in `missing`.

    While the ledger is away, `unavailable` has those of which nothing is said.
    """

    items: list[AvailabilityAnswer]
    missing: list[str]
    unavailable: list[str] | None = None


class ReservationListAnswer(BaseModel):
    """A page of reservations, newest first."""

    items: list[ReservationAnswer]
    next_cursor: str | None


class SkuListAnswer(BaseModel):
    """A page of SKUs, by name."""

    items: list[AvailabilityAnswer]
    next_cursor: str | None


class BackorderAnswer(BaseModel):
    """A line that is promised beyond stock: so many of its units nothing covers yet."""

    sku: str
    backordered_quantity: Annotated[int, Field(ge=1)]
    promised_at: Time
    review_due_at: Time
    is_review_due: bool
    token: str
    status: ReservationStatus
    agent_id: str
    channel: str
    reference: str | None
    order_id: str | None
    sequence: int


class BackorderListAnswer(BaseModel):
    """A page of promises beyond stock: by SKU, the oldest first, which is covered first."""

    items: list[BackorderAnswer]
    next_cursor: str | None


class HoarderAnswer(BaseModel):
    """An agent, by the key that it came with: what it holds, and what came of what it reserved in the window."""

    agent_id: str
    holder: str | None
    open_reservations: Annotated[int, Field(ge=0)]
    held_quantity: Annotated[int, Field(ge=0)]
    reserved: Annotated[int, Field(ge=0)]
    sold: Annotated[int, Field(ge=0)]
    expired: Annotated[int, Field(ge=0)]
    cooling_until: Time | None


class HoarderListAnswer(BaseModel):
    """Who holds most first, then who let most expire."""

    items: list[HoarderAnswer]
    next_cursor: None


class ReviewAdviceAnswer(BaseModel):
    """What to do about it."""

    action: Literal["void_payment", "settle_backorder", "recount", "check_shipment", "stop_shipment"]
    detail: str


class ReviewAnswer(BaseModel):
    """Something that a person decides: about a reservation, a SKU, or a SKU in an order.

    An order without a name is its reservation's, and has the token for one.
    """

    kind: Literal["payment_expired", "backorder_due", "shortfall", "shipped_beyond_sold", "moved_though_cancelled"]
    since: Time
    sku: str | None
    token: str | None
    channel: str | None
    order_id: str | None
    quantity: Annotated[int, Field(ge=1)] | None
    advice: ReviewAdviceAnswer


class ReviewListAnswer(BaseModel):
    """A page of what waits for a person, newest first."""

    items: list[ReviewAnswer]
    next_cursor: str | None


class EntryAnswer(BaseModel):
    """A ledger entry: a change, and the SKU's quantities after it."""

    sequence: int
    partition: int
    command_id: str
    at: str
    type: str
    sku: str
    location_id: str | None
    quantity: int
    on_hand_quantity: int
    reserved_quantity: int
    committed_quantity: int
    backordered_quantity: int
    available_quantity: int
    token: str | None
    agent_id: str | None
    channel: str | None
    source: str | None
    delivery_id: str | None
    occurred_at: str | None
    clock: dict[str, int] | None
    reason: str | None
    data: dict[str, Any]


class EntryListAnswer(BaseModel):
    """A page of the ledger, oldest first."""

    items: list[EntryAnswer]
    next_cursor: str | None


class FieldError(BaseModel):
    """A field, and what is wrong with it."""

    field: str
    message: str


class ShortLineAnswer(BaseModel):
    """A line that could not be held."""

    sku: str
    requested_quantity: int
    available_quantity: int
    pressure: Literal["out", "low", "abundant", "normal"]
    advice: AdviceAnswer


class ProblemAnswer(BaseModel):
    """A problem (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    retryable: bool
    errors: list[FieldError] | None = None
    lines: list[ShortLineAnswer] | None = None
    dead_letter_id: str | None = None
