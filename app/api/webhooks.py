"""Webhooks: what sources send, judged by its very bytes, and answered once its effect is in the ledger."""

import time
from typing import Literal

import structlog
from fastapi import APIRouter, Request
from pydantic import BaseModel

from app.api.answers import Answer, answer
from app.api.documentation import documented
from app.api.problems import Problem
from app.api.requests import JSON_TYPE, read_body
from app.api.routing import HotRoute, admit, allow, caller_of
from app.api.services import Services
from app.connectors.connector import Fault, Headers, Hook, Refusal
from app.connectors.standard import BODY, LINES_MAX, SIGNED_HEADERS
from app.connectors.strict_json import ERRORS_MAX
from app.domain.callers import OPERATOR, WEBHOOK
from app.ingest.intake import Receipt, ReceiptStatus, Unusable, receive
from app.observability import metrics

WEBHOOKS = "/inventory/v1/webhooks"
BODY_BYTES_MAX = 1024 * 1024
REFUSALS = {
    Refusal.SIGNATURE_INVALID: "No secret of the source has signed this, or it is not signed at all.",
    Refusal.TIMESTAMP_OUT_OF_TOLERANCE: "The delivery was signed too long ago, or ahead of time: check the clocks.",
}
CHALLENGE = (b"www-authenticate", b"Signature")
DESCRIPTION = {
    "parameters": [
        {"name": name, "in": "header", "required": True, "schema": {"type": "string"}} for name in SIGNED_HEADERS
    ],
    "requestBody": {"required": True, "content": {"application/json": {"schema": BODY.json_schema()}}},
}
LineStatus = Literal["applied", "duplicate", "stale", "ignored", "dead_lettered"]

log = structlog.get_logger()


class LineReceiptAnswer(BaseModel):
    """What became of a line; `sequence` is 0 where nothing did, `reason` there where it is dead-lettered."""

    sku: str
    status: LineStatus
    sequence: int
    reason: str | None = None


class ReceiptAnswer(BaseModel):
    """What became of a delivery and of its lines, in order; the dead letter where some of them are one."""

    status: LineStatus
    results: list[LineReceiptAnswer]
    dead_letter_id: str | None = None


def webhook_routes(services: Services) -> APIRouter:
    """The one door for all sources that send."""
    router = APIRouter(route_class=HotRoute, tags=["webhooks"])
    hooks = {
        name: (source, source.connector)
        for name, source in services.sources.items()
        if isinstance(source.connector, Hook)
    }

    @router.post(
        f"{WEBHOOKS}/{{source}}",
        summary=f"Take in what a source says happened: up to {LINES_MAX} lines, each applied once",
        openapi_extra=DESCRIPTION,
        **documented(
            ReceiptAnswer, 200, "malformed_request", "webhook_signature_invalid", "webhook_timestamp_out_of_tolerance",
            "source_not_found", "body_too_large", "unsupported_media_type", "validation_failed",
        ),
    )  # fmt: skip
    @allow()
    async def deliver(request: Request, source: str) -> Answer:
        if source not in hooks:
            raise Problem("source_not_found", "No source that sends webhooks has this name.")
        known, hook = hooks[source]
        started, status = time.perf_counter(), "failed"
        try:
            if not hook.is_signed:
                admit(caller_of(request), frozenset({WEBHOOK + source, OPERATOR}))
            body = await read_body(request, BODY_BYTES_MAX)
            headers = {name.decode("latin-1"): text.decode("latin-1") for name, text in request.scope["headers"]}
            delivery_id = _authenticate(hook, headers, body)
            outcome = await receive(
                services.store, known, delivery_id, headers, body, kind_of=services.settings.kind_of
            )
            status = outcome.status
        except Problem as problem:
            status = problem.code
            log.warning("delivery_refused", source=source, code=status, request_id=request.scope["request_id"])
            raise
        finally:
            metrics.observe_delivery(source, status, time.perf_counter() - started)
        (log.debug if outcome.reason is None else log.warning)(
            "delivery",
            source=source,
            delivery_id=delivery_id,
            status=status,
            reason=outcome.reason,
            dead_letter_id=outcome.dead_letter_id,
            request_id=request.scope["request_id"],
        )
        return receipt_answer(outcome)

    return router


def receipt_answer(outcome: Receipt | Unusable) -> Answer:
    """200 with what became of each line; a problem that names the dead letter where nothing could be used."""
    dead_letter = {"dead_letter_id": outcome.dead_letter_id} if outcome.dead_letter_id else {}
    if isinstance(outcome, Unusable) and outcome.unreadable.fault is Fault.MALFORMED:
        raise Problem(
            "malformed_request", "The body is not what its type says; it is kept as a dead letter.", dead_letter
        )
    if isinstance(outcome, Unusable) or outcome.status is ReceiptStatus.DEAD_LETTERED:
        raise Problem(
            "validation_failed",
            "Nothing of the delivery could be used; see errors. It is kept as a dead letter.",
            {"errors": [{"field": field, "message": message} for field, message in _errors(outcome)], **dead_letter},
        )
    results = [
        {"sku": line.sku, "status": line.status, "sequence": line.sequence}
        | ({"reason": line.reason} if line.reason else {})
        for line in outcome.lines
    ]
    return answer(200, {"status": outcome.status, "results": results, **dead_letter})


def _errors(outcome: Receipt | Unusable) -> list[tuple[str, str]]:
    """The fields, or the lines, that are wrong: the first of them."""
    if isinstance(outcome, Unusable):
        return list(outcome.unreadable.errors)
    wrong = [(f"lines.{number}", line.reason) for number, line in enumerate(outcome.lines) if line.reason]
    return wrong[:ERRORS_MAX]


def _authenticate(hook: Hook, headers: Headers, body: bytes) -> str:
    """The delivery's id, once it is proved who sent it. Nothing is kept of what is refused."""
    verdict = hook.verify(headers, body, now_us=time.time_ns() // 1000)
    if isinstance(verdict, Refusal):
        raise Problem(verdict.value, REFUSALS[verdict], headers=(CHALLENGE,))
    # A sender that says nothing of the type is believed: what it sent is signed.
    if not JSON_TYPE.match(headers.get("content-type", "application/json")):
        raise Problem("unsupported_media_type", "The body must be JSON: send Content-Type: application/json.")
    return verdict.delivery_id
