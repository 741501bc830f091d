"""Reading the ledger page by page: a stream and arithmetic, no script in sight, so that a fake engine will do."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fakeredis import FakeAsyncRedis

from app.domain.entries import Entry
from app.domain.errors import EngineUnavailable, LedgerBroken
from app.domain.types import Sku, Token
from app.projections import history
from app.projections.history import EVERYTHING, Wanted, read_history_page
from app.store import ledger
from app.store.keys import Keyspace
from app.store.ledger import Fields, decode_entry, encode_entry, read_entries

KEYS = Keyspace(1).partitions[0]
PAGE_SIZE, LOOKED_AT_MAX, ENTRIES = 10, 30, 95


def entry(sequence: int) -> Entry:
    """Every seventh is about B, the others about A."""
    return Entry(
        partition=0, sequence=sequence, command=sequence, at_us=sequence, type="stock.adjusted",
        sku=Sku("A" if sequence % 7 else "B"), quantity=-1, on_hand=5, reserved=1, committed=2, backordered=0,
        available=2, reason="Grün\n", data={"reference": "x"}, location_id="main", source="operator", safety_stock=0,
    )  # fmt: skip


OF_STOCK = entry(1)
OF_RESERVATION = replace(
    OF_STOCK, type="reservation.held", data={}, token=Token("0-x"), agent_id="Ägent", channel="direct", expires_us=9,
    location_id=None, source=None, safety_stock=None,
)  # fmt: skip
OF_ALLOCATION = replace(OF_RESERVATION, type="stock.allocated", location_id="main")
OF_POLICY = replace(OF_STOCK, type="sku.updated", quantity=0, location_id=None, location_kind=None)


def raw(of: Entry) -> Fields:
    """The entry's fields as the engine says them."""
    return {
        name.encode(): text if isinstance(text, bytes) else str(text).encode()
        for name, text in encode_entry(of).items()
    }


@pytest.mark.parametrize("of", [OF_STOCK, OF_RESERVATION, OF_ALLOCATION, OF_POLICY], ids=lambda of: of.type)
def test_every_shape_comes_back_and_no_other_does(of: Entry) -> None:
    fields = raw(of)
    assert decode_entry(0, 1, fields) == of
    broken: list[Fields] = [fields | {b"at_us": b"now"}, fields | {b"data": b"{"}, fields | {b"more": b""}]
    # Without its location an allocation has the shape of the others of a reservation.
    needed = fields.keys() - {b"location"}
    broken += [{name: text for name, text in fields.items() if name != left_out} for left_out in needed]
    broken.append(dict(reversed(fields.items())))
    for each in broken:
        with pytest.raises(LedgerBroken):
            decode_entry(0, 1, each)


@pytest.fixture
async def engine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeAsyncRedis]:
    monkeypatch.setattr(ledger, "PAGE_SIZE", PAGE_SIZE)
    monkeypatch.setattr(history, "PAGE_SIZE", PAGE_SIZE)
    monkeypatch.setattr(history, "LOOKED_AT_MAX", LOOKED_AT_MAX)
    async with FakeAsyncRedis() as client:
        for sequence in range(1, ENTRIES + 1):
            await client.xadd(KEYS.ledger, encode_entry(entry(sequence)), id=f"{sequence}-0")
        yield client


ABOUT_B, ABOUT_NOBODY = Wanted(sku=Sku("B")), Wanted(token=Token("x"))


async def test_every_entry_comes_back_as_it_was_written(engine: FakeAsyncRedis) -> None:
    pages = [page async for _, page in read_entries(engine, KEYS)]
    assert [found for page in pages for found in page] == [entry(sequence) for sequence in range(1, ENTRIES + 1)]
    assert all(len(page) <= PAGE_SIZE for page in pages)


@pytest.mark.parametrize(("after", "until"), [(0, 95), (0, 10), (10, 20), (94, 95), (95, None), (7, 7), (200, None)])
async def test_a_part_of_it(engine: FakeAsyncRedis, after: int, until: int | None) -> None:
    pages = [page async for _, page in read_entries(engine, KEYS, after=after, until=until)]
    found = [entry.sequence for page in pages for entry in page]
    assert found == list(range(after + 1, min(until or ENTRIES, ENTRIES) + 1))


@pytest.mark.parametrize("limit", [1, 9, 10, 11, 30])
async def test_pages_follow_each_other_without_a_gap(engine: FakeAsyncRedis, limit: int) -> None:
    found: list[int] = []
    after, is_end = 0, False
    while not is_end:
        page = await read_history_page(engine, None, KEYS, after=after, limit=limit, wanted=EVERYTHING)
        assert len(page.entries) <= limit
        found += [entry.sequence for entry in page.entries]
        after, is_end = page.last, page.is_end
    assert found == list(range(1, ENTRIES + 1))


async def test_a_page_looks_at_so_many_and_no_more(engine: FakeAsyncRedis) -> None:
    first = await read_history_page(engine, None, KEYS, after=0, limit=1000, wanted=ABOUT_B)
    assert [entry.sequence for entry in first.entries] == [7, 14, 21, 28]
    assert (first.last, first.is_end) == (LOOKED_AT_MAX, False)
    nothing = await read_history_page(engine, None, KEYS, after=0, limit=1000, wanted=ABOUT_NOBODY)
    assert (nothing.entries, nothing.last, nothing.is_end) == ([], LOOKED_AT_MAX, False)
    none_wanted = await read_history_page(engine, None, KEYS, after=0, limit=0, wanted=EVERYTHING)
    assert (none_wanted.entries, none_wanted.last, none_wanted.is_end) == ([], 0, False)
    last = await read_history_page(engine, None, KEYS, after=90, limit=1000, wanted=ABOUT_B)
    assert ([entry.sequence for entry in last.entries], last.last, last.is_end) == ([91], ENTRIES, True)


async def test_a_fault_of_the_engine_has_our_name(engine: FakeAsyncRedis) -> None:
    await engine.set(KEYS.ledger, "no stream")
    with pytest.raises(EngineUnavailable):
        await read_history_page(engine, None, KEYS, after=0, limit=1, wanted=EVERYTHING)
