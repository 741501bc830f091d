"""The bodies of calls about sources: connectors, what they call our SKUs and locations, dead letters."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.api.requests import Id, StrictModel
from app.api.schemas import Count, Time


class EmptyBody(StrictModel):
    """Nothing to say."""


class SkuMappingBody(StrictModel):
    """What a source means by an id."""

    sku: Id


class LocationMappingBody(StrictModel):
    """Where that is."""

    location_id: Id


class SkuMappingAnswer(BaseModel):
    """A source, an id of its own, and the SKU that it means by it."""

    name: str
    id: str
    sku: str


class LocationMappingAnswer(BaseModel):
    """A source, an id of its own, and the location that it means by it."""

    name: str
    id: str
    location_id: str


class ConnectorAnswer(BaseModel):
    """How it goes with a source. `missing_numbers` are the newest that it skipped in its own count."""

    name: str
    connector: str
    state: Literal["ok", "failing", "silent", "disabled"]
    last_success_at: Time | None
    last_delivery_at: Time | None
    last_error: str | None
    consecutive_failures: Count
    missing_numbers: list[Count]


class ConnectorListAnswer(BaseModel):
    """A page of sources, by name."""

    items: list[ConnectorAnswer]
    next_cursor: str | None


class DeadLetterAnswer(BaseModel):
    """A delivery that could not be used; `attempts` counts how often."""

    id: str
    source: str
    delivery_id: str
    received_at: Time
    reason: str
    attempts: Annotated[int, Field(ge=1)]
    status: Literal["open", "replayed", "discarded"]


class DeadLetterListAnswer(BaseModel):
    """A page of them, those received last first."""

    items: list[DeadLetterAnswer]
    next_cursor: str | None


class DeadLetterContentAnswer(DeadLetterAnswer):
    """One of them with what came: headers without secrets; `body` where it is UTF-8, `body_base64` always."""

    headers: dict[str, str]
    body: str | None
    body_base64: str
