"""The archive: how fast a backlog goes into each database, and what a sale loses while its archive is kept.

A backlog is entries of holds and sales as the scripts write them, in a real engine; the archiver reads, decodes, writes
and acknowledges them as it does beside a service. The sale is `lastunit serve` with an archive and without one, in
turns; a turn begins when the backlog of the one before is gone.
"""

import asyncio
import re
import secrets
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from statistics import median

import httpx
import uvloop

from app.domain.entries import Entry
from app.domain.types import Sku, Token
from app.projections.archive.archiver import Archiver
from app.projections.archive.database import make_database
from app.projections.archive.reader import Archive
from app.projections.archive.writer import Writer
from app.settings import Settings
from app.store.readers import ARCHIVE, LedgerReader
from app.store.state import write_entries
from app.store.store import make_store
from loadtests.bench.generator import Generator
from loadtests.bench.proof import ProofFailed
from loadtests.bench.throughput import (
    CONNECTIONS,
    ON_HAND,
    SKUS,
    expect,
    prove_service,
    reserve_request,
    service,
    stock_requests,
)
from tests.databases import chosen as databases
from tests.databases import running_postgres
from tests.engines import chosen as engines
from tests.engines import running

LAG = re.compile(rb"^lastunit_archive_lag_entries (\S+)$", re.MULTILINE)
DRAIN_SECONDS_MAX = 300
LOOK_SECONDS = 0.2
TTL_US = 1800 * 1_000_000


@dataclass(frozen=True, slots=True)
class Backlog:
    """Entries a second into a database, of each round."""

    database: str
    rates: list[float]


@dataclass(frozen=True, slots=True)
class Turn:
    """Holds a second in one turn of a sale; how far its archive was behind at the end, and how long that took then."""

    rate: float
    lag_entries: int
    drain_seconds: float


@dataclass(frozen=True, slots=True)
class ArchiveCost:
    """Everything about the archive."""

    backlogs: list[Backlog]
    with_archive: list[Turn]
    without_archive: list[Turn]

    @property
    def ratio(self) -> float:
        """The sale with its archive by the sale without, of the medians of their rates."""
        return median(turn.rate for turn in self.with_archive) / median(turn.rate for turn in self.without_archive)


def measure_archive(*, rounds: int, entries: int, turns: int, seconds: float) -> ArchiveCost:
    """Measures both; raises ProofFailed where something was not archived."""
    backlogs = [Backlog(name, uvloop.run(_measure_backlog(name, rounds, entries))) for name in databases()]
    with tempfile.TemporaryDirectory(prefix="lastunit-") as folder, ExitStack() as stack:
        sales = {
            is_archived: _Sale(stack, Path(folder) / str(is_archived), is_archived=is_archived)
            for is_archived in (True, False)
        }
        for turn in range(2 * turns):
            sales[turn % 4 in (0, 3)].take_turn(seconds)
        stack.close()
        for sale in sales.values():
            uvloop.run(prove_service(sale.data_dir, sale.held, archive_url=sale.archive_url))
    return ArchiveCost(backlogs, sales[True].turns, sales[False].turns)


class _Sale:
    """A service that sells, with an archive or without, and its turns."""

    def __init__(self, stack: ExitStack, data_dir: Path, *, is_archived: bool) -> None:
        self.data_dir = data_dir
        self.archive_url = None if is_archived else ""
        self.held = 0
        self.turns: list[Turn] = []
        options = {} if self.archive_url is None else {"archive_url": self.archive_url}
        address = stack.enter_context(service("app", "serve", "--port", "0", "--data-dir", str(data_dir), **options))
        self._metrics_url = f"http://{address[0]}:{address[1]}/metrics"
        self._address = address
        with Generator(address, connections=CONNECTIONS) as generator:
            expect(generator.run(stock_requests()), status=200)

    def take_turn(self, seconds: float) -> None:
        requests = [reserve_request(number) for number in range(SKUS)]
        # Connections of its own: none is kept alive through the others' turns.
        with Generator(self._address, connections=CONNECTIONS) as generator:
            load = generator.run(cycle(requests), seconds=seconds)
        expect(load, status=201)
        self.held += load.statuses[201]
        lag_entries, drain_seconds = _drain(self._metrics_url) if self.archive_url is None else (0, 0.0)
        self.turns.append(Turn(load.rate, lag_entries, drain_seconds))


