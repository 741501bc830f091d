"""Processes end in every way in the middle of a sale: what was acknowledged stays, a retry gets the first answer."""

import asyncio
import errno
import http.client
import itertools
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import pytest
from redis.exceptions import RedisError

from tests.gateway import Answer, Gateway, done, receive, refused
from tests.service import PATIENCE_SECONDS, Home, Service, eventually

pytestmark = pytest.mark.archived

AGENTS, SKUS, UNITS = 8, 3, 100_000
SALES_BETWEEN = 100
RETRY_SECONDS = 0.02
SLOW_SECONDS = 0.03
RETRIED_EVERY = 3
BACK_SECONDS_MAX = 5.0


class Sale:
    """Agents that reserve and commit with a key, whatever happens, and know each answer that they got.

    An agent repeats a call until it is acknowledged; what else than "come again" it hears, it keeps as surprising.
    """

    def __init__(self, gateway: Gateway, skus: list[str]) -> None:
        self.held: dict[str, Answer] = {}  # by key
        self.sold: set[str] = set()  # tokens
        self.surprises: list[Answer] = []
        self._gateway = gateway
        self._skus = skus
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._act, args=(number,)) for number in range(AGENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def advances(self, count: int, *, seconds_max: float) -> None:
        goal = len(self.sold) + count
        eventually(lambda: len(self.sold) >= goal or self.surprises, seconds_max=seconds_max)

    def body(self, key: str) -> dict[str, object]:
        agent, number = key.split("-")
        sku, quantity = self._skus[int(number) % SKUS], 1 + int(number) % 3
        return {"sku": sku, "quantity": quantity, "agent_id": f"agent-{agent}", "ttl_seconds": 60}

    def _act(self, agent: int) -> None:
        for number in itertools.count():
            key = f"{agent}-{number}"
            held = self._acknowledged("reservations", self.body(key), key)
            if held is None:
                return
            self.held[key] = held
            token = held.json["token"]
            if self._acknowledged(f"reservations/{token}/commit", {"order_id": f"order-{key}"}, key) is None:
                return
            self.sold.add(token)

    def _acknowledged(self, path: str, body: object, key: str) -> Answer | None:
        """The answer of success, however often it takes; None where the sale ended first, or something surprised."""
        while not self._is_over.is_set():
            try:
                answer = self._gateway.post(path, body, idempotency_key=key)
            except (OSError, http.client.HTTPException):
                self._is_over.wait(RETRY_SECONDS)
                continue
            if answer.status in (200, 201):
                return answer
            if answer.status != 503:
                self.surprises.append(answer)
                return None
            self._is_over.wait(RETRY_SECONDS)
        return None


def terminate(service: Service) -> Service:
    assert service.terminate() == 0
    with pytest.raises(RedisError):
        service.home.client().ping()
    return service.again()


def kill_gateway(service: Service) -> Service:
    engine = service.home.engine
    service.kill()
    back = service.again()
    assert service.home.engine == engine, "the orphan is adopted"
    return back


def kill_engine(service: Service) -> Service:
    service.home.kill_engine()
    return service


def kill_both(service: Service) -> Service:
    service.kill()
    service.home.kill_engine()
    return service.again()


def kill_parent(service: Service) -> Service:
    service.kill()
    eventually(lambda: is_free(service.gateway.peer), seconds_max=BACK_SECONDS_MAX)
    return service.again()


def kill_worker(service: Service) -> Service:
    first, second = service.worker_pids
    os.kill(first, signal.SIGKILL)
    eventually(lambda: len(service.worker_pids) == 2 and first not in service.worker_pids)
    assert second in service.worker_pids
    return service


def is_free(peer: tuple[str, int]) -> bool:
    """Nobody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(peer) == errno.ECONNREFUSED


FAULTS: list[tuple[Callable[[Service], Service], int]] = [
    (terminate, 1),
    (terminate, 2),
    (kill_gateway, 1),
    (kill_engine, 2),
    (kill_both, 1),
    (kill_parent, 2),
    (kill_worker, 2),
]


@pytest.mark.parametrize(("fault", "workers"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_nothing_acknowledged_is_lost(home: Home, fault: Callable[[Service], Service], workers: int) -> None:
    service = home.serve("--workers", str(workers))
    skus = [service.gateway.stock(UNITS) for _ in range(SKUS)]
    with Sale(service.gateway, skus) as sale:
        sale.advances(SALES_BETWEEN, seconds_max=PATIENCE_SECONDS)
        service = fault(service)
        sale.advances(SALES_BETWEEN, seconds_max=BACK_SECONDS_MAX)
    assert sale.surprises == []
    assert len(sale.held) > 2 * SALES_BETWEEN
    entries = service.gateway.entries()
    prove(service.gateway, sale, entries)
    assert [entry["sequence"] for entry in entries] == list(range(1, len(entries) + 1))
    for sku in skus:
        found = service.gateway.availability(sku)
        parts = [found[f"{name}_quantity"] for name in ("available", "reserved", "committed")]
        assert sum(parts) == found["on_hand_quantity"] == UNITS
    verdict = asyncio.run(home.verify())
    assert (verdict.difference, verdict.entries) == (None, len(entries))


def prove(gateway: Gateway, sale: Sale, entries: list[dict[str, Any]]) -> None:
    """Every acknowledged answer is in the ledger, once, and is what a retry gets."""
    times = Counter((entry["token"], entry["type"]) for entry in entries if entry["token"])
    assert set(times.values()) == {1}
    sequences = {entry["sequence"]: entry for entry in entries}
    for answer in sale.held.values():
        held = done(answer, 201)
        entry = sequences[held["sequence"]]
        assert (entry["token"], entry["type"], entry["quantity"]) == (
            held["token"],
            "reservation.held",
            held["quantity"],
        )
        assert (held["token"], "reservation.expired") not in times
    for token in sale.sold:
        assert (token, "reservation.committed") in times
    for key in list(sale.held)[::RETRIED_EVERY]:
        again = gateway.post("reservations", sale.body(key), idempotency_key=key)
        assert again.headers["idempotent-replayed"] == "true"
        for name in ("token", "lines", "created_at", "expires_at", "sequence"):
            assert done(again, 201)[name] == sale.held[key].json[name]


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
