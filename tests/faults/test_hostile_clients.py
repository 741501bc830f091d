"""Clients that are slow, malformed or too many, on raw sockets: no 5xx, bounded memory, and the others are served."""

import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.faults.conftest import Measure
from tests.faults.proof import prove
from tests.faults.shop import ANSWER_SECONDS_MAX, Shop
from tests.service import Home

SLOW = 800
LARGE_BODIES, LARGE_BODY_BYTES = 8, 60 << 20
DEEP, DEEP_BODIES = 20_000, 50
HEADERS, HEADER_FLOODS = 50_000, 8
NOISES = 200
GROWTH_MEGABYTES_MAX = 100
CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
POST = b"POST /inventory/v1/reservations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

Peer = tuple[str, int]


def memory_megabytes(pid: int) -> float:
    """Of a process, resident."""
    (found,) = re.findall(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found) / 1024


def said(connection: socket.socket) -> bytes:
    """All that the service says until it ends the connection, or is silent."""
    heard = b""
    with suppress(OSError):
        while data := connection.recv(65_536):
            heard += data
    return heard


@contextmanager
def connected(peer: Peer) -> Iterator[socket.socket]:
    with socket.create_connection(peer, timeout=2) as connection:
        yield connection


def slow_clients(peer: Peer, chance: random.Random) -> list[bytes]:
    """Many begin a head, or a body, and do not go on."""
    whole = POST + b"Content-Length: 1000\r\n\r\n" + b" " * 1000
    with ExitStack() as stack:
        opened = [stack.enter_context(connected(peer)) for _ in range(SLOW)]
        for number, connection in enumerate(opened):
            connection.sendall(whole[: chance.randint(1, len(whole) - 1 if number % 2 else len(POST) - 1)])
        time.sleep(1)
        return []


def large_bodies(peer: Peer, chance: random.Random) -> list[bytes]:
    """With their length, and in chunks without one."""

    def send(number: int) -> bytes:
        is_chunked = number % 2
        length = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % LARGE_BODY_BYTES
        with connected(peer) as connection:
            with suppress(OSError):
                connection.sendall(POST + length + b"\r\n\r\n")
                for _ in range(LARGE_BODY_BYTES // 0x10000):
                    connection.sendall(CHUNK if is_chunked else CHUNK[7:-2])
            return said(connection)

    with ThreadPoolExecutor(LARGE_BODIES) as pool:
        return list(pool.map(send, range(LARGE_BODIES)))


def deep_values(peer: Peer, chance: random.Random) -> list[bytes]:
    """JSON that nests deeper than a stack is high."""
    found = []
    for number in range(DEEP_BODIES):
        opening = b"[" if number % 2 else b'{"a":'
        body = opening * DEEP
        with connected(peer) as connection:
            connection.sendall(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            found.append(said(connection))
    return found


def header_floods(peer: Peer, chance: random.Random) -> list[bytes]:
    """Heads without end: of many lines, of one long one."""
    found = []
    for number in range(HEADER_FLOODS):
        line = b"X-%d: %s\r\n" % (number, b"y" * 100)
        flood = line * HEADERS if number % 2 else b"X: " + b"y" * len(line) * HEADERS
        with connected(peer) as connection:
            with suppress(OSError):
                connection.sendall(POST + flood)
            found.append(said(connection))
    return found


def noise(peer: Peer, chance: random.Random) -> list[bytes]:
    """A good request with some bytes changed, doubled or left out."""
    body = b'{"sku": "nobody has it", "agent_id": "agent"}'
    good = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    found = []
    for _ in range(NOISES):
        wire = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(wire))
            wire[place : place + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 3))
        with connected(peer) as connection:
            with suppress(OSError):
                connection.sendall(wire)
                connection.shutdown(socket.SHUT_WR)
            found.append(said(connection))
    return found


HOSTILITIES = [slow_clients, large_bodies, deep_values, header_floods, noise]


def test_hostile_clients_disturb_nobody(home: Home, measure: Measure, chance: random.Random) -> None:
    """All kinds, one after the other, beside agents who buy."""
    service = home.serve()
    before = memory_megabytes(service.process.pid)
    peaks: dict[str, float] = {}
    with Shop(service.gateway, chance) as shop:
        for hostility in HOSTILITIES:
            with watched_memory(service.process.pid) as peak:
                answers = hostility(service.gateway.peer, chance)
            statuses = [int(status) for answer in answers for status in re.findall(rb"HTTP/1.1 (\d{3})", answer)]
            assert all(400 <= status < 500 or status in (200, 201) for status in statuses), (hostility, statuses)
            assert hostility is not header_floods or set(statuses) <= {431}
            peaks[hostility.__name__] = max(peak) - before
            shop.advances(measure.commands // len(HOSTILITIES), seconds_max=measure.seconds_max)
    print({name: f"{growth:.0f} MB" for name, growth in peaks.items()})
    assert max(peaks.values()) < GROWTH_MEGABYTES_MAX, peaks
    assert shop.answers(503) == shop.answers(500) == []
    assert shop.seconds_max < ANSWER_SECONDS_MAX
    assert "request_failed" not in home.stderr
    prove(home, shop, service.gateway)


@contextmanager
def watched_memory(pid: int) -> Iterator[list[float]]:
    """What it is, looked at all the time."""
    found = [memory_megabytes(pid)]
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.02):
            found.append(memory_megabytes(pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()
