"""Between what the archive's tables hold and the values that the rest works with."""

from operator import attrgetter
from typing import Any

import msgspec

from app.domain.entries import Entry
from app.domain.types import Token
from app.projections.archive import schema
from app.projections.archive.views import InventoryRow, LineRow, LocationRow, OrderReviewRow, ReservationRow

Row = tuple[Any, ...]  # in the order of the table's columns
Locations = dict[str, LocationRow]

_of_entry = attrgetter(*(column.name for column in schema.entries.columns if column.name != "data"))
_data_index = schema.entries.columns.keys().index("data")
_of_reservation = attrgetter(*schema.reservations.columns.keys())
_of_line = attrgetter(*schema.reservation_lines.columns.keys()[1:])
_of_inventory = attrgetter(*schema.inventory.columns.keys()[:-2])
_of_order_review = attrgetter(*schema.order_reviews.columns.keys())


def entry_row(entry: Entry) -> Row:
    """A row of `entries`."""
    fields = _of_entry(entry)
    data = msgspec.json.encode(entry.data).decode() if entry.data else ""
    return (*fields[:_data_index], data, *fields[_data_index:])


def read_entry(row: Any) -> Entry:
    """The entry in a row of `entries`. By position, because a rebuild reads millions of them."""
    (
        partition, sequence, command, at_us, kind, sku, quantity, on_hand, reserved, committed, backordered, available,
        reason, data, token, agent_id, channel, expires_us, location_id, location_kind, source, safety_stock,
    ) = row  # fmt: skip
    return Entry(
        partition, sequence, command, at_us, kind, sku, quantity, on_hand, reserved, committed, backordered, available,
        reason, msgspec.json.decode(data) if data else {}, token, agent_id, channel, expires_us, location_id, source,
        safety_stock, location_kind,
    )  # fmt: skip


def reservation_row(row: ReservationRow) -> Row:
    """A row of `reservations`, without its lines."""
    return _of_reservation(row)


def read_reservation(row: Any) -> ReservationRow:
    """The reservation in a row of `reservations`, its lines to be added."""
    return ReservationRow(
        **{name: getattr(row, name) for name in ReservationRow.__slots__ if name != "lines"}, lines={}
    )


def line_row(token: Token, line: LineRow) -> Row:
    """A row of `reservation_lines`."""
    return (token, *_of_line(line))


def read_line(row: Any) -> LineRow:
    """The line in a row of `reservation_lines`."""
    return LineRow(**{name: getattr(row, name) for name in LineRow.__slots__})


def order_review_row(row: OrderReviewRow) -> Row:
    """A row of `order_reviews`."""
    return _of_order_review(row)


def read_order_review(row: Any) -> OrderReviewRow:
    """The review in a row of `order_reviews`."""
    return OrderReviewRow(**{name: getattr(row, name) for name in OrderReviewRow.__slots__})


def inventory_row(row: InventoryRow) -> Row:
    """A row of `current_inventory_by_sku`."""
    encoded = (msgspec.json.encode(value).decode() for value in (row.policy, row.locations))
    return (*_of_inventory(row), *encoded)


def read_inventory(row: Any) -> InventoryRow:
    """The SKU in a row of `current_inventory_by_sku`."""
    found = {name: getattr(row, name) for name in InventoryRow.__slots__}
    found["policy"] = msgspec.json.decode(row.policy, type=dict[str, str])
    found["locations"] = msgspec.json.decode(row.locations, type=Locations)
    return InventoryRow(**found)
