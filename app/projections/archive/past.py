"""A SKU as it was: what a question about it would have been answered at some moment, folded from its entries."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.types import Sku, Token
from app.projections.archive import schema
from app.projections.archive.reader import Archive
from app.projections.archive.rows import read_entry
from app.projections.archive.views import InventoryRow

WINDOW_US_MAX = 60 * 1_000_000
RECONCILING = "pending_reconciliation"
# What a line's status is after an entry of a type, where it lives on; after any other it has ended.
LIVE_AFTER = {
    "reservation.held": "held",
    "reservation.extended": "held",
    "reservation.payment_pending": "held",
    "reservation.reconciling": RECONCILING,
}


@dataclass(frozen=True, slots=True)
class AsOf:
    """A SKU at a moment of engine time; what was due then has had its effect."""

    row: InventoryRow
    as_of_us: int
    next_release_us: int | None


@dataclass(slots=True)
class _LiveLine:
    status: str
    command: int
    quantity: int
    expires_us: int


async def inventory_as_of(
    archive: Archive, sku: Sku, partition: int, *, sequence: int | None = None, at_us: int | None = None,
    lifetime_us_max: int,
) -> AsOf | None:  # fmt: skip
    """The SKU after the partition's entry `sequence`, or at the time `at_us`; None before it was first told of.

    No reservation lives longer than `lifetime_us_max` and a reconciliation window. Raises ArchiveUnavailable.
    """
    async with archive.connect() as connection:
        if at_us is not None:
            sequence = await _last_sequence_at(connection, partition, at_us)
        assert sequence is not None
        entries = schema.entries
        of_sku = (entries.c.sku == sku, entries.c.sequence <= sequence)  # a SKU is of one partition
        now_us = at_us
        if now_us is None:
            latest = select(func.max(entries.c.at_us)).where(
                entries.c.partition == partition, entries.c.sequence == sequence
            )
            now_us = await connection.scalar(latest)
        last = select(entries).where(*of_sku).order_by(entries.c.sequence.desc()).limit(1)
        found = (await connection.execute(last)).one_or_none()
        if found is None or now_us is None:
            return None

        row = InventoryRow(sku, partition)
        of_stock = select(entries).where(*of_sku, schema.IS_OF_STOCK)
        for entry in map(read_entry, await connection.execute(of_stock.order_by(entries.c.sequence))):
            row.apply(entry)
        row.apply_balances(read_entry(found))
        since = await _last_sequence_at(connection, partition, now_us - lifetime_us_max - WINDOW_US_MAX)
        of_reservations = select(entries).where(*of_sku, entries.c.sequence > since, entries.c.token.is_not(None))
        live = _live_lines((await connection.execute(of_reservations.order_by(entries.c.sequence))).all())
    for line in live.values():
        if line.expires_us <= now_us:
            _settle(row, line)
    pending = [line.expires_us for line in live.values() if line.expires_us > now_us and line.status != RECONCILING]
    return AsOf(row, now_us, min(pending, default=None))


def _live_lines(rows: Iterable[Any]) -> dict[Token, _LiveLine]:
    """The SKU's lines that live on after these entries of it, as far as they are about reservations."""
    live: dict[Token, _LiveLine] = {}
    for row in rows:
        token = Token(row.token)
        if status := LIVE_AFTER.get(row.type):
            live[token] = _LiveLine(status, row.command, row.quantity, row.expires_us)
        elif row.type.startswith("reservation.") and not (token in live and live[token].command == row.command):
            live.pop(token, None)  # what is given back within a sale's own command is the part that was not sold
    return live


def _settle(row: InventoryRow, line: _LiveLine) -> None:
    """A hold that is due gives its units back, those promised beyond stock first; a window that is over is a sale."""
    row.reserved -= line.quantity
    if line.status == RECONCILING:
        row.committed += line.quantity
        return
    row.backordered -= min(row.backordered, line.quantity)
    row.available = max(0, row.on_hand + row.backordered - row.reserved - row.committed - row.safety_stock)


async def _last_sequence_at(connection: AsyncConnection, partition: int, at_us: int) -> int:
    """The last entry that is not later. They are in order of time and without a gap, so halving finds it."""
    entries, positions = schema.entries, schema.positions
    low = 0
    high = await connection.scalar(select(positions.c.sequence).where(positions.c.partition == partition)) or 0
    while low < high:
        middle = (low + high + 1) // 2
        of_middle = select(entries.c.at_us).where(entries.c.partition == partition, entries.c.sequence == middle)
        middle_us = await connection.scalar(of_middle)
        low, high = (middle, high) if middle_us is not None and middle_us <= at_us else (low, middle - 1)
    return int(low)
