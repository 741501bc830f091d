"""What the outside says of stock, as a model: the state is a function of the set of facts, in whatever order they came.

Nothing here remembers: every number is reckoned from all facts at once. It does not bound how many there are.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from app.domain.types import Sku, Token
from app.domain.updates import Delivery, UpdateKind
from tests.oracle_facts import ARRIVALS, OF_ORDERS, Facts, OrderLine, Said

OrderKey = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sale:
    """A reservation of ours that was committed, into an order if it has an id; and what of it we took back since."""

    token: Token
    quantities: Mapping[Sku, int]
    channel: str = "direct"
    order_id: str = ""
    cancelled: Mapping[Sku, int] = field(default_factory=dict)


class Truth:
    """What follows from these facts."""

    def __init__(self, deliveries: Iterable[Delivery], sales: Iterable[Sale] = ()) -> None:
        self._sales = {sale.token: sale for sale in sales}
        self._places: defaultdict[Sku, defaultdict[str, Facts]] = defaultdict(lambda: defaultdict(Facts))
        self._orders: defaultdict[OrderKey, dict[Sku, OrderLine]] = defaultdict(dict)
        self._committed = Counter[Sku]()
        for sale in self._sales.values():
            for sku, quantity in sale.quantities.items():
                ours = self._order_line(_key_of(sale), sku).ours
                ours[UpdateKind.SALE] += quantity
                ours[UpdateKind.CANCEL] += sale.cancelled.get(sku, 0)
        for said in _distinct(deliveries):
            self._hear(said)
        for lines in self._orders.values():
            for sku, order_line in lines.items():
                self._committed[sku] += order_line.committed
                for said, quantity in order_line.departed():
                    self._move(said, said.line.location_id, -quantity)

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
            self._places[line.sku][line.location_id].counts.append(said.count())
        elif line.kind in ARRIVALS:
            self._move(said, line.location_id, line.quantity)
        elif line.kind is UpdateKind.TRANSFER:
            assert line.to_location_id
            self._move(said, line.location_id, -line.quantity)
            self._move(said, line.to_location_id, line.quantity)
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
        return self._orders[key].setdefault(sku, OrderLine())

    def _move(self, said: Said, place: str, quantity: int) -> None:
        if quantity:
            self._places[said.line.sku][place].deltas.append(said.delta(quantity))


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
