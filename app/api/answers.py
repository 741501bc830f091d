"""Turns outcomes into answers: JSON as the contract has it, or the problem that an outcome is called outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, assert_never

import msgspec

from app.api.problems import RETRY_AFTER_SECONDS, Problem
from app.domain.entries import Entry
from app.domain.outcomes import (
    AboveLimit,
    AgentQuotaExceeded,
    AvailabilityOutcome,
    ChannelLimitExceeded,
    Done,
    Held,
    IdempotencyConflict,
    Imported,
    ImportOutcome,
    LifetimeExceeded,
    LocationShort,
    OutOfStock,
    PutSkuOutcome,
    QuantityAboveLimit,
    QuantityExceeds,
    ReservationEnded,
    ReservationNotFound,
    ReserveOutcome,
    SequenceMismatch,
    Shortfall,
    ShortLine,
    SkuAnswered,
    SkuNotFound,
    StockBelowZero,
    TooManyAllocations,
    TooManyKeys,
    TooManyLocations,
    TransferOutcome,
    VerbOutcome,
)
from app.domain.pressure import PROCEED, Advice, advice_for, pressure_of
from app.domain.types import ALLOCATIONS_MAX, Remaining, Reservation, Sku, SkuState
from app.workflows.degraded import Assumed

MICROSECONDS = 1_000_000
SCHEMA_VERSION = "1.0"
JSON_HEADERS = [(b"content-type", b"application/json")]
REPLAYED_HEADER = (b"idempotent-replayed", b"true")


@dataclass(slots=True)
class Answer:
    """A successful answer: status, JSON body, headers."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]]


def answer(status: int, payload: object, *headers: tuple[bytes, bytes]) -> Answer:
    """An answer with this payload as JSON."""
    return Answer(status, msgspec.json.encode(payload), [*JSON_HEADERS, *headers])


def rfc3339(time_us: int) -> str:
    """A time in us since 1970 as RFC 3339 UTC with microseconds."""
    seconds, microseconds = divmod(time_us, MICROSECONDS)
    return f"{_second(seconds)}.{microseconds:06d}Z"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def reserve_answer(outcome: ReserveOutcome) -> Answer:
    """201 with the reservation, or the refusal."""
    match outcome:
        case Held(reservation, is_replayed):
            location = (b"location", b"/inventory/v1/reservations/" + reservation.token.encode())
            headers = (location, REPLAYED_HEADER) if is_replayed else (location,)
            return answer(201, reservation_payload(reservation), *headers)
        case OutOfStock(lines, as_of_us):
            raise _out_of_stock(lines, as_of_us)
        case SkuNotFound(sku):
            raise sku_not_found(sku)
        case QuantityAboveLimit(sku, quantity_max):
            raise Problem("quantity_above_limit", f"At most {quantity_max} units of {sku} go into one reservation.")
        case AgentQuotaExceeded():
            raise _above_cap(outcome)
        case ChannelLimitExceeded(sku, limit, promised):
            raise Problem(
                "channel_limit_exceeded",
                f"The channel may have {limit} units of {sku}, held and sold, and has {promised}: "
                f"ask for {max(0, limit - promised)} at most, or through another channel.",
            )
        case IdempotencyConflict():
            raise _idempotency_conflict()
        case _:
            assert_never(outcome)


def verb_answer(outcome: VerbOutcome, *, verb: str) -> Answer:
    """200 with the reservation, or the refusal."""
    match outcome:
        case Done(reservation, is_replayed):
            return answer(200, reservation_payload(reservation), *((REPLAYED_HEADER,) if is_replayed else ()))
        case ReservationNotFound():
            raise Problem("reservation_not_found", "No reservation has this token, here or in the archive.")
        case ReservationEnded(reservation):
            raise _ended(reservation, verb)
        case QuantityExceeds():
            raise Problem("quantity_exceeds_reservation", "A line asks for more units than the reservation has left.")
        case Shortfall():
            raise Problem(
                "shortfall",
                "A count left fewer units than are promised, so none of them is sold now. Retry until the hold ends; "
                "void the payment if it does.",
            )
        case LocationShort() | TooManyAllocations():
            raise _not_allocated(outcome)
        case LifetimeExceeded():
            raise Problem("lifetime_exceeded", "The deadline would pass the longest life a reservation may have.")
        case TooManyKeys():
            raise Problem(
                "agent_quota_exceeded",
                "This reservation remembers as many Idempotency-Keys as it may. Repeat an earlier key, or use none.",
                {"retryable": False},
            )
        case IdempotencyConflict():
            raise _idempotency_conflict()
        case _:
            assert_never(outcome)


