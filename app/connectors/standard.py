"""Warehouses, ERPs and tills that send our own format, signed as Standard Webhooks: the connectors wms, erp and pos.

https://www.standardwebhooks.com; the library signs text, so what is not UTF-8 is signed by nobody.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter
from standardwebhooks import Webhook, WebhookVerificationError

from app.connectors.connector import Authentic, Fault, Headers, Parsed, Refusal, Unreadable, VendorLine
from app.connectors.strict_json import ERRORS_MAX, Id, StrictModel, Time, read_json
from app.domain.updates import COUNTER_MAX, UpdateKind

LINES_MAX = 10_000
UNITS_MAX = 10**12
SYSTEMS_MAX = 16
TOLERANCE_SECONDS = 5 * 60
MICROSECONDS = 1_000_000
DELIVERY_ID = re.compile(r"[\x21-\x7e]{1,255}")
TIMESTAMP = re.compile(r"[0-9]{1,12}")
SIGNED_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
NEED_REFERENCE = ("pick", "pack", "cancel")
QUANTITY_MIN = {"count": 0, "adjust": -UNITS_MAX}  # of the others 1

Counter = Annotated[int, Field(ge=0, le=COUNTER_MAX)]


class _Line(StrictModel):
    """Units of one SKU. How few they may be goes by the delivery's type."""

    sku: Id
    quantity: Annotated[int, Field(ge=-UNITS_MAX, le=UNITS_MAX)]


class _Body(StrictModel):
    """A delivery; what it leaves out is empty."""

    type: Literal["receive", "pick", "pack", "ship", "return", "adjust", "count", "sale", "cancel", "transfer"]
    occurred_at: Time
    location_id: Id = ""
    to_location_id: Id = ""
    channel: Id = ""
    reference: Id = ""
    clock: Annotated[dict[Id, Counter], Field(min_length=1, max_length=SYSTEMS_MAX)] = Field(default_factory=dict)
    lines: Annotated[list[_Line], Field(min_length=1, max_length=LINES_MAX)]


BODY = TypeAdapter(_Body)


class Standard:
    """Any of the secrets verifies, so that a new one can be there before the old one goes."""

    is_signed = True

    def __init__(self, secrets: Sequence[str]) -> None:
        self._webhooks = [Webhook(secret) for secret in secrets]

    def verify(self, headers: Headers, body: bytes, *, now_us: int) -> Authentic | Refusal:
        """Whether one of the secrets signed these bytes, in the last five minutes or the next."""
        signed = {name: headers.get(name, "") for name in SIGNED_HEADERS}
        delivery_id, timestamp = signed["webhook-id"], signed["webhook-timestamp"]
        if not DELIVERY_ID.fullmatch(delivery_id) or not TIMESTAMP.fullmatch(timestamp):
            return Refusal.SIGNATURE_INVALID
        if abs(int(timestamp) - now_us / MICROSECONDS) > TOLERANCE_SECONDS:
            return Refusal.TIMESTAMP_OUT_OF_TOLERANCE
        for webhook in self._webhooks:
            # ValueError: a signature that is no base64 or has no version, a body that is no UTF-8.
            with suppress(WebhookVerificationError, ValueError):
                webhook.verify(body, signed, json_parse=False)
                return Authentic(delivery_id)
        return Refusal.SIGNATURE_INVALID

    def parse(self, headers: Headers, body: bytes) -> Parsed:
        """The lines, all of one kind and one moment."""
        said = read_json(body, BODY)
        if isinstance(said, Unreadable):
            return said
        if faults := list(islice(_faults(said), ERRORS_MAX)):
            return Unreadable(Fault.INVALID, faults)
        kind, clock = UpdateKind(said.type), said.clock or None
        location_id, to_location_id = said.location_id or None, said.to_location_id or None
        channel, reference = said.channel or None, said.reference or None
        return [
            VendorLine(
                kind=kind,
                quantity=line.quantity,
                occurred_at_us=said.occurred_at,
                item_id=line.sku,
                sku=line.sku,
                location_id=location_id,
                to_location_id=to_location_id,
                channel=channel,
                reference=reference,
                clock=clock,
            )
            for line in said.lines
        ]


def _faults(said: _Body) -> Iterator[tuple[str, str]]:
    """What a delivery of its type does not say, or must not."""
    if said.type in NEED_REFERENCE and not said.reference:
        yield "reference", f"field required by a {said.type}"
    if said.type != "transfer" and said.to_location_id:
        yield "to_location_id", "goes with a transfer alone"
    if said.type == "transfer" and said.to_location_id in ("", said.location_id):
        yield "to_location_id", "must name another location than location_id"
    least = QUANTITY_MIN.get(said.type, 1)
    for number, line in enumerate(said.lines):
        if line.quantity < least:
            yield f"lines.{number}.quantity", f"must be {least} or more"
