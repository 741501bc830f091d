"""Reconciliation for operators: run it now, and read what differed."""

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from app.api.admin import ADMIN
from app.api.answers import answer, rfc3339
from app.api.cursors import PageQuestion
from app.api.documentation import documented
from app.api.reservations import respond
from app.api.routing import StrictRoute, allow
from app.api.schemas import Count, Time
from app.api.services import Services
from app.api.source_schemas import EmptyBody
from app.domain.callers import OPERATOR
from app.store.drifts import DriftRecord, list_drifts
from app.workflows.reconciliation import authorities_of, reconcile

BODY_PROBLEMS = ("malformed_request", "body_too_large", "unsupported_media_type", "validation_failed")
NO_BODY = EmptyBody()
Place = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,20}-[0-9]{1,20}$")]


class ReconciliationAnswer(BaseModel):
    """A run: how many locations of SKUs it compared, how many it corrected, and by how many units all differed."""

    id: str
    checked: Count
    corrected: Count
    drift_units: Count


class DriftAnswer(BaseModel):
    """A location that had other than its authority said. `drift` is the ledger's quantity less the authority's.

    `overridden`: its word was enforced once; what was said since stands until it says something newer. `refused`: the
    correction would pass a limit.
    """

    id: str
    at: Time
    sku: str
    location_id: str
    source: str
    ledger_quantity: int
    authority_quantity: int
    drift: int
    status: Literal["corrected", "overridden", "refused"]
    sequence: Count


class DriftListAnswer(BaseModel):
    """A page of them, the newest first."""

    items: list[DriftAnswer]
    next_cursor: str | None


def reconciliation_routes(services: Services) -> APIRouter:
    """What stands under /inventory/v1/admin/reconciliations."""
    router = APIRouter(route_class=StrictRoute, tags=["admin"])

    @router.post(
        f"{ADMIN}/reconciliations",
        summary="Compare every location that has an authority with what that last said, now, and correct it",
        **documented(ReconciliationAnswer, 200, *BODY_PROBLEMS),
    )
    @allow(OPERATOR)
    async def run_now(body: EmptyBody = NO_BODY) -> Response:  # noqa: ARG001 - empty
        run = await reconcile(services.store, authorities_of(services.settings.locations))
        payload = {
            "id": run.run_id,
            "checked": run.checked,
            "corrected": run.corrected,
            "drift_units": run.drift_units.total(),
        }
        return respond(answer(200, payload))

    @router.get(
        f"{ADMIN}/reconciliations",
        summary="What reconciliations found to differ, newest first; the last 10,000 are kept",
        **documented(DriftListAnswer, 200, "validation_failed"),
    )
    @allow(OPERATOR)
    async def drifts(question: Annotated[PageQuestion, Query()]) -> Response:
        after = question.after(tuple[Place])
        records = await list_drifts(
            services.store.client,
            services.store.keyspace.sources,
            after=after[0] if after else None,
            limit=question.rows_wanted,
        )
        payload = {
            "items": [_payload(record) for record in records[: question.limit]],
            "next_cursor": question.next_cursor(records, lambda record: (record.place,)),
        }
        return respond(answer(200, payload))

    return router


def _payload(record: DriftRecord) -> dict[str, Any]:
    drift = record.drift
    return {
        "id": record.run_id,
        "at": rfc3339(record.at_us),
        "sku": drift.sku,
        "location_id": drift.location_id,
        "source": drift.source,
        "ledger_quantity": drift.ledger_quantity,
        "authority_quantity": drift.authority_quantity,
        "drift": drift.ledger_quantity - drift.authority_quantity,
        "status": drift.outcome,
        "sequence": drift.sequence,
    }
