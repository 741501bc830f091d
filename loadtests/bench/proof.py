"""The proof of a run: what was acknowledged is what the engine holds and what the ledger says."""

from collections.abc import Sequence

from app.domain.types import Sku
from app.projections.archive.reader import Archive
from app.projections.rebuild import verify
from app.settings import Settings
from app.store.state import read_meta
from app.store.store import Store

BATCH_SIZE = 1000


class ProofFailed(Exception):
    """The numbers of this run are worth nothing, and something is badly wrong."""


async def prove(store: Store, skus: Sequence[Sku], *, entries: int, held_units: int) -> None:
    """Raises ProofFailed unless the changes acknowledged are those in the ledger, and the units held those of the SKUs.

    `entries` is how many changes were acknowledged, each of which writes one; `held_units` is held now, a unit a hold.
    """
    keys = store.keyspace.partitions[0]
    meta, _ = await read_meta(store.client, keys)
    found_entries, live_holds = meta.sequence, await store.client.zcard(keys.deadlines)
    reserved = 0
    for start in range(0, len(skus), BATCH_SIZE):
        async with store.client.pipeline(transaction=False) as pipeline:
            for sku in skus[start : start + BATCH_SIZE]:
                pipeline.hmget(keys.sku(sku), "on_hand", "reserved", "committed", "backordered")
            for numbers in await pipeline.execute():
                on_hand, of_sku, committed, backordered = map(int, numbers)
                if not (0 <= of_sku <= on_hand and committed == backordered == 0):
                    raise ProofFailed(f"a SKU has {of_sku} reserved, {committed} committed of {on_hand} on hand")
                reserved += of_sku
    if found_entries != entries:
        raise ProofFailed(f"{entries} changes were acknowledged, but the ledger has {found_entries} entries")
    if not live_holds == reserved == held_units:
        raise ProofFailed(f"{held_units} units were acknowledged as held; {live_holds} holds live, {reserved} reserved")


async def prove_by_replay(store: Store, settings: Settings) -> None:
    """Raises ProofFailed unless the ledger, replayed from its first entry, adds up to all that the engine holds."""
    archive = Archive.of(settings)
    try:
        difference = (await verify(store, archive)).difference
    finally:
        await archive.close()
    if difference:
        raise ProofFailed(f"sequence {difference.sequence}: {difference.sentence}")
