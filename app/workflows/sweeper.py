"""Settles due reservations when nothing else happens.

No answer depends on it: every command settles what is due on its own SKUs. It makes the ledger say so soon, and frees
memory.
"""

import asyncio

import structlog

from app.domain.errors import EngineError
from app.observability import metrics
from app.store.clock import MICROSECONDS
from app.store.store import Store

log = structlog.get_logger()


async def sweep(store: Store, *, interval_seconds_max: float) -> None:
    """Runs until cancelled. Sleeps until the next deadline, but no longer than a hold made meanwhile may live."""
    while True:
        delay_seconds = interval_seconds_max
        for partition in store.keyspace.partitions:
            try:
                swept = await store.commands.expire(partition)
            except EngineError as error:
                log.warning("sweep_failed", partition=partition.index, error=type(error).__name__)
                continue
            metrics.swept_lines_total.inc(swept.lines)
            if swept.next_deadline_us is not None:
                due_in_seconds = max(0, swept.next_deadline_us - swept.now_us) / MICROSECONDS
                delay_seconds = min(delay_seconds, due_in_seconds)
        await asyncio.sleep(delay_seconds)
