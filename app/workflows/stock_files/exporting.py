"""Writes what an import would need to bring an empty ledger to the same stock and the same policies."""

import asyncio
import csv
from collections.abc import Callable, Iterator
from itertools import islice
from typing import IO

from app.store.catalogue import SkuRecord, read_skus, scan_skus
from app.store.imports import StockRow
from app.store.store import Store
from app.workflows.stock_files.columns import COLUMNS
from app.workflows.stock_files.staging import Staging
from app.workflows.stock_files.tables import HEADER

BATCH_SKUS = 500


async def export_stock(
    store: Store, file: IO[str], *, on_progress: Callable[[int, int], None] = lambda *_: None
) -> int:
    """Writes every SKU as CSV, ordered by SKU and location, which are those of an import; returns how many SKUs.

    `on_progress` is told how many of how many SKUs are written. A SKU that is changed meanwhile is written as it was
    before or after. Raises EngineError.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEADER)
    with Staging() as staging:
        for keys in store.keyspace.partitions:
            async for found in scan_skus(store.client, keys):
                staging.add(StockRow(0, sku, None, None, "") for sku in found)
        names = (group[0].sku for group in await asyncio.to_thread(staging.sort))
        done = 0
        while batch := list(islice(names, BATCH_SKUS)):
            for record in await read_skus(store.client, store.keyspace, batch):
                writer.writerows(_rows_of(record))
            done += len(batch)
            on_progress(done, staging.count)
    return done


def _rows_of(record: SkuRecord) -> Iterator[list[str]]:
    """A row a location, the policy in each; one without a location where the SKU lies nowhere."""
    cells = [
        column.write(record.policy[column.field]) if column.field in record.policy else ""
        for column in COLUMNS.values()
    ]
    for location, on_hand in sorted(record.locations.items()):
        yield [record.sku, location, str(on_hand), *cells]
    if not record.locations:
        yield [record.sku, "", "", *cells]
