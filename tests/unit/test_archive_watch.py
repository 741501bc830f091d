from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from prometheus_client import CollectorRegistry, Gauge

from app.observability import metrics
from app.projections.archive.reader import Archive
from app.projections.archive.rollback import remember_archived
from app.store.keys import Keyspace
from app.store.opening import Partitions
from app.store.readers import Progress
from app.store.store import Store
from app.workflows.archive_watch import Watch

GAUGES = ("archive_lag_entries", "archived_entries", "archive_stalled_seconds", "ledger_dropped_entries")
Metric = Callable[[str], float | None]


@pytest.fixture
def metric(monkeypatch: pytest.MonkeyPatch) -> Metric:
    """Reads gauges that no other gateway of this process sets."""
    registry = CollectorRegistry()
    for name in GAUGES:
        monkeypatch.setattr(metrics, name, Gauge(name, name, registry=registry))
    return registry.get_sample_value


def test_it_is_behind_when_one_partition_is() -> None:
    watch = Watch(lag_entries_max=10)
    seen = []
    for found in (
        [Progress(20, 10, 1), Progress(15, 5, 1)],  # each may be as far behind as that
        [Progress(20, 10, 1), Progress(16, 5, 1)],
        [Progress(20, 20, 1), Progress(16, 6, 1)],
    ):
        watch.see(found)
        seen.append(watch.is_behind)
    assert seen == [False, True, False]


def test_what_it_sees_can_be_seen(metric: Metric) -> None:
    watch = Watch(lag_entries_max=10)
    watch.see([Progress(20, 12, 5), Progress(16, 16, 17)])
    assert metric("archive_lag_entries") == 8
    assert metric("archived_entries") == 28
    assert metric("ledger_dropped_entries") == 4 + 16


def test_an_archive_that_stands_still_is_stalled_only_where_there_is_something_to_do(metric: Metric) -> None:
    watch = Watch(lag_entries_max=10)
    for progress in (Progress(5, 5, 1), Progress(5, 5, 1), Progress(9, 6, 1), Progress(9, 7, 1)):
        watch.see([progress])
        assert metric("archive_stalled_seconds") == 0
    watch.see([Progress(9, 7, 1)])
    assert (metric("archive_stalled_seconds") or 0) > 0


def test_an_engine_that_is_behind_the_archive_has_no_lag() -> None:
    assert Progress(sequence=5, acknowledged=9, first_sequence=1).lag == 0


@pytest.mark.parametrize(("is_open", "seen"), [(False, [7, 0]), (True, [0, 0])])
async def test_an_engine_that_comes_later_must_have_what_the_archive_has(*, is_open: bool, seen: list[int]) -> None:
    """What it has then is asked of it as it opens: see `open_partition`. One that is there is asked at once."""
    keyspace = Keyspace(2)
    partitions = Partitions(keyspace, {}, retention_ms=0, committed_retention_ms=0, caps=None)
    store = SimpleNamespace(keyspace=keyspace, partitions=partitions, pipeline=SimpleNamespace(is_open=is_open))

    async def positions() -> dict[int, int]:
        return {0: 7}

    await remember_archived(cast("Store", store), cast("Archive", SimpleNamespace(positions=positions)))
    assert partitions.sequences == seen
