"""What the archive answers: reservations, SKUs, entries, as they are and as they were. It is up to a second behind.

Every list is a page: `after` is the key of the last row of the page before, None for the first page. All functions
raise ArchiveUnavailable.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import msgspec
from sqlalchemy import (
    ColumnElement,
    Select,
    Subquery,
    and_,
    cast,
    inspect,
    literal,
    null,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.callers import Claim
from app.domain.entries import Entry
from app.domain.errors import ArchiveUnavailable
from app.domain.types import REVIEW_DUE_AFTER_US, Line, Remaining, Reservation, Sku, Token
from app.projections.archive import schema
from app.projections.archive.database import is_missing, make_database, translated
from app.projections.archive.rows import read_entry, read_inventory, read_line, read_reservation
from app.projections.archive.views import InventoryRow, ReservationRow
from app.settings import Settings
from app.store.decoding import decode_policy
from app.store.state import Meta

OPEN = ("held", "payment_pending")

Newest = tuple[int, str]  # the key of a list with the newest first: created_us and token


@dataclass(frozen=True, slots=True)
class Backorder:
    """A line that is promised beyond stock, `units` of it; the promise is due for a review at `review_due_us`."""

    sku: Sku
    sequence: int
    units: int
    reservation: Reservation
    review_due_us: int


@dataclass(frozen=True, slots=True)
class Review:
    """Something that a person decides.

    `kind` is `payment_expired` (a payment ran when the reservation expired), `backorder_due` (promised beyond stock for
    more than a day), `shortfall` (a SKU of which `units` more are promised than there are; it has no token); or of a
    SKU in an order `shipped_beyond_sold` or `moved_though_cancelled`. An order without a name has a token for one.
    """

    key: str
    kind: str
    since_us: int
    sku: Sku | None
    token: Token | None
    channel: str | None
    order_id: str | None
    units: int


@dataclass(frozen=True, slots=True)
class Filter:
    """Which reservations: all that are named must fit, and the claim be good for them."""

    agent_id: str | None = None
    sku: Sku | None = None
    status: str | None = None
    reference: str | None = None
    order_id: str | None = None
    claim: Claim | None = None


class Archive:
    """The reading side of an archive; of none, if there is no database: then everything is unavailable."""

    def __init__(self, database: AsyncEngine | None) -> None:
        self._database = database

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The archive of these settings. It connects when it is asked."""
        address = settings.archive_address
        return cls(make_database(address, is_writer=False) if address else None)

    @property
    def is_on(self) -> bool:
        """Whether there is one; it may still be away."""
        return self._database is not None

    async def close(self) -> None:
        if self._database is not None:
            await self._database.dispose()

    # The ledger

    async def positions(self) -> dict[int, int]:
        """Partition -> the last sequence that is archived; without those of which nothing is, as at the very start."""
        if self._database is not None and is_missing(self._database):
            return {}
        async with self.connect() as connection:
            if not await connection.run_sync(lambda synchronous: inspect(synchronous).has_table(schema.positions.name)):
                return {}
            found = await connection.execute(select(schema.positions.c.partition, schema.positions.c.sequence))
            return {row.partition: row.sequence for row in found}

    async def read_meta(self, partition: int) -> Meta | None:
        """The partition's meta hash as of its last archived entry: with it, the engine can be rebuilt."""
        async with self.connect() as connection:
            positions = schema.positions
            found = await connection.execute(select(positions.c.meta).where(positions.c.partition == partition))
            text = found.scalar_one_or_none()
            return None if text is None else msgspec.json.decode(text, type=Meta)

    async def read_entries(
        self, partition: int, *, after: int, until: int, limit: int, sku: Sku | None = None, token: Token | None = None
    ) -> list[Entry]:
        """Up to `limit` entries with after < sequence <= until, oldest first; of this SKU and token, if named."""
        entries = schema.entries
        # The few of a SKU or a token have an index; with `+ 0` the key of all is not one to be walked along instead.
        its_partition = entries.c.partition if sku is None and token is None else entries.c.partition + 0
        wanted = select(entries).where(
            its_partition == partition, entries.c.sequence > after, entries.c.sequence <= until
        )
        if sku is not None:
            wanted = wanted.where(entries.c.sku == sku)
        if token is not None:
            wanted = wanted.where(entries.c.token == token)
        async with self.connect() as connection:
            found = await connection.execute(wanted.order_by(entries.c.sequence).limit(limit))
            return [read_entry(row) for row in found]

    # Reservations

    async def find_reservation(self, token: Token, *, now_us: int, claim: Claim | None = None) -> Reservation | None:
        """The reservation as it stands at this moment of engine time, if the claim is good for it."""
        async with self.connect() as connection:
            # A sale of several SKUs may have come apart when the ledger was rebuilt for more partitions.
            first = _of_tokens([token]).where(*_claimed(claim)).order_by(schema.reservations.c.partition).limit(1)
            found = await connection.execute(first)
            rows = await _with_lines(connection, [read_reservation(row) for row in found])
            shown = await _shown(connection, rows, now_us=now_us)
            return shown[0] if shown else None

    async def list_reservations(
        self, wanted: Filter, *, now_us: int, after: Newest | None, limit: int
    ) -> list[Reservation]:
        """Those that fit, newest first; one that is due is expired. The key: created_at_us, token."""
        reservations = schema.reservations
        query = select(reservations).where(*_claimed(wanted.claim))
        created = (reservations.c.created_us, reservations.c.token)
        if wanted.sku is not None:
            lines = schema.reservation_lines
            query = query.join(
                lines,
                and_(
                    lines.c.token == reservations.c.token,
                    lines.c.created_us == reservations.c.created_us,
                    lines.c.partition == reservations.c.partition,
                ),
            ).where(lines.c.sku == wanted.sku)
            created = (lines.c.created_us, lines.c.token)
        for name in ("agent_id", "reference", "order_id"):
            if (value := getattr(wanted, name)) is not None:
                query = query.where(reservations.c[name] == value)
        if wanted.status is not None:
            query = query.where(_has_status(wanted.status, now_us))
        if after is not None:
            query = query.where(tuple_(*created) < tuple_(*map(literal, after)))
        query = query.order_by(*(column.desc() for column in created)).limit(limit)
        async with self.connect() as connection:
            rows = await _with_lines(connection, [read_reservation(row) for row in await connection.execute(query)])
            return await _shown(connection, rows, now_us=now_us)

    # SKUs

    async def list_skus(self, *, after: Sku | None, limit: int) -> list[InventoryRow]:
        """The SKUs by name. The key: sku."""
        inventory = schema.inventory
        query = select(inventory).order_by(inventory.c.sku).limit(limit)
        if after is not None:
            query = query.where(inventory.c.sku > after)
        async with self.connect() as connection:
            return [read_inventory(row) for row in await connection.execute(query)]

    async def find_inventory(self, skus: Collection[Sku]) -> list[tuple[InventoryRow, int]]:
        """Those of these SKUs that it has, each with the time (us) of the last entry of its partition."""
        inventory, entries, positions = schema.inventory, schema.entries, schema.positions
        is_last = and_(entries.c.partition == positions.c.partition, entries.c.sequence == positions.c.sequence)
        query = (
            select(inventory, entries.c.at_us.label("told_us"))
            .join(positions, positions.c.partition == inventory.c.partition)
            .join(entries, is_last)
            .where(inventory.c.sku.in_(skus))
        )
        async with self.connect() as connection:
            return [(read_inventory(row[:-1]), row.told_us) for row in await connection.execute(query)]

    # What needs a person

    async def list_backorders(
        self, *, sku: Sku | None, now_us: int, after: tuple[str, int] | None, limit: int
    ) -> list[Backorder]:
        """Open promises beyond stock, by SKU, oldest first. The key: sku, sequence."""
        lines = schema.reservation_lines
        query = select(lines).where(lines.c.backordered > 0)
        if sku is not None:
            query = query.where(lines.c.sku == sku)
        if after is not None:
            query = query.where(tuple_(lines.c.sku, lines.c.sequence) > tuple_(*map(literal, after)))
        async with self.connect() as connection:
            found = (await connection.execute(query.order_by(lines.c.sku, lines.c.sequence).limit(limit))).all()
            whole = await connection.execute(_of_tokens({line.token for line in found}))
            rows = await _with_lines(connection, [read_reservation(row) for row in whole])
            shown = {row.token: row for row in await _shown(connection, rows, now_us=now_us)}
        return [
            Backorder(
                sku=Sku(line.sku),
                sequence=line.sequence,
                units=line.backordered,
                reservation=shown[line.token],
                review_due_us=line.created_us + REVIEW_DUE_AFTER_US,
            )
            for line in found
        ]

    async def list_reviews(self, *, now_us: int, after: tuple[int, str] | None, limit: int) -> list[Review]:
        """What waits for a person, newest first. The key: since_us, key."""
        every = _reviews(now_us)
        query = select(every).order_by(every.c.since_us.desc(), every.c.key.desc()).limit(limit)
        if after is not None:
            query = query.where(tuple_(every.c.since_us, every.c.key) < tuple_(*map(literal, after)))
        async with self.connect() as connection:
            found = (await connection.execute(query)).mappings()
            return [Review(**row) for row in found]

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """A connection that reads one state of the archive; its faults come out as ArchiveUnavailable."""
        if self._database is None:
            raise ArchiveUnavailable("the archive is turned off (archive_url)")
        if is_missing(self._database):
            raise ArchiveUnavailable("there is no archive yet")
        with translated():
            async with self._database.connect() as connection:
                yield connection


