"""The systems outside: what each may say, and how it comes as a delivery."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.domain.types import Sku
from app.domain.updates import Delivery, SourcePriority, StockUpdate, UpdateKind
from app.store.commands import LocationKind
from tests.virtual_clock import START_US

COUNT, OBSERVE = UpdateKind.COUNT, UpdateKind.OBSERVE
RECEIVE, RETURN, ADJUST, TRANSFER = UpdateKind.RECEIVE, UpdateKind.RETURN, UpdateKind.ADJUST, UpdateKind.TRANSFER
SALE, PICK, PACK, SHIP, CANCEL = (
    UpdateKind.SALE, UpdateKind.PICK, UpdateKind.PACK, UpdateKind.SHIP, UpdateKind.CANCEL,
)  # fmt: skip

# Whose count is believed, and at which event units leave, for each.
SOURCES = {
    "erp": (SourcePriority.PARTNER, SHIP),
    "pos": (SourcePriority.PARTNER, SALE),
    "robot": (SourcePriority.WAREHOUSE, PACK),
    "shop": (SourcePriority.MARKETPLACE, SHIP),
    "wms": (SourcePriority.WAREHOUSE, SHIP),
    "3pl": (SourcePriority.PARTNER, PICK),
}
LOCATIONS: dict[str, LocationKind] = {"WH1": "shared", "WH 2": "shared", "倉庫": "dedicated"}


def kind_of(location_id: str) -> LocationKind:
    return LOCATIONS.get(location_id, "shared")


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a source says of a SKU, `at_us` after the start; without a clock that is its counter too."""

    source: str
    kind: UpdateKind
    quantity: int
    at_us: int
    location_id: str = "WH1"
    reference: str | None = None
    to_location_id: str | None = None
    clock: Mapping[str, int] = field(default_factory=dict)
    channel: str = "direct"

    def line(self, sku: Sku, *, number: int = 0, reference: str | None = None) -> StockUpdate:
        return StockUpdate(
            number=number,
            kind=self.kind,
            sku=sku,
            location_id=self.location_id,
            quantity=self.quantity,
            occurred_at_us=START_US + self.at_us,
            clock=self.clock or {self.source: self.at_us},
            system=self.source,
            channel=self.channel,
            to_location_id=self.to_location_id,
            reference=reference or self.reference,
        )


def deliver(source: str, delivery_id: str, lines: Sequence[StockUpdate], *, may_create_skus: bool = False) -> Delivery:
    priority, deduct_on = SOURCES[source]
    return Delivery(source, delivery_id, priority, deduct_on, may_create_skus, lines)


def random_fact(chance: random.Random, source: str, *, at_us: int, clock: Mapping[str, int], order_id: str) -> Fact:
    """What this source may say now: of its own counter `clock` tells, and what it has seen of others for a count."""
    kind = chance.choices([COUNT, RECEIVE, RETURN, ADJUST, TRANSFER, OBSERVE, SALE, PICK, PACK, SHIP, CANCEL],
                          [5, 2, 1, 1, 1, 0.2, 4, 3, 2, 6, 2])[0]  # fmt: skip
    location_id, other_id = chance.sample(list(LOCATIONS), 2) if chance.random() < 0.4 else ["WH1", "WH 2"]
    quantity = chance.randint(1, 3)
    if kind is COUNT:
        quantity = chance.randint(0, 9)
    elif kind is ADJUST:
        quantity *= chance.choice([1, -1])
    is_own_order = kind in (SALE, SHIP) and chance.random() < 0.15
    return Fact(
        source,
        kind,
        quantity,
        at_us,
        location_id,
        reference=order_id if kind in (SALE, PICK, PACK, SHIP, CANCEL) and not is_own_order else None,
        to_location_id=other_id if kind is TRANSFER else None,
        clock=clock if kind is COUNT else {source: clock[source]},
    )
