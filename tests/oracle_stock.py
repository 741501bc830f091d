"""A SKU, a reservation and an order as the model keeps them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.domain.outcomes import SequenceMismatch
from app.domain.types import Allocation, Line, Location, Policy, Sku, Token
from tests.oracle_facts import COUNTS_MAX, Count, Delta, Facts, OrderLine, Said

OPEN = ("held", "payment_pending")
LIVE = (*OPEN, "pending_reconciliation")
SOLD = ("committed", "fulfilled")
ORDER_LINES_MAX = 100


@dataclass(slots=True)
class Place:
    """What a SKU has at one location; `allocated` units of it are to be taken from there for sales.

    It has what follows from the facts, and what people and reconciliation changed since the count that is believed.
    `enforced` is the authority's word that reconciliation last brought it to.
    """

    is_shared: bool
    on_hand: int = 0
    allocated: int = 0
    facts: Facts = field(default_factory=Facts)
    enforced: Count | None = None

    def hear(self, delta: Delta) -> int:
        """By how much on_hand is to change."""
        before = self.facts.on_hand
        self.facts.deltas.append(delta)
        return self.facts.on_hand - before

    def hear_count(self, count: Count) -> int | None:
        """By how much on_hand is to change; None where the count says nothing new."""
        believed, facts = self.facts.believed, self.facts
        if count in facts.counts or any(map(count.is_outdone_by, facts.counts)):
            return None
        facts.counts.append(count)
        facts.counts = sorted(facts.standing, key=lambda each: each.rank)[-COUNTS_MAX:]
        return 0 if facts.believed == believed else facts.on_hand - self.on_hand


@dataclass(slots=True, eq=False)
class Record:
    """A reservation. `lines` is what is still held or committed, or what it last was; `sold` what was committed.

    Which of its units no stock covers is known to their SKU: see Stock. It `has_order` where its order is named by its
    token.
    """

    token: Token
    agent_id: str
    channel: str
    details: bytes
    created_us: int
    deadline_us: int
    lines: tuple[Line, ...]
    first_lines: tuple[Line, ...]
    sequence: int = 0
    status: str = "held"
    order_id: str = ""
    has_order: bool = False
    holder: str = ""
    account: str = ""  # where it counts while it is open, if it came while something was capped
    sold: Mapping[Sku, int] = field(default_factory=dict)
    allocations: list[Allocation] = field(default_factory=list)
    kept_us: int = 0  # from when it was last heard of
    kept_until_us: int | None = None

    @property
    def is_of_order(self) -> bool:
        return bool(self.order_id) or self.has_order

    @property
    def skus(self) -> list[Sku]:
        return [line.sku for line in self.lines]

    @property
    def quantities(self) -> dict[Sku, int]:
        return {line.sku: line.quantity for line in self.lines}

    def wanted(self, lines: Sequence[Line]) -> dict[Sku, int] | None:
        """These quantities, everything where no line is named; None where it does not hold as much."""
        held = self.quantities
        wanted = {line.sku: line.quantity for line in lines} or held
        return wanted if all(quantity <= held.get(sku, 0) for sku, quantity in wanted.items()) else None


@dataclass(slots=True)
class KeptLine(OrderLine):
    """One SKU of an order, of which the balances have `booked` as committed, and of each event what `left` by it."""

    booked: int = 0
    left: Counter[tuple[str, str, int]] = field(default_factory=Counter)

    def book(self) -> tuple[int, list[tuple[Said, int]]]:
        """By how much the balances are behind what was said: of committed, and of what left by which event."""
        behind = self.committed - self.booked
        moves = [
            (said, units - self.left[said.name]) for said, units in self.departed() if units != self.left[said.name]
        ]
        self.booked += behind
        for said, units in moves:
            self.left[said.name] += units
        return behind, moves


@dataclass(slots=True)
class Order:
    """What is known of an order of a channel, the reservations that were sold into it, when it was last heard of."""

    channel: str
    order_id: str
    records: list[Record] = field(default_factory=list)
    lines: dict[Sku, KeptLine] = field(default_factory=dict)
    at_us: int = 0

    @property
    def name(self) -> tuple[str, str]:
        return self.channel, self.order_id

    @property
    def is_told_by_others(self) -> bool:
        return any(line.said for line in self.lines.values())

    @property
    def is_shipped(self) -> bool:
        """Something of it has left, and all the rest."""
        lines = self.lines.values()
        return any(line.shipped for line in lines) and not any(line.committed for line in lines)

    def line(self, sku: Sku) -> KeptLine:
        return self.lines.setdefault(sku, KeptLine())

    def has_room(self, record: Record) -> bool:
        others = (each for each in self.records if each is not record)
        return record in self.records or sum(len(each.first_lines) for each in (*others, record)) <= ORDER_LINES_MAX

    def absorb(self, other: "Order") -> None:
        """What was said by the token of a reservation before its order had a name."""
        for sku, told in other.lines.items():
            line = self.line(sku)
            line.said += told.said
            line.ours += told.ours
            line.booked += told.booked
            line.left += told.left
        self.records = self.records or other.records


@dataclass(slots=True)
class Stock:
    """A SKU. `promised` is what a channel has of it, held and sold; `said` what its policy says of its own.

    `uncovered` has the units promised beyond stock that no stock covers yet, the oldest promise first.
    """

    places: dict[str, Place] = field(default_factory=dict)
    reserved: int = 0
    committed: int = 0
    safety_stock: int = 0
    sequence: int = 0
    promised: Counter[str] = field(default_factory=Counter)
    uncovered: dict[Record, int] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)
    inherited: dict[str, Any] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)

    @property
    def on_hand(self) -> int:
        return sum(place.on_hand for place in self.places.values() if place.is_shared)

    @property
    def backordered(self) -> int:
        return sum(self.uncovered.values())

    @property
    def available(self) -> int:
        return max(0, self.on_hand + self.backordered - self.reserved - self.committed - self.safety_stock)

    @property
    def shortfall(self) -> int:
        return max(0, self.reserved + self.committed - self.on_hand - self.backordered)

    def backorder_left(self, token: Token) -> int:
        """What may be promised beyond stock: nothing to a token that waits since a sale which is forgotten by now."""
        is_waiting = any(record.token == token for record in self.uncovered)
        return 0 if is_waiting else max(0, self.policy.backorder_limit - self.backordered)

    @property
    def locations(self) -> tuple[Location, ...]:
        places = sorted(self.places.items())
        return tuple(Location(name, place.is_shared, place.on_hand, place.allocated) for name, place in places)

    def cover(self) -> None:
        """What is available goes to those who were promised units beyond stock, the oldest promise first."""
        for record, units in list(self.uncovered.items()):
            self.set_uncovered(record, units - min(units, self.available))

    def set_uncovered(self, record: Record, units: int) -> None:
        self.uncovered[record] = units
        if units == 0:
            del self.uncovered[record]

    def withhold(self) -> None:
        """Safety stock in units: the larger of the policy's units and its percentage of what is on hand, rounded up."""
        percentage = -(-self.on_hand * self.policy.safety_stock_basis_points // 10_000)
        self.safety_stock = max(self.policy.safety_stock, percentage)

    def say(self, changes: Mapping[str, Any], categories: Mapping[str, Mapping[str, Any]]) -> None:
        """Changes the policy. Where it says nothing, its category speaks, if that says anything."""
        self.said = spoken({**self.said, **changes})
        defaults = categories.get(self.said.get("category", ""), {})
        self.inherited = {name: value for name, value in defaults.items() if name not in self.said}
        self.policy = Policy(**self.inherited, **self.said)
        self.withhold()

    def mismatch(self, expected_sequence: str) -> SequenceMismatch | None:
        """Where If-Match does not hold; of a SKU that does not exist, whose sequence is 0, it never does."""
        is_there = self.sequence > 0
        holds = expected_sequence == "" or (is_there and expected_sequence in ("*", str(self.sequence)))
        return None if holds else SequenceMismatch(self.sequence)


def spoken(policy: Mapping[str, Any]) -> dict[str, Any]:
    """What a policy says; None and what is empty say nothing."""
    return {name: value for name, value in policy.items() if value not in (None, (), {})}