def _claimed(claim: Claim | None) -> list[ColumnElement[bool]]:
    if claim is None:
        return []
    owners = {"agent": schema.reservations.c.agent_id, "holder": schema.reservations.c.holder}
    return [owners[claim.kind] == claim.owner]


def _reviews(now_us: int) -> Subquery:
    """What waits for a person, of all kinds, in the columns of a Review."""
    reservations, lines, inventory = schema.reservations, schema.reservation_lines, schema.inventory
    orders = schema.order_reviews.c
    payments = _review("payment_expired", reservations.c.ended_us, token=reservations.c.token).where(
        reservations.c.status == "expired", reservations.c.reason == "payment_expired"
    )
    due_us = lines.c.created_us + REVIEW_DUE_AFTER_US
    promises = _review("backorder_due", due_us, token=lines.c.token, sku=lines.c.sku, units=lines.c.backordered).where(
        lines.c.backordered > 0, due_us <= now_us
    )
    shortfalls = _review("shortfall", inventory.c.at_us, sku=inventory.c.sku, units=inventory.c.shortfall).where(
        inventory.c.shortfall > 0
    )
    of_orders = _review(orders.kind, orders.since_us, sku=orders.sku, channel=orders.channel, order_id=orders.order_id)
    return union_all(payments, promises, shortfalls, of_orders).subquery()


