"""Any order of the same deliveries ends in one state: every permutation of histories of up to seven of them.

Each permutation happens to a SKU of its own, side by side with the others; where there are several engines, each takes
its share of them. Between the deliveries our own agents hold and sell, at fixed places. What the end must be follows
from the set of facts alone: tests.oracle_truth.
"""

import asyncio
import random
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import TypeVar

import pytest

from app.domain.outcomes import Done, Held, SkuAnswered
from app.domain.types import Line, Sku, Token
from app.domain.updates import StockUpdate, UpdateStatus
from app.store.store import Store
from app.store.updates import apply_delivery
from tests.engines import Engine, chosen
from tests.oracle_truth import Sale, Truth
from tests.simulation.sources import (
    ADJUST,
    CANCEL,
    COUNT,
    PACK,
    PICK,
    RECEIVE,
    RETURN,
    SALE,
    SHIP,
    SOURCES,
    TRANSFER,
    Fact,
    deliver,
    kind_of,
    random_fact,
)
from tests.virtual_clock import SECOND_US, VirtualClock

STOCK, CELLAR = 1000, "cellar"  # what agents sell from; nobody else says anything of it
TTL_SECONDS = 60
RANDOM_HISTORIES = 25
AT_ONCE = 200  # calls, so that none waits long for its answer
TOKEN = "its token"  # in place of a reference


@dataclass(frozen=True, slots=True)
class Hold:
    """An agent holds so many units."""

    quantity: int


@dataclass(frozen=True, slots=True)
class Sell:
    """The last hold is committed, into this order."""

    order_id: str = ""


@dataclass(frozen=True, slots=True)
class TakeBack:
    """So many units of the last sale are cancelled by ourselves."""

    quantity: int


@dataclass(frozen=True, slots=True)
class Expire:
    """Time passes until every hold has ended."""


Answer = TypeVar("Answer")
Step = Hold | Sell | TakeBack | Expire


