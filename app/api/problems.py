"""Every way to say no: the problems of RFC 9457, each with a stable code, a page, and a word on what to do.

`detail` is written for whoever reads it and echoes nothing of the request but validated SKUs.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from app.domain.errors import (
    ArchiveUnavailable,
    Backpressure,
    DeadLettersFull,
    EngineBusy,
    EngineError,
    OutcomeUnknown,
)

CONTENT_TYPE = b"application/problem+json"
RETRY_AFTER_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem. `retryable`: the same call may work later. `mend` is what its page advises."""

    code: str
    status: int
    title: str
    retryable: bool
    mend: str

    @property
    def slug(self) -> str:
        """The code as it stands in the kind's URL."""
        return self.code.replace("_", "-")


@dataclass(slots=True)
class Problem(Exception):
    """Raised to answer a request with a problem; `members` are added to the problem's own."""

    code: str
    detail: str
    members: Mapping[str, Any] = field(default_factory=dict)
    headers: Sequence[tuple[bytes, bytes]] = ()

    @property
    def kind(self) -> Kind:
        """What kind of problem this is."""
        return KINDS[self.code]

    def body(self, request_id: str) -> bytes:
        """The problem as JSON."""
        kind = self.kind
        return msgspec.json.encode(
            {
                "type": f"/problems/{kind.slug}",
                "title": kind.title,
                "status": kind.status,
                "detail": self.detail,
                "instance": request_id,
                "code": kind.code,
                "retryable": kind.retryable,
                **self.members,
            }
        )

    def all_headers(self) -> list[tuple[bytes, bytes]]:
        """Its headers, with Retry-After where the status asks for one."""
        headers = [(b"content-type", CONTENT_TYPE), *self.headers]
        if self.kind.status in (429, 503) and not any(name == b"retry-after" for name, _ in headers):
            headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
        return headers


def of_fault(error: EngineError | ArchiveUnavailable) -> Problem:
    """What a fault of the engine or of the archive is called outside."""
    match error:
        case ArchiveUnavailable():
            return Problem("ledger_unavailable", "The archive, where this is kept, cannot be asked; come back later.")
        case OutcomeUnknown():
            return Problem(
                "outcome_unknown",
                "The ledger did not answer in time: the command may have taken effect. Repeat it with the same "
                "Idempotency-Key; without a key, look before you repeat it.",
            )
        case EngineBusy():
            return Problem("busy", "The command came too late to be run and had no effect. Repeat it.")
        case DeadLettersFull():
            return Problem(
                "busy",
                "The delivery could not be used, and there is no room to keep it: too many wait for a person already. "
                "Deliver it again later.",
            )
        case Backpressure():
            return Problem("backpressure", "Too many calls wait for the ledger. Nothing happened; come back later.")
        case _:
            return Problem("ledger_unavailable", "The ledger cannot be reached. Nothing happened; come back later.")


def invalid(field_name: str, message: str) -> Problem:
    """A validation problem of one field."""
    return Problem(
        "validation_failed",
        "The request is not as this call takes it; see errors.",
        {"errors": [{"field": field_name, "message": message}]},
    )


def page(kind: Kind) -> str:
    """The kind's own page: what its `type` points at."""
    retry = "The same call may work later." if kind.retryable else "The same call will not work later."
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{kind.code}</title><style>body{{font:1rem/1.5 system-ui;max-width:40rem;margin:3rem auto}}</style>"
        f"<h1>{html.escape(kind.title)}</h1><p><code>{kind.code}</code>, HTTP {kind.status}. {retry}"
        f"<p>{html.escape(kind.mend)}</html>"
    )


def _kinds(*rows: tuple[str, int, str, bool, str]) -> dict[str, Kind]:
    return {row[0]: Kind(*row) for row in rows}


