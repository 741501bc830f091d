"""Between what the archive's tables hold and the values that the rest works with."""

from operator import attrgetter
from typing import Any

import msgspec

from app.domain.entries import Entry
from app.projections.archive import schema
from app.projections.archive.views import InventoryRow, LineRow, LocationRow, OrderReviewRow, ReservationRow

Row = tuple[Any, ...]  # in the order of the table's columns
Locations = dict[str, LocationRow]

_of_entry = attrgetter(*schema.entries.columns.keys())
_DATA = schema.entries.columns.keys().index("data")
_of_reservation = attrgetter(*schema.reservations.columns.keys())
_of_line = attrgetter(*schema.reservation_lines.columns.keys())
_of_inventory = attrgetter(*schema.inventory.columns.keys()[:-2])
_of_order_review = attrgetter(*schema.order_reviews.columns.keys())
_decode_policy = msgspec.json.Decoder(dict[str, str]).decode
_decode_locations = msgspec.json.Decoder(Locations).decode


def entry_row(entry: Entry) -> Row:
    """A row of `entries`, whose columns are an entry's fields in their order."""
    fields = _of_entry(entry)
    data = msgspec.json.encode(entry.data).decode() if entry.data else ""
    return (*fields[:_DATA], data, *fields[_DATA + 1 :])


def read_entry(row: Any) -> Entry:
    """The entry in a row of `entries`."""
    data = msgspec.json.decode(row[_DATA]) if row[_DATA] else {}
    fields = (*row[:_DATA], data, *row[_DATA + 1 :])
    return Entry(*fields)


def reservation_row(row: ReservationRow) -> Row:
    """A row of `reservations`, without its lines."""
    return _of_reservation(row)


def read_reservation(row: Any) -> ReservationRow:
    """The reservation in a row of `reservations`, its lines to be added."""
    return ReservationRow(*row)


def line_row(line: LineRow) -> Row:
    """A row of `reservation_lines`."""
    return _of_line(line)


def read_line(row: Any) -> LineRow:
    """The line in a row of `reservation_lines`."""
    return LineRow(*row)


def order_review_row(row: OrderReviewRow) -> Row:
    """A row of `order_reviews`."""
    return _of_order_review(row)


def read_order_review(row: Any) -> OrderReviewRow:
    """The review in a row of `order_reviews`."""
    return OrderReviewRow(*row)


def inventory_row(row: InventoryRow) -> Row:
    """A row of `current_inventory_by_sku`."""
    policy, locations = (msgspec.json.encode(value).decode() for value in (row.policy, row.locations))
    return (*_of_inventory(row), policy, locations)


def read_inventory(row: Any) -> InventoryRow:
    """The SKU in a row of `current_inventory_by_sku`."""
    *balances, _, policy, locations = row
    fields = (*balances, _decode_policy(policy), _decode_locations(locations))
    return InventoryRow(*fields)
