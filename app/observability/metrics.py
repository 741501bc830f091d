"""What Prometheus reads: base units, `_total`, and no label that grows with SKUs, agents or tokens.

With several workers each process writes to the directory `PROMETHEUS_MULTIPROC_DIR` names, and any of them answers
for all.
"""

import os
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

MULTIPROCESS_ENV = "PROMETHEUS_MULTIPROC_DIR"
SECONDS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

requests_seconds = Histogram(
    "lastunit_request_seconds",
    "Time from a request's head to its answer's end.",
    ["route", "method", "status"],
    buckets=SECONDS_BUCKETS,
)
refusals_total = Counter("lastunit_refusals_total", "Answers that are problems, by code.", ["code"])
held_units_total = Counter("lastunit_held_units_total", "Units held by reservations made here.")
committed_units_total = Counter("lastunit_committed_units_total", "Units sold by commits made here.")
swept_lines_total = Counter("lastunit_swept_lines_total", "Lines of due reservations that the sweeper settled.")
engine_in_flight = Gauge(
    "lastunit_engine_in_flight", "Calls sent to the engine and not answered.", multiprocess_mode="livesum"
)
engine_waiting = Gauge("lastunit_engine_waiting", "Calls that wait to be sent.", multiprocess_mode="livesum")
engine_up = Gauge(
    "lastunit_engine_up", "1 when connected to an engine that passed its checks.", multiprocess_mode="livemin"
)
clock_offset_seconds = Gauge(
    "lastunit_clock_offset_seconds",
    "Engine time minus this machine's wall clock; alarm when it is not near 0.",
    multiprocess_mode="livemostrecent",
)
archive_lag_entries = Gauge(
    "lastunit_archive_lag_entries",
    "Entries in the ledger that the archive does not have yet.",
    multiprocess_mode="livemostrecent",
)
archive_stalled_seconds = Gauge(
    "lastunit_archive_stalled_seconds",
    "For how long nothing has been archived, though there was something to archive.",
    multiprocess_mode="livemostrecent",
)
archive_ahead_entries = Gauge(
    "lastunit_archive_ahead_entries",
    "Entries in the archive that the engine has lost: it was rolled back.",
    multiprocess_mode="livemostrecent",
)
archived_entries = Gauge("lastunit_archived_entries", "Entries in the archive.", multiprocess_mode="livemostrecent")
ledger_dropped_entries = Gauge(
    "lastunit_ledger_dropped_entries",
    "Entries that have left the engine, and are in the archive alone.",
    multiprocess_mode="livemostrecent",
)

_children: dict[tuple[str, str, int], Histogram] = {}


def observe_request(route: str, method: str, status: int, seconds: float) -> None:
    """Counts one answered request. `route` is the path as declared, never as asked."""
    key = (route, method, status)
    child = _children.get(key)
    if child is None:
        child = _children[key] = requests_seconds.labels(route, method, str(status))
    child.observe(seconds)


def forget_the_dead() -> None:
    """Drops what workers that are gone said of their present; what they counted stays. Their successors call it."""
    if folder := os.environ.get(MULTIPROCESS_ENV):
        for pid in {path.stem.rpartition("_")[2] for path in Path(folder).glob("gauge_live*.db")}:
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                mark_process_dead(pid)  # type: ignore[no-untyped-call] # the library's gap


def render() -> tuple[bytes, str]:
    """The exposition text and its content type."""
    registry = REGISTRY
    if MULTIPROCESS_ENV in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # the library's gap
    return generate_latest(registry), CONTENT_TYPE_LATEST
