"""Stock as CSV: our own columns, or the inventory of the Universal Commerce Protocol.

A row at a time, so that a file may be larger than memory.
"""

import csv
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import IO, TypeVar

from app.domain.ids import normalized_id
from app.domain.types import Sku
from app.store.imports import StockRow
from app.workflows.stock_files.columns import COLUMNS, whole
from app.workflows.stock_files.faults import StockFileError, encode_policy

LINE_BYTES_MAX = 65_536
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
NEEDED = ("sku", "location_id", "on_hand")
HEADER = (*NEEDED, *COLUMNS)
UCP_HEADER = ["product_id", "quantity"]
DEFAULT_LOCATION = "main"
POLICIES_KEPT = 1024
# By words of the csv module's, what a shop can do something about.
CSV_FAULTS = {
    "unexpected end of data": "a quote is never closed",
    "field larger than": "a field is too long, or a quote is never closed",
    "expected after": "a quoted field goes on after its quote; a quote in it is written twice",
    "new-line character": "lines must end with LF or CRLF",
}

Value = TypeVar("Value")


class _Lines:
    """The lines of a file as text, each within a bound."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self._file.readline(LINE_BYTES_MAX + 1)
        if not raw:
            raise StopIteration
        self.number += 1
        if len(raw) > LINE_BYTES_MAX:
            raise StockFileError(f"line {self.number}", f"is over {LINE_BYTES_MAX} bytes long")
        if self.number == 1:
            raw = raw.removeprefix(BYTE_ORDER_MARK)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise StockFileError(f"line {self.number}", "is not UTF-8") from None


def read_table(file: IO[bytes]) -> Iterator[StockRow]:
    """The rows of a CSV file, each checked by itself; raises StockFileError at the first that is wrong."""
    records = _read_records(file)
    number, record = next(records, (0, None))
    if record is None:
        raise StockFileError("", f"the file is empty: its first line must name the columns {', '.join(NEEDED)}")
    header = _check_header(number, record)
    parse = _row_parser(header)
    for number, record in records:
        if len(record) != len(header):
            raise StockFileError(f"line {number}", f"has {len(record)} fields, but the header has {len(header)}")
        yield parse(number, record)


def _read_records(file: IO[bytes]) -> Iterator[tuple[int, list[str]]]:
    """The records that are not empty, each with the number of its first line."""
    lines = _Lines(file)
    records = csv.reader(lines, strict=True)
    while True:
        number = lines.number + 1
        try:
            record = next(records, None)
        except csv.Error as error:
            reason = next((said for words, said in CSV_FAULTS.items() if words in str(error)), str(error))
            raise StockFileError(f"line {number}", f"is not CSV: {reason}") from None
        if record is None:
            return
        if record:
            yield number, record


def _check_header(number: int, record: list[str]) -> list[str]:
    """The columns by our names."""
    if record == UCP_HEADER:
        return ["sku", "on_hand"]
    for position, name in enumerate(record, 1):
        if name in record[: position - 1]:
            raise StockFileError(f"line {number}", f"column {position} has the name of a column before it")
    if missing := [name for name in NEEDED if name not in record]:
        raise StockFileError(
            f"line {number}",
            f"must name the columns, separated by commas; missing: {', '.join(missing)}",
        )
    for position, name in enumerate(record, 1):
        if name not in COLUMNS and name not in NEEDED:
            raise StockFileError(f"line {number}", f"column {position} is none of {', '.join(HEADER)}")
    return record


def _row_parser(header: list[str]) -> Callable[[int, list[str]], StockRow]:
    """What makes a StockRow of a record with this header."""
    sku_at, on_hand_at = header.index("sku"), header.index("on_hand")
    location_at = header.index("location_id") if "location_id" in header else None
    policy_at = [at for at, name in enumerate(header) if name in COLUMNS]
    policy_names = [header[at] for at in policy_at]

    @lru_cache(POLICIES_KEPT)  # the rows of a file have few policies between them
    def parse_policy(cells: tuple[str, ...]) -> str:
        fields = {}
        for name, cell in zip(policy_names, cells, strict=True):
            if cell:
                fields[COLUMNS[name].field] = _read_cell(name, COLUMNS[name].read, cell)
        return encode_policy(fields) if fields else ""

    def parse(number: int, record: list[str]) -> StockRow:
        try:
            policy = parse_policy(tuple([record[at] for at in policy_at])) if policy_at else ""
            sku = Sku(_read_cell("sku", normalized_id, record[sku_at]))
            location = DEFAULT_LOCATION if location_at is None else record[location_at]
            if location == "" == record[on_hand_at]:
                return StockRow(number, sku, None, None, policy or encode_policy({}))
            location = _read_cell("location_id", normalized_id, location)
            on_hand = _read_cell("on_hand", whole, record[on_hand_at])
        except StockFileError as error:
            raise StockFileError(f"line {number}, {error.where}", error.message) from None
        return StockRow(number, sku, location, on_hand, policy)

    return parse


def _read_cell(name: str, read: Callable[[str], Value], cell: str) -> Value:
    try:
        return read(cell)
    except ValueError as error:
        raise StockFileError(f"column {name}", str(error)) from None
