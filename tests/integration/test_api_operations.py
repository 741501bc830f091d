"""What operators and machines look at: liveness, readiness, metrics, documents, the pages of problems."""

import json
import os
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gateway import Gateway, done, refused
from tests.service import Home, eventually

# The codes of the contract that this service can answer with, by status.
CODES = {
    400: ["malformed_request"],
    404: ["sku_not_found", "reservation_not_found", "not_found"],
    405: ["method_not_allowed"],
    409: [
        "out_of_stock", "shortfall", "stock_below_zero", "reservation_committed", "reservation_released",
        "reservation_cancelled", "reservation_voided", "reservation_fulfilled", "reservation_not_committed",
        "lifetime_exceeded", "quantity_exceeds_reservation", "channel_limit_exceeded",
    ],
    410: ["reservation_expired"],
    412: ["sequence_mismatch"],
    413: ["body_too_large"],
    415: ["unsupported_media_type"],
    422: ["validation_failed", "idempotency_conflict", "quantity_above_limit"],
    429: ["agent_quota_exceeded", "backpressure"],
    503: ["ledger_unavailable", "outcome_unknown", "busy"],
}  # fmt: skip
RESERVATION = "/inventory/v1/reservations/{token}"
VERBS = ("commit", "release", "extend", "payment", "cancel", "allocations")
SKU = "/inventory/v1/skus/{sku}"
# Every path, and what it takes.
METHODS = {
    "/inventory/v1/reservations": ["GET", "POST"],
    RESERVATION: ["DELETE", "GET"],
    **{f"{RESERVATION}/{verb}": ["POST"] for verb in VERBS},
    "/inventory/v1/skus": ["GET"],
    SKU: ["GET", "PATCH", "PUT"],
    f"{SKU}/availability": ["GET"],
    f"{SKU}/adjustments": ["POST"],
    f"{SKU}/transfers": ["POST"],
    "/inventory/v1/categories/{category}": ["PUT"],
    "/inventory/v1/feed": ["GET"],
    "/schemas/inventory/1.0.json": ["GET"],
    "/inventory/v1/availability": ["POST"],
    "/inventory/v1/stock/import": ["POST"],
    "/inventory/v1/webhooks/{source}": ["POST"],
    "/inventory/v1/ledger": ["GET"],
    "/inventory/v1/admin/backorders": ["GET"],
    "/inventory/v1/admin/reviews": ["GET"],
    "/inventory/v1/admin/hoarders": ["GET"],
    "/inventory/v1/admin/reconciliations": ["GET", "POST"],
    "/inventory/v1/admin/breakers": ["GET"],
    "/inventory/v1/admin/breakers/{name}": ["PUT"],
    "/inventory/v1/admin/connectors": ["GET"],
    "/inventory/v1/admin/connectors/{name}/locations/{id}": ["PUT"],
    "/inventory/v1/admin/connectors/{name}/skus/{id}": ["PUT"],
    "/inventory/v1/admin/dead-letters": ["GET"],
    "/inventory/v1/admin/dead-letters/{id}": ["GET"],
    "/inventory/v1/admin/dead-letters/{id}/discard": ["POST"],
    "/inventory/v1/admin/dead-letters/{id}/replay": ["POST"],
    "/livez": ["GET"],
    "/readyz": ["GET"],
    "/metrics": ["GET"],
    "/problems/{slug}": ["GET"],
}


def test_alive_and_ready(gateway: Gateway) -> None:
    assert done(gateway.get("/livez")) == {"status": "alive"}
    assert done(gateway.get("/readyz")) == {"status": "ready"}


