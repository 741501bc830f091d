"""What only the archive remembers: reservations that the engine has forgotten, and SKUs as they were."""

import asyncio
import re
from collections.abc import Sequence

from app.api.problems import invalid
from app.api.services import Services
from app.domain.callers import Claim
from app.domain.errors import ArchiveUnavailable
from app.domain.outcomes import (
    AvailabilityOutcome,
    Done,
    ReservationEnded,
    ReservationNotFound,
    SkuAnswered,
    SkuNotFound,
    VerbOutcome,
)
from app.domain.times import parse_time
from app.domain.types import Line, Location, Sku, SkuState, Token
from app.projections.archive.past import AsOf, inventory_as_of
from app.projections.archive.views import LIVE
from app.store.clock import MICROSECONDS
from app.store.decoding import decode_policy
from app.store.state import read_meta

SEQUENCE = re.compile(r"[0-9]{1,16}")
# How long a question waits for what has just happened to be archived.
LOOKS_MAX, LOOK_SECONDS = 40, 0.05
# What a release answers with 200, as it is.
GIVEN_BACK = ("released", "expired", "voided")
SOLD = ("committed", "fulfilled")


async def recalled(
    services: Services, token: Token, *, verb: str, claim: Claim | None, lines: Sequence[Line]
) -> VerbOutcome:
    """What a verb comes to for a reservation that the engine does not know: it is as it was when it was forgotten.

    Raises ArchiveUnavailable: what nobody can look up is not said to be missing.
    """
    # Before the archive has anything, as at the very start, the engine has forgotten nothing.
    if services.settings.archive_address is None or not await services.archive.positions():
        return ReservationNotFound()
    found = await services.archive.find_reservation(token, claim=claim, now_us=services.now_us())
    if found is None or found.status in LIVE:
        return ReservationNotFound()
    is_done = (
        verb == "read"
        or (verb == "release" and found.status in GIVEN_BACK)
        or (verb == "commit" and found.status in SOLD and _are_sold(found.lines, lines))
    )
    return Done(found, is_replayed=False, has_effect=False) if is_done else ReservationEnded(found)


def _are_sold(sold: Sequence[Line], lines: Sequence[Line]) -> bool:
    """Whether a commit of these lines, none for all, asks for what was sold."""
    quantities = {line.sku: line.quantity for line in sold}
    return not lines or {line.sku: line.quantity for line in lines} == quantities


async def availability_as_of(services: Services, sku: Sku, as_of: str) -> AvailabilityOutcome:
    """What a question about the SKU would have been answered at a position or time.

    Raises ArchiveUnavailable, also where the archive is further behind than anybody waits.
    """
    sequence, at_us = _parse_moment(as_of)
    live = await services.commands.availability(sku)
    if isinstance(live, SkuNotFound):
        return live
    keys = services.store.keyspace.of_sku(sku)
    meta, _ = await read_meta(services.store.client, keys)
    if (sequence or 0) > meta.sequence or (at_us or 0) > live.state.as_of_us:
        raise invalid("as_of", "must not be in the future")
    # Of a time all is known once the SKU's last entry is archived.
    await _await_archived(services, keys.index, live.state.sequence if sequence is None else sequence)
    found = await inventory_as_of(
        services.archive,
        sku,
        keys.index,
        sequence=sequence,
        at_us=at_us,
        lifetime_us_max=int(services.settings.max_lifetime_seconds * MICROSECONDS),
    )
    return SkuNotFound(sku) if found is None else SkuAnswered(_state_of(found))


async def last_known(services: Services, skus: Sequence[Sku]) -> dict[Sku, SkuState]:
    """What is known of those of these SKUs that the archive has, as of when it last had all there was.

    Raises ArchiveUnavailable.
    """
    return {
        row.sku: _state_of(AsOf(row, max(told_us, services.archive_watch.whole_us), None))
        for row, told_us in await services.archive.find_inventory(skus)
    }


def _parse_moment(as_of: str) -> tuple[int | None, int | None]:
    """A sequence, or a time in us since 1970."""
    if SEQUENCE.fullmatch(as_of):
        return int(as_of), None
    try:
        return None, parse_time(as_of)
    except ValueError as error:
        raise invalid("as_of", f"{error}, or a sequence") from None


async def _await_archived(services: Services, partition: int, sequence: int) -> None:
    for _ in range(LOOKS_MAX):
        positions = await services.archive.positions()
        if positions.get(partition, 0) >= sequence:
            return
        await asyncio.sleep(LOOK_SECONDS)
    raise ArchiveUnavailable("the archive is behind what is asked for")


def _state_of(found: AsOf) -> SkuState:
    row = found.row
    return SkuState(
        sku=row.sku,
        as_of_us=found.as_of_us,
        sequence=row.sequence,
        on_hand=row.on_hand,
        reserved=row.reserved,
        committed=row.committed,
        backordered=row.backordered,
        safety_stock=row.safety_stock,
        available=row.available,
        shortfall=row.shortfall,
        next_release_us=found.next_release_us,
        locations=tuple(
            Location(name, is_shared=at.kind == "shared", on_hand=at.on_hand, allocated=at.allocated)
            for name, at in sorted(row.locations.items())
        ),
        policy=decode_policy(row.policy),
    )
