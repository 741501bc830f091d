"""Brings the ledger to what a stock file says: the file is checked whole, the ledger asked, then all of it applied.

A row that is wrong, or that the ledger would refuse, and nothing was applied. What is applied are counts, not
differences: an import that broke off is finished by repeating it, and rows that are so already write nothing.
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import IO

from app.domain.errors import EngineError, LastunitError
from app.domain.outcomes import Imported, ImportOutcome
from app.store.commands import Idempotency, LocationKind
from app.store.imports import Mode, RowRefused, StockRow, write_rows
from app.store.keyed_imports import KeyedImport
from app.store.keys import PartitionKeys
from app.store.store import Store
from app.workflows.stock_files.columns import COLUMNS, UNITS_MAX
from app.workflows.stock_files.faults import StockFileError, decode_policy
from app.workflows.stock_files.staging import SKU_ROWS_MAX, Staging
from app.workflows.stock_files.summaries import read_summaries
from app.workflows.stock_files.tables import BYTE_ORDER_MARK, read_table

REASON = "import"
LOOK_BYTES = 1024
READ_ROWS = 64  # between two turns of the event loop
BATCH_ROWS = 64
IN_FLIGHT_MAX = 8
REFUSALS = {
    "too_many_locations": "the SKU would lie at more locations than a SKU may",
    "above_limit": f"the SKU would have more than {UNITS_MAX} units on hand",
}

OnProgress = Callable[["Step", int, int], None]  # so much of so much is done: bytes while reading, then rows


class Step(StrEnum):
    """What an import does, in this order."""

    READ = "read"
    CHECK = "check"
    APPLY = "apply"


class ImportInterrupted(LastunitError):
    """Some rows are applied and others are not; `str(error)` is one sentence that says why and what to do."""


async def import_stock(
    store: Store,
    file: IO[bytes],
    *,
    kind_of: Callable[[str], LocationKind],
    in_flight_max: int = IN_FLIGHT_MAX,
    on_progress: OnProgress = lambda *_: None,
) -> Imported:
    """Applies a seekable file, CSV or Amazon's summaries. Raises StockFileError before anything was applied.

    `kind_of` decides where a location is new to a SKU; at most `in_flight_max` batches are with the engine at once.
    Raises EngineError and StagingFailed before anything was applied, then ImportInterrupted: repeating completes it.
    """
    async with _checked(store, file, kind_of, in_flight_max, on_progress) as writing:
        return await writing.apply()


async def import_once(
    store: Store,
    file: IO[bytes],
    idempotency: Idempotency,
    *,
    kind_of: Callable[[str], LocationKind],
    in_flight_max: int = IN_FLIGHT_MAX,
    on_progress: OnProgress = lambda *_: None,
) -> ImportOutcome:
    """The same of a file that came with an Idempotency-Key: under one key one file is applied, and once.

    A file that is refused leaves the key free; one that broke off keeps it, and is completed by repeating it.
    """
    key = KeyedImport(store, idempotency)
    if known := await key.recall():
        return known
    async with _checked(store, file, kind_of, in_flight_max, on_progress) as writing:
        if known := await key.begin():
            return known
        done = await writing.apply()
    try:
        return await key.end(done)
    except EngineError as error:
        raise ImportInterrupted(f"{error}; all rows are applied, which is not remembered: import it again") from error


@asynccontextmanager
async def _checked(
    store: Store,
    file: IO[bytes],
    kind_of: Callable[[str], LocationKind],
    in_flight_max: int,
    on_progress: OnProgress,
) -> AsyncIterator["_Writing"]:
    """The file's rows, read and found to be right, ready to be applied."""
    unit = _unit_of(file)
    with Staging() as staging:
        await _read(file, unit, staging, on_progress)
        writing = _Writing(store, staging, unit, kind_of, in_flight_max, on_progress)
        await writing.run("check")
        yield writing


def _unit_of(file: IO[bytes]) -> str:
    """What the rows of the file are numbered by: JSON has summaries, CSV has lines."""
    start = file.read(LOOK_BYTES).removeprefix(BYTE_ORDER_MARK)
    file.seek(0)
    return "summary" if start.lstrip().startswith((b"{", b"[")) else "line"


