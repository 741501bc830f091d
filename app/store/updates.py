"""Applies what the outside says: see lua/apply_update.lua."""

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec

from app.domain.errors import EngineBusy, EngineCorrupt
from app.domain.types import Sku, Token
from app.domain.updates import Delivery, StockUpdate, UpdateResult, UpdateStatus
from app.store import calls
from app.store.commands import SEEN_RETENTION_MS, Commands, LocationKind
from app.store.keys import Keyspace, PartitionKeys

CHUNK_LINES = 25  # of a delivery; a call of so many lines takes the engine a millisecond or two

CHUNKS_AT_ONCE = 4  # the engine has the next one, and a reservation waits for four at most

KindOf = Callable[[str], LocationKind]


async def apply_delivery(
    commands: Commands, keyspace: Keyspace, delivery: Delivery, *, kind_of: KindOf
) -> list[UpdateResult]:
    """What became of each line, in their order. Raises EngineError: what was done stands; deliver all of it again."""
    chunks = _chunks(keyspace, delivery)
    results: dict[int, UpdateResult] = {}

    async def apply_next() -> None:
        for keys, updates in chunks:
            for result in await _apply_chunk(commands, keys, delivery, updates, kind_of=kind_of):
                results[result.number] = result

    try:
        if len(delivery.updates) == 1:
            await apply_next()
        else:
            await asyncio.gather(*(apply_next() for _ in range(CHUNKS_AT_ONCE)))
    finally:
        chunks.close()  # after an error nobody begins another one
    return [results[update.number] for update in delivery.updates]


