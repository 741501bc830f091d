"""What the outside says of stock, as a model: the state is a function of the set of facts, in whatever order they came.

Nothing here remembers: every number is reckoned from all facts at once. It does not bound how many there are.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from app.domain.types import Sku, Token
from app.domain.updates import Delivery, StockUpdate, UpdateKind

ARRIVALS = (UpdateKind.RECEIVE, UpdateKind.RETURN, UpdateKind.ADJUST)
OF_ORDERS = (UpdateKind.SALE, UpdateKind.PICK, UpdateKind.PACK, UpdateKind.SHIP, UpdateKind.CANCEL)
OURSELVES = "lastunit"

OrderKey = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sale:
    """A reservation of ours that was committed, into an order if it has an id; and what of it we took back since."""

    token: Token
    quantities: Mapping[Sku, int]
    channel: str = "direct"
    order_id: str = ""
    cancelled: Mapping[Sku, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Said:
    """A line, and who said it."""

    by: Delivery
    line: StockUpdate

    @property
    def is_departure(self) -> bool:
        return self.line.kind in (UpdateKind.SHIP, self.by.deduct_on)

    @property
    def moment(self) -> tuple[object, ...]:
        """When it was, as its source tells it."""
        line = self.line
        return line.occurred_at_us, line.system, line.clock[line.system], self.by.delivery_id, line.number


# A location


@dataclass(frozen=True, slots=True)
class Delta:
    """Units that came or went."""

    quantity: int
    system: str
    counter: int
    occurred_us: int


@dataclass(frozen=True, slots=True)
class Count:
    """What somebody found, having seen of each system all up to a number."""

    value: int
    clock: Mapping[str, int]
    priority: int
    occurred_us: int
    source: str

    def is_outdone_by(self, other: "Count") -> bool:
        """By one that has seen all that this one has, and more; among those that saw the same by a smaller value."""
        if self.clock == other.clock:
            return other.value < self.value
        return all(other.clock.get(system, -1) >= counter for system, counter in self.clock.items())

    @property
    def rank(self) -> tuple[object, ...]:
        """Who is believed; the last two are for what no source should do: two counts of one moment, neither later."""
        clock = "\t".join(f"{system}\t{counter}" for system, counter in sorted(self.clock.items()))
        return self.priority, self.occurred_us, self.source, -self.value, clock

    def covers(self, delta: Delta) -> bool:
        if delta.system in self.clock:
            return self.clock[delta.system] >= delta.counter
        return delta.occurred_us <= self.occurred_us


@dataclass(slots=True)
class Place:
    """All that is known of one SKU at one location."""

    counts: list[Count] = field(default_factory=list)
    deltas: list[Delta] = field(default_factory=list)

    @property
    def on_hand(self) -> int:
        """The count that is believed, and what it has not seen; without one, all that came and went."""
        maximal = [count for count in self.counts if not any(map(count.is_outdone_by, self.counts))]
        believed = max(maximal, key=lambda count: count.rank, default=None)
        unseen = (delta for delta in self.deltas if believed is None or not believed.covers(delta))
        return (believed.value if believed else 0) + sum(delta.quantity for delta in unseen)


# An order


@dataclass(slots=True)
class OrderLine:
    """All that is known of one SKU in one order."""

    sku: Sku
    said: list[Said] = field(default_factory=list)
    sales: list[Sale] = field(default_factory=list)

    def number(self, kind: UpdateKind) -> int:
        """The largest of what its reporters say in sum."""
        sums = Counter[str]()
        for said in self.said:
            sums[said.by.source] += said.line.quantity if said.line.kind is kind else 0
        if kind is UpdateKind.SALE:
            sums[OURSELVES] = sum(sale.quantities.get(self.sku, 0) for sale in self.sales)
        if kind is UpdateKind.CANCEL:
            sums[OURSELVES] = sum(sale.cancelled.get(self.sku, 0) for sale in self.sales)
        return max(sums.values(), default=0)

    @property
    def cap(self) -> float:
        """How much may have left: what was sold, where that is known."""
        return self.number(UpdateKind.SALE) or float("inf")

    @property
    def streams(self) -> list[list[Said]]:
        """What tells of units that leave, by who tells it and as what; who is believed first stands first."""
        streams: defaultdict[tuple[object, ...], list[Said]] = defaultdict(list)
        for said in self.said:
            if said.is_departure:
                streams[-said.by.priority, said.by.source, said.line.kind is not said.by.deduct_on].append(said)
        return [sorted(streams[name], key=lambda said: said.moment) for name in sorted(streams)]

    @property
    def shipped(self) -> int:
        sums = [sum(said.line.quantity for said in stream) for stream in self.streams]
        return int(min(max(sums, default=0), self.cap))

    @property
    def promised(self) -> int:
        return max(self.shipped, *(self.number(kind) for kind in (UpdateKind.SALE, UpdateKind.PICK, UpdateKind.PACK)))

    @property
    def committed(self) -> int:
        return max(0, self.promised - self.shipped - self.number(UpdateKind.CANCEL))

    def departed(self) -> Iterator[tuple[Said, int]]:
        """Of each event how many units left by it: those that no event before it has told of."""
        told = 0
        for stream in self.streams:
            summed = 0
            for said in stream:
                before, summed = summed, summed + said.line.quantity
                yield said, max(0, int(min(summed, self.cap)) - max(before, told))
            told = max(told, int(min(summed, self.cap)))


# All of it


class Truth:
    """What follows from these facts."""

    def __init__(self, deliveries: Iterable[Delivery], sales: Iterable[Sale] = ()) -> None:
        self._sales = {sale.token: sale for sale in sales}
        self._places: defaultdict[Sku, defaultdict[str, Place]] = defaultdict(lambda: defaultdict(Place))
        self._orders: defaultdict[OrderKey, dict[Sku, OrderLine]] = defaultdict(dict)
        self._committed = Counter[Sku]()
        for sale in self._sales.values():
            for sku in sale.quantities:
                self._order_line(_key_of(sale), sku).sales.append(sale)
        for said in _distinct(deliveries):
            self._hear(said)
        for lines in self._orders.values():
            for sku, order_line in lines.items():
                self._committed[sku] += order_line.committed
                for said, quantity in order_line.departed():
                    self._move(said.line, said.line.location_id, -quantity)

    def on_hand(self, sku: Sku) -> dict[str, int]:
        """By location, where it is not 0."""
        sums = {name: place.on_hand for name, place in self._places[sku].items()}
        return {name: units for name, units in sums.items() if units}

    def committed(self, sku: Sku) -> int:
        return self._committed[sku]

    def status(self, token: Token) -> str:
        """Of a reservation that alone was committed into its order, if it did not end before; its end is final."""
        lines = self._orders[_key_of(self._sales[token])].values()
        if any(line.committed for line in lines):
            return "committed"
        is_taken_back = all(line.number(UpdateKind.CANCEL) >= line.promised for line in lines)
        return "cancelled" if is_taken_back else "fulfilled"

    @property
    def deltas_max(self) -> int:
        """The most that one location has: what keeps only some must keep these."""
        return max(len(place.deltas) for places in self._places.values() for place in places.values())

    def _hear(self, said: Said) -> None:
        line = said.line
        if line.kind is UpdateKind.COUNT:
            count = Count(line.quantity, line.clock, said.by.priority, line.occurred_at_us, said.by.source)
            self._places[line.sku][line.location_id].counts.append(count)
        elif line.kind in ARRIVALS:
            self._move(line, line.location_id, line.quantity)
        elif line.kind is UpdateKind.TRANSFER:
            assert line.to_location_id
            self._move(line, line.location_id, -line.quantity)
            self._move(line, line.to_location_id, line.quantity)
        elif line.kind in OF_ORDERS:
            self._hear_of_order(said)
        else:
            assert line.kind is UpdateKind.OBSERVE

    def _hear_of_order(self, said: Said) -> None:
        """What names no order is one of its own: a unit that left, or one that is sold and waits."""
        line = said.line
        if line.reference is None:
            assert line.kind in (UpdateKind.SALE, UpdateKind.SHIP)
            key: OrderKey = (said.by.source, said.by.delivery_id, str(line.number))
        elif sale := self._sales.get(Token(line.reference)):
            key = _key_of(sale)
        else:
            key = (line.channel, line.reference)
        self._order_line(key, line.sku).said.append(said)

    def _order_line(self, key: OrderKey, sku: Sku) -> OrderLine:
        return self._orders[key].setdefault(sku, OrderLine(sku))

    def _move(self, line: StockUpdate, place: str, quantity: int) -> None:
        if quantity:
            delta = Delta(quantity, line.system, line.clock[line.system], line.occurred_at_us)
            self._places[line.sku][place].deltas.append(delta)


def _key_of(sale: Sale) -> OrderKey:
    return (sale.channel, sale.order_id) if sale.order_id else (sale.token,)


def _distinct(deliveries: Iterable[Delivery]) -> list[Said]:
    """Each line once, by the id of its delivery; without an id, whatever came twice is a count and changes nothing."""
    by_id: dict[tuple[object, ...], Said] = {}
    for position, delivery in enumerate(deliveries):
        for line in delivery.updates:
            name = (delivery.source, delivery.delivery_id or position, line.number)
            by_id.setdefault(name, Said(delivery, line))
    return list(by_id.values())
