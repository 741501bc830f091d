"""Who keeps stock from others: what each caller holds, and what came of what it reserved lately."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, ColumnElement, and_, case, cast, distinct, func, literal, or_, select, union_all

from app.projections.archive import schema
from app.projections.archive.reader import OPEN, Archive

SOLD = ("committed", "fulfilled", "cancelled", "pending_reconciliation")


@dataclass(frozen=True, slots=True)
class Hoarder:
    """An agent, by the holder of the key that it came with, if it did: what is open, and what it began lately."""

    agent_id: str
    holder: str | None
    open_reservations: int
    held_units: int
    reserved: int
    sold: int
    expired: int


async def list_hoarders(archive: Archive, *, now_us: int, since_us: int, limit: int) -> Sequence[Hoarder]:
    """Who holds most first, then who let most expire of what was reserved since. Raises ArchiveUnavailable.

    An open reservation has all that it began with, so that its first entries tell its units.
    """
    rows, entries = schema.reservations.c, schema.entries.c
    who = (rows.agent_id, rows.holder)
    is_open, is_due = rows.status.in_(OPEN), rows.expires_us <= now_us
    nothing = literal(0)
    holds = (
        select(
            *who,
            func.count(distinct(rows.token)).label("open_reservations"),
            func.sum(entries.quantity).label("held_units"),
            *(nothing.label(name) for name in ("reserved", "sold", "expired")),
        )
        .join_from(schema.reservations, schema.entries, schema.IS_BEGUN_BY)
        .where(is_open, ~is_due, entries.type == "reservation.held")
        .group_by(*who)
    )
    lately = (
        select(
            *who,
            *(nothing.label(name) for name in ("open_reservations", "held_units")),
            func.count().label("reserved"),
            _how_many(rows.status.in_(SOLD)).label("sold"),
            _how_many(or_(rows.status == "expired", and_(is_open, is_due))).label("expired"),
        )
        .where(rows.created_us >= since_us)
        .group_by(*who)
    )
    both = union_all(holds, lately).subquery()
    sums = [
        cast(func.sum(both.c[name]), BigInteger).label(name)
        for name in ("open_reservations", "held_units", "reserved", "sold", "expired")
    ]
    by_name = {each.name: each for each in sums}
    query = (
        select(both.c.agent_id, both.c.holder, *sums)
        .group_by(both.c.agent_id, both.c.holder)
        .having(or_(by_name["held_units"] > 0, by_name["expired"] > 0))
        .order_by(by_name["held_units"].desc(), by_name["expired"].desc(), both.c.agent_id, both.c.holder)
        .limit(limit)
    )
    async with archive.connect() as connection:
        found = (await connection.execute(query)).mappings()
        return [Hoarder(**row) for row in found]


def _how_many(is_one: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((is_one, 1), else_=0))
