"""Ten thousand deliveries, many twice, late or out of order, end where they end in order and once."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.domain.outcomes import Done, Held, SkuAnswered
from app.domain.types import Line, Sku, Token
from app.domain.updates import Delivery, StockUpdate, UpdateStatus
from app.store.store import Store
from app.store.updates import apply_delivery
from tests.conftest import OpenStore
from tests.engines import Engine, chosen
from tests.oracle_truth import Sale, Truth
from tests.simulation.sources import COUNT, RECEIVE, SOURCES, Fact, deliver, kind_of, random_fact
from tests.virtual_clock import SECOND_US, VirtualClock

DELIVERIES, DELIVERIES_ELSEWHERE = 10_000, 2_000  # on one engine, and on each other
SALES_SHARE = 0.1  # of our own, in between
SKUS = [Sku(f"SKU {number}") for number in range(300)]
ORDERS = 8  # of a SKU
STOCK, CELLAR = 1_000, "cellar"  # what agents sell from; nobody else says anything of it
LATE, DELAY_MAX = 0.3, 300  # the share of deliveries that others overtake, and how many may
TWICE = 0.2
AT_ONCE = 50
DELTAS_MAX = 64  # a location keeps so many
# Of whom a source's counts say what they have seen: always of the same, so that its own never stand side by side.
HEARD = {"wms": ("erp", "pos", "robot"), "erp": ("wms",), "robot": ("wms",), "3pl": (), "pos": (), "shop": ("pos",)}


@dataclass(frozen=True, slots=True)
class Bought:
    """A unit that an agent holds and at once commits into an order."""

    sku: Sku
    order_id: str


Event = Delivery | Bought


class Sources:
    """They count their own deliveries up, and what they have heard of each other."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._clocks = {source: dict.fromkeys((source, *others), 0) for source, others in HEARD.items()}

    def happen(self, deliveries: int) -> list[Event]:
        """All of it, in the order in which it happens."""
        events: list[Event] = [self._delivery(number) for number in range(1, deliveries + 1)]
        for _ in range(int(deliveries * SALES_SHARE)):
            sku = self._chance.choice(SKUS)
            events.insert(self._chance.randint(0, len(events)), Bought(sku, self._order_id(sku)))
        return events

    def _delivery(self, number: int) -> Delivery:
        source = self._chance.choice(list(SOURCES))
        clock = self._clocks[source]
        clock[source] += 1
        for other in HEARD[source]:
            clock[other] = max(clock[other], self._clocks[other][other] - self._chance.randint(0, 9))
        lines: list[StockUpdate] = []
        for sku in self._chance.sample(SKUS, self._chance.choice([1, 1, 1, 1, 1, 2])):
            fact = random_fact(
                self._chance, source, at_us=number - self._chance.randint(0, 9), clock=dict(clock),
                order_id=self._order_id(sku),
            )  # fmt: skip
            lines.append(fact.line(sku, number=len(lines)))
        is_polled = all(line.kind is COUNT for line in lines) and self._chance.random() < 0.3
        return deliver(source, "" if is_polled else str(clock[source]), lines)  # as others number theirs

    def _order_id(self, sku: Sku) -> str:
        """Some orders have several SKUs."""
        return f"order {self._chance.randrange(ORDERS) * len(SKUS) + SKUS.index(sku) // 2}"


def as_they_come(events: Sequence[Event], chance: random.Random) -> list[Event]:
    """Deliveries late and twice; what we do ourselves stays where it is."""
    arrivals: list[tuple[int, Event]] = []
    for place, event in enumerate(events):
        is_late = isinstance(event, Delivery) and chance.random() < LATE
        arrivals.append((place + is_late * chance.randint(1, DELAY_MAX), event))
        if isinstance(event, Delivery) and chance.random() < TWICE:
            arrivals.append((place + chance.randint(0, 2 * DELAY_MAX), event))
    return [event for _, event in sorted(arrivals, key=lambda arrival: arrival[0])]


