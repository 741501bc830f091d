"""A partition to call scripts on. After each test its ledger is replayed: what the scripts did is proved every time."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from app.projections.rebuild import verify_partition
from tests.engines import Engine
from tests.scripts.partition import Partition
from tests.virtual_clock import VirtualClock


@pytest.fixture
async def partition(engine: Engine, clock: VirtualClock) -> AsyncIterator[Partition]:
    """Open and empty."""
    opened = Partition(engine.client, clock)
    assert opened.open().status == "opened"
    yield opened
    if not opened.is_damaged_on_purpose:
        async with Redis.from_url(engine.url, protocol=2) as client:
            verdict = await verify_partition(client, opened.keys)
        assert verdict.difference is None
