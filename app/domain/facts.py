"""The order of truth: what a location has on hand by all that was said of it, in whatever order it was heard.

Pure; lua/includes/facts.lua says the same in the engine. A count is believed before others by its source's priority,
then by its time; on hand is what it says and every delta that it had not seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

COUNTS_MAX = 8  # that stand side by side
DELTAS_MAX = 64  # the newest


@dataclass(frozen=True, slots=True)
class Count:
    """What somebody found there, and what he had seen by then: of each system all up to a counter."""

    value: int
    clock: Mapping[str, int]
    priority: int
    occurred_at_us: int
    source: str

    def has_seen(self, other: "Count") -> bool:
        """All that the other has."""
        return all(self.clock.get(system, -1) >= counter for system, counter in other.clock.items())

    def covers(self, delta: "Delta") -> bool:
        """Had he seen it? Where the clock does not tell, by the time."""
        counter = self.clock.get(delta.system)
        return delta.occurred_at_us <= self.occurred_at_us if counter is None else counter >= delta.counter

    @property
    def rank(self) -> tuple[int, int, bytes, int, bytes]:
        """The largest is believed. The last two are for what no source should do: two counts of one moment."""
        clock = "\t".join(f"{system}\t{counter}" for system, counter in sorted(self.clock.items()))
        return self.priority, self.occurred_at_us, self.source.encode(), -self.value, clock.encode()


@dataclass(frozen=True, slots=True)
class Delta:
    """Units that came or went; `of` names the line that said so."""

    quantity: int
    system: str
    counter: int
    occurred_at_us: int
    of: str

    @property
    def rank(self) -> tuple[int, bytes, int, bytes]:
        """In which order they are kept."""
        return self.occurred_at_us, self.system.encode(), self.counter, self.of.encode()


@dataclass(slots=True)
class Facts:
    """Of one location. `floors` has per system (counter, time) of the newest delta that is forgotten.

    `enforced` is the count that reconciliation last brought the location to.
    """

    counts: list[Count] = field(default_factory=list)
    deltas: list[Delta] = field(default_factory=list)
    floors: dict[str, tuple[int, int]] = field(default_factory=dict)
    enforced: Count | None = None

    @property
    def believed(self) -> Count | None:
        """The count that is believed."""
        return max(self.counts, key=lambda count: count.rank, default=None)

    def take_delta(self, delta: Delta) -> int:
        """Returns by how much on_hand changes."""
        if delta.quantity:
            self.deltas.append(delta)
            self.deltas.sort(key=lambda each: each.rank)
            if len(self.deltas) > DELTAS_MAX:
                self._forget(self.deltas.pop(0))
        return self._effect(delta, delta.quantity)

    def amend_delta(self, delta: Delta, change: int) -> int:
        """Changes what a delta is, also of one that was nothing until now; returns by how much on_hand changes."""
        named = (delta.of, delta.system, delta.counter)
        for index, kept in enumerate(self.deltas):
            if (kept.of, kept.system, kept.counter) == named:
                quantity = kept.quantity + change
                self.deltas[index : index + 1] = [_delta(kept, quantity)] if quantity else []
                return self._effect(delta, change)
        return self.take_delta(_delta(delta, change))

    def take_count(self, count: Count, on_hand: int) -> int | None:
        """Returns what is on hand now where there were `on_hand`; None where the count is stale."""
        before = self.believed
        if self._is_below_floor(count) or not self._put(count):
            return None
        believed = self.believed
        if believed is before or believed is None:
            return on_hand
        return self.on_hand_by(believed)

    def on_hand_by(self, count: Count) -> int:
        """What is there by a count: what it says, and the deltas that it has not seen."""
        return count.value + sum(delta.quantity for delta in self.deltas if not count.covers(delta))

    def count_of(self, source: str) -> Count | None:
        """The last count of a source that stands."""
        return max((each for each in self.counts if each.source == source), key=lambda each: each.rank, default=None)

    def _put(self, count: Count) -> bool:
        kept = []
        for each in self.counts:
            has_all = count.has_seen(each)
            is_instead = (count.value, each.rank) < (each.value, count.rank)
            if each.has_seen(count) and not (has_all and is_instead):
                return False
            if not has_all:
                kept.append(each)
        kept.append(count)
        if len(kept) > COUNTS_MAX:
            kept.remove(min(kept, key=lambda each: each.rank))
        self.counts = kept
        return True

    def _is_below_floor(self, count: Count) -> bool:
        return any(
            count.occurred_at_us < occurred_at_us if system not in count.clock else count.clock[system] < counter
            for system, (counter, occurred_at_us) in self.floors.items()
        )

    def _forget(self, delta: Delta) -> None:
        counter, occurred_at_us = self.floors.get(delta.system, (0, 0))
        self.floors[delta.system] = (max(counter, delta.counter), max(occurred_at_us, delta.occurred_at_us))
        believed = self.believed
        self.counts = [each for each in self.counts if each is believed or not self._is_below_floor(each)]

    def _effect(self, delta: Delta, change: int) -> int:
        return 0 if self.believed is not None and self.believed.covers(delta) else change


def _delta(delta: Delta, quantity: int) -> Delta:
    return Delta(quantity, delta.system, delta.counter, delta.occurred_at_us, delta.of)
