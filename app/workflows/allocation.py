"""Chooses the locations that the units of a sale are taken from, and notes the choice."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from app.domain.callers import Claim
from app.domain.outcomes import Done, LocationShort, SkuAnswered, TooManyAllocations, VerbOutcome
from app.domain.types import ALLOCATIONS_MAX, Allocation, Line, Location, Token
from app.settings import LocationSettings, Settings
from app.store.commands import Commands, Idempotency

Strategy = Literal["most_stock", "priority", "lead_time"]
NO_LEAD_TIME_DAYS = 10_000
Order = Callable[[Location], tuple[object, ...]]


async def allocate_units(
    commands: Commands,
    settings: Settings,
    token: Token,
    allocations: Sequence[Allocation],
    *,
    strategy: Strategy,
    claim: Claim | None,
    details: Mapping[str, object] | None,
    idempotency: Idempotency | None,
) -> VerbOutcome:
    """Notes these allocations, or without any those that the strategy chooses for all that the reservation sold."""
    if not allocations:
        found = await commands.read(token, claim=claim)
        if not isinstance(found, Done):
            return found
        lines = found.reservation.lines
        answers = await asyncio.gather(*(commands.availability(line.sku) for line in lines))
        order = order_of(strategy, settings.locations)
        chosen: list[Allocation] = []
        for line, answered in zip(lines, answers, strict=True):
            assert isinstance(answered, SkuAnswered)
            of_line = choose(line, answered.state.locations, order)
            if not of_line:
                return LocationShort()
            chosen += of_line
        if len(chosen) > ALLOCATIONS_MAX:
            return TooManyAllocations()
        allocations = chosen
        details = {**(details or {}), "strategy": strategy}
    return await commands.allocate(token, allocations, claim=claim, details=details, idempotency=idempotency)


def order_of(strategy: Strategy, locations: Mapping[str, LocationSettings]) -> Order:
    """In which order a strategy takes from locations: as a key to sort them by; the name decides between equals."""

    def of(location: Location) -> LocationSettings:
        return locations.get(location.location_id) or LocationSettings()

    def lead_time_days(location: Location) -> int:
        days = of(location).lead_time_days
        return NO_LEAD_TIME_DAYS if days is None else days

    match strategy:
        case "most_stock":
            return lambda location: (-location.available, location.location_id)
        case "priority":
            return lambda location: (of(location).priority, -location.available, location.location_id)
        case "lead_time":
            return lambda location: (lead_time_days(location), -location.available, location.location_id)


def choose(line: Line, locations: Iterable[Location], order: Order) -> list[Allocation]:
    """From where a line is taken: from the first location that has all of it, else from several, in their order.

    Empty where the shared locations together have too little.
    """
    ranked = sorted((location for location in locations if location.is_shared and location.available), key=order)
    for location in ranked:
        if location.available >= line.quantity:
            return [Allocation(line.sku, location.location_id, line.quantity)]
    chosen, missing = [], line.quantity
    for location in ranked:
        taken = min(missing, location.available)
        chosen.append(Allocation(line.sku, location.location_id, taken))
        missing -= taken
        if missing == 0:
            return chosen
    return []