def _not_allocated(outcome: LocationShort | TooManyAllocations) -> Problem:
    if isinstance(outcome, LocationShort):
        return Problem(
            "stock_below_zero",
            "A location is not shared, or has fewer units left to allocate than are asked of it: choose another.",
        )
    return Problem(
        "validation_failed",
        f"The units of a reservation are taken from {ALLOCATIONS_MAX} places at most, a SKU at a location each.",
        _field("lines"),
    )


def sku_answer(
    outcome: TransferOutcome | PutSkuOutcome | AvailabilityOutcome, *, with_policy: bool, location_id: str | None = None
) -> Answer:
    """The SKU with its ETag, 201 where the command created it; or the refusal. A location narrows its locations."""
    match outcome:
        case SkuAnswered(state, is_created, is_replayed):
            etag = (b"etag", f'"{state.sequence}"'.encode())
            headers = (etag, REPLAYED_HEADER) if is_replayed else (etag,)
            payload = sku_payload(state) if with_policy else availability_payload(state)
            if location_id is not None:
                payload["locations"] = [each for each in payload["locations"] if each["location_id"] == location_id]
            return answer(201 if is_created else 200, payload, *headers)
        case SkuNotFound(sku):
            raise sku_not_found(sku)
        case SequenceMismatch(sequence):
            raise Problem("sequence_mismatch", f"If-Match does not name the SKU's sequence, which is {sequence}.")
        case TooManyLocations():
            raise Problem(
                "validation_failed", "The SKU lies at 200 locations already, the most it may.", _field("location_id")
            )
        case StockBelowZero():
            raise Problem("stock_below_zero", "The location holds fewer units than the adjustment takes off.")
        case AboveLimit():
            raise Problem("validation_failed", "On hand would be more than 10^12 units.", _field("delta"))
        case IdempotencyConflict():
            raise _idempotency_conflict()
        case _:
            assert_never(outcome)


def import_answer(outcome: ImportOutcome) -> Answer:
    """200 with how many rows a file has, and how many changed something; or the refusal."""
    match outcome:
        case Imported(rows, changed, is_replayed):
            return answer(200, {"rows": rows, "changed": changed}, *((REPLAYED_HEADER,) if is_replayed else ()))
        case IdempotencyConflict():
            raise _idempotency_conflict()
        case _:
            assert_never(outcome)


def sku_not_found(sku: Sku) -> Problem:
    """Of a SKU that nobody told of."""
    return Problem("sku_not_found", f"There is no SKU {sku}: an operator creates it by an adjustment or PUT.")


def reservation_payload(reservation: Reservation) -> dict[str, Any]:
    """A reservation as the contract shows it."""
    lines = reservation.lines
    details = msgspec.json.decode(reservation.details) if reservation.details else {}
    payload: dict[str, Any] = {
        "token": reservation.token,
        "status": reservation.status,
        "agent_id": reservation.agent_id,
        "channel": reservation.channel,
        "reference": details.get("reference"),
        "order_id": reservation.order_id or None,
        "lines": [{"sku": line.sku, "quantity": line.quantity, "backordered": line.backordered} for line in lines],
    }
    if len(lines) == 1:
        payload["sku"] = lines[0].sku
        payload["quantity"] = lines[0].quantity
    expires_at = rfc3339(reservation.expires_at_us)
    review_due_at_us = reservation.review_due_at_us
    payload |= {
        "created_at": rfc3339(reservation.created_at_us),
        "expires_at": expires_at,
        "ttl_seconds": (reservation.expires_at_us - reservation.created_at_us) / MICROSECONDS,
        "sequence": reservation.sequence,
        "review_due_at": None if review_due_at_us is None else rfc3339(review_due_at_us),
        "availability": [_remaining(row) for row in reservation.remaining],
        "metadata": details.get("metadata", {}),
    }
    if reservation.status == "pending_reconciliation":
        payload["final_at"] = expires_at
    return payload