@dataclass(frozen=True, slots=True)
class History:
    """Facts in any order, and what we do ourselves before the one that comes as the n-th."""

    facts: Sequence[Fact]
    steps: Mapping[int, Sequence[Step]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class End:
    """What can be seen of a SKU in the end."""

    on_hand: Mapping[str, int]
    reserved: int
    committed: int
    available: int
    status: str  # of the sale that is ours, if there is one


@dataclass(slots=True)
class Run:
    """One permutation: the numbers of the facts as they come, and what we have done ourselves so far."""

    sku: Sku
    order: Sequence[int]
    holds: list[Line] = field(default_factory=list)
    token: Token | None = None
    sale: Sale | None = None
    status: str = ""  # of the sale; its end is final


HISTORIES = {
    "counts of two systems, and what each has not seen": History([
        Fact("wms", COUNT, 10, 40, clock={"wms": 4, "pos": 1}),
        Fact("erp", COUNT, 12, 50, clock={"erp": 7}),
        Fact("pos", SALE, 1, 35, clock={"pos": 1}),
        Fact("pos", SALE, 2, 45, clock={"pos": 2}),
        Fact("wms", RECEIVE, 5, 38, clock={"wms": 3}),
        Fact("wms", RECEIVE, 7, 60, clock={"wms": 5}),
    ]),
    "late counts": History([
        Fact("wms", COUNT, 3, 10), Fact("wms", COUNT, 8, 20), Fact("wms", ADJUST, -2, 15), Fact("wms", ADJUST, 4, 25),
        Fact("erp", COUNT, 6, 30, clock={"erp": 1, "wms": 0}), Fact("erp", COUNT, 5, 30, clock={"erp": 1, "wms": 0}),
    ]),
    "two counts of one moment, neither the later": History([
        Fact("wms", COUNT, 4, 20, clock={"wms": 2, "erp": 2}), Fact("wms", COUNT, 4, 20, clock={"wms": 3, "pos": 1}),
        Fact("erp", SHIP, 2, 20, clock={"erp": 3}), Fact("pos", SHIP, 1, 20, clock={"pos": 2}),
    ]),
    "the same count twice, later the second time": History([
        Fact("wms", COUNT, 5, 10, clock={"wms": 2}), Fact("wms", COUNT, 5, 20, clock={"wms": 2}),
        Fact("erp", RECEIVE, 1, 15), Fact("erp", COUNT, 4, 20, clock={"wms": 1, "erp": 12}),
    ]),
    "who counts last is not who is believed": History([
        Fact("shop", COUNT, 30, 90), Fact("erp", COUNT, 20, 80), Fact("wms", COUNT, 10, 10),
        Fact("wms", TRANSFER, 3, 20, to_location_id="倉庫"), Fact("erp", COUNT, 9, 15, "倉庫"),
    ]),
    "an order from sale to return": History([
        Fact("shop", SALE, 3, 10, reference="order"),
        Fact("wms", PICK, 3, 20, reference="order"),
        Fact("wms", SHIP, 2, 40, reference="order"),
        Fact("shop", CANCEL, 1, 45, reference="order"),
        Fact("wms", RETURN, 1, 60),
        Fact("wms", COUNT, 7, 50),
    ]),
    "shipped before it was sold, and more than was sold": History([
        Fact("wms", SHIP, 2, 10, reference="order"),
        Fact("wms", SHIP, 2, 20, "WH 2", reference="order"),
        Fact("shop", SALE, 1, 5, reference="order"),
        Fact("shop", SALE, 2, 6, reference="order"),
        Fact("wms", COUNT, 5, 15),
        Fact("erp", SALE, 2, 7, reference="order"),
    ]),
    "two tell of one ship at different locations": History([
        Fact("wms", SHIP, 1, 20, "WH1", reference="order"),
        Fact("wms", SHIP, 1, 30, "WH 2", reference="order"),
        Fact("erp", SHIP, 2, 25, "WH 2", reference="order"),
        Fact("erp", SHIP, 1, 35, "倉庫", reference="order"),
        Fact("shop", SALE, 3, 10, reference="order"),
        Fact("wms", COUNT, 4, 22, "WH 2"),
    ]),
    "one deducts what it picks, one what it packs, one what it ships": History([
        Fact("3pl", PICK, 2, 10, reference="order"),
        Fact("3pl", SHIP, 3, 20, "WH 2", reference="order"),
        Fact("robot", PACK, 1, 15, "倉庫", reference="order"),
        Fact("erp", SHIP, 2, 30, reference="order"),
        Fact("shop", CANCEL, 1, 40, reference="order"),
        Fact("robot", COUNT, 6, 12, clock={"robot": 1, "3pl": 5}),
    ]),
    "sold at the till and by us, held and expired meanwhile": History(
        [
            Fact("pos", SALE, 2, 10, reference="order"),
            Fact("wms", SHIP, 2, 20, reference="order"),
            Fact("wms", COUNT, 9, 15),
            Fact("pos", CANCEL, 1, 30, reference="order"),
            Fact("pos", SALE, 1, 40),
        ],
        {0: [Hold(2)], 2: [Sell("order")], 3: [Hold(5)], 4: [Expire(), Hold(1)]},
    ),
    "seven of all kinds, and our own sales between them": History(
        [
            Fact("wms", COUNT, 10, 30, clock={"wms": 3, "erp": 1}),
            Fact("erp", COUNT, 20, 45, clock={"erp": 4}),
            Fact("erp", RECEIVE, 5, 40, clock={"erp": 2}),
            Fact("wms", SHIP, 3, 35, reference="order", clock={"wms": 4}),
            Fact("3pl", PICK, 2, 25, "WH 2", reference="order"),
            Fact("shop", SALE, 1, 10, reference="order"),
            Fact("shop", CANCEL, 1, 50, reference="order"),
        ],
        {1: [Hold(4)], 3: [Expire(), Hold(2)], 5: [Sell("order")]},
    ),
    "by token": History(
        [
            Fact("wms", PICK, 2, 10, reference=TOKEN),
            Fact("wms", SHIP, 1, 20, reference=TOKEN),
            Fact("wms", SHIP, 2, 30, reference=TOKEN),
            Fact("erp", SHIP, 2, 25, "WH 2", reference=TOKEN),
            Fact("shop", CANCEL, 1, 40, reference=TOKEN),
        ],
        {0: [Hold(3), Sell(), TakeBack(1)]},
    ),
    "by token before it was sold, and by order": History(
        [
            Fact("3pl", PICK, 2, 10, reference=TOKEN),
            Fact("3pl", SHIP, 3, 20, "WH 2", reference="order"),
            Fact("wms", SHIP, 1, 30, reference=TOKEN),
            Fact("shop", SALE, 4, 5, reference="order"),
        ],
        {0: [Hold(3)], 2: [Sell("order")]},
    ),
    "by token and by order": History(
        [
            Fact("wms", SHIP, 1, 20, reference=TOKEN),
            Fact("wms", SHIP, 1, 30, reference="order"),
            Fact("shop", SALE, 3, 5, reference="order"),
            Fact("erp", PICK, 3, 25, reference=TOKEN),
        ],
        {0: [Hold(2), Sell("order")]},
    ),
    "cancelled whole, picked nevertheless": History(
        [
            Fact("shop", CANCEL, 2, 20, reference="order"),
            Fact("wms", PICK, 2, 30, reference="order"),
            Fact("shop", SALE, 2, 10, reference="order"),
            Fact("wms", PACK, 1, 40, reference="order"),
        ],
        {2: [Hold(2), Sell("order")]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
async def test_every_permutation_ends_in_one_state(
    store: Store, clock: VirtualClock, engine: Engine, name: str
) -> None:
    history, engines_chosen = HISTORIES[name], chosen()
    orders = list(permutations(range(len(history.facts))))[engines_chosen.index(engine.name) :: len(engines_chosen)]
    await check(store, clock, history, orders)


async def test_every_permutation_of_random_histories_ends_in_one_state(store: Store, clock: VirtualClock) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    histories = [random_history(chance) for _ in range(RANDOM_HISTORIES)]
    orders = list(permutations(range(4)))
    await asyncio.gather(
        *(check(store, clock, history, orders, name=f"{number}-") for number, history in enumerate(histories))
    )


def random_history(chance: random.Random) -> History:
    """Four facts of few sources at few moments, so that they meet; each source counts its own up."""
    sources = chance.sample(list(SOURCES), 3)
    counters = dict.fromkeys(sources, 0)
    facts = []
    for _ in range(4):
        source = chance.choice(sources)
        counters[source] += chance.choice([1, 1, 2])
        seen = {other: chance.randint(0, 3) for other in sources if other != source and chance.random() < 0.3}
        clock = {source: counters[source], **seen}
        facts.append(random_fact(chance, source, at_us=chance.randint(1, 5), clock=clock, order_id="order"))
    steps: Mapping[int, Sequence[Step]] = {2: [Hold(2)], 3: [Sell("order")]} if chance.random() < 0.3 else {}
    return History(facts, steps)


async def check(
    store: Store, clock: VirtualClock, history: History, orders: Sequence[Sequence[int]], *, name: str = ""
) -> None:
    """Lets it happen in all these orders, step by step side by side, and compares each end with what the facts say."""
    runs = [Run(Sku(f"{name}{number}"), order) for number, order in enumerate(orders)]
    stock = Fact("wms", RECEIVE, STOCK, 1, CELLAR)
    await hear(store, "wms", f"{name}stock", [stock.line(run.sku, number=number) for number, run in enumerate(runs)])
    for place in range(len(history.facts) + 1):
        for step in history.steps.get(place, ()):
            if isinstance(step, Expire):
                clock.advance(TTL_SECONDS)
            await together([act(store, run, step) for run in runs])
        follow(history, runs, place)
        for number, fact in enumerate(history.facts if place < len(history.facts) else ()):
            told = [run for run in runs if run.order[place] == number]
            lines = [line_of(history, number, run, line) for line, run in enumerate(told)]
            await hear(store, fact.source, f"{name}{number} {place}", lines)
    ends = await together([look(store, run) for run in runs])
    truth = truth_of(history, runs[0], range(len(history.facts)))
    for run, end in zip(runs, ends, strict=True):
        expected = expect(truth, runs[0], run)
        told_so = "\n".join(str(history.facts[number]) for number in run.order)
        assert end == expected, f"{told_so}\n{history.steps}"


async def together(calls: Sequence[Awaitable[Answer]]) -> list[Answer]:
    answers: list[Answer] = []
    for start in range(0, len(calls), AT_ONCE):
        answers += await asyncio.gather(*calls[start : start + AT_ONCE])
    return answers


def follow(history: History, runs: Sequence[Run], place: int) -> None:
    """Notes where sales have ended by now: at each time that follows from the set of facts, but they end once."""
    statuses: dict[frozenset[int], str] = {}
    for run in runs:
        if run.sale and run.status in ("", "committed"):
            heard = frozenset(run.order[:place])
            if heard not in statuses:
                statuses[heard] = truth_of(history, run, heard).status(run.sale.token)
            run.status = statuses[heard]


def truth_of(history: History, run: Run, numbers: Iterable[int]) -> Truth:
    """What follows from these facts, be they told to this SKU or to another."""
    facts = [(number, history.facts[number].source, line_of(history, number, run)) for number in numbers]
    deliveries = [deliver(source, str(number), [line]) for number, source, line in facts]
    return Truth(deliveries, [run.sale] if run.sale else [])


def line_of(history: History, number: int, run: Run, line: int = 0) -> StockUpdate:
    fact = history.facts[number]
    reference = run.token if fact.reference == TOKEN else fact.reference and f"{run.sku} {fact.reference}"
    return fact.line(run.sku, number=line, reference=reference)


async def hear(store: Store, source: str, delivery_id: str, lines: Sequence[StockUpdate]) -> None:
    delivery = deliver(source, delivery_id, lines, may_create_skus=True)
    for result in await apply_delivery(store.commands, store.keyspace, delivery, kind_of=kind_of):
        assert result.status in (UpdateStatus.APPLIED, UpdateStatus.STALE), (delivery, result)


async def act(store: Store, run: Run, step: Step) -> None:
    match step:
        case Hold(quantity):
            line = Line(run.sku, quantity)
            held = await store.commands.reserve(
                [line], agent_id="agent", channel="direct", ttl_us=TTL_SECONDS * SECOND_US,
                allow_backorder=False, details=None, idempotency=None,
            )  # fmt: skip
            assert isinstance(held, Held)
            run.token = held.reservation.token
            run.holds.append(line)
        case Sell(order_id):
            assert run.token
            full_id = order_id and f"{run.sku} {order_id}"
            assert isinstance(await store.commands.commit(run.token, order_id=full_id), Done)
            run.sale = Sale(run.token, {run.sku: run.holds.pop().quantity}, order_id=full_id)
        case TakeBack(quantity):
            assert run.sale
            assert isinstance(await store.commands.cancel(run.sale.token, lines=[Line(run.sku, quantity)]), Done)
            run.sale = replace(run.sale, cancelled={run.sku: quantity})
        case Expire():
            run.holds.clear()


async def look(store: Store, run: Run) -> End:
    answer = await store.commands.availability(run.sku)
    assert isinstance(answer, SkuAnswered)
    state = answer.state
    assert state.on_hand == sum(place.on_hand for place in state.locations if place.is_shared)
    status = ""
    if run.sale:
        found = await store.commands.read(run.sale.token)
        assert isinstance(found, Done)
        status = found.reservation.status
    places = {place.location_id: place.on_hand for place in state.locations if place.on_hand}
    return End(places, state.reserved, state.committed, state.available, status)


def expect(truth: Truth, told: Run, run: Run) -> End:
    """What the end of a run is, by what one of them was told."""
    places = {CELLAR: STOCK, **truth.on_hand(told.sku)}
    shared = sum(units for place, units in places.items() if kind_of(place) == "shared")
    reserved, committed = sum(line.quantity for line in run.holds), truth.committed(told.sku)
    return End(places, reserved, committed, max(0, shared - reserved - committed), run.status)
