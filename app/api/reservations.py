"""Reservations: reserve, read, commit, release, extend, payment, cancel."""

from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from app.api.answers import Answer, reserve_answer, verb_answer
from app.api.documentation import documented
from app.api.past import recalled
from app.api.problems import Problem, invalid
from app.api.requests import idempotency_of, token_in_path
from app.api.routing import HotRoute, StrictRoute, allow, caller_of
from app.api.schemas import (
    AllocationsBody,
    CancelBody,
    CommitBody,
    ExtendBody,
    LineBody,
    PaymentBody,
    ReleaseBody,
    ReservationAnswer,
    ReserveBody,
)
from app.api.services import Services
from app.domain.callers import AGENT, OPERATOR, READER
from app.domain.outcomes import Done, Held, ReservationNotFound, VerbOutcome
from app.domain.types import Allocation, Line, Sku, Token
from app.observability import metrics
from app.store.clock import MICROSECONDS
from app.workflows.allocation import allocate_units

RESERVATIONS = "/inventory/v1/reservations"
# What a verb without a body says; an extend without one is refused when it is validated.
NO_COMMIT, NO_RELEASE, NO_PAYMENT, NO_CANCEL = CommitBody(), ReleaseBody(), PaymentBody(), CancelBody()
NO_EXTEND = ExtendBody.model_construct()
ENDED = (
    "reservation_committed",
    "reservation_released",
    "reservation_cancelled",
    "reservation_voided",
    "reservation_fulfilled",
)
VERB_PROBLEMS = (
    "malformed_request", "reservation_not_found", "body_too_large", "unsupported_media_type", "validation_failed",
    "idempotency_conflict", "agent_quota_exceeded", *ENDED,
)  # fmt: skip


def hot_reservation_routes(services: Services) -> APIRouter:
    """The calls that agents make in the heat of a sale."""
    router = APIRouter(route_class=HotRoute, tags=["reservations"])
    _declare_reserve(router, services)
    _declare_hot_verbs(router, services)
    return router


def _declare_reserve(router: APIRouter, services: Services) -> None:
    archive_watch = services.archive_watch

    @router.post(
        RESERVATIONS,
        status_code=201,
        summary="Hold units of one or many SKUs, all or nothing",
        **documented(
            ReservationAnswer, 201, "malformed_request", "sku_not_found", "out_of_stock", "body_too_large",
            "unsupported_media_type", "validation_failed", "idempotency_conflict", "quantity_above_limit",
            "channel_limit_exceeded", "agent_quota_exceeded",
        ),
    )  # fmt: skip
    @allow(AGENT, OPERATOR)
    async def reserve(request: Request, body: ReserveBody) -> Answer:
        if archive_watch.is_behind:
            raise Problem("backpressure", "The archive is too far behind. Nothing happened; come back later.")
        caller = caller_of(request)
        if caller.agent_id not in (None, body.agent_id):
            raise agent_mismatch()
        lines = _merged(body.lines) if body.lines else [Line(Sku(body.sku), body.quantity)]
        if len(lines) > 1:
            _check_partition(services, lines)
        outcome = await services.commands.reserve(
            lines,
            agent_id=body.agent_id,
            channel=body.channel,
            ttl_us=_ttl_us(services, body),
            allow_backorder=body.allow_backorder,
            details=_details(body),
            idempotency=idempotency_of(request, body.agent_id, body),
            holder=caller.holder,
            account=caller.account_for(body.agent_id),
        )
        if isinstance(outcome, Held) and not outcome.is_replayed:
            metrics.held_units_total.inc(sum(line.quantity for line in lines))
        return reserve_answer(outcome)


