"""What the model makes of news of an order: of the locations its units left from, of the reservations sold into it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.domain.types import Sku
from app.domain.updates import UpdateKind
from tests.oracle_facts import Said
from tests.oracle_ledger import DAY_US, ORDER_SALES_KEPT_US, Ledger
from tests.oracle_stock import LIVE, SOLD, Order, Record

ORDER_RETENTION_US = 30 * DAY_US


@dataclass(frozen=True, slots=True)
class News:
    """An order that was told something, and what is still to follow: units that left count anew, reservations lose."""

    order: Order
    moves: list[tuple[Said, int]] = field(default_factory=list)
    losses: list[tuple[Record, Sku, int]] = field(default_factory=list)


class Orders(Ledger):
    """A command that tells an order something opens the news, tells it, writes its own entries, and closes them."""

    def _open_order(self, channel: str, order_id: str) -> News:
        order = self.orders.get((channel, order_id))
        is_known = order is not None and self.now_us - order.at_us <= ORDER_RETENTION_US
        return News(order if order and is_known else Order(channel, order_id))

    def _open_order_of(self, record: Record) -> News:
        """The order that it names, if that has room for it; else one of its own, named by its token."""
        own = self._open_order(record.channel, record.token)
        news = self._open_order(record.channel, record.order_id) if record.order_id else own
        if not news.order.has_room(record):
            news = own
        record.has_order, had_order = news is own, record.has_order
        if had_order and not record.has_order:
            news.order.absorb(own.order)
            self.orders.pop(own.order.name, None)
        if record not in news.order.records:
            news.order.records.append(record)
            if record.status in ("committed", "cancelled"):
                self._tell_of_sale(news.order, record)
        return news

    @staticmethod
    def _tell_of_sale(order: Order, record: Record) -> None:
        """What was sold before the order was heard of is in the balances already."""
        kept = record.quantities if record.status == "committed" else {}
        for sku, sold in record.sold.items():
            line = order.line(sku)
            line.ours[UpdateKind.SALE] += sold
            line.ours[UpdateKind.CANCEL] += sold - kept.get(sku, 0)
            line.booked += kept.get(sku, 0)

    def _tell(self, news: News, sku: Sku, *, selling: Mapping[Record, int] | None = None) -> list[tuple[Said, int]]:
        """Takes into the balances what was said; returns what that moves.

        Where reservations have more than the order wants, the last one loses it first: by an entry of its own.
        """
        line, stock, selling = news.order.line(sku), self.skus[sku], selling or {}
        behind, moves = line.book()
        units = {record: record.quantities.get(sku, 0) for record in self._sold(news.order)} | dict(selling)
        excess = max(0, sum(units.values()) - line.wanted)
        for record in reversed(news.order.records):
            lost = min(excess, units.get(record, 0))
            if lost and record.status != "fulfilled":
                news.losses.append((record, sku, lost))
                excess, behind = excess - lost, behind + lost
        stock.committed += behind
        stock.promised[news.order.channel] += behind
        return moves

    def _sold(self, order: Order) -> list[Record]:
        return [each for each in order.records if each.status in SOLD and self.records.get(each.token) is each]

    def _sell_to(self, news: News, record: Record, sku: Sku, quantity: int) -> None:
        """As many become committed as the order did not have already."""
        news.order.line(sku).ours[UpdateKind.SALE] += quantity
        self.skus[sku].reserved -= quantity
        self.skus[sku].promised[record.channel] -= quantity
        news.moves.extend(self._tell(news, sku, selling={record: quantity}))

    @staticmethod
    def _take_back(news: News, quantities: Mapping[Sku, int]) -> None:
        """We cancel units that are in the order still, whoever told of others before."""
        for sku, units in quantities.items():
            line = news.order.line(sku)
            line.ours[UpdateKind.CANCEL] = line.number(UpdateKind.CANCEL) + units
            line.book()

    def _close(self, news: News) -> None:
        """Writes what follows from the news."""
        order = news.order
        order.at_us = self.now_us
        self.orders[order.name] = order
        self._go_on("order")
        for said, units in news.moves:
            line = said.line
            if change := self.skus[line.sku].places[line.location_id].hear(said.delta(-units)):
                self._change(line.sku, line.location_id, change, "stock.corrected", source=said.by.source)
        for record, sku, lost in news.losses:
            self._lose(record, sku, lost)
        self._go_on("")
        for record in order.records:
            if record.status == "committed" and order.is_shipped:
                self._fulfil(record)
        for record in order.records:
            if record.status not in LIVE:
                self._keep(record, max(self.limits.committed_retention_us, ORDER_SALES_KEPT_US))

    def _lose(self, record: Record, sku: Sku, units: int) -> None:
        is_all = record.quantities == {sku: units}
        self._go_on("order")
        self._give_back(record, "cancelled", {sku: units})
        self._go_on("")
        self._keep_allocated(record, {} if is_all else record.quantities)
        if is_all:
            self._end(record, "cancelled")

    def _fulfil(self, record: Record) -> None:
        for line in record.lines:
            self._append(record, "fulfilled", line.sku, line.quantity)
        self._keep_allocated(record, {})
        record.status = "fulfilled"
