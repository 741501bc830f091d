"""Hypothesis in the market: sources tell of stock and of orders while agents buy; see tests/simulation/machine.py."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, initialize, multiple, rule

from app.domain.types import Line, Sku, Token
from app.domain.updates import Delivery, UpdateKind
from app.store.commands import LocationKind
from tests.engines import Engine
from tests.simulation.half import Divergence
from tests.simulation.machine import (
    SKUS,
    Machine,
    beside_us,
    channels,
    lines,
    locations,
    one_or_two_locations,
    order_ids,
    policies_of,
    search,
    shares,
    skus,
    two_locations,
    units_of_each,
)
from tests.simulation.simulation import AGENTS, CHANNELS, LOCATIONS, POLICIES, SECOND_US, UNKNOWN_SKU, UNKNOWN_TOKEN
from tests.simulation.sources import (
    ADJUST,
    CANCEL,
    COUNT,
    OBSERVE,
    PACK,
    PICK,
    RECEIVE,
    SALE,
    SHIP,
    SOURCES,
    TRANSFER,
    Fact,
    deliver,
)  # fmt: skip

EXAMPLES = {"quick": 40, "long": 5_000}

# Few moments and numbers, so that sources meet, and tell of what was before.
moments = st.integers(1, 9)
sources = st.sampled_from([*SOURCES])
COUNT_UP = ("3pl", "erp", "robot", "wms")  # the others count by time
# Of a SKU at a location no more is told in a history than it keeps.
told_lines = st.lists(st.builds(Line, st.sampled_from([*SKUS, UNKNOWN_SKU]), st.integers(0, 4)), min_size=1, max_size=2)
TOLD_POLICIES = ("backorder_limit", "reconciliation_hold_us", "safety_stock", "safety_stock_basis_points")
policies = policies_of({name: POLICIES[name] for name in TOLD_POLICIES})


class Market(Machine):
    """Sources tell of places and of orders that agents buy into, late, twice and in any order."""

    tokens: Bundle[Token] = Bundle("tokens")
    deliveries: Bundle[Delivery] = Bundle("deliveries")

    def __init__(self) -> None:
        super().__init__()
        self._delivered = 0

    @initialize(
        target=tokens,
        units=units_of_each,
        policies=st.lists(policies, max_size=len(SKUS)),
        purchases=st.lists(st.tuples(lines, st.none() | order_ids), min_size=1, max_size=3),
    )
    def open_the_market(
        self, units: list[int], policies: list[dict[str, Any]], purchases: list[tuple[list[Line], str | None]]
    ) -> MultipleResults[Token]:
        """With some stock, and some of it bought."""
        for sku, amount in zip(SKUS, units, strict=True):
            self._adjust(sku, "count", amount)
        for sku, policy in zip(SKUS, policies, strict=False):
            self._run(self._twin.put_sku(sku, policy, may_create=False))
        how: dict[str, Any] = {"channel": CHANNELS[0], "allow_backorder": True, "ttl_us": 15 * SECOND_US}
        return multiple(*(token for lines, order_id in purchases for token in self._buy(lines, order_id, **how)))

    @rule(
        target=tokens,
        lines=lines,
        order_id=st.none() | order_ids,
        channel=channels,
        ttl_us=st.sampled_from([15 * SECOND_US, SECOND_US]),
        allow_backorder=st.booleans(),
    )
    def buy(self, lines: list[Line], order_id: str | None, **how: Any) -> MultipleResults[Token]:
        return multiple(*self._buy(lines, order_id, **how))

    @rule(token=tokens, share=shares, order_id=order_ids)
    def commit(self, token: Token, share: str, order_id: str) -> None:
        self._verb("commit", token, lines=self._lines(token, share), order_id=order_id, details={})

    @rule(token=tokens, share=shares)
    def cancel(self, token: Token, share: str) -> None:
        self._verb("cancel", token, lines=self._lines(token, share), details={})

    @rule(token=tokens, verb=st.sampled_from(["payment", "release"]))
    def pay_or_release(self, token: Token, verb: str) -> None:
        how: dict[str, Any] = {"ttl_us": 5 * SECOND_US} if verb == "payment" else {}
        self._verb(verb, token, details={}, **how)

    @rule(token=tokens, share=shares, places=one_or_two_locations)
    def allocate(self, token: Token, share: str, places: list[str]) -> None:
        self._allocate(token, share, places)

    @rule(
        target=deliveries,
        kind=st.sampled_from([COUNT, COUNT, COUNT, *UpdateKind]),
        lines=told_lines,
        places=two_locations,
        reference=st.sampled_from([None, "order 1", UNKNOWN_TOKEN]) | tokens,
        source=sources,
        at=moments,
        counter=moments,
        seen=st.dictionaries(sources, moments, max_size=2),
        channel=channels,
        may_create_skus=st.booleans(),
        is_polled=st.booleans(),
    )
    def tell(self, kind: UpdateKind, lines: list[Line], places: list[str], **how: Any) -> Delivery:
        """A source says something, of its own accord."""
        to_location_id = places[1] if kind is TRANSFER else None
        return self._deliver(kind, lines, location_id=places[0], to_location_id=to_location_id, **how)

    @rule(
        target=deliveries,
        token=tokens,
        kind=st.sampled_from([SALE, PICK, PACK, SHIP, SHIP, CANCEL]),
        share=st.sampled_from(["all", "all", "one line", "one unit", "too much"]),
        is_by_token=st.booleans(),
        source=sources,
        at=moments,
        counter=moments,
        location_id=locations,
    )
    def tell_of_an_order(self, token: Token, share: str, *, is_by_token: bool, **how: Any) -> Delivery:
        """A source says what happens to what an agent bought, or is about to buy."""
        record = self._record(token)
        reference = token if is_by_token else record.order_id or "order 1"
        lines = self._lines(token, share) or record.first_lines
        return self._deliver(lines=lines, reference=reference, channel=record.channel, **how)

    @rule(delivery=deliveries)
    def deliver_again(self, delivery: Delivery) -> None:
        self._run(self._twin.deliver(delivery, kind_of=kind_of))

    @rule(
        target=deliveries,
        sku=skus,
        units=st.integers(0, 6),
        drift=st.integers(-2, 2),
        location_id=locations,
        source=sources,
        at=moments,
        counter=moments,
    )
    def count_and_reconcile(self, sku: Sku, units: int, drift: int, location_id: str, **how: Any) -> Delivery:
        """An authority counts, and perhaps is not believed; somebody adjusts what is there; then it is enforced."""
        delivery = self._deliver(COUNT, [Line(sku, units)], location_id=location_id, **how)
        if drift:
            self._adjust(sku, "delta", drift, location_id=location_id, location_kind=kind_of(location_id))
        self._reconcile(delivery)
        return delivery

    @rule(delivery=deliveries)
    def reconcile(self, delivery: Delivery) -> None:
        self._reconcile(delivery)

    @rule(sku=skus, location_id=locations, mode=st.sampled_from(["count", "delta"]), amount=st.integers(-3, 6))
    def adjust(self, sku: Sku, mode: str, amount: int, location_id: str) -> None:
        self._adjust(sku, mode, amount, location_id=location_id, location_kind=kind_of(location_id))

    @rule(token=tokens, beside_us=beside_us, happens=st.sampled_from(["", "", "sweep", "rebuild"]))
    def let_time_pass(self, token: Token, beside_us: int, happens: str) -> None:
        """To its deadline, or to the end of its reconciliation window."""
        self._let_time_pass_to_the_deadline(token, beside_us)
        if happens:
            self._run(self._twin.expire() if happens == "sweep" else self._twin.rebuild())

    def _buy(self, lines: list[Line], order_id: str | None, **how: Any) -> list[Token]:
        """Without an order's id, be it empty, it is only held."""
        tokens = self._reserve(lines, agent_id=AGENTS[0], key=None, **how)
        for token in tokens if order_id is not None else ():
            self._verb("commit", token, order_id=order_id, details={})
        return tokens

    def _deliver(
        self, kind: UpdateKind, lines: Sequence[Line], *, source: str, at: int, counter: int,
        seen: Mapping[str, int] | None = None, may_create_skus: bool = False, is_polled: bool = False, **how: Any,
    ) -> Delivery:  # fmt: skip
        """Each has an id of its own; what is polled may come without."""
        clock = {**(seen or {}), source: counter if source in COUNT_UP else at}
        updates = [
            Fact(source, kind, _told(kind, line.quantity), at, clock=clock, **how).line(line.sku, number=number)
            for number, line in enumerate(lines)
        ]
        self._delivered += 1
        delivery_id = "" if is_polled and kind in (COUNT, OBSERVE) else str(self._delivered)
        delivery = deliver(source, delivery_id, updates, may_create_skus=may_create_skus)
        self._run(self._twin.deliver(delivery, kind_of=kind_of))
        return delivery

    def _reconcile(self, delivery: Delivery) -> None:
        """By what its source says everywhere."""
        authorities = dict.fromkeys(LOCATIONS, delivery.source)
        self._run(self._twin.reconcile(delivery.updates[0].sku, authorities))