RESERVE_AGAIN = "Reserve again if the units are still wanted."
KINDS = _kinds(
    ("malformed_request", 400, "Malformed request", False, "Send one JSON value in UTF-8: no NaN, no duplicate keys."),
    (
        "webhook_signature_invalid",
        401,
        "Webhook signature invalid",
        False,
        "Sign the bytes that you send, as Standard Webhooks has it, with a secret of the source in lastunit.toml.",
    ),
    (
        "webhook_timestamp_out_of_tolerance",
        401,
        "Webhook timestamp out of tolerance",
        False,
        "Sign each attempt anew, with the time of now; both clocks must be right to five minutes.",
    ),
    (
        "unauthenticated",
        401,
        "Unauthenticated",
        False,
        "Send Authorization: Bearer <key>, once, with a key that the operator gave you and that has not expired.",
    ),
    ("forbidden", 403, "Forbidden", False, "Ask the operator for a key with a scope that this call takes."),
    ("agent_mismatch", 403, "Agent mismatch", False, "The key is good for one agent alone: name that one."),
    ("sku_not_found", 404, "SKU not found", False, "Check the spelling; an operator creates SKUs by adjusting or PUT."),
    ("reservation_not_found", 404, "Reservation not found", False, "Check the token; ended ones are kept for a day."),
    ("source_not_found", 404, "Source not found", False, "Check the name; lastunit.toml has a table for each source."),
    ("not_found", 404, "Not found", False, "Check the path; /docs lists them all."),
    ("method_not_allowed", 405, "Method not allowed", False, "Use a method that the Allow header names."),
    ("out_of_stock", 409, "Out of stock", True, "Follow the advice of each line that is short."),
    (
        "channel_limit_exceeded",
        409,
        "Channel limit exceeded",
        True,
        "The channel has its share of the SKU: ask for what is left of it, or through another channel.",
    ),
    ("shortfall", 409, "Shortfall", True, "A count left less than is promised: wait for holds to end, or release."),
    ("stock_below_zero", 409, "Stock below zero", False, "Count the location, or take off at most what it holds."),
    ("reservation_committed", 409, "Reservation committed", False, "It is sold. To undo it, cancel."),
    ("reservation_released", 409, "Reservation released", False, RESERVE_AGAIN),
    ("reservation_cancelled", 409, "Reservation cancelled", False, RESERVE_AGAIN),
    ("reservation_voided", 409, "Reservation voided", False, f"A count took the units away. {RESERVE_AGAIN}"),
    ("reservation_fulfilled", 409, "Reservation fulfilled", False, "It has shipped; a return brings units back."),
    (
        "reservation_not_committed",
        409,
        "Reservation not committed",
        False,
        "Only a sale is cancelled: release it instead.",
    ),
    ("lifetime_exceeded", 409, "Lifetime exceeded", False, "Commit or release it; a hold cannot live longer."),
    ("quantity_exceeds_reservation", 409, "Quantity exceeds reservation", False, "Ask for no more than it holds."),
    (
        "reservation_expired",
        410,
        "Reservation expired",
        False,
        f"{RESERVE_AGAIN} Void a payment that was begun for it.",
    ),
    ("sequence_mismatch", 412, "Sequence mismatch", False, "The SKU has changed: read it again, then decide again."),
    ("body_too_large", 413, "Body too large", False, "Send less at once."),
    ("unsupported_media_type", 415, "Unsupported media type", False, "Send Content-Type: application/json."),
    ("validation_failed", 422, "Validation failed", False, "Correct the fields that errors names."),
    ("idempotency_conflict", 422, "Idempotency conflict", False, "Use a new Idempotency-Key for a new request."),
    ("quantity_above_limit", 422, "Quantity above limit", False, "Ask for no more than the limit in detail."),
    ("agent_quota_exceeded", 429, "Agent quota exceeded", True, "Commit or release what you hold, then ask again."),
    ("rate_limited", 429, "Rate limited", True, "Wait as Retry-After says, and watch the RateLimit header."),
    ("backpressure", 429, "Backpressure", True, "Wait as Retry-After says, then repeat the call."),
    ("ledger_unavailable", 503, "Ledger unavailable", True, "Nothing happened: wait as Retry-After says, then repeat."),
    ("outcome_unknown", 503, "Outcome unknown", True, "It may have happened: repeat with the same Idempotency-Key."),
    ("busy", 503, "Busy", True, "Nothing happened: wait as Retry-After says, then repeat the call."),
    ("internal_error", 500, "Internal error", True, "This is our fault: tell us the instance of the problem."),
)
