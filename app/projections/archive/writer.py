"""Writes the ledger into the archive: entries, views and position in one transaction, each entry exactly once.

Whoever writes a partition locks its position first and goes on from where that stands, so two writers at once are
slower, and no more.
"""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import ARRAY, ColumnElement, Table, Text, any_, bindparam, delete, func, literal, select
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


async def _load(connection: AsyncConnection, partition: int, news: Sequence[Entry]) -> Views:
    """The rows that these entries are about, as they stand."""
    is_among = _is_among_array if connection.dialect.name == "postgresql" else _is_among_json
    entries, inventory = schema.entries, schema.inventory
    reservations, lines = schema.reservations, schema.reservation_lines
    skus = {entry.sku for entry in news if entry.sku}
    tokens = {entry.token for entry in news if entry.token is not None}
    named = [(order, entry.token) for entry in news if (order := order_named_by(entry))]
    tokens |= {Token(order) for order, token in named if token is None}
    of_skus = select(inventory).where(is_among(inventory.c.sku, skus))
    stocks: dict[Sku, InventoryRow] = {row.sku: read_inventory(row) for row in await connection.execute(of_skus)}
    of_tokens = (
        select(reservations)
        .join(entries, schema.IS_BEGUN_BY)
        .where(is_among(entries.c.token, tokens), reservations.c.partition == partition)
    )
    rows: dict[Token, ReservationRow] = {
        row.token: read_reservation(row) for row in await connection.execute(of_tokens)
    }
    of_rows = (
        select(lines)
        .join(entries, schema.IS_PROMISED_BY)
        .where(is_among(entries.c.token, rows), lines.c.partition == partition)
    )
    for line in await connection.execute(of_rows.order_by(lines.c.number)) if rows else ():
        rows[line.token].lines[line.sku] = read_line(line)

    open_ones: dict[Sku, dict[Token, LineRow]] = {}
    if backordered := [sku for sku, row in stocks.items() if row.backordered]:
        of_backordered = select(lines).where(is_among(lines.c.sku, backordered), schema.IS_BACKORDERED)
        for line in await connection.execute(of_backordered.order_by(lines.c.sku, lines.c.sequence)):
            # A line that is loaded already is the same one here.
            loaded = rows[line.token].lines[line.sku] if line.token in rows else read_line(line)
            open_ones.setdefault(line.sku, {})[line.token] = loaded
    orders = {name for names in named for name in names if name}
    orders |= {row.order_id for order in orders if (row := rows.get(Token(order))) and row.order_id}
    of_orders = select(schema.order_reviews).where(is_among(schema.order_reviews.c.order_id, orders))
    reviews = map(read_order_review, await connection.execute(of_orders)) if orders else ()
    return Views(
        inventory=stocks,
        reservations=rows,
        backorders={sku: Backorders(of_sku) for sku, of_sku in open_ones.items()},
        order_reviews={row.key: row for row in reviews},
    )


# Thousands of values are one parameter: as many parameters would cost more than what they find.
def _is_among_array(column: ColumnElement[str], values: Collection[str]) -> ColumnElement[bool]:
    return column == any_(literal(list(values), ARRAY(Text)))


def _is_among_json(column: ColumnElement[str], values: Collection[str]) -> ColumnElement[bool]:
    each = func.json_each(msgspec.json.encode(list(values)).decode()).table_valued("value")
    return column.in_(select(each.c.value))


async def _store(connection: AsyncConnection, views: Views) -> None:
    """Stores what the entries changed."""
    await _delete(connection, schema.reservations, views.dropped_reservations)
    await _delete(connection, schema.reservation_lines, views.dropped_lines)
    await _delete(connection, schema.order_reviews, views.dropped_reviews)
    for table, rows in (
        (schema.inventory, [inventory_row(row) for row in views.changed_inventory.values()]),
        (schema.reservations, [reservation_row(row) for row in views.changed_reservations.values()]),
        (schema.reservation_lines, [line_row(row) for row in views.changed_lines.values()]),
        (schema.order_reviews, [order_review_row(row) for row in views.changed_reviews.values()]),
    ):
        await _insert(connection, table, rows, may_replace=True)


async def _delete(connection: AsyncConnection, table: Table, rows: Sequence[object]) -> None:
    """Deletes these rows, by their keys one by one: SQLite finds several only by looking at all."""
    if rows:
        keys = table.primary_key.columns.keys()
        is_it = [table.c[name] == bindparam(f"its_{name}") for name in keys]
        its = [{f"its_{name}": getattr(row, name) for name in keys} for row in rows]
        await connection.execute(delete(table).where(*is_it), its)


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
    rest = [column.name for column in table.columns if column.name not in (*keys, *schema.FIXED)]
    return insert.on_conflict_do_update(index_elements=keys, set_={name: insert.excluded[name] for name in rest})