def _review(
    kind: str | ColumnElement[Any],
    since_us: ColumnElement[Any],
    *,
    units: ColumnElement[Any] | None = None,
    **about: ColumnElement[Any],
) -> Select[Any]:
    kind = literal(kind) if isinstance(kind, str) else kind
    nobody: ColumnElement[Any] = cast(null(), schema.Name)
    key = kind
    for column in about.values():
        key = key + "\t" + column
    return select(
        key.label("key"),
        kind.label("kind"),
        since_us.label("since_us"),
        *(about.get(name, nobody).label(name) for name in ("sku", "token", "channel", "order_id")),
        (literal(0) if units is None else units).label("units"),
    )


def _has_status(status: str, now_us: int) -> ColumnElement[bool]:
    """Seen from outside a deadline that has passed has had its effect."""
    reservations = schema.reservations
    is_it = reservations.c.status == status
    is_due = reservations.c.expires_us <= now_us
    match status:
        case "held" | "payment_pending" | "pending_reconciliation":
            return and_(is_it, ~is_due)
        case "expired":
            return or_(is_it, and_(reservations.c.status.in_(OPEN), is_due))
        case "committed":
            return or_(is_it, and_(reservations.c.status == "pending_reconciliation", is_due))
        case _:
            return is_it


def _of_tokens(tokens: Collection[Token]) -> Select[Any]:
    """The reservations that have these tokens; several entries may have begun the same one."""
    entries = schema.entries
    return select(schema.reservations).distinct().join(entries, schema.IS_BEGUN_BY).where(entries.c.token.in_(tokens))


async def _with_lines(connection: AsyncConnection, rows: list[ReservationRow]) -> list[ReservationRow]:
    """The same, each with its lines."""
    lines, entries = schema.reservation_lines, schema.entries
    by_token = {(row.token, row.partition): row for row in rows}
    if rows:
        tokens = {row.token for row in rows}
        of_tokens = select(lines).join(entries, schema.IS_PROMISED_BY).where(entries.c.token.in_(tokens))
        found = await connection.execute(of_tokens.order_by(lines.c.number))
        for line in found:
            if row := by_token.get((line.token, line.partition)):
                row.lines[line.sku] = read_line(line)
    return rows


async def _shown(connection: AsyncConnection, rows: Sequence[ReservationRow], *, now_us: int) -> list[Reservation]:
    """As answers show them, with what is left of their SKUs."""
    inventory = schema.inventory
    skus = {sku for row in rows for sku in row.lines}
    found = await connection.execute(select(inventory).where(inventory.c.sku.in_(skus))) if skus else ()
    left = {row.sku: _remaining(read_inventory(row)) for row in found}
    return [
        Reservation(
            token=row.token,
            status=_status_at(row, now_us),
            agent_id=row.agent_id,
            channel=row.channel,
            order_id=row.order_id or "",
            details=row.details.encode(),
            created_at_us=row.created_us,
            expires_at_us=row.expires_us,
            sequence=row.sequence,
            lines=tuple(Line(line.sku, line.quantity, line.backordered) for line in row.lines.values()),
            remaining=tuple(left[sku] for sku in row.lines),
        )
        for row in rows
    ]


def _status_at(row: ReservationRow, now_us: int) -> str:
    if row.expires_us <= now_us and row.status in OPEN:
        return "expired"
    if row.expires_us <= now_us and row.status == "pending_reconciliation":
        return "committed"
    return row.status


def _remaining(row: InventoryRow) -> Remaining:
    return Remaining(row.sku, row.available, decode_policy(row.policy).low_stock_threshold)
