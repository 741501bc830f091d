"""A partition to call scripts on. After each test its ledger is replayed: what the scripts did is proved every time."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

from app.projections.rebuild import Verdict, verify_partition
from tests.engines import Engine
from tests.scripts.order_records import committed
from tests.scripts.partition import Partition
from tests.virtual_clock import VirtualClock


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for all the proofs: the tests themselves are synchronous."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        yield runner


@pytest.fixture
def partition(engine: Engine, clock: VirtualClock, runner: asyncio.Runner) -> Iterator[Partition]:
    """Open and empty."""
    opened = Partition(engine.client, clock)
    assert opened.open().status == "opened"
    yield opened
    if not opened.is_damaged_on_purpose:
        assert runner.run(_verify(engine, opened)).difference is None


async def _verify(engine: Engine, partition: Partition) -> Verdict:
    async with Redis.from_url(engine.url, protocol=2) as client:
        return await verify_partition(client, partition.keys)


@pytest.fixture
def forgotten(partition: Partition) -> Iterator[Counter[str]]:
    """Ten of A and B each. In the end all that orders, and sales of none, are to ship is committed, and these units."""
    for sku in "AB":
        partition.update("receive", 10, sku=sku)
    units = Counter(dict.fromkeys("AB", 0))
    yield units
    units.update(committed(partition))
    assert dict(units) == {sku: partition.balances(sku)[2] for sku in "AB"}
