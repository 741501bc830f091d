"""When reconciliation runs and how much of the engine it takes, in virtual time; what it does: tests/integration."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import cast

import pytest
from fakeredis import FakeAsyncRedis
from structlog.testing import capture_logs

from app.domain.errors import EngineUnavailable
from app.domain.types import Sku
from app.settings import LocationSettings
from app.store.keys import Keyspace, PartitionKeys
from app.store.store import Store
from app.store.tasks import end_tasks
from app.store.updates import Reconciled
from app.workflows import reconciliation
from app.workflows.reconciliation import LOCATIONS_AT_ONCE, Run, authorities_of, reconcile, reconcile_regularly
from tests.virtual_loop import run_virtually

INTERVAL_SECONDS = 600.0


def fake_store(client: FakeAsyncRedis) -> Store:
    return cast("Store", SimpleNamespace(client=client, keyspace=Keyspace(2), commands=None))


@pytest.mark.parametrize(("locations", "skus_at_once"), [(1, LOCATIONS_AT_ONCE), (7, LOCATIONS_AT_ONCE // 7), (50, 1)])
def test_half_of_the_time_is_everybody_elses(
    monkeypatch: pytest.MonkeyPatch, locations: int, skus_at_once: int
) -> None:
    looks: list[tuple[float, int]] = []

    async def scan(client: object, keys: PartitionKeys) -> AsyncIterator[list[Sku]]:
        for _ in range(2):
            yield [Sku(str(number)) for number in range(83)]

    async def look(
        commands: object, keys: PartitionKeys, skus: Sequence[Sku], authorities: Mapping[str, str]
    ) -> Reconciled:
        looks.append((asyncio.get_running_loop().time(), len(skus)))
        await asyncio.sleep(0.003)
        return Reconciled(len(skus), [])

    async def scenario() -> Run:
        return await reconcile(fake_store(FakeAsyncRedis()), {f"L{number}": "erp" for number in range(locations)})

    monkeypatch.setattr(reconciliation, "scan_skus", scan)
    monkeypatch.setattr(reconciliation, "reconcile_skus", look)
    run = run_virtually(scenario())
    assert run.checked == 2 * 2 * 83  # pages and partitions
    assert max(size for _, size in looks) == skus_at_once
    times = [at for at, _ in looks]
    assert all(later - earlier == pytest.approx(0.006) for earlier, later in pairwise(times))


def test_one_run_in_each_interval_whatever_becomes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    async def run_or_fail(store: Store, authorities: Mapping[str, str]) -> Run:
        runs.append(asyncio.get_running_loop().time())
        if len(runs) == 2:
            raise EngineUnavailable("gone")
        return Run()

    async def scenario() -> None:
        client = FakeAsyncRedis()
        store = fake_store(client)
        gateways = [
            asyncio.create_task(reconcile_regularly(store, {"main": "erp"}, interval_seconds=INTERVAL_SECONDS))
            for _ in range(3)
        ]
        for _ in range(3):
            await asyncio.sleep(INTERVAL_SECONDS / 2)
            (key,) = await client.keys()
            assert INTERVAL_SECONDS * 1000 - 5000 < await client.pttl(key) <= INTERVAL_SECONDS * 1000
            await client.delete(key)  # the interval is over; the engine's time is another
        await asyncio.sleep(10)
        await end_tasks(gateways)

    monkeypatch.setattr(reconciliation, "reconcile", run_or_fail)
    with capture_logs() as logged:
        run_virtually(scenario())
    assert runs == pytest.approx([0, 300, 600, 900], abs=5)
    assert [each["event"] for each in logged] == ["reconciliation_failed"]


def test_locations_without_an_authority_are_nobodys() -> None:
    locations = {
        "A": LocationSettings(authority="erp"),
        "B": LocationSettings(),
        "C": LocationSettings(authority="3pl"),
    }
    assert authorities_of(locations) == {"A": "erp", "C": "3pl"}
