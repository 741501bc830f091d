"""Stock: availability for agents, adjustments and policy for operators."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from app.api.answers import Answer, answer, availability_payload, sku_answer
from app.api.documentation import documented
from app.api.requests import expected_sequence_of, idempotency_of, sku_in_path
from app.api.reservations import respond
from app.api.routing import HotRoute, StrictRoute
from app.api.schemas import (
    AdjustmentBody,
    AvailabilityAnswer,
    AvailabilityBody,
    AvailabilityListAnswer,
    PolicyBody,
    SkuAnswer,
)
from app.api.services import Services
from app.domain.outcomes import PutSkuOutcome, SkuAnswered
from app.domain.types import Sku
from app.store.clock import MICROSECONDS
from app.store.decoding import encode_policy

SKUS = "/inventory/v1/skus"
WRITE_PROBLEMS = (
    "malformed_request",
    "sequence_mismatch",
    "body_too_large",
    "unsupported_media_type",
    "validation_failed",
)


def hot_stock_routes(services: Services) -> APIRouter:
    """What agents ask before they reserve."""
    router = APIRouter(route_class=HotRoute, tags=["stock"])

    @router.get(
        f"{SKUS}/{{sku}}/availability",
        summary="How much of a SKU is available, and what to do about it",
        **documented(AvailabilityAnswer, 200, "sku_not_found"),
    )
    async def availability(request: Request, sku: str) -> Answer:  # noqa: ARG001 - every hot endpoint takes it
        outcome = await services.commands.availability(sku_in_path(sku, is_writing=False))
        return sku_answer(outcome, with_policy=False)

    return router


def stock_routes(services: Services) -> APIRouter:
    """The other calls on SKUs."""
    router = APIRouter(route_class=StrictRoute, tags=["stock"])

    @router.post(
        "/inventory/v1/availability",
        summary="The availability of up to 100 SKUs",
        **documented(
            AvailabilityListAnswer, 200,
            "malformed_request", "body_too_large", "unsupported_media_type", "validation_failed",
        ),
    )  # fmt: skip
    async def availabilities(body: AvailabilityBody) -> Response:
        skus = [Sku(sku) for sku in dict.fromkeys(body.skus)]
        # The pipeline sends them in one write.
        outcomes = await asyncio.gather(*(services.commands.availability(sku) for sku in skus))
        items = [availability_payload(outcome.state) for outcome in outcomes if isinstance(outcome, SkuAnswered)]
        found = {item["sku"] for item in items}
        return respond(answer(200, {"items": items, "missing": [sku for sku in skus if sku not in found]}))

    @router.post(
        f"{SKUS}/{{sku}}/adjustments",
        summary="Change what is on hand at a location",
        **documented(AvailabilityAnswer, 200, *WRITE_PROBLEMS, "stock_below_zero", "idempotency_conflict"),
    )
    async def adjust(sku: str, request: Request, body: AdjustmentBody) -> Response:
        is_delta = "delta" in body.model_fields_set
        outcome = await services.commands.adjust(
            sku_in_path(sku, is_writing=True),
            location_id=body.location_id,
            mode="delta" if is_delta else "count",
            amount=body.delta if is_delta else body.on_hand_quantity,
            reason=body.reason,
            expected_sequence=expected_sequence_of(request),
            details={"reference": body.reference} if body.reference else None,
            idempotency=idempotency_of(request, "", body),
        )
        return respond(sku_answer(outcome, with_policy=False))

    _declare_policy(router, services)
    return router


def _declare_policy(router: APIRouter, services: Services) -> None:
    @router.get(
        f"{SKUS}/{{sku}}",
        summary="A SKU's availability with its policy",
        **documented(SkuAnswer, 200, "sku_not_found"),
    )
    async def read(sku: str) -> Response:
        outcome = await services.commands.availability(sku_in_path(sku, is_writing=False))
        return respond(sku_answer(outcome, with_policy=True))

    @router.put(
        f"{SKUS}/{{sku}}",
        summary="Create a SKU or replace its policy; absent fields take their defaults",
        **documented(SkuAnswer, 200, *WRITE_PROBLEMS, created=True),
    )
    async def replace(sku: str, request: Request, body: PolicyBody) -> Response:
        outcome = await _put(request, sku, body.model_dump(), may_create=True)
        return respond(sku_answer(outcome, with_policy=True))

    @router.patch(
        f"{SKUS}/{{sku}}",
        summary="Change what is named of a SKU's policy",
        **documented(SkuAnswer, 200, *WRITE_PROBLEMS, "sku_not_found"),
    )
    async def change(sku: str, request: Request, body: PolicyBody) -> Response:
        outcome = await _put(request, sku, body.model_dump(exclude_unset=True), may_create=False)
        return respond(sku_answer(outcome, with_policy=True))

    async def _put(request: Request, sku: str, named: dict[str, Any], *, may_create: bool) -> PutSkuOutcome:
        return await services.commands.put_sku(
            sku_in_path(sku, is_writing=True),
            encode_policy(_policy_values(named)),
            may_create=may_create,
            expected_sequence=expected_sequence_of(request),
        )


def _policy_values(named: dict[str, Any]) -> dict[str, Any]:
    """The body's fields as attributes of a Policy, in the engine's units."""
    values = dict(named)
    if "safety_stock_percent" in values:
        values["safety_stock_basis_points"] = round(values.pop("safety_stock_percent") * 100)
    if "incoming_quantity" in values:
        values["incoming"] = values.pop("incoming_quantity")
    if "reconciliation_hold_seconds" in values:
        values["reconciliation_hold_us"] = round(values.pop("reconciliation_hold_seconds") * MICROSECONDS)
    if "substitutes" in values:
        values["substitutes"] = tuple(values["substitutes"])
    return values
