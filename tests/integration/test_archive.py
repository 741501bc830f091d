"""The archive on real engines and real databases: what was written once stands there once, whatever dies meanwhile."""

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, delete, update

from app.domain.entries import Entry
from app.domain.errors import ArchiveUnavailable, ForeignLedger, LedgerBroken
from app.domain.outcomes import Held, SkuAnswered
from app.domain.types import Line, Sku, SkuState, Token
from app.projections.archive.archiver import Archiver
from app.projections.archive.database import make_database, upgrade
from app.projections.archive.past import inventory_as_of
from app.projections.archive.reader import Archive, Filter
from app.projections.archive.rollback import Rollback, find_rollback
from app.projections.archive.schema import metadata
from app.projections.archive.views import InventoryRow
from app.projections.archive.writer import Writer
from app.projections.history import EVERYTHING, Wanted, read_archived, read_history, read_history_page
from app.projections.rebuild import verify
from app.settings import Settings, load_settings
from app.store.decoding import decode_policy
from app.store.readers import ARCHIVE, LedgerReader, read_progress
from app.store.store import Store
from tests.archiving import archived_entries, entries_of, places_of, prove_archive
from tests.conftest import OpenStore
from tests.engines import Engine
from tests.history import SKUS, History
from tests.virtual_clock import SECOND_US, VirtualClock

A = Sku("A")
STEPS = 500
TTL_US = 10 * SECOND_US
LIFETIME_US = 3600 * SECOND_US


class Hand:
    """An archiver that is driven by hand, here in this process."""

    def __init__(self, settings: Settings, url: str, stack: AsyncExitStack) -> None:
        assert settings.archive_address
        self.settings = settings
        self.database = make_database(settings.archive_address, is_writer=True)
        self.reader = LedgerReader(settings, url, name=ARCHIVE)
        self.archive = Archive.of(settings)
        for close in (self.archive.close, self.database.dispose, self.reader.disconnect):
            stack.push_async_callback(close)

    def keeping(self, entries_kept: int) -> "Hand":
        """The same one, but the engine keeps only so many entries."""
        other = copy.copy(self)
        other.settings = self.settings.model_copy(update={"ledger_entries_kept": entries_kept})
        return other

    async def archive_all(self) -> None:
        """Everything that is there now."""
        stop = asyncio.Event()
        stop.set()
        writer = Writer(self.database)
        await Archiver(self.reader, writer, entries_kept=self.settings.ledger_entries_kept, stop=stop).run()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def hand(engine: Engine, archive_url: str, stack: AsyncExitStack) -> Hand:
    return Hand(load_settings({"archive_url": archive_url}), engine.url, stack)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("partitions", [1, 3])
