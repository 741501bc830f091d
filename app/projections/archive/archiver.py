"""Moves the ledger into the archive, in order, exactly once, for as long as the process lives.

Entries, views and position are one transaction; the engine hears of it afterwards and may then drop the entries. So a
process that is killed anywhere begins again where the position stands, and nothing is ever dropped that is not on disk.
"""

import asyncio
from contextlib import suppress

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from app.domain.entries import Entry
from app.domain.errors import ArchiveUnavailable, EngineError, ForeignLedger, LedgerBroken
from app.projections.archive.writer import Writer
from app.store.readers import LedgerReader

# A page keeps the engine busy for a millisecond or two; a transaction has several of them when much is to be done.
PAGE_SIZE = 1000
BATCH_SIZE = 5000
# Entries gather for so long, so that a transaction, and its wait for the disk, is for many of them.
PAUSE_SECONDS = 0.2
BLOCK_MS = 250
BACKOFF_SECONDS_MAX = 15
FAULTS = (EngineError, ArchiveUnavailable, ForeignLedger, LedgerBroken)

log = structlog.get_logger()


class Archiver:
    """Archives until `stop` is set, and then what is there at that moment.

    While engine or database is away, or they contradict each other, it tries again and again: nothing is left out,
    nothing written over. An episode is logged when it begins and when it is over.
    """

    def __init__(self, reader: LedgerReader, writer: Writer, *, entries_kept: int, stop: asyncio.Event) -> None:
        self._reader = reader
        self._writer = writer
        self._entries_kept = entries_kept
        self._stop = stop
        self._positions: dict[int, int] = {}
        self._is_interrupted = False

    async def run(self) -> None:
        """Ends once `stop` is set and the ledger is read to its end, or cannot be."""
        archived = 1
        while archived or not self._stop.is_set():
            try:
                archived = await self._retrying()(self._step)
            except FAULTS as fault:  # told to end, and nothing to wait for
                log.warning("archive_unfinished", reason=str(fault))
                return
            if self._is_interrupted:
                self._is_interrupted = False
                log.info("archive_resumed", positions=self._positions)
            if archived < BATCH_SIZE and not self._stop.is_set():
                await self._sleep(PAUSE_SECONDS)

    async def _step(self) -> int:
        """Archives a batch of each partition, a transaction each; returns how many entries."""
        if not self._positions:
            await self._begin()
        batches = await self._read()
        for partition, batch in batches.items():
            keys = self._reader.keyspace.partitions[partition]
            meta = await self._reader.read_meta(keys)
            self._positions[partition] = await self._writer.write(partition, batch, meta)
            await self._reader.acknowledge(keys, self._positions[partition], entries_kept=self._entries_kept)
        return sum(map(len, batches.values()))

    async def _read(self) -> dict[int, list[Entry]]:
        """Pages until a batch is full or the ledger ends; waits a little for the first entry."""
        positions = dict(self._positions)
        batches: dict[int, list[Entry]] = {}
        block_ms = None if self._stop.is_set() else BLOCK_MS
        news, entries = PAGE_SIZE, 0
        while news > PAGE_SIZE // 2 and entries < BATCH_SIZE:
            pages = await self._reader.follow(positions, count=PAGE_SIZE, block_ms=block_ms)
            for partition, page in pages.items():
                batches.setdefault(partition, []).extend(page)
                positions[partition] = page[-1].sequence
            block_ms = None
            news = sum(map(len, pages.values()))
            entries += news
        return batches

    async def _begin(self) -> None:
        """Finds out where to go on, and tells the engine: an earlier process may have ended before it could."""
        await self._writer.prepare()
        found = {}
        for keys in self._reader.keyspace.partitions:
            meta = await self._reader.read_meta(keys)
            position = await self._writer.write(keys.index, [], meta)
            await self._reader.acknowledge(keys, position, entries_kept=self._entries_kept)
            # The last archived entry is read again: the writer proves by it that this is the same ledger still.
            found[keys.index] = max(0, position - 1)
        self._positions = found

    def _retrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception_type(FAULTS),
            wait=wait_exponential_jitter(multiplier=0.1, max=BACKOFF_SECONDS_MAX, jitter=0.1),
            stop=lambda _: self._stop.is_set(),
            sleep=self._sleep,
            before_sleep=self._start_over,
            reraise=True,
        )

    async def _start_over(self, state: RetryCallState) -> None:
        """The next attempt has new connections, and asks where it stands."""
        assert state.outcome
        if state.attempt_number == 1:
            log.error("archive_interrupted", reason=str(state.outcome.exception()))
        self._is_interrupted = True
        self._positions = {}
        await self._writer.close()
        await self._reader.disconnect()

    async def _sleep(self, seconds: float) -> None:
        """Sleeps, but no longer than until the end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
