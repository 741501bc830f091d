"""The report of reconciliations: the newest differences between locations and their authorities, found and closed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from app.domain.types import Sku
from app.store.faults import translated
from app.store.keys import SourceKeys
from app.store.updates import Drift

DRIFTS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class DriftRecord:
    """A difference, the run that found it, and when, in us. `place` is where it stands in the report."""

    place: str
    run_id: str
    at_us: int
    drift: Drift


async def note_drifts(client: Redis, keys: SourceKeys, drifts: Sequence[Drift], *, run_id: str, at_us: int) -> None:
    """Adds to the report, which keeps the newest DRIFTS_MAX. Raises EngineError."""
    with translated():
        async with client.pipeline(transaction=False) as pipeline:
            for drift in drifts:
                fields: dict[Any, Any] = {
                    "run_id": run_id,
                    "at_us": at_us,
                    "sku": drift.sku,
                    "location_id": drift.location_id,
                    "source": drift.source,
                    "ledger_quantity": drift.ledger_quantity,
                    "authority_quantity": drift.authority_quantity,
                    "outcome": drift.outcome,
                    "sequence": drift.sequence,
                }
                pipeline.xadd(keys.drifts, fields, maxlen=DRIFTS_MAX, approximate=True)
            await pipeline.execute()


async def list_drifts(client: Redis, keys: SourceKeys, *, after: str | None, limit: int) -> list[DriftRecord]:
    """The newest first, from the one after this place on. Raises EngineError."""
    with translated():
        rows: Any = await client.xrevrange(keys.drifts, max=f"({after}" if after else "+", count=limit)
    return [
        _decode(place.decode(), {name.decode(): text.decode() for name, text in row.items()}) for place, row in rows
    ]


def _decode(place: str, fields: dict[str, str]) -> DriftRecord:
    drift = Drift(
        sku=Sku(fields["sku"]),
        location_id=fields["location_id"],
        source=fields["source"],
        ledger_quantity=int(fields["ledger_quantity"]),
        authority_quantity=int(fields["authority_quantity"]),
        outcome=fields["outcome"],
        sequence=int(fields["sequence"]),
    )
    return DriftRecord(place, fields["run_id"], int(fields["at_us"]), drift)
