"""Replays what news of an order make of it, of the locations its units left from, and of the reservations sold into it.

See lua/includes/sell_to_order.lua and follow_order.lua.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.domain.entries import Entry
from app.domain.errors import LedgerBroken
from app.domain.facts import Delta
from app.domain.orders import OURSELVES, Departure, Order
from app.domain.types import Sku, Token
from app.projections.books import Books
from app.projections.expectations import expect, reduced
from app.projections.replayed import LIVE, SOLD, Record


@dataclass(slots=True)
class OrderNews:
    """An order that was told something.

    `changes` are the departures that count for more or less since, by SKU; `losses` the units of each SKU that its
    reservations lose, in order.
    """

    books: Books
    order: Order
    changes: list[tuple[Sku, Departure, int]] = field(default_factory=list)
    losses: list[tuple[Sku, Token, int]] = field(default_factory=list)

    def sell(self, token: Token, sku: Sku, units: int) -> int:
        """We sell units of a reservation; returns by how much more is committed until the reservations follow."""
        return self.tell(sku, "sold", OURSELVES, units) + self.plan_losses(sku, {token: units})

    def tell(self, sku: Sku, kind: str, reporter: str, units: int) -> int:
        """Returns by how much more is committed."""
        line = self.order.line(sku)
        line.tell(kind, reporter, units)
        part_change, changes = line.reckon()
        self.changes += ((sku, departure, change) for departure, change in changes)
        return part_change

    def plan_losses(self, sku: Sku, selling: Mapping[Token, int]) -> int:
        """What its reservations have beyond what the order wants they lose, the last one first; returns how much."""
        units = {token: sum(line.quantity for line in record.current_lines if line.sku == sku)
                 for token, record in self.sold()} | dict(selling)  # fmt: skip
        excess = left = sum(units.values()) - self.order.line(sku).wanted
        for token in reversed(self.order.tokens):
            is_past = token not in selling and self.books.records[token].status == "fulfilled"
            lost = 0 if is_past else min(left, units.get(token, 0))
            if lost > 0:
                self.losses.append((sku, token, lost))
                left -= lost
        return excess - left

    def sold(self) -> list[tuple[Token, Record]]:
        """Its reservations that have sold something."""
        records = ((token, self.books.records[token]) for token in self.order.tokens)
        return [(token, record) for token, record in records if record.status in SOLD]

    def cancel(self, sku: Sku, units: int) -> int:
        """We take units back that are in the order still, whoever told of others before."""
        line = self.order.line(sku)
        ours = line.told.get(("cancelled", OURSELVES), 0)
        return self.tell(sku, "cancelled", OURSELVES, line.number("cancelled") + units - ours)

    def corrections(self) -> list[tuple[Sku, Departure, int]]:
        """What the changes make of locations: by how much on_hand changes, of each."""
        found = []
        for sku, departure, change in self.changes:
            place = self.books.stocks[sku].locations[departure.location_id]
            delta = Delta(0, departure.system, departure.counter, departure.occurred_at_us, departure.of)
            found.append((sku, departure, place.facts.amend_delta(delta, -change)))
        return found


def news_of_reservation(books: Books, token: Token, record: Record, *, order_id: str, at_us: int) -> OrderNews:
    """The order that a reservation is sold into, with the reservation in it."""
    order = books.order_of(token, record, order_id=order_id, at_us=at_us)
    if record.has_order and order.order_id != token:
        _merge(order, books.order(record.channel, token, at_us=at_us))
        del books.orders[record.channel, token]
    if token not in order.tokens:
        order.add(token, len(record.lines))
        if record.status not in LIVE:
            _attach(order, record)
    record.has_order = order.order_id == token
    return OrderNews(books, order)


def _attach(order: Order, record: Record) -> None:
    """What was sold before the order was heard of is in the balances already."""
    kept = {line.sku: line.quantity for line in record.current_lines} if record.status == "committed" else {}
    if record.status in {"committed", "cancelled"}:
        for sold in record.committed or record.current_lines:
            line = order.line(sold.sku)
            line.tell("sold", OURSELVES, sold.quantity)
            line.tell("cancelled", OURSELVES, sold.quantity - kept.get(sold.sku, 0))
            line.reckon()


def _merge(order: Order, other: Order) -> None:
    if not order.lines:
        order.tokens, order.reservation_lines = other.tokens, other.reservation_lines
    for sku, told in other.lines.items():
        line = order.line(sku)
        for (kind, reporter), units in told.told.items():
            line.tell(kind, reporter, units)
        line.departures += told.departures
        line.part, line.shipped = line.part + told.part, line.shipped + told.shipped


class Following:
    """The entries after those of the news itself, in order: each must be what the news make it."""

    def __init__(self, news: OrderNews, entries: Sequence[Entry], *, last: Entry) -> None:
        self._news, self._books, self._order = news, news.books, news.order
        self._entries, self._last = list(entries), last  # of the command
        self._at = 0

    def follow(self, corrections: Sequence[tuple[Sku, Departure, int]]) -> Sequence[Entry]:
        """Returns the entries that are of something else."""
        for sku, departure, change in corrections:
            if change:
                self._correct(self._next("stock.corrected", None), sku, departure, change)
        for sku, token, units in self._news.losses:
            self._take_back(token, self._books.records[token], sku, units)
        for token, record in self._news.sold():
            is_done = record.status == "committed" and not self._order.open and self._order.shipped > 0
            if self._is_next("reservation.fulfilled", token) if record.is_parted else is_done:
                self._fulfil(token, record)
        for record in map(self._books.records.__getitem__, self._order.tokens):
            if record.rests_since_us is not None:
                record.rests_since_us = self._order.at_us
        return self._entries[self._at :]

    def fulfil_parted(self) -> None:
        """Reservations whose order was in another partition before a rebuild."""
        while self._at < len(self._entries):
            entry = self._entries[self._at]
            record = self._books.records.get(entry.token or Token(""))
            if entry.token is None or record is None or not record.is_parted:
                raise LedgerBroken(entry.sequence, "follows from no news")
            self._fulfil(entry.token, record)

    def _correct(self, entry: Entry, sku: Sku, departure: Departure, change: int) -> None:
        place = self._books.stocks[sku].locations[departure.location_id]
        said = (entry.sku, entry.location_id, entry.location_kind == "shared", entry.source, entry.quantity)
        is_it = said == (sku, departure.location_id, place.is_shared, departure.source, change)
        expect(entry, is_it, f"is not the correction of {change} units at {departure.location_id}")
        place.on_hand += change
        self._books.withhold(entry, self._books.stocks[sku], {self._books.stocks[sku].safety_stock})
        self._books.move(entry, on_hand=change if place.is_shared else 0)

    def _take_back(self, token: Token, record: Record, sku: Sku, units: int) -> None:
        entry = self._next("reservation.cancelled", token)
        before = self._books.lines_now(token, record)
        expect(entry, (entry.sku, entry.quantity) == (sku, units), f"does not take {units} units of {sku} back")
        self._books.give_back(token, entry, committed=-units)
        lines = [reduced(line, units if line.sku == sku else 0) for line in before]
        self._trim(record, {line.sku: line.quantity for line in lines})
        record.take_back(tuple(line for line in lines if line.quantity), at_us=entry.at_us)
        record.last_sequence = self._last_sequence

    def _fulfil(self, token: Token, record: Record) -> None:
        for line in record.current_lines:
            entry = self._next("reservation.fulfilled", token)
            said = (entry.sku, entry.quantity)
            expect(entry, record.status == "committed", f"fulfils a reservation that is {record.status}")
            expect(entry, said == (line.sku, line.quantity), "does not account for the lines of the reservation")
            self._books.move(entry)
            record.rests_since_us = entry.at_us
        self._trim(record, {line.sku: 0 for line in record.current_lines})
        record.status = "fulfilled"
        record.last_sequence = self._last_sequence

    def _trim(self, record: Record, left: dict[Sku, int]) -> None:
        start = self._at
        while self._at < len(self._entries) and self._entries[self._at].type == "stock.allocated":
            self._at += 1
        self._books.trim_allocations(record, left, self._entries[start : self._at], last=self._entries[self._at - 1])

    @property
    def _last_sequence(self) -> int:
        return self._entries[self._at - 1].sequence

    def _is_next(self, kind: str, token: Token) -> bool:
        is_left = self._at < len(self._entries)
        return is_left and (self._entries[self._at].type, self._entries[self._at].token) == (kind, token)

    def _next(self, kind: str, token: Token | None) -> Entry:
        if self._at == len(self._entries):
            raise LedgerBroken(self._last.sequence, f"is not followed by {kind}")
        entry = self._entries[self._at]
        expect(entry, (entry.type, entry.token) == (kind, token), f"stands where {kind} belongs")
        self._at += 1
        return entry
