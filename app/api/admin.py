"""What operators look after: promises beyond stock, and all that waits for a person's decision."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response

from app.api.answers import answer, rfc3339
from app.api.cursors import Number, PageQuestion, Text
from app.api.documentation import documented
from app.api.requests import Id
from app.api.reservations import respond
from app.api.routing import StrictRoute, allow
from app.api.schemas import BackorderListAnswer, ReviewListAnswer
from app.api.services import Services
from app.domain.callers import OPERATOR
from app.domain.types import Sku
from app.projections.archive.reader import Backorder, Review

ADMIN = "/inventory/v1/admin"
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

    return router


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
