"""What the entries of a partition add up to so far: SKUs, reservations, orders; and the arithmetic they all share."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from app.domain.entries import Entry
from app.domain.errors import LedgerBroken
from app.domain.orders import ORDER_KEPT_US, ORDER_RETENTION_US, Order
from app.domain.types import Allocation, Line, Sku, Token
from app.projections.expectations import expect
from app.projections.replayed import (
    OPEN,
    SOLD,
    Account,
    Record,
    Stock,
    put_account,
    put_order,
    put_record,
    put_stock,
)
from app.store.commands import SEEN_RETENTION_MS
from app.store.keys import PartitionKeys
from app.store.state import State


@dataclass(slots=True)
class Books:
    """The fold's memory. `seen` has what is remembered of applied deliveries: key -> (text, when in us)."""

    keys: PartitionKeys
    retention_us: int
    committed_retention_us: int
    stocks: dict[Sku, Stock] = field(default_factory=dict)
    records: dict[Token, Record] = field(default_factory=dict)
    orders: dict[tuple[str, str], Order] = field(default_factory=dict)
    categories: dict[str, dict[str, str]] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    seen: dict[str, tuple[str, int]] = field(default_factory=dict)

    def state(self) -> State:
        """The keys that an engine with this ledger has."""
        keys, state = self.keys, State()
        for sku, stock in self.stocks.items():
            put_stock(state, keys, sku, stock)
        for category, fields in self.categories.items():
            if fields:
                state.hashes[keys.category(category)] = fields
        for token, record in self.records.items():
            put_record(state, keys, token, record, kept_us=self._kept_us(record))
        held: defaultdict[str, dict[Token, Record]] = defaultdict(dict)
        for token, record in self.records.items():
            if record.account and record.status in OPEN:
                held[record.account][token] = record
        for name, account in self.accounts.items():
            put_account(state, keys, name, account, held[name])
        for order in self.orders.values():
            put_order(state, keys, order)
        for key, (text, at_us) in self.seen.items():
            state.strings[key] = text
            state.expires_at_us[key] = at_us + SEEN_RETENTION_MS * 1000
        return state

    def _kept_us(self, record: Record) -> int:
        """How long the engine keeps one that has ended, or was sold: as long as its order at least."""
        kept_us = self.committed_retention_us if record.status in SOLD else self.retention_us
        is_of_order = record.order_id is not None or record.has_order
        return max(kept_us, ORDER_KEPT_US if is_of_order else 0)

    def stock_of(self, entry: Entry) -> Stock:
        """The SKU that an entry is about."""
        stock = self.stocks.get(entry.sku)
        if stock is None:
            raise LedgerBroken(entry.sequence, "is about a SKU that never was")
        return stock

    def lines_now(self, token: Token, record: Record) -> tuple[Line, ...]:
        """What a reservation holds or has sold, with what of it no stock covers yet."""
        return tuple(
            replace(line, backordered=self.stocks[line.sku].backordered_of(token)) for line in record.current_lines
        )

    def order(self, channel: str, order_id: str, *, at_us: int) -> Order:
        """An order, as far as it is known still."""
        order = self.orders[channel, order_id] = self._known_order(channel, order_id, at_us=at_us)
        order.at_us = at_us
        return order

    def order_of(self, token: Token, record: Record, *, order_id: str, at_us: int) -> Order:
        """The one that a reservation is sold into: that which it names, as long as all can follow it; else its own."""
        name = order_id or record.order_id or token
        if not self._known_order(record.channel, name, at_us=at_us).has_room(token, len(record.lines)):
            name = token
        return self.order(record.channel, name, at_us=at_us)

    def _known_order(self, channel: str, order_id: str, *, at_us: int) -> Order:
        order = self.orders.get((channel, order_id))
        if order is None or at_us - order.at_us > ORDER_RETENTION_US:
            return Order(channel, order_id)
        return order

    def withhold(self, entry: Entry, stock: Stock, withheld: set[int]) -> None:
        """Of what is withheld from sale, the entry says one of these."""
        expect(entry, entry.safety_stock in withheld, f"withholds {entry.safety_stock} units, not {min(withheld)}")
        stock.safety_stock = entry.safety_stock or 0

    def note_account(self, record: Record, first: Entry) -> None:
        """A reservation came into its account, or left it by this command."""
        account = self.accounts.setdefault(record.account, Account())
        if first.type == "reservation.expired" and first.data:
            account.note_expiry(first.data)
        account.rests_since_us = first.at_us

    def give_back(self, token: Token, entry: Entry, *, reserved: int = 0, committed: int = 0) -> None:
        """Units come back: those promised beyond stock first."""
        stock = self.stock_of(entry)
        returned = min(stock.backordered_of(token), entry.quantity)
        stock.take_backorder(token, returned)
        self.move(entry, reserved=reserved, committed=committed, backordered=-returned)

    def trim_allocations(self, record: Record, left: dict[Sku, int], said: Sequence[Entry], *, last: Entry) -> None:
        """What a reservation no longer has leaves from nowhere; the entries, up to the last, say it so."""
        lost = record.trim_allocations(left)
        expect(last, len(said) == len(lost), "takes other units from their locations than it says")
        for entry, each in zip(said, lost, strict=True):
            is_said = Allocation(entry.sku, entry.location_id or "", entry.quantity) == each
            expect(entry, is_said and entry.type == "stock.allocated", "takes other units from their locations")
            self.stocks[entry.sku].locations[each.location_id].allocated += entry.quantity
            self.move(entry)

    def move(
        self, entry: Entry, *, on_hand: int = 0, reserved: int = 0, committed: int = 0, backordered: int = 0
    ) -> None:
        """Changes the balances by that much and expects the entry to say the same."""
        stock = self.stock_of(entry)
        stock.on_hand += on_hand
        stock.reserved += reserved
        stock.committed += committed
        stock.backordered += backordered
        if entry.channel is not None:
            stock.promised[entry.channel] = stock.promised.get(entry.channel, 0) + reserved + committed
        stock.cover_backorders()
        stock.sequence = entry.sequence
        for name in ("on_hand", "reserved", "committed", "backordered"):
            said, reckoned = getattr(entry, name), getattr(stock, name)
            expect(entry, said == reckoned, f"says that {name} is {said}, but it is {reckoned}")
            expect(entry, reckoned >= 0 or name == "on_hand", f"leaves {name} at {reckoned}")
        available = max(0, stock.available)
        expect(entry, entry.available == available, f"says that {entry.available} are available, but {available} are")
