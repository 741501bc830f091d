"""Writes the ledger into the archive: entries, views and position in one transaction, each entry exactly once.

Whoever writes a partition locks its position first and goes on from where that stands, so two writers at once are
slower, and no more.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import ARRAY, ColumnElement, Table, Text, any_, bindparam, delete, func, literal, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.entries import Entry
from app.domain.errors import ForeignLedger, LedgerBroken
from app.domain.types import Sku, Token
from app.projections.archive import schema
from app.projections.archive.database import translated, upgrade
from app.projections.archive.rows import (
    Row,
    entry_row,
    inventory_row,
    line_row,
    order_review_row,
    read_entry,
    read_inventory,
    read_line,
    read_order_review,
    read_reservation,
    reservation_row,
)
from app.projections.archive.views import (
    Backorders,
    InventoryRow,
    LineRow,
    ReservationRow,
    Views,
    order_named_by,
)
from app.store.state import Meta


class Writer:
    """The only writer of a database, or one of several: it makes no difference to what stands there."""

    def __init__(self, database: AsyncEngine) -> None:
        self._database = database

    async def prepare(self) -> None:
        """Brings the database to this version's schema. Raises ArchiveUnavailable."""
        await upgrade(self._database)

    async def write(self, partition: int, page: Sequence[Entry], meta: Meta) -> int:
        """Archives a page of whole commands; returns the partition's position.

        What is archived already is left out, and the last of it proves that both are of one history.

        `meta` is read after the page was. Raises ArchiveUnavailable (nothing is archived then), ForeignLedger, and
        LedgerBroken where the page does not follow what is there.
        """
        with translated():
            async with self._database.begin() as connection:
                position = await _lock_position(connection, partition, meta)
                await _prove_overlap(connection, [entry for entry in page if entry.sequence <= position])
                news = [entry for entry in page if entry.sequence > position]
                if not news:
                    return position
                if news[0].sequence != position + 1:
                    raise LedgerBroken(position + 1, "is gone from the engine, but was never archived")
                views = await _load(connection, partition, news)
                views.apply(news)
                await _insert(connection, schema.entries, [entry_row(entry) for entry in news], may_replace=False)
                await _store(connection, views)
                await _move_position(connection, partition, news[-1].sequence, meta)
                return news[-1].sequence

    async def close(self) -> None:
        """Gives the connection up; the next write makes a new one."""
        await self._database.dispose()


async def _lock_position(connection: AsyncConnection, partition: int, meta: Meta) -> int:
    """The partition's position, which nobody else moves until the transaction ends."""
    start = {"partition": partition, "sequence": 0, "meta": msgspec.json.encode(meta).decode()}
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    await connection.execute(dialect.insert(schema.positions).values(start).on_conflict_do_nothing())
    wanted = select(schema.positions).where(schema.positions.c.partition == partition).with_for_update()
    found = (await connection.execute(wanted)).one()
    archived = msgspec.json.decode(found.meta, type=Meta)
    if (archived.secret, archived.partitions) != (meta.secret, meta.partitions):
        raise ForeignLedger(
            f"The archive is of another ledger than partition {partition} of the engine: give this service an archive "
            "of its own (archive_url), or rebuild the engine from the archive (lastunit ledger rebuild)."
        )
    if found.sequence > meta.sequence:
        raise ForeignLedger(
            f"The engine's ledger of partition {partition} ends at {meta.sequence}, but the archive has entry "
            f"{found.sequence}: the engine was rolled back."
        )
    return int(found.sequence)


async def _prove_overlap(connection: AsyncConnection, olds: Sequence[Entry]) -> None:
    entries = schema.entries
    if olds:
        last = olds[-1]
        wanted = select(entries).where(entries.c.partition == last.partition, entries.c.sequence == last.sequence)
        archived = (await connection.execute(wanted)).one_or_none()
        if archived is None or read_entry(archived) != last:
            raise ForeignLedger(
                f"Entry {last.sequence} of partition {last.partition} is another one in the engine than in the "
                "archive: the engine was rolled back and went on, or an archived row was changed."
            )


async def _move_position(connection: AsyncConnection, partition: int, sequence: int, meta: Meta) -> None:
    positions = schema.positions
    moved = positions.update().where(positions.c.partition == partition)
    await connection.execute(moved.values(sequence=sequence, meta=msgspec.json.encode(meta).decode()))