def _told(kind: UpdateKind, units: int) -> int:
    """What of these units a line of this kind may say: a count of none, a loss, else at least one."""
    if kind is ADJUST:
        return units - 2
    return units if kind in (COUNT, OBSERVE) else max(1, units)


def kind_of(location_id: str) -> LocationKind:
    return LOCATIONS.get(location_id, "shared")


@pytest.mark.timeout(7200)  # what was found is made short before it is shown, and that takes its time
def test_no_history_is_found_in_which_they_disagree(engine: Engine) -> None:
    search(Market, engine, examples=EXAMPLES)


@pytest.mark.parametrize(
    ("forgotten", "instead"),
    [
        ("stock.Place.hear", 0),
        ("stock.Place.hear_count", None),
        ("stock.KeptLine.book", (0, [])),
        ("orders.Orders._lose", None),
        ("orders.Orders._fulfil", None),
        ("partition.Partition._close_shortfall", 0),
    ],
)
def test_the_comparison_can_fail(
    engine: Engine, forgotten: str, instead: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_a_little(engine)
    monkeypatch.setattr(f"tests.oracle_{forgotten}", lambda *_: instead)
    with pytest.raises(Divergence):
        live_a_little(engine)


def live_a_little(engine: Engine) -> None:
    """A history that needs all that the oracle knows of the outside."""
    market, sku = type("Market", (Market,), {"engine": engine})(), SKUS[0]
    how: dict[str, Any] = {"channel": "direct", "allow_backorder": False, "ttl_us": SECOND_US}
    told: dict[str, Any] = {"at": 1, "counter": 1, "location_id": "main"}
    of_order: dict[str, Any] = {**told, "reference": "order 1", "channel": "direct"}
    try:
        market._adjust(sku, "count", 3)
        market._deliver(RECEIVE, [Line(sku, 2)], source="wms", **told)
        market._buy([Line(sku, 2)], "order 1", **how)
        market._deliver(CANCEL, [Line(sku, 1)], source="shop", **of_order)
        market._deliver(SHIP, [Line(sku, 1)], source="wms", **of_order)
        market._buy([Line(sku, 1)], None, **how)
        market._deliver(COUNT, [Line(sku, 0)], source="wms", **told)
    finally:
        market.teardown()
