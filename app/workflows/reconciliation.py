"""Compares locations with what their authorities last said, and corrects what differs: regularly, and when asked to.

One run at a time, by a lease; two would do no harm, for each correction is one script. A run looks at some SKUs, waits
as long as that took, and looks at the next: so half of the engine's time is everybody else's, and no more is in memory
than what it looks at.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from app.domain.errors import EngineBusy, EngineError
from app.domain.types import Sku
from app.observability import metrics
from app.settings import LocationSettings
from app.store.catalogue import scan_skus
from app.store.drifts import note_drifts
from app.store.keys import PartitionKeys
from app.store.leases import Lease
from app.store.store import Store
from app.store.updates import reconcile_skus

LOCATIONS_AT_ONCE = 20  # of all SKUs of a call: less than a millisecond of the engine
TURN_SECONDS_MAX = 5.0  # how long a run on demand waits for one that is on
TURN_LOOK_SECONDS = 0.1
LOOK_SECONDS_MAX = 5.0

log = structlog.get_logger()


@dataclass(slots=True)
class Run:
    """What a run has found: of the locations that it checked, how many were corrected; units of drift by source."""

    run_id: str = field(default_factory=lambda: secrets.token_hex(8))
    checked: int = 0
    corrected: int = 0
    drift_units: Counter[str] = field(default_factory=Counter)


def authorities_of(locations: Mapping[str, LocationSettings]) -> dict[str, str]:
    """Whom reconciliation believes, by location; those without an authority are not reconciled."""
    return {name: each.authority for name, each in locations.items() if each.authority}


async def reconcile(store: Store, authorities: Mapping[str, str]) -> Run:
    """One run over all SKUs, as soon as no other is on. Raises EngineError: what was corrected stays so."""
    lease = Lease(store.client, store.keyspace.sources.lease("reconciliation"))
    deadline_seconds = asyncio.get_running_loop().time() + TURN_SECONDS_MAX
    while (run := await lease.run_once(lambda: _run(store, authorities))) is None:
        if asyncio.get_running_loop().time() > deadline_seconds:
            raise EngineBusy("another reconciliation is on")
        await asyncio.sleep(TURN_LOOK_SECONDS)
    return run


async def reconcile_regularly(store: Store, authorities: Mapping[str, str], *, interval_seconds: float) -> None:
    """Until cancelled: one run in each interval, by whichever gateway comes first."""
    turn_key = store.keyspace.sources.lease("reconciliation_interval")
    while True:
        try:
            if await Lease(store.client, turn_key, seconds=interval_seconds).take():  # and nobody renews it
                await reconcile(store, authorities)
        except EngineError as error:
            log.warning("reconciliation_failed", error=str(error))
        await asyncio.sleep(min(interval_seconds / 10, LOOK_SECONDS_MAX))


async def _run(store: Store, authorities: Mapping[str, str]) -> Run:
    run, loop = Run(), asyncio.get_running_loop()
    began_seconds = loop.time()
    skus_at_once = max(1, LOCATIONS_AT_ONCE // max(1, len(authorities)))
    for keys in store.keyspace.partitions if authorities else ():
        async for skus in scan_skus(store.client, keys):
            for start in range(0, len(skus), skus_at_once):
                looked_seconds = loop.time()
                await _look(store, keys, skus[start : start + skus_at_once], authorities, run)
                await asyncio.sleep(loop.time() - looked_seconds)
    for source in set(authorities.values()):
        metrics.drift_units.labels(source).set(run.drift_units[source])
    metrics.reconciled_locations.set(run.checked)
    metrics.reconciliation_seconds.observe(loop.time() - began_seconds)
    log.info(
        "reconciled", run=run.run_id, checked=run.checked, corrected=run.corrected, drift_units=run.drift_units.total()
    )
    return run


async def _look(store: Store, keys: PartitionKeys, skus: list[Sku], authorities: Mapping[str, str], run: Run) -> None:
    """Takes some SKUs of a partition into a run."""
    found = await reconcile_skus(store.commands, keys, skus, authorities)
    run.checked += found.checked
    for drift in found.drifts:
        run.corrected += drift.outcome == "corrected"
        run.drift_units[drift.source] += abs(drift.ledger_quantity - drift.authority_quantity)
        metrics.drifts_total.labels(drift.source, drift.outcome).inc()
    if found.drifts:
        await note_drifts(store.client, store.keyspace.sources, found.drifts, run_id=run.run_id, at_us=store.now_us())