def metric(gateway: Gateway, series: str) -> float:
    answer = gateway.get("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = re.search(rf"^{re.escape(series)} (\S+)$", answer.body.decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_metrics_count(gateway: Gateway) -> None:
    counted = {
        "lastunit_held_units_total": 3,
        "lastunit_committed_units_total": 2,
        'lastunit_refusals_total{code="out_of_stock"}': 1,
        'lastunit_request_seconds_count{method="POST",route="/inventory/v1/reservations",status="201"}': 1,
    }
    sku = gateway.stock(3)
    before = {series: metric(gateway, series) for series in counted}
    held = gateway.reserve(sku, 3)
    refused(gateway.post("reservations", {"sku": sku, "agent_id": "agent"}), 409, "out_of_stock", lines=list)
    done(gateway.verb(held, "commit", {"lines": [{"sku": sku, "quantity": 2}]}))
    assert {series: metric(gateway, series) - before[series] for series in counted} == counted
    assert metric(gateway, "lastunit_engine_up") == 1
    assert abs(metric(gateway, "lastunit_clock_offset_seconds")) < 1
    exposition = gateway.get("/metrics").body.decode()
    assert 'lastunit_request_seconds_bucket{le="0.0005"' in exposition
    assert sku not in exposition, "no label grows with SKUs"


def test_a_client_that_leaves_within_its_body_is_counted_and_holds_nothing(gateway: Gateway) -> None:
    gone = 'lastunit_request_seconds_count{method="POST",route="/inventory/v1/reservations",status="499"}'
    sku, before = gateway.stock(1), metric(gateway, gone)
    content = json.dumps({"sku": sku, "agent_id": "agent"})
    head = "POST /inventory/v1/reservations HTTP/1.1\r\nHost: lastunit\r\nContent-Type: application/json\r\n"
    with socket.create_connection(gateway.peer) as connection:
        connection.sendall(f"{head}Content-Length: {len(content) + 1}\r\n\r\n{content}".encode())
    eventually(lambda: metric(gateway, gone) == before + 1)
    assert gateway.availability(sku)["available_quantity"] == 1


def test_several_workers_count_as_one(home: Home) -> None:
    """Whichever is asked answers for all, and nobody counts what a killed one was about to do."""
    service = home.serve("--workers", "2", engine_timeout_seconds=8)
    gateway = service.gateway
    sku = gateway.stock(100)
    for _ in range(20):
        gateway.reserve(sku)
    assert {metric(gateway, "lastunit_held_units_total") for _ in range(10)} == {20}
    with home.paused_engine(), ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(gateway.reserve, sku) for _ in range(20)]
        eventually(lambda: metric(gateway, "lastunit_engine_in_flight") >= 20)
        for pid in service.worker_pids:
            os.kill(pid, signal.SIGKILL)
        assert all(isinstance(call.exception(), OSError) for call in calls)
    eventually(lambda: metric(gateway, "lastunit_engine_up") == 1 and metric(gateway, "lastunit_engine_in_flight") == 0)
    assert metric(gateway, "lastunit_held_units_total") == 20, "what a killed one had counted is counted still"


@pytest.mark.parametrize(("status", "code"), [(status, code) for status, codes in CODES.items() for code in codes])
def test_every_problem_has_its_page(gateway: Gateway, status: int, code: str) -> None:
    answer = gateway.get("/problems/" + code.replace("_", "-"))
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert code in answer.body.decode()
    assert f"HTTP {status}" in answer.body.decode()


def test_documents(gateway: Gateway) -> None:
    assert gateway.get("/docs").headers["content-type"].startswith("text/html")
    document = done(gateway.get("/openapi.json"))
    assert {
        path: sorted(method.upper() for method in methods) for path, methods in document["paths"].items()
    } == METHODS


@pytest.mark.parametrize("path", ["/", "/nope", "/inventory/v1", "/livez/", "//livez", "/problems/nope", "/problems/"])
def test_nothing_is_there(gateway: Gateway, path: str) -> None:
    refused(gateway.get(path), 404, "not_found")


@pytest.mark.parametrize("path", METHODS)
def test_a_path_names_the_methods_it_takes(gateway: Gateway, path: str) -> None:
    target = re.sub(r"{\w+}", "A", path)
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - set(METHODS[path]):
        answer = gateway(method, target)
        assert answer.status == 405, method
        assert sorted(answer.headers["allow"].split(", ")) == METHODS[path]
        if method != "HEAD":
            refused(answer, 405, "method_not_allowed")


def test_request_ids_differ(gateway: Gateway) -> None:
    ids = {gateway.get("/livez", traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01").headers["request-id"] for _ in range(50)}
    assert len(ids) == 50