async def test_shuffled_deliveries_end_where_ordered_ones_do(
    open_store: OpenStore, clock: VirtualClock, engine: Engine
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    events = Sources(chance).happen(DELIVERIES if engine.name == chosen()[0] else DELIVERIES_ELSEWHERE)
    sales = [Sale(Token(f"sale {n}"), {event.sku: 1}, order_id=event.order_id)
             for n, event in enumerate(events) if isinstance(event, Bought)]  # fmt: skip
    truth = Truth([event for event in events if isinstance(event, Delivery)], sales)
    assert truth.deltas_max <= DELTAS_MAX, "more than a location keeps: choose more SKUs"
    store = await open_store(clock=clock, partitions=3)
    ordered, shuffled = World(store, "ordered "), World(store, "shuffled ")
    await ordered.live(events)
    await shuffled.live(as_they_come(events, chance))
    for sku in SKUS:
        places = {CELLAR: STOCK, **truth.on_hand(sku)}
        on_hand = sum(units for place, units in places.items() if kind_of(place) == "shared")
        committed = truth.committed(sku)
        expected = (places, committed, max(0, on_hand - committed))
        assert await ordered.look(sku) == expected, sku
        assert await shuffled.look(sku) == expected, sku
    ordered.check_applied_once(events)
    shuffled.check_applied_once(events)


class World:
    """All of it under names of its own: SKUs, orders, deliveries."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._said = Counter[tuple[str, str, int, UpdateStatus]]()

    async def live(self, events: Sequence[Event]) -> None:
        """Some at a time, which are sent together."""
        stock = Fact("wms", RECEIVE, STOCK, 0, CELLAR)
        lines = [stock.line(sku, number=number) for number, sku in enumerate(SKUS)]
        await self._hear(deliver("wms", "stock", lines, may_create_skus=True))
        for start in range(0, len(events), AT_ONCE):
            await asyncio.gather(*map(self._meet, events[start : start + AT_ONCE]))

    async def look(self, sku: Sku) -> tuple[dict[str, int], int, int]:
        answer = await self._store.commands.availability(Sku(self._name + sku))
        assert isinstance(answer, SkuAnswered)
        state = answer.state
        return ({place.location_id: place.on_hand for place in state.locations if place.on_hand},
                state.committed, state.available)  # fmt: skip

    def check_applied_once(self, events: Sequence[Event]) -> None:
        """Of every line that has the id of its delivery, one time it was no duplicate, and each other time it was."""
        for event in events:
            if isinstance(event, Delivery) and event.delivery_id:
                for line in event.updates:
                    name = (event.source, event.delivery_id, line.number)
                    said = {
                        status: self._said[(*name, status)] for status in UpdateStatus if self._said[(*name, status)]
                    }
                    assert said.get(UpdateStatus.APPLIED) == 1 or said.keys() == {UpdateStatus.STALE}, (event, said)

    async def _meet(self, event: Event) -> None:
        await (self._hear(event) if isinstance(event, Delivery) else self._buy(event))

    async def _hear(self, delivery: Delivery) -> None:
        named = replace(
            delivery,
            delivery_id=delivery.delivery_id and self._name + delivery.delivery_id,
            updates=[
                replace(line, sku=Sku(self._name + line.sku), reference=line.reference and self._name + line.reference)
                for line in delivery.updates
            ],
        )
        for result in await apply_delivery(self._store.commands, self._store.keyspace, named, kind_of=kind_of):
            assert result.status in (UpdateStatus.APPLIED, UpdateStatus.STALE, UpdateStatus.DUPLICATE), (named, result)
            self._said[delivery.source, delivery.delivery_id, result.number, result.status] += 1

    async def _buy(self, bought: Bought) -> None:
        held = await self._store.commands.reserve(
            [Line(Sku(self._name + bought.sku), 1)], agent_id="agent", channel="direct", ttl_us=60 * SECOND_US,
            allow_backorder=False, details=None, idempotency=None,
        )  # fmt: skip
        assert isinstance(held, Held)
        committed = await self._store.commands.commit(held.reservation.token, order_id=self._name + bought.order_id)
        assert isinstance(committed, Done)
