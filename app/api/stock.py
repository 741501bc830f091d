"""Stock: availability for agents, adjustments and policy for operators."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from app.api.answers import Answer, answer, availability_payload, sku_answer
from app.api.degraded import degraded_availabilities, degraded_availability
from app.api.documentation import documented, query_parameters
from app.api.past import availability_as_of
from app.api.requests import (
    AvailabilityQuestion,
    availability_question,
    expected_sequence_of,
    id_in_path,
    idempotency_of,
    sku_in_path,
)
from app.api.reservations import respond
from app.api.routing import HotRoute, StrictRoute, allow
from app.api.schemas import (
    AdjustmentBody,
    AvailabilityAnswer,
    AvailabilityBody,
    AvailabilityListAnswer,
    CategoryAnswer,
    DefaultsBody,
    PolicyBody,
    SkuAnswer,
    TransferBody,
)
from app.api.services import Services
from app.domain.callers import AGENT, OPERATOR, READER
from app.domain.outcomes import PutSkuOutcome, SkuAnswered
from app.domain.types import Sku
from app.store.clock import MICROSECONDS
from app.store.decoding import encode_policy
from app.workflows.categories import put_category_everywhere

SKUS = "/inventory/v1/skus"
CATEGORIES = "/inventory/v1/categories"
# body field -> attribute of Policy, and by how much its unit is larger
SCALED = {
    "safety_stock_percent": ("safety_stock_basis_points", 100),
    "incoming_quantity": ("incoming", None),
    "reconciliation_hold_seconds": ("reconciliation_hold_us", MICROSECONDS),
}
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
        openapi_extra=query_parameters(AvailabilityQuestion),
        **documented(AvailabilityAnswer, 200, "sku_not_found", "validation_failed"),
    )
    @allow(AGENT, READER, OPERATOR)
    async def availability(request: Request, sku: str) -> Answer:
        name = sku_in_path(sku, is_writing=False)
        if services.engine_breaker.is_open:
            return await degraded_availability(services, name, availability_question(request))
        if not request.scope["query_string"]:
            return sku_answer(await services.commands.availability(name), with_policy=False)
        question = availability_question(request)
        if question.as_of is not None:
            outcome = await availability_as_of(services, name, question.as_of)
        else:
            outcome = await services.commands.availability(name, channel=question.channel or "")
        return sku_answer(outcome, with_policy=False, location_id=question.location_id)

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
    @allow(AGENT, READER, OPERATOR)
    async def availabilities(body: AvailabilityBody) -> Response:
        skus = [Sku(sku) for sku in dict.fromkeys(body.skus)]
        if services.engine_breaker.is_open:
            return respond(await degraded_availabilities(services, skus))
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
    @allow(OPERATOR)
    async def adjust(sku: str, request: Request, body: AdjustmentBody) -> Response:
        is_delta = "delta" in body.model_fields_set
        outcome = await services.commands.adjust(
            sku_in_path(sku, is_writing=True),
            location_id=body.location_id,
            location_kind=services.settings.kind_of(body.location_id),
            mode="delta" if is_delta else "count",
            amount=body.delta if is_delta else body.on_hand_quantity,
            reason=body.reason,
            expected_sequence=expected_sequence_of(request),
            details={"reference": body.reference} if body.reference else None,
            idempotency=idempotency_of(request, "", body),
        )
        return respond(sku_answer(outcome, with_policy=False))

    @router.post(
        f"{SKUS}/{{sku}}/transfers",
        summary="Move units from one location to another",
        **documented(
            AvailabilityAnswer, 200, *WRITE_PROBLEMS, "sku_not_found", "stock_below_zero", "idempotency_conflict"
        ),
    )
    @allow(OPERATOR)
    async def transfer(sku: str, request: Request, body: TransferBody) -> Response:
        outcome = await services.commands.transfer(
            sku_in_path(sku, is_writing=True),
            from_location_id=body.from_location_id,
            to_location_id=body.to_location_id,
            to_location_kind=services.settings.kind_of(body.to_location_id),
            quantity=body.quantity,
            reason=body.reason,
            expected_sequence=expected_sequence_of(request),
            details={"reference": body.reference} if body.reference else None,
            idempotency=idempotency_of(request, "", body),
        )
        return respond(sku_answer(outcome, with_policy=False))

    _declare_policy(router, services)
    _declare_categories(router, services)
    return router


def _declare_policy(router: APIRouter, services: Services) -> None:
    @router.get(
        f"{SKUS}/{{sku}}",
        summary="A SKU's availability with its policy",
        **documented(SkuAnswer, 200, "sku_not_found"),
    )
    @allow(READER, OPERATOR)
    async def read(sku: str) -> Response:
        outcome = await services.commands.availability(sku_in_path(sku, is_writing=False))
        return respond(sku_answer(outcome, with_policy=True))

    @router.put(
        f"{SKUS}/{{sku}}",
        summary="Create a SKU or replace its policy; absent fields take their defaults",
        **documented(SkuAnswer, 200, *WRITE_PROBLEMS, created=True),
    )
    @allow(OPERATOR)
    async def replace(sku: str, request: Request, body: PolicyBody) -> Response:
        outcome = await _put(request, sku, replacement(body), may_create=True)
        return respond(sku_answer(outcome, with_policy=True))

    @router.patch(
        f"{SKUS}/{{sku}}",
        summary="Change what is named of a SKU's policy",
        **documented(SkuAnswer, 200, *WRITE_PROBLEMS, "sku_not_found"),
    )
    @allow(OPERATOR)
    async def change(sku: str, request: Request, body: PolicyBody) -> Response:
        outcome = await _put(request, sku, body.model_dump(exclude_unset=True), may_create=False)
        return respond(sku_answer(outcome, with_policy=True))

    async def _put(request: Request, sku: str, named: dict[str, Any], *, may_create: bool) -> PutSkuOutcome:
        return await services.commands.put_sku(
            sku_in_path(sku, is_writing=True),
            encode_policy(policy_values(named)),
            may_create=may_create,
            expected_sequence=expected_sequence_of(request),
        )


def _declare_categories(router: APIRouter, services: Services) -> None:
    @router.put(
        f"{CATEGORIES}/{{category}}",
        summary="Say what a category's SKUs take where they say nothing themselves; absent fields say nothing",
        **documented(CategoryAnswer, 200, "malformed_request", "body_too_large", "unsupported_media_type",
                     "validation_failed"),
    )  # fmt: skip
    @allow(OPERATOR)
    async def put_category(category: str, body: DefaultsBody) -> Response:
        name = id_in_path(category, "category")
        named = body.model_dump(exclude_unset=True)
        fields = {field: text for field, text in encode_policy(policy_values(named)).items() if text}
        skus = await put_category_everywhere(services.store, name, fields)
        return respond(answer(200, {"category": name, "policy": named, "skus": skus}))


def replacement(body: PolicyBody) -> dict[str, Any]:
    """A whole policy: what the body does not name is taken away, so that category or default decides."""
    return dict.fromkeys(body.__class__.model_fields) | body.model_dump(exclude_unset=True)


def policy_values(named: dict[str, Any]) -> dict[str, Any]:
    """The body's fields as attributes of a Policy, in the engine's units."""
    values = {}
    for name, value in named.items():
        attribute, scale = SCALED.get(name, (name, None))
        values[attribute] = round(value * scale) if scale and value is not None else value
    return values
