"""What is known of an order, whoever told it: cumulative numbers, of which the largest holds, and units that left.

Pure; lua/includes/orders.lua and reckon_order.lua say the same in the engine.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from app.domain.types import Sku, Token

OURSELVES = "lastunit"
DAY_US = 24 * 3600 * 1_000_000
ORDER_RETENTION_US = 30 * DAY_US  # after its last news: later ones are of a new order
ORDER_LINES_MAX = 100  # of the reservations sold into it: all of them follow it in one command
ORDER_KEPT_US = ORDER_RETENTION_US + DAY_US  # by the engine's wall clock, which may jump


@dataclass(slots=True)
class Departure:
    """Units that left a location by what a source said; `effective` of them count, and have left its on_hand."""

    quantity: int
    priority: int
    is_ship: bool
    occurred_at_us: int
    system: str
    counter: int
    source: str
    location_id: str
    of: str
    effective: int = 0

    @property
    def stream(self) -> tuple[int, bytes, bool]:
        """Who says it and how; of streams that tell of the same units the smallest counts."""
        return -self.priority, self.source.encode(), self.is_ship

    @property
    def rank(self) -> tuple[object, ...]:
        """In which order they count."""
        return *self.stream, self.occurred_at_us, self.system.encode(), self.counter, self.of.encode()


class News(NamedTuple):
    """What news made of a line: by how much more is committed, and by how much more each departure counts."""

    part_change: int
    changes: list[tuple[Departure, int]]


@dataclass(slots=True)
class OrderLine:
    """One SKU of an order. `part` of its units are committed, `shipped` have left, `beyond` more than were sold."""

    told: dict[tuple[str, str], int] = field(default_factory=dict)  # (kind, reporter) -> units
    departures: list[Departure] = field(default_factory=list)
    part: int = 0
    shipped: int = 0
    beyond: int = 0

    def number(self, kind: str) -> int:
        """The largest that anybody told."""
        return max((units for (told, _), units in self.told.items() if told == kind), default=0)

    @property
    def wanted(self) -> int:
        """Units sold, by whatever word of it came, and not taken back."""
        told = max(self.number("sold"), self.number("picked"), self.number("packed"), self.shipped)
        return max(0, told - self.number("cancelled"))

    def tell(self, kind: str, reporter: str, units: int) -> None:
        """More units, by this reporter."""
        self.told[kind, reporter] = self.told.get((kind, reporter), 0) + units

    def reckon(self) -> News:
        """Brings the line to what was told."""
        part, changes = self.part, []
        streams = Counter[object]()
        for departure in self.departures:
            streams[departure.stream] += departure.quantity
        left, sold = max(streams.values(), default=0), self.number("sold")
        self.shipped = min(left, sold) if sold else left
        self.beyond = left - self.shipped
        self.part = max(0, self.wanted - self.shipped)
        level, so_far, stream = 0, 0, None
        for departure in sorted(self.departures, key=lambda each: each.rank):
            if departure.stream != stream:
                level, so_far, stream = max(level, min(so_far, self.shipped)), 0, departure.stream
            before, so_far = so_far, so_far + departure.quantity
            effective = max(0, min(so_far, self.shipped) - max(before, level))
            if effective != departure.effective:
                changes.append((departure, effective - departure.effective))
                departure.effective = effective
        return News(self.part - part, changes)

    @property
    def review(self) -> str:
        """What a person should look at; empty for nothing."""
        sold, cancelled = self.number("sold"), self.number("cancelled")
        moved = max(self.number("picked"), self.number("packed"), self.shipped)
        if self.beyond:
            return "shipped_beyond_sold"
        return "moved_though_cancelled" if sold and cancelled and moved > max(0, sold - cancelled) else ""


@dataclass(slots=True)
class Order:
    """An order of a channel, as far as one partition knows it; `at_us` and `sequence` are its last news'."""

    channel: str
    order_id: str
    tokens: list[Token] = field(default_factory=list)
    reservation_lines: int = 0  # of all of them
    lines: dict[Sku, OrderLine] = field(default_factory=dict)
    at_us: int = 0
    sequence: int = 0

    def has_room(self, token: Token, lines: int) -> bool:
        """Says if a reservation of so many lines can follow it, or does."""
        return token in self.tokens or self.reservation_lines + lines <= ORDER_LINES_MAX

    def add(self, token: Token, lines: int) -> None:
        """A reservation of so many lines follows it."""
        self.tokens.append(token)
        self.reservation_lines += lines

    def line(self, sku: Sku) -> OrderLine:
        """What is known of a SKU; nothing, at first."""
        return self.lines.setdefault(sku, OrderLine())

    @property
    def open(self) -> int:
        """Units that are sold and still to leave."""
        return sum(line.part for line in self.lines.values())

    @property
    def shipped(self) -> int:
        """Units that have left."""
        return sum(line.shipped for line in self.lines.values())