def availability_payload(state: SkuState) -> dict[str, Any]:
    """A SKU in the unified schema; of a channel with a limit, no more is available than it may still have."""
    policy = state.policy
    available = state.available if state.channel_left is None else min(state.available, state.channel_left)
    backorder_left = max(0, policy.backorder_limit - state.backordered)
    advice = advice_for(
        requested=1,
        available=available,
        backorder_left=backorder_left,
        next_release_us=state.next_release_us,
        releasable=state.available + state.reserved,
        now_us=state.as_of_us,
        next_restock_date=policy.next_restock_date,
        substitutes=policy.substitutes,
    )
    return {
        "schema_version": SCHEMA_VERSION,
        "sku": state.sku,
        "on_hand_quantity": state.on_hand,
        "available_quantity": available,
        "reserved_quantity": state.reserved,
        "committed_quantity": state.committed,
        "backordered_quantity": state.backordered,
        "shortfall_quantity": state.shortfall,
        "incoming_quantity": policy.incoming,
        "safety_stock": state.safety_stock,
        "pressure": pressure_of(available, policy.low_stock_threshold),
        "advice": _advice(advice),
        "is_backorderable": backorder_left > 0,
        "backorder_limit": policy.backorder_limit,
        "lead_time_days": policy.lead_time_days,
        "next_restock_date": policy.next_restock_date,
        "next_release_at": None if state.next_release_us is None else rfc3339(state.next_release_us),
        "locations": [
            {
                "location_id": location.location_id,
                "kind": "shared" if location.is_shared else "dedicated",
                "on_hand_quantity": location.on_hand,
                "available_quantity": location.available,
                "reserved_quantity": location.allocated,
            }
            for location in state.locations
        ],
        "sequence": state.sequence,
        "as_of": rfc3339(state.as_of_us),
        "source": "ledger",
    }


def assumed_payload(assumed: Assumed) -> dict[str, Any]:
    """A SKU in the unified schema while the ledger is away: its last known quantities, and what is assumed of them."""
    state = assumed.state
    return availability_payload(state) | {
        "available_quantity": assumed.available,
        "pressure": pressure_of(assumed.available, state.policy.low_stock_threshold),
        # Nothing can be held now, so there is nothing to go on with.
        "advice": {"action": "retry_after", "retry_after_ms": RETRY_AFTER_SECONDS * 1000},
        "source": "last_known",
        "degraded_policy": state.policy.degraded_policy,
        "age_seconds": assumed.age_us / MICROSECONDS,
        "confidence": round(assumed.confidence, 3),
    }


def sku_payload(state: SkuState) -> dict[str, Any]:
    """A SKU in the unified schema, its policy beside it. `safety_stock` is the units in force."""
    policy = state.policy
    return availability_payload(state) | {
        "safety_stock_percent": policy.safety_stock_basis_points / 100,
        "low_stock_threshold": policy.low_stock_threshold,
        "max_quantity_per_reservation": policy.max_quantity_per_reservation,
        "substitutes": list(policy.substitutes),
        "variant_group": policy.variant_group,
        "reconciliation_hold_seconds": policy.reconciliation_hold_us / MICROSECONDS,
        "category": policy.category,
        "channel_limits": dict(policy.channel_limits),
        "degraded_policy": policy.degraded_policy,
    }


def entry_payload(entry: Entry) -> dict[str, Any]:
    """A ledger entry as the contract shows it; what only some entries have stands in `data`."""
    data = dict(entry.data)
    occurred_at_us = data.pop("occurred_at_us", None)
    delivery_id, clock = data.pop("delivery_id", None), data.pop("clock", None)
    if entry.expires_us is not None:
        data["expires_at"] = rfc3339(entry.expires_us)
    if entry.safety_stock is not None:
        data["safety_stock"] = entry.safety_stock
    if entry.location_kind is not None:
        data["location_kind"] = entry.location_kind
    return {
        "sequence": entry.sequence,
        "partition": entry.partition,
        "command_id": entry.command_id,
        "at": rfc3339(entry.at_us),
        "type": entry.type,
        "sku": entry.sku,
        "location_id": entry.location_id,
        "quantity": entry.quantity,
        "on_hand_quantity": entry.on_hand,
        "reserved_quantity": entry.reserved,
        "committed_quantity": entry.committed,
        "backordered_quantity": entry.backordered,
        "available_quantity": entry.available,
        "token": entry.token,
        "agent_id": entry.agent_id,
        "channel": entry.channel,
        "source": entry.source,
        "delivery_id": delivery_id or None,  # a poll has none
        "occurred_at": rfc3339(occurred_at_us) if isinstance(occurred_at_us, int) else None,
        "clock": clock,
        "reason": entry.reason or None,
        "data": data,
    }


