"""Between the engine's text and the domain's values; replies are asserted as they are decoded."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from app.domain.callers import Claim
from app.domain.caps import Cap, Caps
from app.domain.outcomes import (
    AboveLimit,
    AgentQuotaExceeded,
    ChannelLimitExceeded,
    IdempotencyConflict,
    LifetimeExceeded,
    LocationShort,
    OutOfStock,
    QuantityAboveLimit,
    QuantityExceeds,
    ReservationNotFound,
    ReserveOutcome,
    Shortfall,
    ShortLine,
    SkuNotFound,
    StockBelowZero,
    TooManyAllocations,
    TooManyKeys,
    TooManyLocations,
    TransferOutcome,
    VerbOutcome,
)
from app.domain.types import Line, Location, Policy, Remaining, Reservation, Sku, SkuState, Token
from app.store.calls import ReservationReply, ReserveReply, SkuReply

# Refusals that say all by their status.
VERB_REFUSALS: dict[bytes, VerbOutcome] = {
    b"not_found": ReservationNotFound(),
    b"idempotency_conflict": IdempotencyConflict(),
    b"too_many_keys": TooManyKeys(),
    b"quantity_exceeds": QuantityExceeds(),
    b"shortfall": Shortfall(),
    b"lifetime_exceeded": LifetimeExceeded(),
    b"location_short": LocationShort(),
    b"too_many_allocations": TooManyAllocations(),
}
STOCK_REFUSALS: dict[bytes, TransferOutcome] = {
    b"idempotency_conflict": IdempotencyConflict(),
    b"too_many_locations": TooManyLocations(),
    b"stock_below_zero": StockBelowZero(),
    b"above_limit": AboveLimit(),
}


def decode_lines(text: bytes) -> tuple[Line, ...]:
    """Rows of sku TAB quantity TAB backordered."""
    lines = []
    for row in text.decode().split("\n"):
        sku, quantity, backordered = row.split("\t")
        lines.append(Line(Sku(sku), int(quantity), int(backordered)))
    return tuple(lines)


def decode_remaining(text: bytes) -> tuple[Remaining, ...]:
    """Rows of sku TAB available TAB low_stock_threshold."""
    remaining = []
    for row in text.decode().split("\n"):
        sku, available, threshold = row.split("\t")
        remaining.append(Remaining(Sku(sku), int(available), int(threshold)))
    return tuple(remaining)


def encode_caps(caps: Caps) -> str:
    """Caps as lua/includes/caps.lua reads them; empty where there are none."""
    limits = (caps.open_holds, caps.held_units, caps.sku_share_basis_points, caps.expired_holds)
    if not caps.is_any:
        return ""
    return "\t".join([*("" if limit is None else str(limit) for limit in limits), str(caps.cooldown_us)])


def _decode_quota(reply: ReserveReply) -> AgentQuotaExceeded:
    """A refused reserve's row of the cap that it would break, see lua/includes/caps.lua."""
    cap, limit, current, retry_at_us, sku = reply.lines.decode().split("\t")
    return AgentQuotaExceeded(
        cap=msgspec.convert(cap, Cap),
        limit=int(limit),
        current=int(current),
        retry_at_us=int(retry_at_us) or None,
        as_of_us=int(reply.now_us),
        sku=Sku(sku) if sku else None,
    )


def _decode_out_of_stock(reply: ReserveReply) -> OutOfStock:
    """A refused reserve's rows of what a line is short of, see lua/includes/shortage.lua."""
    remaining = {row.sku: row for row in decode_remaining(reply.availability)}
    short = []
    for row in reply.lines.decode().split("\n"):
        sku, quantity, backorder_left, next_release_us, releasable, next_restock_date, substitutes = row.split("\t")
        line = Line(Sku(sku), int(quantity))
        short.append(
            ShortLine(
                line=line,
                remaining=remaining[line.sku],
                backorder_left=int(backorder_left),
                next_release_us=int(next_release_us) or None,
                releasable=int(releasable),
                next_restock_date=next_restock_date or None,
                substitutes=decode_texts(substitutes) if substitutes else (),
            )
        )
    return OutOfStock(tuple(short), int(reply.now_us))


def _decode_above_limit(reply: ReserveReply) -> QuantityAboveLimit:
    sku, quantity_max = reply.lines.decode().split("\t")
    return QuantityAboveLimit(Sku(sku), int(quantity_max))


def _decode_channel_limit(reply: ReserveReply) -> ChannelLimitExceeded:
    sku, limit, promised = reply.lines.decode().split("\t")
    return ChannelLimitExceeded(Sku(sku), int(limit), int(promised))


# What a refused reserve says by its status and its lines.
RESERVE_REFUSALS: dict[bytes, Callable[[ReserveReply], ReserveOutcome]] = {
    b"idempotency_conflict": lambda _: IdempotencyConflict(),
    b"sku_not_found": lambda reply: SkuNotFound(Sku(reply.lines.decode())),
    b"quantity_above_limit": _decode_above_limit,
    b"agent_quota_exceeded": _decode_quota,
    b"channel_limit_exceeded": _decode_channel_limit,
    b"out_of_stock": _decode_out_of_stock,
}


