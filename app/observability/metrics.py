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
deliveries_total = Counter(
    "lastunit_deliveries_total", "Webhooks that came, by source and by what became of them.", ["source", "status"]
)
delivery_seconds = Histogram(
    "lastunit_delivery_seconds",
    "Time from a webhook's head to its answer, its effect in the ledger.",
    ["source"],
    buckets=SECONDS_BUCKETS,
)
access_file_valid = Gauge(
    "lastunit_access_file_valid",
    "1 when what says who may come in was good when last read, by file; 0: what was read before goes on.",
    ["file"],
    multiprocess_mode="livemin",
)
bodies_bytes = Gauge(
    "lastunit_bodies_bytes",
    "Bodies of requests that are being read or answered; at 64 MiB a process new ones are refused as busy.",
    multiprocess_mode="livesum",
)
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
dead_letters_open = Gauge(
    "lastunit_dead_letters_open",
    "Deliveries that could not be used and wait for a person.",
    multiprocess_mode="livemostrecent",
)
source_silent = Gauge(
    "lastunit_source_silent",
    "1 where nothing of a source has succeeded for its silent_after_seconds.",
    ["source"],
    multiprocess_mode="livemostrecent",
)
polls_total = Counter(
    "lastunit_polls_total", "Polls of a source, by how they ended: done or failed.", ["source", "end"]
)
poll_page_seconds = Histogram(
    "lastunit_poll_page_seconds",
    "Time from asking a source for a page to having it, or to knowing that there is none.",
    ["source"],
    buckets=SECONDS_BUCKETS,
)
polled_rows_total = Counter("lastunit_polled_rows_total", "Rows of pages that were polled, usable or not.", ["source"])
breaker_open = Gauge(
    "lastunit_breaker_open",
    "1 while a breaker is open: that of the engine, or that of a source that is polled.",
    ["name"],
    multiprocess_mode="livemax",
)
breaker_changes_total = Counter(
    "lastunit_breaker_changes_total",
    "How often a breaker opened or closed by its own judgement, by what it became.",
    ["name", "state"],
)
degraded_answers_total = Counter(
    "lastunit_degraded_answers_total",
    "SKUs asked about while the engine's breaker was open, by the policy that decided; unknown: nobody knew the SKU.",
    ["policy"],
)
drifts_total = Counter(
    "lastunit_drifts_total",
    "Locations that had other than their authority said, by the authority and by what became of it.",
    ["source", "status"],
)
drift_units = Gauge(
    "lastunit_drift_units",
    "Units by which locations differed from this authority in the last reconciliation.",
    ["source"],
    multiprocess_mode="livemostrecent",
)
reconciled_locations = Gauge(
    "lastunit_reconciled_locations",
    "Locations of SKUs that the last reconciliation compared.",
    multiprocess_mode="livemostrecent",
)
reconciliation_seconds = Histogram(
    "lastunit_reconciliation_seconds",
    "Time that a reconciliation of all SKUs took.",
    buckets=(0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0),
)

_children: dict[tuple[str, str, int], Histogram] = {}


def observe_request(route: str, method: str, status: int, seconds: float) -> None:
    """Counts one answered request. `route` is the path as declared, never as asked."""
    key = (route, method, status)
    child = _children.get(key)
    if child is None:
        child = _children[key] = requests_seconds.labels(route, method, str(status))
    child.observe(seconds)


def observe_delivery(source: str, status: str, seconds: float) -> None:
    """Counts one webhook of a source that is configured."""
    deliveries_total.labels(source, status).inc()
    delivery_seconds.labels(source).observe(seconds)


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