def _declare_hot_verbs(router: APIRouter, services: Services) -> None:
    @router.post(
        f"{RESERVATIONS}/{{token}}/commit",
        summary="Sell what a reservation holds, whole or in part",
        **documented(
            ReservationAnswer, 200, *VERB_PROBLEMS, "reservation_expired", "shortfall", "quantity_exceeds_reservation"
        ),
    )
    @allow(AGENT, OPERATOR)
    async def commit(request: Request, token: str, body: CommitBody = NO_COMMIT) -> Answer:
        name, lines = token_in_path(token, is_writing=True), _merged(body.lines)
        outcome = await services.commands.commit(
            name,
            order_id=body.order_id or "",
            lines=lines,
            claim=caller_of(request).claim,
            idempotency=idempotency_of(request, "", body),
        )
        if isinstance(outcome, Done) and outcome.has_effect and outcome.reservation.status == "committed":
            metrics.committed_units_total.inc(sum(line.quantity for line in outcome.reservation.lines))
        return await _answered(services, request, name, outcome, verb="commit", lines=lines)

    @router.post(
        f"{RESERVATIONS}/{{token}}/release",
        summary="Give back what a reservation holds",
        **documented(ReservationAnswer, 200, *VERB_PROBLEMS),
    )
    @allow(AGENT, OPERATOR)
    async def release(request: Request, token: str, body: ReleaseBody = NO_RELEASE) -> Answer:
        name = token_in_path(token, is_writing=True)
        outcome = await services.commands.release(
            name, claim=caller_of(request).claim, idempotency=idempotency_of(request, "", body)
        )
        return await _answered(services, request, name, outcome, verb="release")

    @router.post(
        f"{RESERVATIONS}/{{token}}/extend",
        summary="Move the deadline later",
        **documented(ReservationAnswer, 200, *VERB_PROBLEMS, "reservation_expired", "lifetime_exceeded"),
    )
    @allow(AGENT, OPERATOR)
    async def extend(request: Request, token: str, body: ExtendBody = NO_EXTEND) -> Answer:
        is_from_now = "ttl_seconds" in body.model_fields_set
        if is_from_now:
            _check_ttl(services, body.ttl_seconds)
        name = token_in_path(token, is_writing=True)
        outcome = await services.commands.extend(
            name,
            counted_from="now" if is_from_now else "deadline",
            amount_us=_microseconds(body.ttl_seconds if is_from_now else body.additional_seconds),
            claim=caller_of(request).claim,
            idempotency=idempotency_of(request, "", body),
        )
        return await _answered(services, request, name, outcome, verb="extend")


def reservation_routes(services: Services) -> APIRouter:
    """The other calls on reservations."""
    router = APIRouter(route_class=StrictRoute, tags=["reservations"])

    @router.get(
        f"{RESERVATIONS}/{{token}}",
        summary="Read a reservation, also one that has ended",
        **documented(ReservationAnswer, 200, "reservation_not_found"),
    )
    @allow(AGENT, READER, OPERATOR)
    async def read(token: str, request: Request) -> Response:
        name = token_in_path(token, is_writing=False)
        outcome = await services.commands.read(name, claim=caller_of(request).claim_to_read)
        return respond(await _answered(services, request, name, outcome, verb="read"))

    @router.delete(
        f"{RESERVATIONS}/{{token}}",
        summary="Give back what a reservation holds",
        **documented(ReservationAnswer, 200, *VERB_PROBLEMS),
    )
    @allow(AGENT, OPERATOR)
    async def delete(token: str, request: Request) -> Response:
        name = token_in_path(token, is_writing=True)
        outcome = await services.commands.release(
            name, claim=caller_of(request).claim, idempotency=idempotency_of(request, "", NO_RELEASE)
        )
        return respond(await _answered(services, request, name, outcome, verb="release"))

    @router.post(
        f"{RESERVATIONS}/{{token}}/payment",
        summary="Note that a payment runs",
        **documented(ReservationAnswer, 200, *VERB_PROBLEMS, "reservation_expired", "lifetime_exceeded"),
    )
    @allow(AGENT, OPERATOR)
    async def payment(token: str, request: Request, body: PaymentBody = NO_PAYMENT) -> Response:
        seconds = body.ttl_seconds or services.settings.payment_ttl_seconds_default
        name = token_in_path(token, is_writing=True)
        outcome = await services.commands.payment(
            name,
            ttl_us=_microseconds(seconds),
            claim=caller_of(request).claim,
            idempotency=idempotency_of(request, "", body),
        )
        return respond(await _answered(services, request, name, outcome, verb="payment"))

    _declare_sales(router, services)
    return router