def decode_reservation(token: Token, reply: ReservationReply) -> Reservation:
    """A verb's reply."""
    return Reservation(
        token=token,
        status=reply.state.decode(),
        agent_id=reply.agent.decode(),
        channel=reply.channel.decode(),
        order_id=reply.order_id.decode(),
        details=reply.details,
        created_at_us=int(reply.created_us),
        expires_at_us=int(reply.expires_us),
        sequence=int(reply.sequence),
        lines=decode_lines(reply.lines),
        remaining=decode_remaining(reply.availability),
    )


def decode_sku(sku: Sku, reply: SkuReply) -> SkuState:
    """A SKU command's reply."""
    state = SkuState(
        sku=sku,
        as_of_us=int(reply.now_us),
        sequence=int(reply.sequence),
        on_hand=int(reply.on_hand),
        reserved=int(reply.reserved),
        committed=int(reply.committed),
        backordered=int(reply.backordered),
        safety_stock=int(reply.safety_stock),
        available=int(reply.available),
        shortfall=int(reply.shortfall),
        next_release_us=int(reply.next_release_us) or None,
        locations=_decode_locations(reply.locations),
        channel_left=int(reply.channel_left) if reply.channel_left else None,
        policy=decode_policy({name: getattr(reply, name).decode() for name in POLICY_FIELDS}),
    )
    assert min(state.reserved, state.committed, state.backordered, state.safety_stock, state.available) >= 0
    return state


def encode_claim(claim: Claim | None) -> str:
    """As the scripts read it: see lua/includes/open_reservation.lua."""
    return f"{claim.kind}\t{claim.owner}" if claim else ""


def encode_details(details: Mapping[str, object] | None, key_hash: str, fingerprint: str) -> bytes:
    """What the ledger keeps of a call besides its effect: the caller's words, and the key it is remembered by."""
    if not details and not fingerprint:
        return b""
    remembered = {"key": key_hash, "fingerprint": fingerprint}
    return msgspec.json.encode({**(details or {}), **{name: text for name, text in remembered.items() if text}})


def _decode_locations(text: bytes) -> tuple[Location, ...]:
    """Rows of location TAB kind TAB on_hand TAB allocated, sorted by name."""
    rows = sorted(row.split("\t") for row in text.decode().split("\n") if row)
    return tuple(
        Location(name, is_shared=kind == "shared", on_hand=int(on_hand), allocated=int(allocated))
        for name, kind, on_hand, allocated in rows
    )


def decode_policy(fields: Mapping[str, str]) -> Policy:
    """The policy in a SKU's hash; a field that is missing or empty has its default."""
    values = {}
    for field, (name, _, decode) in POLICY_FIELDS.items():
        if text := fields.get(field):
            values[name] = decode(text)
    return Policy(**values)


def encode_policy(values: Mapping[str, Any]) -> dict[str, str]:
    """These attributes of a Policy as fields of a SKU's hash; empty text, for None, takes one away."""
    by_name = {name: (field, encode) for field, (name, encode, _) in POLICY_FIELDS.items()}
    return {by_name[name][0]: "" if value is None else by_name[name][1](value) for name, value in values.items()}


def _encode_texts(values: tuple[str, ...]) -> str:
    return json.dumps(list(values), ensure_ascii=False) if values else ""


def decode_texts(text: str) -> tuple[str, ...]:
    """A JSON list of texts."""
    return tuple(json.loads(text))


def _encode_limits(limits: Mapping[str, int]) -> str:
    return json.dumps(dict(limits), ensure_ascii=False) if limits else ""


def _decode_limits(text: str) -> dict[str, int]:
    return {channel: int(units) for channel, units in json.loads(text).items()}


# hash field -> attribute of Policy, how it is written, how it is read
POLICY_FIELDS: dict[str, tuple[str, Any, Any]] = {
    "safety_stock_units": ("safety_stock", str, int),
    "safety_stock_basis_points": ("safety_stock_basis_points", str, int),
    "backorder_limit": ("backorder_limit", str, int),
    "low_stock_threshold": ("low_stock_threshold", str, int),
    "max_quantity_per_reservation": ("max_quantity_per_reservation", str, int),
    "reconciliation_hold_us": ("reconciliation_hold_us", str, int),
    "lead_time_days": ("lead_time_days", str, int),
    "next_restock_date": ("next_restock_date", str, str),
    "incoming": ("incoming", str, int),
    "substitutes": ("substitutes", _encode_texts, decode_texts),
    "variant_group": ("variant_group", str, str),
    "category": ("category", str, str),
    "channel_limits": ("channel_limits", _encode_limits, _decode_limits),
    "degraded_policy": ("degraded_policy", str, str),
}