def _chunks(keyspace: Keyspace, delivery: Delivery) -> Generator[tuple[PartitionKeys, list[StockUpdate]], None, None]:
    """A delivery's lines by partition and by their numbers: those of a chunk are remembered together."""
    by_partition: dict[int, list[StockUpdate]] = {}
    for update in delivery.updates:
        by_partition.setdefault(keyspace.of_sku(update.sku).index, []).append(update)
    for partition, updates in by_partition.items():
        for _, of_chunk in groupby(updates, lambda update: update.number // CHUNK_LINES):
            yield keyspace.partitions[partition], list(of_chunk)


async def _apply_chunk(
    commands: Commands, keys: PartitionKeys, delivery: Delivery, updates: Sequence[StockUpdate], *, kind_of: KindOf
) -> list[UpdateResult]:
    results: list[UpdateResult] = []
    chunk = updates[0].number // CHUNK_LINES
    seen_key = keys.seen(delivery.source, delivery_chunk(delivery.delivery_id, chunk))
    while len(results) < len(updates):
        left = updates[len(results) :]
        script_keys = [keys.meta, keys.ledger, keys.deadlines, seen_key]
        for update in left:
            script_keys += (keys.sku(update.sku), keys.holds(update.sku), keys.locations(update.sku))
        head = calls.ApplyUpdateArgs(
            commands.not_after_us(keys), delivery.source, delivery.delivery_id, int(delivery.priority),
            delivery.deduct_on.value, int(delivery.may_create_skus), SEEN_RETENTION_MS,
        )  # fmt: skip
        lines = (encode_line(delivery, update, kind_of) for update in left)
        reply = calls.ApplyUpdateReply(*await commands.call("apply_update", keys, script_keys, (*head, *lines)))
        if reply.status == b"too_late":
            raise EngineBusy("the delivery reached the engine too late and had no effect")
        commands.saw(keys, int(reply.sequence))
        rows = [row.split(b"\t") for row in reply.results.splitlines()]
        for update, (number, status, sequence) in zip(left, rows, strict=False):
            if int(number) != update.number:
                raise EngineCorrupt("apply_update answered of another line")
            results.append(UpdateResult(update.number, update.sku, UpdateStatus(status.decode()), int(sequence)))
        if reply.status == b"voiding":
            await commands.close_shortfall(results[-1].sku)
        elif reply.status != b"done" or len(rows) != len(left):
            raise EngineCorrupt("apply_update answered with an unknown status")
    return results


def delivery_chunk(delivery_id: str, chunk: int) -> str:
    """What the lines of a chunk are remembered by. No delivery's id has a TAB."""
    return f"{delivery_id}\t{chunk}" if chunk else delivery_id


def encode_line(delivery: Delivery, update: StockUpdate, kind_of: KindOf) -> str:
    """A line as the script takes it."""
    is_token = update.reference is not None and bool(Keyspace(1).of_token(Token(update.reference)))
    reference_kind = "" if update.reference is None else "token" if is_token else "order"
    clock = "\n".join(f"{system}\n{counter}" for system, counter in sorted(update.clock.items()))
    to_location = update.to_location_id or ""
    fields = (
        update.number, update.kind, update.sku, update.location_id, kind_of(update.location_id), to_location,
        kind_of(to_location), update.quantity, update.occurred_at_us, update.system, update.clock[update.system],
        clock, update.channel, reference_kind, update.reference or "", _details(delivery, update),
    )  # fmt: skip
    return "\t".join(map(str, fields))


def _details(delivery: Delivery, update: StockUpdate) -> str:
    """What the ledger keeps of a line besides its effect: all that a rebuild needs to apply it again."""
    told: dict[str, object] = {
        "delivery_id": delivery.delivery_id,
        "line": update.number,
        "kind": update.kind,
        "told": update.quantity,
        "location_id": update.location_id,
        "occurred_at_us": update.occurred_at_us,
        "clock": update.clock,
        "system": update.system,
        "priority": int(delivery.priority),
    }
    if update.reference is not None or update.kind == "sale":
        told |= {"reference": update.reference, "channel": update.channel, "deduct_on": delivery.deduct_on}
    if update.to_location_id is not None:
        told["to_location_id"] = update.to_location_id
    return msgspec.json.encode(told).decode()


@dataclass(frozen=True, slots=True)
class Drift:
    """A location that had other than its authority says; `outcome` is corrected, overridden or refused."""

    sku: Sku
    location_id: str
    source: str
    ledger_quantity: int
    authority_quantity: int
    outcome: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Reconciled:
    """How many locations were compared, and those that differed."""

    checked: int
    drifts: list[Drift]


async def reconcile_skus(
    commands: Commands, keys: PartitionKeys, skus: Sequence[Sku], authorities: Mapping[str, str]
) -> Reconciled:
    """Corrects what SKUs of one partition, at most 40, have at locations, by location -> source.

    Raises EngineError: what was done stands, and doing it again is harmless.
    """
    checked, drifts, left = 0, list[Drift](), list(skus)
    rows = "\n".join(f"{location}\t{source}" for location, source in authorities.items())
    while left:
        script_keys = [keys.meta, keys.ledger, keys.deadlines]
        for sku in left:
            script_keys += (keys.sku(sku), keys.holds(sku), keys.locations(sku))
        args = calls.ReconcileArgs(commands.not_after_us(keys), rows)
        reply = calls.ReconcileReply(*await commands.call("reconcile", keys, script_keys, (*args, *left)))
        if reply.status == b"too_late":
            raise EngineBusy("the reconciliation reached the engine too late and had no effect")
        checked += int(reply.checked)
        drifts += (_drift(row) for row in reply.drifts.decode().splitlines())
        done = int(reply.skus)
        if reply.status == b"voiding":
            await commands.close_shortfall(left[done - 1])
        elif reply.status != b"done" or done != len(left):
            raise EngineCorrupt("reconcile answered with an unknown status")
        del left[:done]
    return Reconciled(checked, drifts)


def _drift(row: str) -> Drift:
    sku, location_id, source, ledger, authority, outcome, sequence = row.split("\t")
    return Drift(Sku(sku), location_id, source, int(ledger), int(authority), outcome, int(sequence))
