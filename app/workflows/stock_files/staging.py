"""Rows of a stock file on their way into the engine: in a temporary file, so that no size of theirs is one of memory.

SQLite sorts them on disk, by SKU and location. So what belongs together comes together, twins stand side by side, and
what is applied is what was checked, even if the file changed meanwhile.
"""

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from operator import attrgetter
from types import TracebackType
from typing import Self

from app.domain.errors import LastunitError
from app.store.imports import StockRow

CACHE_KIB = 16_384
SKU_ROWS_MAX = 201  # a SKU lies at 200 locations at most, and has one row without a location


class StagingFailed(LastunitError):
    """There is no room for the rows; `str(error)` is one sentence for the operator."""


class Staging:
    """Rows as they are added, to be read in order. One thread at a time."""

    def __init__(self) -> None:
        # A database without a name is a temporary file that ends with its connection, however that ends.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "temp_store = FILE", f"cache_size = -{CACHE_KIB}"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute(
            "CREATE TABLE rows (number INTEGER, sku TEXT, location TEXT, on_hand INTEGER, policy TEXT)"
        )
        self._database.execute("BEGIN")  # and never committed: what is staged is for this connection alone
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, rows: Iterable[StockRow]) -> None:
        """Takes these rows too; raises StagingFailed where there is no room for them."""
        with _translated():
            self.count += self._database.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", rows).rowcount

    def sort(self) -> Iterator[list[StockRow]]:
        """The rows of one SKU after the other, by location, no more than one too many; sorted when this returns."""
        with _translated():
            cursor = self._database.execute("SELECT * FROM rows ORDER BY sku, location")
        return (list(islice(rows, SKU_ROWS_MAX + 1)) for _, rows in groupby(_fetch(cursor), attrgetter("sku")))


def _fetch(cursor: sqlite3.Cursor) -> Iterator[StockRow]:
    with _translated():
        yield from map(StockRow._make, cursor)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StagingFailed(
            f"the rows cannot be staged in {tempfile.gettempdir()} ({error}): make room there, or set TMPDIR"
        ) from None
