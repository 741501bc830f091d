"""Lists from the archive, at most a second behind: reservations, SKUs, and every SKU as a feed.

Only names and reservations come from there: the quantities of a SKU are the engine's, at the moment that each answer
says.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.api.answers import answer, availability_payload, reservation_payload
from app.api.cursors import Number, PageQuestion, Text
from app.api.documentation import ENGINE_PROBLEMS, documented, refusals
from app.api.requests import Id
from app.api.reservations import RESERVATIONS, agent_mismatch, respond
from app.api.routing import StrictRoute, allow, caller_of
from app.api.schemas import (
    AvailabilityAnswer,
    Reference,
    ReservationListAnswer,
    ReservationStatus,
    SkuListAnswer,
)
from app.api.services import Services
from app.api.stock import SKUS
from app.domain.callers import AGENT, OPERATOR, READER, Claim
from app.domain.outcomes import SkuAnswered
from app.domain.types import Sku
from app.projections.archive.reader import Filter

SCHEMA_PATH = "/schemas/inventory/1.0.json"
SCHEMA_TYPE = "application/schema+json"
FEED_TYPE = "application/x-ndjson"
# How many SKUs are asked about at once, so that no list holds up the agents that reserve meanwhile.
BATCH_SIZE = 100
CHUNK_SIZE = 500


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of the feed: lines of JSON up to the SKU `last`, None where there was none left."""

    lines: bytes
    last: Sku | None


class ReservationsQuestion(PageQuestion):
    """Which reservations; all that is named must fit."""

    agent_id: Id | None = None
    sku: Id | None = None
    status: ReservationStatus | None = None
    reference: Reference | None = None
    order_id: Id | None = None

    def filter(self, claim: Claim | None) -> Filter:
        """What fits, of that what the claim is good for."""
        named = self.model_dump(exclude=set(PageQuestion.model_fields))
        return Filter(**named, claim=claim)


def list_routes(services: Services) -> APIRouter:
    """The lists, the feed, and the schema of what is in them."""
    router = APIRouter(route_class=StrictRoute, tags=["lists"])
    published = published_schema()

    @router.get(
        RESERVATIONS,
        summary="Reservations, newest first",
        **documented(ReservationListAnswer, 200, "validation_failed"),
    )
    @allow(AGENT, READER, OPERATOR)
    async def reservations(question: Annotated[ReservationsQuestion, Query()], request: Request) -> Response:
        caller = caller_of(request)
        if caller.agent_id is not None and question.agent_id not in (None, caller.agent_id):
            raise agent_mismatch()
        rows = await services.archive.list_reservations(
            question.filter(caller.claim_to_read),
            now_us=services.now_us(),
            after=question.after(tuple[Number, Text]),
            limit=question.rows_wanted,
        )
        payload = {
            "items": [reservation_payload(row) for row in rows[: question.limit]],
            "next_cursor": question.next_cursor(rows, lambda row: (row.created_at_us, row.token)),
        }
        return respond(answer(200, payload))

    @router.get(SKUS, summary="SKUs by name", **documented(SkuListAnswer, 200, "validation_failed"))
    @allow(AGENT, READER, OPERATOR)
    async def skus(question: Annotated[PageQuestion, Query()]) -> Response:
        after = question.after(tuple[Text])
        rows = await services.archive.list_skus(after=Sku(after[0]) if after else None, limit=question.rows_wanted)
        payload = {
            "items": [item async for item in _availabilities(services, [row.sku for row in rows[: question.limit]])],
            "next_cursor": question.next_cursor(rows, lambda row: (row.sku,)),
        }
        return respond(answer(200, payload))

    @router.get(
        "/inventory/v1/feed",
        summary="The availability of every SKU, by name, one JSON object a line",
        response_class=Response,
        responses={
            200: {
                "description": "Complete where the body ends as HTTP ends one; a cut connection is a cut feed",
                "content": {FEED_TYPE: {"schema": {"$ref": "#/components/schemas/AvailabilityAnswer"}}},
            },
            **refusals(*ENGINE_PROBLEMS),
        },
    )
    @allow(AGENT, READER, OPERATOR)
    async def feed() -> Response:
        # What cannot begin is refused; what fails later can only end badly, which HTTP shows.
        first = await _chunk(services, after=None)
        return StreamingResponse(_feed(services, first), media_type=FEED_TYPE)

    @router.get(
        SCHEMA_PATH,
        summary="The JSON schema of a SKU's availability",
        response_class=Response,
        responses={200: {"content": {SCHEMA_TYPE: {"schema": {"type": "object"}}}}},
    )
    @allow()
    async def schema() -> Response:
        return Response(published, media_type=SCHEMA_TYPE)

    return router


def published_schema() -> bytes:
    """The unified schema, version 1.0, as JSON Schema; its id is the path that it stands at."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_PATH}
    return msgspec.json.encode(head | AvailabilityAnswer.model_json_schema())


async def _availabilities(services: Services, skus: Sequence[Sku]) -> AsyncIterator[dict[str, Any]]:
    """What is to be said of these SKUs now, in order, without those that the engine does not know."""
    for start in range(0, len(skus), BATCH_SIZE):
        outcomes = await asyncio.gather(
            *(services.commands.availability(sku) for sku in skus[start : start + BATCH_SIZE])
        )
        for outcome in outcomes:
            if isinstance(outcome, SkuAnswered):
                yield availability_payload(outcome.state)


async def _feed(services: Services, chunk: Chunk) -> AsyncIterator[bytes]:
    """A chunk and all after it; no more than one is ever in memory."""
    while chunk.last is not None:
        yield chunk.lines
        # A client that leaves ends this here; a question that the archive is answering is not cut off.
        chunk = await asyncio.shield(_chunk(services, after=chunk.last))


async def _chunk(services: Services, *, after: Sku | None) -> Chunk:
    rows = await services.archive.list_skus(after=after, limit=CHUNK_SIZE)
    items = [item async for item in _availabilities(services, [row.sku for row in rows])]
    return Chunk(b"".join(msgspec.json.encode(item) + b"\n" for item in items), rows[-1].sku if rows else None)
