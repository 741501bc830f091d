"""An archiver as a process of its own, and the proof that what it wrote is what the engine holds."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.domain.entries import Entry
from app.domain.outcomes import Done, SkuAnswered
from app.domain.types import Location, Reservation
from app.projections.archive.reader import Archive, Filter
from app.projections.archive.views import InventoryRow, Views
from app.projections.replay import Replay
from app.settings import Settings
from app.store.decoding import decode_policy
from app.store.ledger import read_entries
from app.store.readers import ARCHIVE, read_progress
from app.store.store import Store

ROOT = Path(__file__).parents[1]
RUN = """
import multiprocessing
from app.projections.archive.process import run
from app.settings import load_settings
run(load_settings(), multiprocessing.Event())
"""


class ArchiverProcess:
    """One archiver, started and ended at will; `log` is the file it logs to."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._settings = settings
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        given = self._settings.model_dump(mode="json", include={*self._settings.model_fields_set})
        environment = {f"LASTUNIT_{name.upper()}": str(value) for name, value in given.items()}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN], cwd=ROOT, env=os.environ | environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """Kill -9."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def events(self, name: str) -> int:
        """How often it logged this."""
        return self.log.read_text().count(f'"event": "{name}"')


@contextmanager
def archiving(settings: Settings, log: Path) -> Iterator[ArchiverProcess]:
    """A running archiver, ended afterwards however the test ends."""
    archiver = ArchiverProcess(settings, log)
    archiver.start()
    try:
        yield archiver
    finally:
        archiver.kill()


async def is_caught_up(store: Store) -> bool:
    """Whether the archive has acknowledged all that the engine has."""
    return all(progress.lag == 0 for progress in await read_progress(store.client, store.keyspace, name=ARCHIVE))


async def entries_of(store: Store) -> list[Entry]:
    """All that the streams have."""
    found = []
    for keys in store.keyspace.partitions:
        async for _, page in read_entries(store.client, keys):
            found += page
    return found


async def archived_entries(archive: Archive) -> list[Entry]:
    """All that the archive has, in order."""
    found = []
    for partition, position in sorted((await archive.positions()).items()):
        found += await archive.read_entries(partition, after=0, until=position + 1_000_000, limit=1_000_000)
    return found


async def prove_archive(store: Store, archive: Archive, entries: list[Entry]) -> None:
    """The archive has exactly these entries, and every reservation and SKU as the engine has them.

    Nothing may be due, and the archive caught up.
    """
    archived = await archived_entries(archive)
    assert archived == entries
    for partition, position in (await archive.positions()).items():
        assert [entry.sequence for entry in entries if entry.partition == partition] == list(range(1, position + 1))
    reservations = await _all_reservations(archive)
    assert {row.token for row in reservations} == {entry.token for entry in entries if entry.token is not None}
    for row in reservations:
        live = await store.commands.read(row.token)
        assert isinstance(live, Done)
        assert row == live.reservation
    rows = {row.sku: row for row in await archive.list_skus(after=None, limit=1_000_000)}
    assert rows.keys() == {entry.sku for entry in entries if entry.sku}
    for inventory in rows.values():
        await _prove_sku(store, inventory)


async def _all_reservations(archive: Archive) -> list[Reservation]:
    found: list[Reservation] = []
    after: tuple[int, str] | None = None
    while True:
        page = await archive.list_reservations(Filter(), now_us=0, after=after, limit=1000)
        if not page:
            return found
        found += page
        after = page[-1].created_at_us, page[-1].token


async def _prove_sku(store: Store, row: InventoryRow) -> None:
    live = await store.commands.availability(row.sku)
    assert isinstance(live, SkuAnswered)
    for name in (
        "sequence", "on_hand", "reserved", "committed", "backordered", "safety_stock", "available", "shortfall",
    ):  # fmt: skip
        assert getattr(row, name) == getattr(live.state, name), (row.sku, name)
    assert decode_policy(row.policy) == live.state.policy, row.sku
    assert places_of(row) == live.state.locations, row.sku


def prove_views(replay: Replay, entries: Sequence[Entry]) -> None:
    """The views of a partition's entries say what their replay says."""
    views = Views(inventory={}, reservations={}, backorders={}, order_reviews={})
    views.apply(entries)
    for sku, row in views.inventory.items():
        stock = replay.stocks[sku]
        for name in ("sequence", "on_hand", "reserved", "committed", "backordered", "safety_stock", "shortfall"):
            assert getattr(row, name) == getattr(stock, name), (sku, name)
        places = {name: (at.on_hand, at.kind == "shared", at.allocated) for name, at in row.locations.items()}
        assert places == {name: (at.on_hand, at.is_shared, at.allocated) for name, at in stock.locations.items()}, sku
    assert views.inventory.keys() == replay.stocks.keys()
    for token, reservation in views.reservations.items():
        record = replay.records[token]
        lines = [(line.sku, line.quantity) for line in reservation.lines.values()]
        assert lines == [(line.sku, line.quantity) for line in record.current_lines], token
        assert (reservation.status, reservation.order_id) == (record.status, record.order_id), token
        for line in reservation.lines.values():
            assert line.backordered == replay.stocks[line.sku].backordered_of(token), token
    assert views.reservations.keys() == replay.records.keys()


def places_of(row: InventoryRow) -> tuple[Location, ...]:
    """What a SKU has where, as the engine says it."""
    return tuple(
        Location(name, is_shared=at.kind == "shared", on_hand=at.on_hand, allocated=at.allocated)
        for name, at in sorted(row.locations.items())
    )
