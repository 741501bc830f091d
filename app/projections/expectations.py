"""What the entries of a command must be, told by entry and fault."""

from collections.abc import Sequence

import msgspec

from app.domain.entries import Entry
from app.domain.errors import LedgerBroken
from app.domain.types import Line
from app.projections.replayed import OPEN, Record
from app.store.decoding import decode_policy


def expect(entry: Entry, is_so: bool, fault: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not is_so:
        raise LedgerBroken(entry.sequence, fault)


def expect_open(first: Entry, record: Record) -> None:
    """The verb finds the reservation open and in time."""
    expect(first, record.status in OPEN, f"changes a reservation that is {record.status}")
    expect(first, first.at_us < record.expires_us, "changes a reservation whose deadline has passed")


def expect_whole(record: Record, command: Sequence[Entry]) -> None:
    """The command is one entry a line, of one type, each about all of its units."""
    first, lines = command[0], [(line.sku, line.quantity) for line in record.current_lines]
    if first.type == "reservation.voided":  # the SKU that is short comes last
        lines.sort(key=lambda line: line[0] == command[-1].sku)
    is_whole = lines == [(entry.sku, entry.quantity) for entry in command if entry.type == first.type]
    expect(command[-1], is_whole and len(lines) == len(command), "does not account for the lines of the reservation")


def expect_one(command: Sequence[Entry]) -> None:
    expect(command[-1], len(command) == 1, "is a second entry of a command on one SKU")


def expect_transfer(command: Sequence[Entry]) -> None:
    """Units leave one location and come to another, and nothing else happens."""
    match command:
        case [left, arrived]:
            is_whole = left.quantity == -arrived.quantity < 0 and (left.type, left.sku) == (arrived.type, arrived.sku)
            is_transfer = is_whole and left.location_id != arrived.location_id
        case _:
            is_transfer = False
    expect(command[-1], is_transfer, "is no transfer: units leave one location and come to another")


def follows(entry: Entry, first: Entry, earlier: Entry) -> bool:
    """Are all of one command? Entries about one reservation or SKU share their words; consequences follow a cause."""
    if (entry.command, entry.at_us) != (earlier.command, earlier.at_us):
        return False
    if first.type == entry.type == "reservation.voided" and entry.token != earlier.token:
        return True
    is_after_consequence = is_consequence(entry, first) or is_consequence(earlier, first)
    return is_after_consequence or words_of(entry) == words_of(earlier)


def is_consequence(entry: Entry, first: Entry) -> bool:
    """Says if an entry is of what became of others by its command: holds voided, an order that moved on."""
    match entry.type:
        case "reservation.voided":
            return first.type != entry.type
        case "reservation.fulfilled":
            return True
        case "stock.corrected" | "reservation.cancelled":
            return entry.reason == "order"
        case _:
            return False


def words_of(entry: Entry) -> tuple[object, ...]:
    return (entry.token, entry.agent_id, entry.channel, entry.expires_us, entry.reason, entry.data)


def names_order(record: Record, first: Entry) -> bool:
    """Says if a command names the order of a reservation of which something was told by its token already."""
    return record.has_order and "order_id" in first.data


def line_of(record: Record, entry: Entry) -> Line:
    for line in record.current_lines:
        if line.sku == entry.sku:
            return line
    raise LedgerBroken(entry.sequence, f"is about {entry.sku}, which the reservation does not hold")


def reduced(line: Line, quantity: int) -> Line:
    """The line without so many units: those promised beyond stock go first."""
    return Line(line.sku, line.quantity - quantity, line.backordered - min(line.backordered, quantity))


def policy_of(entry: Entry) -> dict[str, str]:
    """The fields that an entry changes; empty text takes one away."""
    try:
        changes = msgspec.convert(entry.data["policy"], dict[str, str])
        decode_policy(changes)
    except (KeyError, ValueError, msgspec.MsgspecError):
        raise LedgerBroken(entry.sequence, "does not say a policy") from None
    return changes
