"""The columns of a stock file: how a cell becomes the engine's text, and that text a cell again.

A cell is refused with a ValueError that says what it must be, and quotes nothing of it.
"""

import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import msgspec

from app.domain.ids import normalized_id

UNITS_MAX = 10**12
QUANTITY_MAX = 1_000_000
DAYS_MAX = 3650
CHANNEL_LIMITS_MAX = 100
SUBSTITUTES_MAX = 20
DEGRADED_POLICIES = ("refuse", "assume_out_of_stock", "conservative", "assume_in_stock", "escalate")
WHOLE = re.compile(r"[0-9]{1,16}")
DECIMAL = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,6})?")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True)
class Column:
    """A policy column: the field of a SKU's hash that it stands for."""

    field: str
    read: Callable[[str], str]
    write: Callable[[str], str] = str


def whole(cell: str, *, least: int = 0, most: int = UNITS_MAX) -> int:
    """A whole number in bounds, written in digits alone."""
    if WHOLE.fullmatch(cell) and least <= (number := int(cell)) <= most:
        return number
    raise ValueError(f"must be a whole number from {least} to {most}, in digits alone")


def _whole(field: str, *, least: int = 0, most: int = UNITS_MAX) -> Column:
    return Column(field, lambda cell: str(whole(cell, least=least, most=most)))


def _scaled(field: str, scale: int, *, most: int) -> Column:
    """A decimal number that the engine keeps as a whole one, `scale` times as large."""

    def read(cell: str) -> str:
        if DECIMAL.fullmatch(cell):
            number = Decimal(cell) * scale
            if number <= most * scale and number == int(number):
                return str(int(number))
        raise ValueError(f"must be a number from 0 to {most} in steps of {1 / Decimal(scale):f}")

    return Column(field, read, lambda text: f"{(Decimal(text) / scale).normalize():f}")


def _date(cell: str) -> str:
    with contextlib.suppress(ValueError):
        if DATE.fullmatch(cell):
            return date.fromisoformat(cell).isoformat()
    raise ValueError("must be a date such as 2030-12-31")


def _substitutes(cell: str) -> str:
    with contextlib.suppress(msgspec.MsgspecError, ValueError):
        skus = msgspec.json.decode(cell, type=list[str])
        if 1 <= len(skus) <= SUBSTITUTES_MAX:
            return json.dumps([normalized_id(sku) for sku in skus], ensure_ascii=False)
    raise ValueError(f'must be a JSON list of 1 to {SUBSTITUTES_MAX} SKUs, such as ["A", "B"]')


def _channel_limits(cell: str) -> str:
    with contextlib.suppress(msgspec.MsgspecError, ValueError):
        limits = msgspec.json.decode(cell, type=dict[str, int])
        if 1 <= len(limits) <= CHANNEL_LIMITS_MAX and all(0 <= units <= UNITS_MAX for units in limits.values()):
            return json.dumps({normalized_id(channel): units for channel, units in limits.items()}, ensure_ascii=False)
    raise ValueError('must be a JSON object of units by channel, such as {"amazon": 5}')


def _degraded_policy(cell: str) -> str:
    if cell not in DEGRADED_POLICIES:
        raise ValueError(f"must be one of {', '.join(DEGRADED_POLICIES)}")
    return cell


COLUMNS = {
    "safety_stock": _whole("safety_stock_units"),
    "safety_stock_percent": _scaled("safety_stock_basis_points", 100, most=100),
    "backorder_limit": _whole("backorder_limit"),
    "low_stock_threshold": _whole("low_stock_threshold"),
    "max_quantity_per_reservation": _whole("max_quantity_per_reservation", least=1, most=QUANTITY_MAX),
    "lead_time_days": _whole("lead_time_days", most=DAYS_MAX),
    "next_restock_date": Column("next_restock_date", _date),
    "incoming_quantity": _whole("incoming"),
    "category": Column("category", normalized_id),
    "substitutes": Column("substitutes", _substitutes),
    "variant_group": Column("variant_group", normalized_id),
    "channel_limits": Column("channel_limits", _channel_limits),
    "degraded_policy": Column("degraded_policy", _degraded_policy),
    "reconciliation_hold_seconds": _scaled("reconciliation_hold_us", 1_000_000, most=60),
}