async def test_a_history_is_archived_as_it_happened(  # noqa: PLR0917 - fixtures
    open_store: OpenStore, clock: VirtualClock, engine: Engine, archive_url: str, stack: AsyncExitStack,
    partitions: int, seed: int,
) -> None:  # fmt: skip
    store = await open_store(clock=clock, partitions=partitions)
    hand = Hand(load_settings({"archive_url": archive_url, "partitions": partitions}), engine.url, stack)
    history = History(store, clock, seed)
    for _ in range(5):  # views are kept across batches, not made at once
        await history.live(STEPS // 5)
        await hand.archive_all()
    await settle(store)
    await hand.archive_all()
    await prove_archive(store, hand.archive, await entries_of(store))
    assert (await verify(store, hand.archive)).difference is None


async def settle(store: Store) -> None:
    for keys in store.keyspace.partitions:
        while (await store.commands.expire(keys)).lines:
            pass


async def test_the_past_is_as_it_was_answered(
    store: Store, clock: VirtualClock, hand: Hand, stack: AsyncExitStack
) -> None:
    history = History(store, clock, seed=1)
    answered: list[tuple[int, int, SkuState]] = []
    for _ in range(40):
        await history.live(10)
        for sku in SKUS:
            outcome = await store.commands.availability(sku)
            if isinstance(outcome, SkuAnswered):
                answered.append((clock.now_us, await last_sequence(store), outcome.state))
        clock.advance_us(1)
    await hand.archive_all()
    for at_us, sequence, state in answered:
        at_that_time = await inventory_as_of(hand.archive, state.sku, 0, at_us=at_us, lifetime_us_max=LIFETIME_US)
        at_that_entry = await inventory_as_of(
            hand.archive, state.sku, 0, sequence=sequence, lifetime_us_max=LIFETIME_US
        )
        for found in (at_that_time, at_that_entry):
            assert found is not None
            assert balances_of(found.row) == balances_of(state)
            assert places_of(found.row) == state.locations
            assert decode_policy(found.row.policy) == state.policy
            assert found.next_release_us == state.next_release_us
    assert len(answered) > 100


def balances_of(of: SkuState | InventoryRow) -> list[int]:
    names = ("on_hand", "reserved", "committed", "backordered", "safety_stock", "available", "shortfall")
    return [getattr(of, name) for name in names]


async def last_sequence(store: Store) -> int:
    return (await read_progress(store.client, store.keyspace, name=ARCHIVE))[0].sequence


async def test_what_was_due_had_ended_though_nobody_had_looked(store: Store, clock: VirtualClock, hand: Hand) -> None:
    await adjust(store, 3)
    await hold(store, 2)
    begun_us = clock.now_us
    clock.advance_us(TTL_US + 5)
    await adjust(store, 1)
    await hand.archive_all()
    for after_us, reserved, available, is_held in (
        (-1, 0, 3, False),
        (0, 2, 1, True),
        (TTL_US - 1, 2, 1, True),
        (TTL_US, 0, 3, False),
    ):
        found = await inventory_as_of(hand.archive, A, 0, at_us=begun_us + after_us, lifetime_us_max=LIFETIME_US)
        if after_us < 0:
            assert found is None
            continue
        assert found is not None
        assert (found.row.reserved, found.row.available, found.next_release_us is not None) == (
            reserved,
            available,
            is_held,
        )


async def adjust(store: Store, amount: int, sku: Sku = A) -> None:
    await store.commands.adjust(sku, location_id="main", mode="delta", amount=amount, reason="found")


async def hold(store: Store, quantity: int = 1, *, reference: str = "cart") -> Token:
    outcome = await store.commands.reserve(
        [Line(A, quantity)], agent_id="agent", channel="direct", ttl_us=TTL_US, allow_backorder=True,
        details={"reference": reference}, idempotency=None,
    )  # fmt: skip
    assert isinstance(outcome, Held)
    return outcome.reservation.token


@pytest.mark.damaging
async def test_what_the_engine_has_dropped_is_read_from_the_archive(
    store: Store, clock: VirtualClock, hand: Hand
) -> None:
    await History(store, clock, seed=3).live(200)
    entries = await entries_of(store)
    keys = store.keyspace.partitions[0]
    few = hand.keeping(10)
    await few.archive_all()
    assert await entries_of(store) == entries[-10:]
    assert [entry async for _, page in read_history(store.client, hand.archive, keys) for entry in page] == entries
    assert [entry async for _, page in read_archived(hand.archive, 0) for entry in page] == entries
    for wanted in (EVERYTHING, Wanted(sku=A), Wanted(token=entries[-1].token)):
        found, after, is_end = list[Entry](), 0, False
        while not is_end:
            page = await read_history_page(store.client, hand.archive, keys, after=after, limit=7, wanted=wanted)
            found, after, is_end = found + page.entries, page.last, page.is_end
        named = [entry for entry in entries if wanted.sku in (None, entry.sku) and wanted.token in (None, entry.token)]
        assert found == named
    verdict = await verify(store, hand.archive)
    assert (verdict.entries, verdict.difference) == (len(entries), None)
    with pytest.raises(ArchiveUnavailable):
        await verify(store, Archive(None))


@pytest.mark.damaging
async def test_a_row_that_was_changed_is_named(store: Store, hand: Hand) -> None:
    for _ in range(20):
        await adjust(store, 1)
    few = hand.keeping(5)
    await few.archive_all()
    entries = metadata.tables["entries"]
    changes: list[tuple[int, dict[str, Any]]] = [(4, {"quantity": 2}), (18, {"reason": "lost"})]
    for sequence, change in changes:  # dropped by the engine, and still there
        async with hand.database.begin() as connection:
            await connection.execute(update(entries).where(entries.c.sequence == sequence).values(change))
        difference = (await verify(store, hand.archive)).difference
        assert difference is not None
        assert difference.sequence == sequence
        async with hand.database.begin() as connection:
            await connection.execute(update(entries).values(quantity=1, reason="found"))
    async with hand.database.begin() as connection:
        await connection.execute(delete(entries).where(entries.c.sequence == 7))
    difference = (await verify(store, hand.archive)).difference
    assert difference is not None
    assert (difference.sequence, "gap" in difference.sentence) == (8, True)


@pytest.mark.damaging
async def test_an_engine_that_was_rolled_back_is_not_archived(store: Store, hand: Hand, engine: Engine) -> None:
    for _ in range(5):
        await adjust(store, 1)
    client: Any = engine.client
    keys = store.keyspace.partitions[0]
    older_ledger, older_meta = client.dump(keys.ledger), client.hgetall(keys.meta)
    for _ in range(5):
        await adjust(store, 1)
    await hand.archive_all()
    archived = await archived_entries(hand.archive)
    client.restore(keys.ledger, 0, older_ledger, replace=True)
    client.hset(keys.meta, mapping=older_meta)
    writer = Writer(hand.database)
    meta = await hand.reader.read_meta(keys)
    with pytest.raises(ForeignLedger, match="ends at 5, but the archive has entry 10"):
        await writer.write(0, [], meta)
    assert await find_rollback(store, hand.archive) == Rollback(0, live=5, archived=10)
    with pytest.raises(ForeignLedger, match="rolled back"):
        await hand.reader.acknowledge(keys, 10, entries_kept=1)

    # It went on, past what is archived, with another history.
    for _ in range(7):
        await adjust(store, 2)
    entries = await entries_of(store)
    assert await find_rollback(store, hand.archive) is None
    with pytest.raises(ForeignLedger, match="Entry 10 of partition 0 is another one"):
        await writer.write(0, entries[9:], await hand.reader.read_meta(keys))
    await hand.archive_all()  # ends without: it may not wait for a person
    assert await archived_entries(hand.archive) == archived


async def test_another_ledger_does_not_go_into_the_archive(store: Store, hand: Hand, engine: Engine) -> None:
    await adjust(store, 1)
    await hand.archive_all()
    keys = store.keyspace.partitions[0]
    engine.client.hset(keys.meta, "secret", "x" * 64)
    with pytest.raises(ForeignLedger, match="another ledger"):
        await Writer(hand.database).write(0, [], await hand.reader.read_meta(keys))


async def test_entries_that_are_missing_are_not_skipped(store: Store, hand: Hand) -> None:
    for _ in range(5):
        await adjust(store, 1)
    entries = await entries_of(store)
    meta = await hand.reader.read_meta(store.keyspace.partitions[0])
    writer = Writer(hand.database)
    await writer.prepare()
    assert await writer.write(0, entries[:2], meta) == 2
    with pytest.raises(LedgerBroken, match="entry 3 is gone"):
        await writer.write(0, entries[3:], meta)
    assert await writer.write(0, entries[1:], meta) == 5
    assert await writer.write(0, entries, meta) == 5
    assert await archived_entries(hand.archive) == entries


async def test_lists(store: Store, clock: VirtualClock, hand: Hand) -> None:
    await store.commands.put_sku(A, {"backorder_limit": "5"}, may_create=True)
    await adjust(store, 4)
    tokens = []
    for number in range(6):
        clock.advance_us(1)
        tokens.append(await hold(store, 1, reference=f"cart-{number % 2}"))
    await store.commands.commit(tokens[0], order_id="order-1")
    await store.commands.release(tokens[1])
    await store.commands.payment(tokens[2], ttl_us=TTL_US)
    await hand.archive_all()

    async def listed(now_us: int = 0, **named: Any) -> list[int]:
        found: list[Token] = []
        after = None
        while True:  # page by page
            page = await hand.archive.list_reservations(Filter(**named), now_us=now_us, after=after, limit=2)
            found += [row.token for row in page]
            if len(page) < 2:
                return [tokens.index(token) for token in found]
            after = (page[-1].created_at_us, page[-1].token)

    assert await listed() == [5, 4, 3, 2, 1, 0]
    assert await listed(agent_id="agent") == await listed(sku=A) == [5, 4, 3, 2, 1, 0]
    assert await listed(sku=A, reference="cart-1") == [5, 3, 1]
    assert await listed(order_id="order-1") == [0]
    assert await listed(agent_id="nobody") == await listed(sku=Sku("B")) == []
    assert [await listed(status=status) for status in ("held", "payment_pending", "released", "committed")] == [
        [5, 4, 3], [2], [1], [0],
    ]  # fmt: skip
    later_us = clock.now_us + 2 * TTL_US
    assert (await listed(later_us, status="held"), await listed(later_us, status="expired")) == ([], [5, 4, 3, 2])
    due = await hand.archive.find_reservation(tokens[3], now_us=later_us)
    assert due is not None
    assert due.status == "expired"
    assert await hand.archive.find_reservation(Token("0-" + "x" * 22), now_us=0) is None

    # Four of six were in stock; the release covered the first promise beyond them.
    (backorder,) = await hand.archive.list_backorders(sku=None, now_us=0, after=None, limit=10)
    assert (backorder.sku, backorder.units, tokens.index(backorder.reservation.token)) == (A, 1, 5)
    assert await hand.archive.list_backorders(sku=A, now_us=0, after=(A, backorder.sequence), limit=10) == []
    assert await hand.archive.list_reviews(now_us=backorder.review_due_us - 1, after=None, limit=10) == []
    clock.advance_us(2 * TTL_US)
    await settle(store)
    await hand.archive_all()
    reviews = await hand.archive.list_reviews(now_us=clock.now_us, after=None, limit=10)
    assert [(review.kind, review.token) for review in reviews] == [("payment_expired", tokens[2])]
    assert await hand.archive.list_reviews(now_us=0, after=(reviews[0].since_us, reviews[0].key), limit=10) == []


async def test_without_an_archive_nothing_is_there(tmp_path: Path) -> None:
    for settings in (load_settings({"archive_url": ""}), load_settings({"data_dir": tmp_path})):
        archive = Archive.of(settings)
        with pytest.raises(ArchiveUnavailable):
            await archive.find_reservation(Token("0-" + "x" * 22), now_us=0)
        await archive.close()
    with pytest.raises(FileNotFoundError):  # a reader makes no file
        (tmp_path / "archive.sqlite").stat()


async def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "the archive? 100% #1.sqlite"
    settings = load_settings({"archive_url": f"sqlite:///{path}"})
    database = make_database(f"sqlite:///{path}", is_writer=True)
    await upgrade(database)
    await database.dispose()
    archive = Archive.of(settings)
    assert path.stat().st_size > 0
    assert await archive.list_skus(after=None, limit=1) == []
    await archive.close()


async def test_the_migrations_make_the_schema(hand: Hand) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    await asyncio.gather(*(upgrade(hand.database) for _ in range(3)))
    async with hand.database.connect() as connection:
        assert await connection.run_sync(differences) == []
