"""Replays what sources outside said of stock: see lua/apply_update.lua and the fragments that it includes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from app.domain.entries import Entry
from app.domain.errors import LedgerBroken
from app.domain.facts import Count, Delta
from app.domain.orders import Departure, Order
from app.domain.types import Sku, Token
from app.projections.books import Books
from app.projections.expectations import expect
from app.projections.replay_orders import OrderNews, news_of_reservation
from app.projections.replayed import Place, Stock
from app.store.keys import Keyspace
from app.store.updates import CHUNK_LINES, delivery_chunk

TOLD = {"sale": "sold", "pick": "picked", "pack": "packed", "cancel": "cancelled"}
ENTRY_OF = {
    "receive": "received", "return": "returned", "adjust": "adjusted", "count": "counted", "transfer": "transferred",
    "observe": "observed", "sale": "sale", "pick": "picked", "pack": "packed", "ship": "shipped", "cancel": "cancelled",
}  # fmt: skip


class Told(msgspec.Struct, frozen=True):
    """What an entry keeps of the line that it comes from."""

    delivery_id: str
    line: int
    kind: str
    told: int
    location_id: str
    occurred_at_us: int
    clock: Mapping[str, int]
    system: str
    priority: int
    to_location_id: str | None = None
    reference: str | None = None
    channel: str = ""
    deduct_on: str = ""

    def of(self, entry: Entry) -> str:
        """Names the line."""
        return f"{entry.source}:{self.delivery_id}#{self.line}"

    @property
    def departs(self) -> bool:
        """Units leave by it."""
        return self.kind in {"ship", self.deduct_on}

    @property
    def has_order(self) -> bool:
        """It is about an order, not about a location alone."""
        if self.reference is None:
            return self.kind == "sale" and not self.departs
        return self.kind == "ship" or self.kind in TOLD

    def delta(self, entry: Entry, units: int) -> Delta:
        """The line as a change of a location."""
        return Delta(units, self.system, self.clock[self.system], self.occurred_at_us, self.of(entry))


class Applied(NamedTuple):
    """What a line made of an order, and what of locations besides its own entry says."""

    news: OrderNews
    corrections: list[tuple[Sku, Departure, int]]


def is_from_outside(entry: Entry) -> bool:
    """Says if a command begins with what a source said."""
    return "delivery_id" in entry.data and entry.token is None


def apply_update(books: Books, head: Sequence[Entry]) -> Applied | None:
    """Replays a line, the first entries of a command; of one that is about an order the rest is still to follow."""
    entry = head[0]
    try:
        told = msgspec.convert(entry.data, Told)
    except msgspec.ValidationError:
        raise LedgerBroken(entry.sequence, "does not say what its source said") from None
    for each in head:
        is_its = each.type == f"stock.{ENTRY_OF.get(told.kind)}" and told.system in told.clock
        expect(each, is_its, f"is no entry of a {told.kind}")
    stock = books.stocks.setdefault(entry.sku, Stock())
    if told.has_order:
        expect(head[-1], len(head) == 1, "is a second entry of a line about an order")
        return _apply_order_event(books, stock, entry, told)
    _apply_fact(books, stock, head, told)
    return None


def remember_line(books: Books, head: Sequence[Entry], *, sequence: int) -> None:
    """A delivery's lines are remembered, each with the last entry of its command."""
    entry, told = head[0], msgspec.convert(head[0].data, Told)
    if told.delivery_id:
        chunk = delivery_chunk(told.delivery_id, told.line // CHUNK_LINES)
        key = books.keys.seen(entry.source or "", chunk)
        text, _ = books.seen.get(key, ("", 0))
        books.seen[key] = (f"{text}{told.line}\t{sequence}\n", entry.at_us)


def _apply_fact(books: Books, stock: Stock, head: Sequence[Entry], told: Told) -> None:
    if told.kind == "observe":
        is_bare = len(head) == 1 and head[0].location_id is None and head[0].quantity == told.told
        expect(head[0], is_bare, "observes and changes something")
        books.withhold(head[0], stock, {stock.safety_stock})
        books.move(head[0])
        return
    names = [told.location_id, *([told.to_location_id] if told.to_location_id is not None else [])]
    said = [entry.location_id for entry in head]
    expect(head[-1], said == names, f"is about {said}, its source said {names}")
    units = -told.told if told.kind in {"transfer", "ship", "sale"} else told.told
    for entry, sign in zip(head, (1, -1), strict=False):
        place = place_of(stock, entry)
        if told.kind == "count":
            count = Count(told.told, told.clock, told.priority, told.occurred_at_us, entry.source or "")
            on_hand = place.facts.take_count(count, place.on_hand)
            expect(entry, on_hand is not None, "is a count that says nothing new")
            change = (on_hand or 0) - place.on_hand
        else:
            change = place.facts.take_delta(told.delta(entry, sign * units))
        change_place(books, stock, entry, change, is_count=told.kind == "count")


def place_of(stock: Stock, entry: Entry) -> Place:
    """The location that an entry is about."""
    is_location = bool(entry.location_id) and entry.location_kind in {"shared", "dedicated"}
    expect(entry, is_location, "names no location")
    is_shared = entry.location_kind == "shared"
    place = stock.locations.setdefault(entry.location_id or "", Place(is_shared))
    expect(entry, place.is_shared == is_shared, f"says that the location is {entry.location_kind}, which it is not")
    return place


def change_place(
    books: Books, stock: Stock, entry: Entry, change: int, *, committed: int = 0, is_count: bool = False
) -> None:
    """A location has so much more; a count and what arrives reckon anew what is withheld."""
    expect(entry, entry.quantity == change, f"changes {entry.location_id} by {entry.quantity}, not by {change}")
    place = stock.locations[entry.location_id or ""]
    place.on_hand += change
    does_arrive = change > 0 and entry.type not in {"stock.transferred", "stock.corrected"}
    is_anew = place.is_shared and (is_count or does_arrive)
    books.withhold(entry, stock, {stock.safety_stock_at(entry.on_hand) if is_anew else stock.safety_stock})
    books.move(entry, on_hand=change if place.is_shared else 0, committed=committed)


def reconcile_place(books: Books, entry: Entry) -> None:
    """A location is brought to what its authority last said."""
    stock = books.stock_of(entry)
    place = place_of(stock, entry)
    count = place.facts.count_of(entry.source or "")
    if count is None:
        raise LedgerBroken(entry.sequence, f"corrects {entry.location_id} by what {entry.source} never counted")
    is_due = entry.reason == "reconciliation" and count != place.facts.enforced
    expect(entry, is_due, "enforces a count for the second time")
    place.facts.enforced = count
    change_place(books, stock, entry, place.facts.on_hand_by(count) - place.on_hand)


def _order_of(books: Books, entry: Entry, told: Told) -> OrderNews:
    reference = f"\t{told.of(entry)}" if told.reference is None else told.reference
    if told.reference is not None and Keyspace(1).of_token(Token(reference)):
        token = Token(reference)
        record = books.records.get(token)
        if record is None:
            raise LedgerBroken(entry.sequence, "is about a reservation that never was")
        is_its = any(line.sku == entry.sku for line in record.lines)
        expect(entry, is_its, f"is about {entry.sku}, which the reservation never held")
        return news_of_reservation(books, token, record, order_id="", at_us=entry.at_us)
    order: Order = books.order(told.channel, reference, at_us=entry.at_us)
    return OrderNews(books, order)


def _apply_order_event(books: Books, stock: Stock, entry: Entry, told: Told) -> Applied:
    news = _order_of(books, entry, told)
    line = news.order.line(entry.sku)
    if told.kind in TOLD:
        line.tell(TOLD[told.kind], entry.source or "", told.told)
    own: Departure | None = None
    if told.departs:
        own = Departure(
            quantity=told.told,
            priority=told.priority,
            is_ship=told.kind == "ship",
            occurred_at_us=told.occurred_at_us,
            system=told.system,
            counter=told.clock[told.system],
            source=entry.source or "",
            location_id=told.location_id,
            of=told.of(entry),
        )
        line.departures.append(own)
        place_of(stock, entry)
    part_change, changes = line.reckon()
    news.changes += ((entry.sku, departure, change) for departure, change in changes)
    part_change += news.plan_losses(entry.sku, {})
    corrections = news.corrections()
    expect(entry, entry.reason == line.review, f"asks for a review ({entry.reason}), not for {line.review or 'none'}")
    if own is not None:
        change = sum(change for _, departure, change in corrections if departure is own)
        change_place(books, stock, entry, change, committed=part_change)
    else:
        is_bare = entry.location_id is None and entry.quantity == told.told
        expect(entry, is_bare, "moves units that have not left")
        books.withhold(entry, stock, {stock.safety_stock})
        books.move(entry, committed=part_change)
    channel = news.order.channel
    stock.promised[channel] = stock.promised.get(channel, 0) + part_change
    return Applied(news, [each for each in corrections if each[1] is not own])