def _drain(metrics_url: str) -> tuple[int, float]:
    """How many entries the archive is behind, and how long it takes to catch up."""
    behind, started = _lag(metrics_url), time.monotonic()
    while _lag(metrics_url):
        if time.monotonic() - started > DRAIN_SECONDS_MAX:
            raise ProofFailed(f"the archive did not catch up within {DRAIN_SECONDS_MAX} s")
        time.sleep(LOOK_SECONDS)
    return behind, time.monotonic() - started


def _lag(metrics_url: str) -> int:
    time.sleep(2 * LOOK_SECONDS)  # the gateway looks that often itself
    found = LAG.search(httpx.get(metrics_url, trust_env=False).content)
    assert found
    return int(float(found[1]))


async def _measure_backlog(database: str, rounds: int, entries: int) -> list[float]:
    """Entries a second, of each round; every round into an empty database."""
    rates = []
    with ExitStack() as stack:
        engine = stack.enter_context(running(engines()[0]))
        server = stack.enter_context(running_postgres()) if database == "postgresql" else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lastunit-")))
        async with make_store(Settings(data_dir=folder), engine.url) as store:
            keys = store.keyspace.partitions[0]
            backlog = list(_backlog(entries))
            await write_entries(store.client, keys, backlog)
            await store.client.hset(keys.meta, "sequence", str(entries))
        for number in range(rounds):
            url = server.new_database() if server else f"sqlite:///{folder / f'{number}.sqlite'}"
            settings = Settings(data_dir=folder, redis_url=engine.url, archive_url=url, ledger_entries_kept=entries)
            rates.append(entries / await _archive(settings, entries))
    return rates


async def _archive(settings: Settings, entries: int) -> float:
    """Archives a whole ledger; the seconds it took."""
    assert settings.archive_address
    assert settings.redis_url
    database = make_database(settings.archive_address, is_writer=True)
    reader, writer = LedgerReader(settings, settings.redis_url, name=ARCHIVE), Writer(database)
    await writer.prepare()
    stop = asyncio.Event()
    stop.set()
    started = time.monotonic()
    await Archiver(reader, writer, entries_kept=settings.ledger_entries_kept, stop=stop).run()
    seconds = time.monotonic() - started
    archive = Archive.of(settings)
    if (await archive.positions()) != {0: entries}:
        raise ProofFailed(f"not all of {entries} entries were archived")
    await asyncio.gather(archive.close(), database.dispose(), reader.disconnect())
    return seconds


def _backlog(count: int) -> Iterator[Entry]:
    """Holds of one line, each sold a little later: what a sale leaves behind."""
    reserved, committed = Counter[int](), Counter[int]()
    waiting: deque[Entry] = deque()
    for sequence in range(1, count + 1):
        held = waiting.popleft() if len(waiting) == SKUS else None
        number = sequence % SKUS if held is None else int(held.sku.removeprefix("SKU-"))
        reserved[number] += 1 if held is None else -1
        committed[number] += held is not None
        entry = Entry(
            partition=0, sequence=sequence, command=sequence, at_us=sequence, type="reservation.held",
            sku=Sku(f"SKU-{number:06}"), quantity=1, on_hand=ON_HAND, reserved=reserved[number],
            committed=committed[number], backordered=0, available=ON_HAND - reserved[number] - committed[number],
            reason="", data={"reference": f"cart-{sequence}"}, token=Token(f"0-{secrets.token_urlsafe(16)}"),
            agent_id=f"agent-{number}", channel="direct", expires_us=sequence + TTL_US,
        )  # fmt: skip
        if held is None:
            waiting.append(entry)
        else:
            sold = {"order_id": f"order-{sequence}"}
            entry = replace(
                entry, type="reservation.committed", token=held.token, expires_us=held.expires_us, data=sold
            )
        yield entry
