"""What was said of a location and of an order, as a model: a function of the set of facts, in whatever order they came.

Nothing here remembers: every number is reckoned from all facts at once.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from app.domain.updates import Delivery, StockUpdate, UpdateKind

ARRIVALS = (UpdateKind.RECEIVE, UpdateKind.RETURN, UpdateKind.ADJUST)
OF_ORDERS = (UpdateKind.SALE, UpdateKind.PICK, UpdateKind.PACK, UpdateKind.SHIP, UpdateKind.CANCEL)
OURSELVES = "lastunit"
COUNTS_MAX = 8  # that stand side by side


@dataclass(frozen=True, slots=True)
class Said:
    """A line, and who said it."""

    by: Delivery
    line: StockUpdate

    @property
    def name(self) -> tuple[str, str, int]:
        return self.by.source, self.by.delivery_id, self.line.number

    @property
    def is_departure(self) -> bool:
        return self.line.kind in (UpdateKind.SHIP, self.by.deduct_on)

    @property
    def moment(self) -> tuple[object, ...]:
        """When it was, as its source tells it."""
        line = self.line
        return line.occurred_at_us, line.system, line.clock[line.system], self.by.delivery_id, line.number

    def delta(self, quantity: int) -> "Delta":
        """So many units that came by it, or went."""
        line = self.line
        return Delta(quantity, line.system, line.clock[line.system], line.occurred_at_us)

    def count(self) -> "Count":
        line = self.line
        return Count(line.quantity, line.clock, self.by.priority, line.occurred_at_us, self.by.source)


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
            return (other.value, self.rank) < (self.value, other.rank)
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
class Facts:
    """All that is known of one SKU at one location."""

    counts: list[Count] = field(default_factory=list)
    deltas: list[Delta] = field(default_factory=list)

    @property
    def standing(self) -> list[Count]:
        return [count for count in self.counts if not any(map(count.is_outdone_by, self.counts))]

    @property
    def believed(self) -> Count | None:
        return max(self.standing, key=lambda count: count.rank, default=None)

    @property
    def on_hand(self) -> int:
        return self.by(self.believed)

    def by(self, count: Count | None) -> int:
        """What is there by a count: what it says, and what it has not seen; without one all that came and went."""
        unseen = (delta for delta in self.deltas if count is None or not count.covers(delta))
        return (count.value if count else 0) + sum(delta.quantity for delta in unseen)


# An order


@dataclass(slots=True)
class OrderLine:
    """All that is known of one SKU in one order; of `ours` the numbers that we ourselves have told, in sum."""

    said: list[Said] = field(default_factory=list)
    ours: Counter[UpdateKind] = field(default_factory=Counter)

    def number(self, kind: UpdateKind) -> int:
        """The largest of what its reporters say in sum."""
        sums = Counter({OURSELVES: self.ours[kind]})
        for said in self.said:
            sums[said.by.source] += said.line.quantity if said.line.kind is kind else 0
        return max(sums.values())

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
    def told_to_have_left(self) -> int:
        return max((sum(said.line.quantity for said in stream) for stream in self.streams), default=0)

    @property
    def shipped(self) -> int:
        return int(min(self.told_to_have_left, self.cap))

    @property
    def promised(self) -> int:
        return max(self.shipped, *(self.number(kind) for kind in (UpdateKind.SALE, UpdateKind.PICK, UpdateKind.PACK)))

    @property
    def wanted(self) -> int:
        return max(0, self.promised - self.number(UpdateKind.CANCEL))

    @property
    def committed(self) -> int:
        return max(0, self.wanted - self.shipped)

    @property
    def review(self) -> str:
        """What a person should look at: more left than was sold; or what was taken back moved nevertheless."""
        if self.told_to_have_left > self.cap:
            return "shipped_beyond_sold"
        sold, cancelled = self.number(UpdateKind.SALE), self.number(UpdateKind.CANCEL)
        moved = max(self.number(UpdateKind.PICK), self.number(UpdateKind.PACK), self.shipped)
        return "moved_though_cancelled" if sold and cancelled and moved > max(0, sold - cancelled) else ""

    def departed(self) -> Iterator[tuple[Said, int]]:
        """Of each event how many units left by it: those that no event before it has told of."""
        told = 0
        for stream in self.streams:
            summed = 0
            for said in stream:
                before, summed = summed, summed + said.line.quantity
                yield said, max(0, int(min(summed, self.cap)) - max(before, told))
            told = max(told, int(min(summed, self.cap)))
