"""The ledger from its first entry on: what the engine still has from the engine, what it has dropped from the archive.

Sequences have no gap, so a page that does not begin with the next one says by itself that the archive has what is
between. Entries that are dropped while somebody reads are thus found in the archive at the next page.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.domain.entries import Entry
from app.domain.errors import LedgerBroken
from app.domain.types import Sku, Token
from app.projections.archive.reader import Archive
from app.store.keys import PartitionKeys
from app.store.ledger import Fields, decode_entry, read_rows
from app.store.state import Client

PAGE_SIZE = 1000
LOOKED_AT_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries: those of this SKU and this token, where they are named."""

    sku: Sku | None = None
    token: Token | None = None

    @property
    def is_all(self) -> bool:
        return self.sku is None and self.token is None

    def fits(self, fields: Fields) -> bool:
        """Of a raw entry of the stream."""
        named = ((b"sku", self.sku), (b"token", self.token))
        return all(text is None or fields.get(name) == text.encode() for name, text in named)


EVERYTHING = Wanted()


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, the last sequence looked at for them, and if the ledger ends there."""

    entries: list[Entry]
    last: int
    is_end: bool


async def read_history(
    client: Client, archive: Archive | None, keys: PartitionKeys, *, after: int = 0, until: int | None = None
) -> AsyncIterator[tuple[int, list[Entry]]]:
    """Pages of all entries with after < sequence <= until, oldest first: (the last sequence, the entries).

    Without an archive only what the engine has. Raises EngineUnavailable, ArchiveUnavailable, LedgerBroken.
    """
    while until is None or after < until:
        page = await _read(client, archive, keys, after=after, until=until, limit=PAGE_SIZE, wanted=EVERYTHING)
        if page.entries:
            after = page.last
            yield after, page.entries
        if page.is_end:
            return


async def read_history_page(
    client: Client, archive: Archive | None, keys: PartitionKeys, *, after: int, limit: int, wanted: Wanted
) -> Page:
    """Up to `limit` wanted entries after a sequence, looking at LOOKED_AT_MAX of the engine's at most."""
    entries: list[Entry] = []
    last, is_end = after, False
    while len(entries) < limit and last - after < LOOKED_AT_MAX and not is_end:
        page = await _read(client, archive, keys, after=last, until=None, limit=limit - len(entries), wanted=wanted)
        entries += page.entries
        last, is_end = page.last, page.is_end
    return Page(entries, last, is_end)


async def read_archived(archive: Archive, partition: int) -> AsyncIterator[tuple[int, list[Entry]]]:
    """Pages of all that the archive has of a partition: what a lost engine is rebuilt from.

    Raises ArchiveUnavailable, LedgerBroken.
    """
    until = (await archive.positions()).get(partition, 0)
    after = 0
    while after < until:
        page = await archive.read_entries(partition, after=after, until=until, limit=PAGE_SIZE)
        if not page:
            raise LedgerBroken(after + 1, "is missing in the archive")
        after = page[-1].sequence
        yield after, page


async def _read(
    client: Client,
    archive: Archive | None,
    keys: PartitionKeys,
    *,
    after: int,
    until: int | None,
    limit: int,
    wanted: Wanted,
) -> Page:
    """A page of one of the two."""
    rows = await read_rows(client, keys, after=after, until=until, count=PAGE_SIZE)
    if archive is not None:
        first = rows[0][0] if rows else await _first_sequence(client, keys)
        if first is not None and first > after + 1:
            dropped = first - 1 if until is None else min(first - 1, until)
            return await _read_dropped(archive, keys, after=after, until=dropped, limit=limit, wanted=wanted)
    fitting = [row for row in rows if wanted.is_all or wanted.fits(row[1])]
    is_cut = len(fitting) > limit
    entries = [decode_entry(keys.index, sequence, fields) for sequence, fields in fitting[:limit]]
    looked_to = rows[-1][0] if rows else after
    if is_cut:
        looked_to = entries[-1].sequence if entries else after
    return Page(entries, looked_to, is_end=not is_cut and len(rows) < PAGE_SIZE)


async def _first_sequence(client: Client, keys: PartitionKeys) -> int | None:
    rows = await read_rows(client, keys, after=0, until=None, count=1)
    return rows[0][0] if rows else None


async def _read_dropped(
    archive: Archive, keys: PartitionKeys, *, after: int, until: int, limit: int, wanted: Wanted
) -> Page:
    """A page of what the engine has dropped; there is always more behind it."""
    limit = min(limit, PAGE_SIZE)
    entries = await archive.read_entries(
        keys.index, after=after, until=until, limit=limit, sku=wanted.sku, token=wanted.token
    )
    if wanted.is_all and limit and (not entries or entries[0].sequence != after + 1):
        raise LedgerBroken(after + 1, "is neither in the engine nor in the archive")
    is_cut = len(entries) == limit
    if is_cut:
        until = entries[-1].sequence if entries else after
    return Page(entries, until, is_end=False)
