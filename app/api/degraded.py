"""Availability while the engine's breaker is open: the last known quantities, as each SKU's policy would have them."""

from collections.abc import Sequence

from app.api.answers import Answer, answer, assumed_payload
from app.api.past import last_known
from app.api.problems import Problem
from app.api.requests import AvailabilityQuestion
from app.api.services import Services
from app.domain.types import Sku
from app.observability import metrics
from app.workflows.degraded import Assumed, assume

AWAY = "The ledger cannot be asked now"


async def degraded_availability(services: Services, sku: Sku, question: AvailabilityQuestion) -> Answer:
    """200 by the SKU's policy. Raises a Problem where that is to refuse, or nobody knows; ArchiveUnavailable."""
    if question.as_of is not None:
        raise Problem("ledger_unavailable", f"{AWAY}, and nothing is said of the past meanwhile.")
    found = await _assumed(services, [sku], question.channel)
    if not found:
        raise Problem("ledger_unavailable", f"{AWAY}, and of this SKU nothing is assumed meanwhile.")
    payload = assumed_payload(found[sku])
    if question.location_id is not None:
        payload["locations"] = [each for each in payload["locations"] if each["location_id"] == question.location_id]
    return answer(200, payload)


async def degraded_availabilities(services: Services, skus: Sequence[Sku]) -> Answer:
    """The same of many; those of which nothing is said are `unavailable`, and where that is all of them a Problem."""
    found = await _assumed(services, skus, None)
    if not found:
        raise Problem("ledger_unavailable", f"{AWAY}, and of none of these SKUs anything is assumed meanwhile.")
    items = [assumed_payload(found[sku]) for sku in skus if sku in found]
    return answer(200, {"items": items, "missing": [], "unavailable": [sku for sku in skus if sku not in found]})


async def _assumed(services: Services, skus: Sequence[Sku], channel: str | None) -> dict[Sku, Assumed]:
    known, now_us = await last_known(services, skus), services.now_us()
    found = {}
    for sku in skus:
        policy = known[sku].policy.degraded_policy if sku in known else "unknown"
        metrics.degraded_answers_total.labels(policy).inc()
        if sku in known and (assumed := assume(known[sku], channel=channel, now_us=now_us)):
            found[sku] = assumed
    return found
