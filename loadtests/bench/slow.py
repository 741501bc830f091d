"""What clients cost that never finish: thousands of half heads and half bodies, beside others who reserve meanwhile.

All are opened within a few seconds, so that none has met its deadline when the worker's memory is looked at.
"""

import re
import resource
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from loadtests.bench.generator import Generator, post
from loadtests.bench.proof import ProofFailed
from loadtests.bench.throughput import CONNECTIONS, SKUS, expect, reserve_request, service, stock_requests

FILES_BESIDE = 200  # of this process
SENT_BODY_BYTES = 1000
WHOLE = post("/inventory/v1/reservations", b"{" * 2 * SENT_BODY_BYTES)
HALVES = (WHOLE[:60], WHOLE[:-SENT_BODY_BYTES])


@dataclass(frozen=True, slots=True)
class SlowCost:
    """The worker's resident megabytes, and reserves a second: before so many came, and while all of them are there."""

    clients: int
    megabytes: tuple[float, float]
    rates: tuple[float, float]

    @property
    def client_kilobytes(self) -> float:
        """What one of them costs."""
        before, meanwhile = self.megabytes
        return (meanwhile - before) * 1024 / self.clients


def measure_slow(*, clients: int, seconds: float) -> SlowCost:
    """Raises ProofFailed where others were not served, or the slow ones could not all be there at once."""
    files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if files_max != resource.RLIM_INFINITY and files_max < clients + FILES_BESIDE:
        raise ProofFailed(f"{clients:,} connections need more open files than {files_max:,}: raise ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))  # the service inherits it
    requests = [reserve_request(number) for number in range(SKUS)]
    with (
        tempfile.TemporaryDirectory(prefix="lastunit-") as folder,
        service("app", "serve", "--port", "0", "--data-dir", folder, archive_url="") as address,
        Generator(address, connections=CONNECTIONS) as generator,
    ):
        expect(generator.run(stock_requests()), status=200)
        load = generator.run(cycle(requests), seconds=seconds)
        expect(load, status=201)
        worker = int((Path(folder) / "service.lock").read_text())
        before = _megabytes(worker)
        with ExitStack() as stack:
            slow = [stack.enter_context(client) for client in _slow_clients(address, clients)]
            meanwhile_load = generator.run(cycle(requests), seconds=seconds)
            expect(meanwhile_load, status=201)
            meanwhile = _megabytes(worker)
            ended = sum(map(_is_ended, slow))
    if ended:
        raise ProofFailed(f"{ended:,} of the slow clients had been ended before the memory was looked at")
    return SlowCost(clients, (before, meanwhile), (load.rate, meanwhile_load.rate))


def _slow_clients(address: tuple[str, int], count: int) -> Iterator[socket.socket]:
    for number in range(count):
        client = socket.create_connection(address)
        client.sendall(HALVES[number % len(HALVES)])
        client.setblocking(False)  # noqa: FBT003 - the method of the library
        yield client


def _is_ended(client: socket.socket) -> bool:
    try:
        client.recv(1)
    except BlockingIOError:
        return False
    return True


def _megabytes(pid: int) -> float:
    """Of a process, resident."""
    (found,) = re.findall(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found) / 1024
