"""The sample catalogue that `make run` serves."""

import csv
from importlib.resources import files

from app.domain.outcomes import SkuAnswered
from app.domain.types import Sku
from app.store.decoding import encode_policy
from app.store.store import Store


async def load_sample_stock(store: Store) -> int:
    """Puts the catalogue into an empty ledger; returns how many SKUs, 0 where the ledger has entries already."""
    for partition in store.keyspace.partitions:
        if await store.client.exists(partition.ledger):
            return 0
    rows = list(csv.DictReader((files("app") / "sample_stock.csv").read_text("utf-8").splitlines()))
    for row in rows:
        sku = Sku(row["sku"])
        policy = {"safety_stock": int(row["safety_stock"]), "backorder_limit": int(row["backorder_limit"])}
        await store.commands.put_sku(sku, encode_policy(policy), may_create=True)
        outcome = await store.commands.adjust(
            sku, location_id=row["location_id"], mode="count", amount=int(row["on_hand"]), reason="sample stock"
        )
        assert isinstance(outcome, SkuAnswered)
    return len(rows)
