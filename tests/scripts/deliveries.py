"""What sources say, and the lines that the script takes for it: written by the service's own hand."""

from collections.abc import Mapping

from app.domain.types import Sku
from app.domain.updates import Delivery, SourcePriority, StockUpdate, UpdateKind
from app.store.commands import LocationKind
from app.store.updates import encode_line
from tests.virtual_clock import SECOND_US, START_US

# Whose count is believed, and by which event units leave.
SOURCES = {
    "erp": (SourcePriority.PARTNER, UpdateKind.SHIP),
    "picker": (SourcePriority.WAREHOUSE, UpdateKind.PICK),
    "pos": (SourcePriority.PARTNER, UpdateKind.SALE),
    "shop": (SourcePriority.MARKETPLACE, UpdateKind.SHIP),
    "wms": (SourcePriority.WAREHOUSE, UpdateKind.SHIP),
}
DEDICATED = "fba"


def kind_of(location_id: str) -> LocationKind:
    return "dedicated" if location_id == DEDICATED else "shared"


def say(
    kind: str,
    quantity: int = 1,
    *,
    at: int,
    source: str = "wms",
    sku: str = "A",
    location: str = "main",
    to: str | None = None,
    order: str | None = None,
    channel: str = "direct",
    clock: Mapping[str, int] | None = None,
    number: int = 0,
) -> StockUpdate:
    """A line. `at` is in seconds after the start, and the source's counter where there is no `clock`.

    `order` is an order's id, or a token.
    """
    clock = clock or {source: at}
    return StockUpdate(
        number=number,
        kind=UpdateKind(kind),
        sku=Sku(sku),
        location_id=location,
        quantity=quantity,
        occurred_at_us=START_US + at * SECOND_US,
        clock=clock,
        system=source if source in clock else min(clock),
        channel=channel,
        to_location_id=to,
        reference=order,
    )


def deliver(*updates: StockUpdate, source: str = "wms", delivery_id: str = "d", may_create: bool = True) -> Delivery:
    priority, deduct_on = SOURCES[source]
    return Delivery(source, delivery_id, priority, deduct_on, may_create, updates)


def lines_of(delivery: Delivery) -> tuple[str, ...]:
    """As the script takes them."""
    return tuple(encode_line(delivery, update, kind_of) for update in delivery.updates)


def head_of(delivery: Delivery) -> dict[str, object]:
    """What the script is told once, by the names of its header."""
    return {
        "source": delivery.source,
        "delivery_id": delivery.delivery_id,
        "priority": int(delivery.priority),
        "deduct_on": delivery.deduct_on.value,
        "may_create": int(delivery.may_create_skus),
    }
