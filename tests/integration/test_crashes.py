"""Processes end, or stand still, in the middle of a call: what its client is told. See also tests/faults."""

import json
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gateway import Answer, done, receive, refused
from tests.service import PATIENCE_SECONDS, Home, eventually, is_free

pytestmark = pytest.mark.archived

UNITS = 100_000
SLOW_SECONDS = 0.03
BACK_SECONDS_MAX = 5.0


def test_an_open_request_is_answered_before_the_end(home: Home) -> None:
    service = home.serve()
    sku = service.gateway.stock(1)
    content = json.dumps({"sku": sku, "agent_id": "agent"}).encode()
    head = (
        f"POST /inventory/v1/reservations HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    )
    with socket.create_connection(service.gateway.peer, timeout=PATIENCE_SECONDS) as open_request:
        open_request.sendall(head.encode() + b"\r\nExpect: 100-continue\r\n\r\n")
        assert open_request.recv(100).startswith(b"HTTP/1.1 100"), "its body is being read"
        service.process.terminate()
        eventually(lambda: is_free(service.gateway.peer))
        for start in range(0, len(content), 4):  # by a client that is slow
            assert service.process.poll() is None
            time.sleep(SLOW_SECONDS)
            open_request.sendall(content[start : start + 4])
        held = done(receive(open_request), 201)
    assert service.process.wait(PATIENCE_SECONDS) == 0
    assert service.again().gateway.read(held)["sku"] == sku


def test_an_engine_that_died_is_said(home: Home) -> None:
    """Between its death and its return no hold is guessed: every answer is a problem that says what happened."""
    service = home.serve()
    sku = service.gateway.stock(UNITS)
    answers: list[Answer] = []
    home.kill_engine()
    deadline = time.monotonic() + BACK_SECONDS_MAX
    while not answers or answers[-1].status != 201:
        assert time.monotonic() < deadline
        answers.append(service.gateway.post("reservations", {"sku": sku, "agent_id": "agent"}))
    for answer in answers[:-1]:
        assert answer.json["code"] in ("ledger_unavailable", "outcome_unknown")
        refused(answer, 503, answer.json["code"])
    assert '"engine_died"' in home.stderr
    assert service.gateway.availability(sku)["reserved_quantity"] == 1


def test_an_engine_that_stands_still_is_said(home: Home) -> None:
    """One call in flight, one that waits, one too many: each is told the truth, in time, and may come again."""
    service = home.serve(engine_timeout_seconds=0.5, engine_in_flight_max=1, engine_waiting_max=1, sweep_enabled=False)
    gateway = service.gateway
    body = {"sku": gateway.stock(1), "agent_id": "agent"}
    with home.paused_engine(), ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(gateway.post, "reservations", body, idempotency_key="key") for _ in range(3)]
        answers = [call.result() for call in calls]
        codes = Counter(answer.json["code"] for answer in answers)
        assert codes["outcome_unknown"] == 1
        assert codes["backpressure"] >= 1
        assert codes.keys() <= {"outcome_unknown", "backpressure", "ledger_unavailable"}
        for answer in answers:
            refused(answer, 429 if answer.json["code"] == "backpressure" else 503, answer.json["code"])
        eventually(lambda: gateway.get("/readyz").status == 503)
        refused(gateway.get("/readyz"), 503, "ledger_unavailable")
        refused(gateway.get("ledger"), 503, "ledger_unavailable")
        assert done(gateway.get("/livez")) == {"status": "alive"}
    eventually(lambda: gateway.get("/readyz").status == 200, seconds_max=BACK_SECONDS_MAX)
    held = done(gateway.post("reservations", body, idempotency_key="key"), 201)
    assert [entry["token"] for entry in gateway.entries()] == [None, held["token"]]
