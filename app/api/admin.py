"""What operators look after: promises beyond stock, what waits for a person's decision, who holds too much."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.answers import answer, rfc3339
from app.api.cursors import LIMIT_DEFAULT, LIMIT_MAX, Number, PageQuestion, Text
from app.api.documentation import documented
from app.api.requests import Id
from app.api.reservations import respond
from app.api.routing import StrictRoute, allow
from app.api.schemas import BackorderListAnswer, HoarderListAnswer, ReviewListAnswer
from app.api.services import Services
from app.domain.callers import OPERATOR
from app.domain.types import Sku
from app.projections.archive.hoarders import Hoarder, list_hoarders
from app.projections.archive.reader import Backorder, Review
from app.store.accounts import read_cooling
from app.store.clock import MICROSECONDS

ADMIN = "/inventory/v1/admin"
WINDOW_SECONDS_DEFAULT = 600
WINDOW_SECONDS_MAX = 3600
VOID_PAYMENT = (
    "The deadline passed while a payment ran, and the units went back on sale. Void or refund the payment, or reserve "
    "and commit the units anew."
)
SETTLE_BACKORDER = (
    "Promised beyond stock more than a day ago. Bring units in, which cover the oldest promise first; or cancel "
    "(release, if it is not sold), and tell the buyer."
)
RECOUNT = (
    "More is promised than there is, though the holds that could be voided are. Count again, bring units in, or cancel "
    "sales."
)
CHECK_SHIPMENT = (
    "More left for this order than anybody is known to have sold; the units beyond still count as on hand. Have the "
    "sale that is missing told, or count the location."
)
STOP_SHIPMENT = (
    "Units were picked, packed or shipped that the order had cancelled. Stop the parcel and put them back, or take "
    "them in as a return."
)
# kind of review -> what to do
ADVICE = {
    "payment_expired": {"action": "void_payment", "detail": VOID_PAYMENT},
    "backorder_due": {"action": "settle_backorder", "detail": SETTLE_BACKORDER},
    "shortfall": {"action": "recount", "detail": RECOUNT},
    "shipped_beyond_sold": {"action": "check_shipment", "detail": CHECK_SHIPMENT},
    "moved_though_cancelled": {"action": "stop_shipment", "detail": STOP_SHIPMENT},
}


class BackordersQuestion(PageQuestion):
    """Which promises beyond stock."""

    sku: Id | None = None


class HoardersQuestion(BaseModel):
    """How many, and of how long."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT
    window_seconds: Annotated[int, Field(ge=1, le=WINDOW_SECONDS_MAX)] = WINDOW_SECONDS_DEFAULT


def admin_routes(services: Services) -> APIRouter:
    """What stands under /inventory/v1/admin/."""
    router = APIRouter(route_class=StrictRoute, tags=["admin"])

    @router.get(
        f"{ADMIN}/backorders",
        summary="Promises beyond stock, by SKU, the oldest first",
        **documented(BackorderListAnswer, 200, "validation_failed"),
    )
    @allow(OPERATOR)
    async def backorders(question: Annotated[BackordersQuestion, Query()]) -> Response:
        now_us = services.now_us()
        rows = await services.archive.list_backorders(
            sku=None if question.sku is None else Sku(question.sku),
            now_us=now_us,
            after=question.after(tuple[Text, Number]),
            limit=question.rows_wanted,
        )
        payload = {
            "items": [_backorder_payload(row, now_us) for row in rows[: question.limit]],
            "next_cursor": question.next_cursor(rows, lambda row: (row.sku, row.sequence)),
        }
        return respond(answer(200, payload))

    @router.get(
        f"{ADMIN}/reviews",
        summary="What waits for a person's decision, newest first, and what to do about it",
        **documented(ReviewListAnswer, 200, "validation_failed"),
    )
    @allow(OPERATOR)
    async def reviews(question: Annotated[PageQuestion, Query()]) -> Response:
        rows = await services.archive.list_reviews(
            now_us=services.now_us(), after=question.after(tuple[Number, Text]), limit=question.rows_wanted
        )
        payload = {
            "items": [_review_payload(row) for row in rows[: question.limit]],
            "next_cursor": question.next_cursor(rows, lambda row: (row.since_us, row.key)),
        }
        return respond(answer(200, payload))

    _declare_hoarders(router, services)
    return router


def _declare_hoarders(router: APIRouter, services: Services) -> None:
    @router.get(
        f"{ADMIN}/hoarders",
        summary="Who holds most, and who lets most expire",
        **documented(HoarderListAnswer, 200, "validation_failed"),
    )
    @allow(OPERATOR)
    async def hoarders(question: Annotated[HoardersQuestion, Query()]) -> Response:
        now_us = services.now_us()
        rows = await list_hoarders(
            services.archive,
            now_us=now_us,
            since_us=now_us - question.window_seconds * MICROSECONDS,
            limit=question.limit,
        )
        accounts = {name for row in rows for name in _accounts_of(row)}
        cooling = await read_cooling(services.store.client, services.store.keyspace, accounts)
        items = [_hoarder_payload(row, now_us, cooling) for row in rows]
        return respond(answer(200, {"items": items, "next_cursor": None}))


def _accounts_of(row: Hoarder) -> list[str]:
    """Under which names it may be capped: see Caller.account_for."""
    return [f"agent:{row.agent_id}", *([f"holder:{row.holder}"] if row.holder else [])]


def _hoarder_payload(row: Hoarder, now_us: int, cooling: Mapping[str, int]) -> dict[str, Any]:
    until_us = max(cooling.get(name, 0) for name in _accounts_of(row))
    return {
        "agent_id": row.agent_id,
        "holder": row.holder,
        "open_reservations": row.open_reservations,
        "held_quantity": row.held_units,
        "reserved": row.reserved,
        "sold": row.sold,
        "expired": row.expired,
        "cooling_until": rfc3339(until_us) if until_us > now_us else None,
    }


def _backorder_payload(row: Backorder, now_us: int) -> dict[str, Any]:
    reservation = row.reservation
    details = msgspec.json.decode(reservation.details) if reservation.details else {}
    return {
        "sku": row.sku,
        "backordered_quantity": row.units,
        "promised_at": rfc3339(reservation.created_at_us),
        "review_due_at": rfc3339(row.review_due_us),
        "is_review_due": row.review_due_us <= now_us,
        "token": reservation.token,
        "status": reservation.status,
        "agent_id": reservation.agent_id,
        "channel": reservation.channel,
        "reference": details.get("reference"),
        "order_id": reservation.order_id or None,
        "sequence": row.sequence,
    }


def _review_payload(row: Review) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "since": rfc3339(row.since_us),
        "sku": row.sku,
        "token": row.token,
        "channel": row.channel,
        "order_id": row.order_id,
        "quantity": row.units or None,
        "advice": ADVICE[row.kind],
    }