def _remaining(row: Remaining) -> dict[str, Any]:
    """What is left, told to somebody whose wish was met: go on."""
    return {
        "sku": row.sku,
        "available_quantity": row.available,
        "pressure": pressure_of(row.available, row.low_stock_threshold),
        "advice": _advice(PROCEED),
    }


def _advice(advice: Advice) -> dict[str, Any]:
    payload: dict[str, Any] = {"action": advice.action}
    if advice.retry_after_ms is not None:
        payload["retry_after_ms"] = advice.retry_after_ms
    if advice.next_release_us is not None:
        payload["next_release_at"] = rfc3339(advice.next_release_us)
    if advice.next_restock_date is not None:
        payload["next_restock_date"] = advice.next_restock_date
    if advice.alternatives:
        payload["alternatives"] = list(advice.alternatives)
    return payload


def _out_of_stock(lines: Sequence[ShortLine], as_of_us: int) -> Problem:
    rows = []
    for short in lines:
        advice = advice_for(
            requested=short.line.quantity,
            available=short.remaining.available,
            backorder_left=short.backorder_left,
            next_release_us=short.next_release_us,
            releasable=short.releasable,
            now_us=as_of_us,
            next_restock_date=short.next_restock_date,
            substitutes=short.substitutes,
        )
        rows.append(
            {
                "sku": short.line.sku,
                "requested_quantity": short.line.quantity,
                "available_quantity": short.remaining.available,
                "pressure": pressure_of(short.remaining.available, short.remaining.low_stock_threshold),
                "advice": _advice(advice),
            }
        )
    return Problem(
        "out_of_stock", "Nothing is held: there are not enough units for each line that is listed.", {"lines": rows}
    )


def _above_cap(outcome: AgentQuotaExceeded) -> Problem:
    """429: what the cap is, and when something of it comes free by itself."""
    words = {
        "open_holds": f"One caller has {outcome.limit} open reservations at most: commit or release one.",
        "held_units": f"One caller holds {outcome.limit} units at most, and {outcome.current} are held: commit or "
        "release some, or ask for fewer.",
        "sku_share": f"One caller holds {outcome.limit} units of {outcome.sku} at most as it stands, and "
        f"{outcome.current} are held: commit or release some, or ask for fewer.",
        "expired_holds": f"{outcome.limit} holds were let expire in a short time: hold again after the pause, and "
        "release what is not bought.",
    }
    advice, headers = Advice("give_up"), []
    if outcome.retry_at_us is not None:
        wait_us = max(1, outcome.retry_at_us - outcome.as_of_us)
        advice = Advice("retry_after", retry_after_ms=-(-wait_us // 1000))
        headers = [(b"retry-after", str(-(-wait_us // MICROSECONDS)).encode())]
    about = {"cap": outcome.cap, "limit": outcome.limit, "current": outcome.current}
    members = {**about, "advice": _advice(advice), "retryable": bool(headers)}
    return Problem("agent_quota_exceeded", f"Nothing is held. {words[outcome.cap]}", members, headers)


def _ended(reservation: Reservation, verb: str) -> Problem:
    if verb in ("cancel", "allocate") and reservation.status not in ("committed", "cancelled", "fulfilled"):
        done = {"cancel": "cancelled", "allocate": "allocated"}[verb]
        return Problem("reservation_not_committed", f"Only a sale is {done}, and this reservation is none.")
    if reservation.status == "expired":
        return Problem(
            "reservation_expired",
            "The deadline has passed and the units are back on sale. Reserve again; void a payment begun for it.",
        )
    if reservation.status == "voided":
        return Problem(
            "reservation_voided",
            "Stock was found missing and this hold was given up, so nothing is sold. Reserve again, or elsewhere.",
        )
    state = "committed" if reservation.status == "pending_reconciliation" else reservation.status
    return Problem(f"reservation_{state}", f"The reservation is {state} already.")


def _idempotency_conflict() -> Problem:
    return Problem("idempotency_conflict", "This Idempotency-Key came before with another request.")


def _field(name: str) -> dict[str, Any]:
    return {"errors": [{"field": name, "message": "see detail"}]}
