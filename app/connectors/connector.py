"""What a connector is: it knows how one kind of system signs, writes and pages. It has no state and writes nothing.

A connector has those of these capabilities that its kind of system has: `Hook` where it sends webhooks, `Poll` where it
is asked. What comes out is in the vendor's words, ids included; app.ingest says it in ours and applies it.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

import httpx

from app.domain.updates import UpdateKind

Headers = Mapping[str, str]  # names in lower case, values as latin-1


class Refusal(StrEnum):
    """Why nobody knows who sent a delivery. Nothing of it is kept."""

    SIGNATURE_INVALID = "webhook_signature_invalid"
    TIMESTAMP_OUT_OF_TOLERANCE = "webhook_timestamp_out_of_tolerance"


@dataclass(frozen=True, slots=True)
class Authentic:
    """Sent by who it should be from; a delivery with the same id is the same delivery."""

    delivery_id: str


class Fault(StrEnum):
    """Why an authentic delivery cannot be read."""

    MALFORMED = "malformed"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """No JSON (or whatever it should be), or not what this kind of system says. No word of it is repeated here.

    `errors` has of an invalid one what is wrong with which field.
    """

    fault: Fault
    errors: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class VendorLine:
    """A fact as its vendor tells it; None where it does not say.

    `item_id` is what the table `skus` of the source is asked for, `sku` what holds where that has nothing. Quantities
    as in StockUpdate.
    """

    kind: UpdateKind
    quantity: int
    occurred_at_us: int
    item_id: str
    sku: str | None
    location_id: str | None = None
    to_location_id: str | None = None
    channel: str | None = None
    reference: str | None = None
    clock: Mapping[str, int] | None = None


Parsed = Sequence[VendorLine] | Unreadable


@runtime_checkable
class Hook(Protocol):
    """Systems that send webhooks. Where one does not sign, a key with the scope of its source has to come with it."""

    is_signed: bool

    def verify(self, headers: Headers, body: bytes, *, now_us: int) -> Authentic | Refusal:
        """Whether it is theirs, judged by the very bytes that came; `now_us` is the wall clock's."""

    def parse(self, headers: Headers, body: bytes) -> Parsed:
        """What it says, in order. An empty sequence says nothing, and is no fault."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a page: as it came, a JSON value, and what it says."""

    value: object
    parsed: Parsed


@dataclass(frozen=True, slots=True)
class Page:
    """What was read at once. `cursor` asks for the page after it, None on the last."""

    rows: Sequence[Row]
    cursor: str | None


@runtime_checkable
class Poll(Protocol):
    """Systems that are asked."""

    def pages(
        self, client: httpx.AsyncClient, *, updated_since_us: int | None, cursor: str | None
    ) -> AsyncGenerator[Page, None]:
        """All that changed since then, page by page, from the one that `cursor` asks for; everything without a time.

        Raises app.connectors.requests.PollFailed.
        """

    def parse(self, headers: Headers, body: bytes) -> Parsed:
        """What one row says that became a dead letter; it has no headers."""
