"""The load: keep-alive connections with one request each under way, driven by this process over plain sockets.

Closed (`run`), each connection asks again once it has its answer; open (`run_at`), requests come when they are due,
however long answers take, and each waits from then: a server that stalls cannot hide it.

It shares a small machine with what it measures, so it is a loop over ready sockets and nothing else. What it costs is
measured with every round.
"""

import math
import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

RECEIVE_BYTES_MAX = 65_536
SILENT_SECONDS_MAX = 10
HEAD_END = b"\r\n\r\n"
LENGTH_NAME = b"\r\ncontent-length: "


@dataclass(frozen=True, slots=True)
class Load:
    """What some time of load gave: every answer by status, its latency, and what asking cost this process."""

    statuses: dict[int, int]
    latencies_us: list[int]
    seconds: float
    generator_seconds: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies_us) / self.seconds

    @property
    def generator_share(self) -> float:
        """How much of one core the generator took; near 1 it would be what is measured."""
        return self.generator_seconds / self.seconds

    def latency_us(self, share: float) -> int:
        """What this share of the answers did not exceed."""
        return sorted(self.latencies_us)[math.ceil(len(self.latencies_us) * share) - 1]


def post(path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """A request as it goes over the wire."""
    named = {"Host": "lastunit", "Content-Type": "application/json", **(headers or {}), "Content-Length": len(body)}
    head = [f"POST {path} HTTP/1.1", *(f"{name}: {text}" for name, text in named.items())]
    return "\r\n".join(head).encode() + HEAD_END + body


class Generator:
    """Connections to one server, open from entry to exit."""

    def __init__(self, address: tuple[str, int], *, connections: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._exchanges = [_Exchange(socket.create_connection(address)) for _ in range(connections)]
        for exchange in self._exchanges:
            self._selector.register(exchange.connection, selectors.EVENT_READ, exchange)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for exchange in self._exchanges:
            exchange.connection.close()

    def run(self, requests: Iterable[bytes], *, seconds: float = math.inf) -> Load:
        """Asks until time or requests end, then waits for what is under way: all that is sent is counted."""
        source = iter(requests)
        statuses: Counter[int] = Counter()
        latencies_ns: list[int] = []
        cpu_started, started_ns = time.process_time(), time.perf_counter_ns()
        ends_ns = started_ns + seconds * 1e9
        under_way = 0
        for exchange, request in zip(self._exchanges, source, strict=False):
            exchange.send(request)
            under_way += 1
        while under_way:
            ready = self._selector.select(SILENT_SECONDS_MAX)
            if not ready:
                raise TimeoutError(f"{under_way} requests have had no answer for {SILENT_SECONDS_MAX} s")
            for key, _ in ready:
                exchange = key.data
                status = exchange.receive()
                if not status:
                    continue
                now_ns = time.perf_counter_ns()
                latencies_ns.append(now_ns - exchange.sent_ns)
                statuses[status] += 1
                following = next(source, None) if now_ns < ends_ns else None
                if following:
                    exchange.send(following)
                else:
                    under_way -= 1
        return _load(statuses, latencies_ns, started_ns, cpu_started)

    def run_at(self, requests: Iterable[bytes], *, rate: float) -> Load:
        """Asks so many times a second until requests end; a request that finds no connection free waits for one."""
        statuses: Counter[int] = Counter()
        latencies_ns: list[int] = []
        free, source = deque(self._exchanges), iter(requests)
        cpu_started, started_ns = time.process_time(), time.perf_counter_ns()
        due_ns, under_way, request = started_ns, 0, next(source, None)
        while request or under_way:
            now_ns = time.perf_counter_ns()
            while request and free and due_ns <= now_ns:
                free.popleft().send(request, due_ns=due_ns)
                due_ns, under_way, request = due_ns + int(1e9 / rate), under_way + 1, next(source, None)
            is_idle = request and free
            ready = self._selector.select(max(0.0, (due_ns - now_ns) / 1e9) if is_idle else SILENT_SECONDS_MAX)
            if not ready and not is_idle:
                raise TimeoutError(f"{under_way} requests have had no answer for {SILENT_SECONDS_MAX} s")
            for key, _ in ready:
                exchange = key.data
                if status := exchange.receive():
                    latencies_ns.append(time.perf_counter_ns() - exchange.sent_ns)
                    statuses[status] += 1
                    free.append(exchange)
                    under_way -= 1
        return _load(statuses, latencies_ns, started_ns, cpu_started)


def _load(statuses: dict[int, int], latencies_ns: Iterable[int], started_ns: int, cpu_started: float) -> Load:
    return Load(
        statuses=dict(statuses),
        latencies_us=[latency_ns // 1000 for latency_ns in latencies_ns],
        seconds=(time.perf_counter_ns() - started_ns) / 1e9,
        generator_seconds=time.process_time() - cpu_started,
    )


class _Exchange:
    """One connection, and what has come of the answer it waits for."""

    __slots__ = ("connection", "received", "sent_ns")

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection
        self.received = b""
        self.sent_ns = 0

    def send(self, request: bytes, *, due_ns: int = 0) -> None:
        self.sent_ns = due_ns or time.perf_counter_ns()
        self.connection.sendall(request)

    def receive(self) -> int:
        """The status of the answer once it is whole, 0 before. Both servers write their header names in lower case."""
        data = self.connection.recv(RECEIVE_BYTES_MAX)
        if not data:
            raise ConnectionError("the server closed a connection that waits for an answer")
        self.received = data = self.received + data
        head_end = data.find(HEAD_END)
        if head_end < 0:
            return 0
        length_start = data.index(LENGTH_NAME, 0, head_end) + len(LENGTH_NAME)
        length = int(data[length_start : data.index(b"\r", length_start)])
        if len(data) < head_end + len(HEAD_END) + length:
            return 0
        self.received = b""
        return int(data[9:12])  # HTTP/1.1 201