async def _load(connection: AsyncConnection, partition: int, news: Iterable[Entry]) -> Views:
    """The rows that these entries are about, as they stand."""
    has_arrays = connection.dialect.name == "postgresql"

    def among(column: ColumnElement[str], values: Collection[str]) -> ColumnElement[bool]:
        # One parameter instead of thousands, where that can be said.
        return column == any_(literal(list(values), ARRAY(Text))) if has_arrays else column.in_(values)

    skus = {entry.sku for entry in news if entry.sku}
    tokens = {entry.token for entry in news if entry.token is not None}
    tokens |= {Token(order) for entry in news if entry.token is None and (order := order_named_by(entry))}
    inventory, reservations, lines = schema.inventory, schema.reservations, schema.reservation_lines
    found_skus = await connection.execute(select(inventory).where(among(inventory.c.sku, skus)))
    found_reservations = await connection.execute(
        select(reservations).where(among(reservations.c.token, tokens), reservations.c.partition == partition)
    )
    found_lines = await connection.execute(
        select(lines)
        .where(among(lines.c.token, tokens), lines.c.partition == partition)
        .order_by(lines.c.token, lines.c.number)
    )
    rows: dict[Token, ReservationRow] = {row.token: read_reservation(row) for row in found_reservations}
    for line in found_lines:
        rows[line.token].lines[line.sku] = read_line(line)

    found_backorders = await connection.execute(
        select(lines).where(among(lines.c.sku, skus), lines.c.backordered > 0).order_by(lines.c.sequence)
    )
    open_ones: dict[Sku, dict[Token, LineRow]] = {}
    for line in found_backorders:
        # A line that is loaded already is the same one here.
        loaded = rows[line.token].lines[line.sku] if line.token in rows else read_line(line)
        open_ones.setdefault(line.sku, {})[line.token] = loaded
    named = [(order, entry.token) for entry in news if (order := order_named_by(entry))]
    orders = {name for names in named for name in names if name}
    orders |= {row.order_id for order in orders if (row := rows.get(Token(order))) and row.order_id}
    reviews = schema.order_reviews
    found_reviews = await connection.execute(select(reviews).where(among(reviews.c.order_id, orders))) if orders else ()
    return Views(
        inventory={row.sku: read_inventory(row) for row in found_skus},
        reservations=rows,
        backorders={sku: Backorders(of_sku) for sku, of_sku in open_ones.items()},
        order_reviews={row.key: row for row in map(read_order_review, found_reviews)},
    )


async def _store(connection: AsyncConnection, views: Views) -> None:
    """Stores what the entries changed."""
    if views.dropped_lines:
        lines = schema.reservation_lines
        await connection.execute(delete(lines).where(tuple_(lines.c.token, lines.c.sku).in_(views.dropped_lines)))
    if views.dropped_reviews:
        reviews = schema.order_reviews
        key = tuple_(reviews.c.channel, reviews.c.order_id, reviews.c.sku)
        await connection.execute(delete(reviews).where(key.in_(views.dropped_reviews)))
    inventory: Iterable[InventoryRow] = (views.inventory[sku] for sku in sorted(views.changed_skus))
    reservations = (views.reservations[token] for token in sorted(views.changed_tokens))
    changed_lines = sorted(views.changed_lines.items())
    for table, rows in (
        (schema.inventory, [inventory_row(row) for row in inventory]),
        (schema.reservations, [reservation_row(row) for row in reservations]),
        (schema.reservation_lines, [line_row(token, line) for (token, _), line in changed_lines]),
        (schema.order_reviews, [order_review_row(row) for row in views.changed_reviews.values()]),
    ):
        await _insert(connection, table, rows, may_replace=True)


async def _insert(connection: AsyncConnection, table: Table, rows: Sequence[Row], *, may_replace: bool) -> None:
    """Stores rows; in the place of those that have their keys, if it may."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        arrays = zip(table.columns.keys(), map(list, zip(*rows, strict=True)), strict=True)
        await connection.execute(_array_insert(table, may_replace=may_replace), dict(arrays))
    else:
        await connection.exec_driver_sql(_row_insert(table, may_replace=may_replace), list(rows))


@cache
def _row_insert(table: Table, *, may_replace: bool) -> str:
    """For SQLite, a row at a time, as the driver takes it: SQLAlchemy's work on each row would cost more."""
    insert: Any = sqlite.insert(table)
    if may_replace:
        insert = _or_update(insert, table)
    return str(insert.compile(dialect=sqlite.dialect(paramstyle="qmark")))


@cache
def _array_insert(table: Table, *, may_replace: bool) -> Any:
    """For PostgreSQL, all rows at once as an array a column: three times as fast as a statement a row."""
    arrays = func.unnest(*(bindparam(column.name, type_=ARRAY(column.type)) for column in table.columns))
    rows = arrays.table_valued(*table.columns.keys()).render_derived()
    insert = postgresql.insert(table).from_select(table.columns.keys(), select(rows))
    return _or_update(insert, table) if may_replace else insert


def _or_update(insert: Any, table: Table) -> Any:
    keys = table.primary_key.columns.keys()
    rest = {name: insert.excluded[name] for name in (column.name for column in table.columns) if name not in keys}
    return insert.on_conflict_do_update(index_elements=keys, set_=rest)