async def _read(file: IO[bytes], unit: str, staging: Staging, on_progress: OnProgress) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    rows = read_summaries(file) if unit == "summary" else read_table(file)
    while taken := list(islice(rows, READ_ROWS)):
        staging.add(taken)
        on_progress(Step.READ, file.tell(), size)
        await asyncio.sleep(0)
    on_progress(Step.READ, size, size)


@dataclass(frozen=True, slots=True)
class _Writing:
    """Sends the staged rows to the engine, batch by batch, a few at once."""

    store: Store
    staging: Staging
    unit: str
    kind_of: Callable[[str], LocationKind]
    in_flight_max: int
    on_progress: OnProgress

    async def apply(self) -> Imported:
        """Applies all rows."""
        return Imported(self.staging.count, await self.run("apply"))

    async def run(self, mode: Mode) -> int:
        """Checks all rows, or applies them; returns how many changed something."""
        changed = done = 0
        in_flight: deque[asyncio.Task[tuple[int, int]]] = deque()
        batches = self._batches(await asyncio.to_thread(self.staging.sort))
        try:
            while True:
                if len(in_flight) < self.in_flight_max and (batch := next(batches, None)):
                    in_flight.append(asyncio.create_task(self._send(*batch, mode)))
                elif in_flight:
                    rows, changes = await in_flight.popleft()
                    done, changed = done + rows, changed + changes
                    self.on_progress(Step(mode), done, self.staging.count)
                else:
                    return changed
        except LastunitError as error:
            if mode == "check":
                raise
            raise ImportInterrupted(
                f"{error}; at least {done} of {self.staging.count} rows are applied: import the file again, which "
                "completes it"
            ) from error
        finally:
            for task in in_flight:
                task.cancel()
            await asyncio.gather(*in_flight, return_exceptions=True)

    async def _send(self, keys: PartitionKeys, rows: list[StockRow], mode: Mode) -> tuple[int, int]:
        outcome = await write_rows(self.store.commands, keys, rows, mode=mode, reason=REASON, kind_of=self.kind_of)
        if isinstance(outcome, RowRefused):
            raise StockFileError(f"{self.unit} {outcome.row.number}", REFUSALS[outcome.reason])
        return len(rows), outcome.changed

    def _batches(self, groups: Iterator[list[StockRow]]) -> Iterator[tuple[PartitionKeys, list[StockRow]]]:
        """Rows of one partition, BATCH_ROWS of them and what more the last SKU has."""
        open_batches: dict[int, list[StockRow]] = {}
        for group in groups:
            self._check_group(group)
            keys = self.store.keyspace.of_sku(group[0].sku)
            batch = open_batches.setdefault(keys.index, [])
            batch += group
            if len(batch) >= BATCH_ROWS:
                yield keys, open_batches.pop(keys.index)
        for index, batch in open_batches.items():
            yield self.store.keyspace.partitions[index], batch

    def _check_group(self, group: list[StockRow]) -> None:
        """Raises StockFileError where rows of one SKU contradict each other."""
        if len(group) > SKU_ROWS_MAX:
            raise StockFileError(f"{self.unit} {group[-1].number}", REFUSALS["too_many_locations"])
        named: StockRow | None = None
        for row, before in zip(group, [None, *group[:-1]], strict=True):
            if before and before.location_id == row.location_id:
                first, second = sorted((before.number, row.number))
                raise StockFileError(f"{self.unit} {second}", f"has sku and location_id of {self.unit} {first}")
            if row.policy:
                if named and named.policy != row.policy:
                    raise self._contradiction(named, row)
                named = row

    def _contradiction(self, one: StockRow, other: StockRow) -> StockFileError:
        first, second = sorted((one, other), key=lambda row: row.number)
        before, after = decode_policy(first.policy), decode_policy(second.policy)
        names = [name for name, column in COLUMNS.items() if before.get(column.field) != after.get(column.field)]
        where = f"{self.unit} {second.number}, column {names[0]}"
        return StockFileError(where, f"is another than in {self.unit} {first.number}, which has the same sku")