def _declare_sales(router: APIRouter, services: Services) -> None:
    @router.post(
        f"{RESERVATIONS}/{{token}}/cancel",
        summary="Take a sale back, whole or in part",
        **documented(
            ReservationAnswer, 200, *VERB_PROBLEMS, "reservation_not_committed", "quantity_exceeds_reservation"
        ),
    )
    @allow(AGENT, OPERATOR)
    async def cancel(token: str, request: Request, body: CancelBody = NO_CANCEL) -> Response:
        name = token_in_path(token, is_writing=True)
        outcome = await services.commands.cancel(
            name,
            lines=_merged(body.lines),
            claim=caller_of(request).claim,
            idempotency=idempotency_of(request, "", body),
        )
        return respond(await _answered(services, request, name, outcome, verb="cancel"))

    @router.post(
        f"{RESERVATIONS}/{{token}}/allocations",
        summary="Decide from which locations the units of a sale are taken",
        **documented(
            ReservationAnswer, 200, *VERB_PROBLEMS, "reservation_not_committed", "quantity_exceeds_reservation",
            "stock_below_zero",
        ),
    )  # fmt: skip
    @allow(AGENT, OPERATOR)
    async def allocate(token: str, request: Request, body: AllocationsBody) -> Response:
        name = token_in_path(token, is_writing=True)
        outcome = await allocate_units(
            services.commands,
            services.settings,
            name,
            [Allocation(Sku(line.sku), line.location_id, line.quantity) for line in body.lines],
            strategy=body.strategy,
            claim=caller_of(request).claim,
            details={"rationale": body.rationale} if body.rationale else None,
            idempotency=idempotency_of(request, "", body),
        )
        return respond(await _answered(services, request, name, outcome, verb="allocate"))


async def _answered(
    services: Services, request: Request, token: Token, outcome: VerbOutcome, *, verb: str, lines: Sequence[Line] = ()
) -> Answer:
    """A verb's answer, where the engine has forgotten the reservation the archive's."""
    if isinstance(outcome, ReservationNotFound):
        caller = caller_of(request)
        claim = caller.claim_to_read if verb == "read" else caller.claim
        outcome = await recalled(services, token, verb=verb, claim=claim, lines=lines)
    return verb_answer(outcome, verb=verb)


def agent_mismatch() -> Problem:
    """The problem of a key that is bound to one agent, and names another."""
    return Problem("agent_mismatch", "The key is bound to another agent than the one that is named.")


def respond(answered: Answer) -> Response:
    """An answer as FastAPI sends it."""
    response = Response(answered.body, status_code=answered.status)
    response.raw_headers.extend(answered.headers)
    return response


def _merged(bodies: Iterable[LineBody]) -> list[Line]:
    """Lines with one SKU summed, in order of first appearance."""
    quantities: dict[str, int] = {}
    for line in bodies:
        quantities[line.sku] = quantities.get(line.sku, 0) + line.quantity
    return [Line(Sku(sku), quantity) for sku, quantity in quantities.items()]


def _check_partition(services: Services, lines: list[Line]) -> None:
    of_sku = services.store.keyspace.of_sku
    first = of_sku(lines[0].sku)
    if any(of_sku(line.sku) is not first for line in lines[1:]):
        raise invalid("lines", "must be SKUs of one partition: hold the others in a reservation of their own")


def _ttl_us(services: Services, body: ReserveBody) -> int:
    if "ttl_seconds" not in body.model_fields_set:
        return _microseconds(services.settings.ttl_seconds_default)
    _check_ttl(services, body.ttl_seconds)
    return _microseconds(body.ttl_seconds)


def _check_ttl(services: Services, seconds: float) -> None:
    settings = services.settings
    if not settings.ttl_seconds_min <= seconds <= settings.ttl_seconds_max:
        bounds = f"{settings.ttl_seconds_min:g} to {settings.ttl_seconds_max:g}"
        raise invalid("ttl_seconds", f"must be {bounds} seconds")


def _microseconds(seconds: float) -> int:
    return round(seconds * MICROSECONDS)


def _details(body: ReserveBody) -> dict[str, Any]:
    """What the caller said that no script reads."""
    details: dict[str, Any] = {}
    if body.reference is not None:
        details["reference"] = body.reference
    if body.metadata:
        details["metadata"] = body.metadata
    if body.rationale:
        details["rationale"] = body.rationale
    return details
