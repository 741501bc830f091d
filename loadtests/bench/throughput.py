"""Reserve through HTTP: one worker of `lastunit serve` with its embedded engine, beside the baseline, each a process.

Rounds alternate and change their order, so that what else the machine does meets both sides alike. Both get the same
bytes over as many connections from the same generator.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import median

import msgspec
import uvloop

from app.domain.types import Sku
from app.settings import Settings
from app.store.engine import open_engine
from app.store.store import make_store
from loadtests.bench.generator import Generator, Load, post
from loadtests.bench.proof import ProofFailed, prove, prove_by_replay

CONNECTIONS = 64
SKUS = 1000
ON_HAND = 1_000_000
TTL_SECONDS = 1800
WARM_UP_SECONDS = 1.0
END_SECONDS_MAX = 30
ADDRESS = re.compile(r"http://(127\.0\.0\.1):(\d+)")


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one side."""

    rate: float
    p50_us: int
    p99_us: int
    generator_share: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """All rounds, in the order they were run in, and how many reservations the ledger was proven to hold."""

    baseline: list[Round]
    reserve: list[Round]
    proven_holds: int

    @property
    def ratio(self) -> float:
        """Reserve by baseline, of the medians of their rates."""
        return median(each.rate for each in self.reserve) / median(each.rate for each in self.baseline)


def measure_throughput(*, rounds: int, seconds: float) -> Throughput:
    """Runs both and proves the ledger; raises ProofFailed."""
    requests = [reserve_request(number) for number in range(SKUS)]
    taken: dict[str, list[Round]] = {"baseline": [], "reserve": []}
    held_units = 0
    with (
        tempfile.TemporaryDirectory(prefix="lastunit-") as folder,
        service("loadtests.bench.baseline") as baseline,
        service("app", "serve", "--port", "0", "--data-dir", folder) as gateway,
        Generator(baseline, connections=CONNECTIONS) as ask_baseline,
        Generator(gateway, connections=CONNECTIONS) as ask_gateway,
    ):
        expect(ask_gateway.run(stock_requests()), status=200)
        generators = {"baseline": ask_baseline, "reserve": ask_gateway}
        for number in range(-1, rounds):
            for side in sorted(generators, reverse=number % 2 == 1):
                load = generators[side].run(cycle(requests), seconds=WARM_UP_SECONDS if number < 0 else seconds)
                expect(load, status=201)
                held_units += load.statuses[201] if side == "reserve" else 0
                if number >= 0:
                    taken[side].append(_round(load))
        uvloop.run(prove_service(Path(folder), held_units))
    return Throughput(**taken, proven_holds=held_units)


@contextmanager
def service(*command: str, **settings: object) -> Iterator[tuple[str, int]]:
    """A service in a process of its own, by the address in the line it prints; ended with SIGTERM."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LASTUNIT_")}
    environment |= {f"LASTUNIT_{name.upper()}": str(value) for name, value in settings.items()}
    environment["LASTUNIT_LOG_LEVEL"] = "warning"
    arguments = [sys.executable, "-m", *command]
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            match = ADDRESS.search(process.stdout.readline())
            if not match:
                raise RuntimeError(f"{command[0]} did not start")
            yield match[1], int(match[2])
        finally:
            process.terminate()
            try:
                process.wait(END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()


def sku_of(number: int) -> Sku:
    """Its name."""
    return Sku(f"SKU-{number:06}")


def stock_requests() -> Iterator[bytes]:
    """Puts units of every SKU on hand."""
    body = msgspec.json.encode({"on_hand_quantity": ON_HAND, "reason": "benchmark"})
    for number in range(SKUS):
        yield post(f"/inventory/v1/skus/{sku_of(number)}/adjustments", body)


def reserve_request(number: int) -> bytes:
    """Holds a unit of a SKU."""
    body = {"sku": sku_of(number), "quantity": 1, "agent_id": f"agent-{number}", "ttl_seconds": TTL_SECONDS}
    return post("/inventory/v1/reservations", msgspec.json.encode(body))


def expect(load: Load, *, status: int) -> None:
    """Raises ProofFailed where an answer had another status."""
    if set(load.statuses) != {status}:
        raise ProofFailed(f"answers by status are {load.statuses}, all of which had to be {status}")


def _round(load: Load) -> Round:
    return Round(load.rate, load.latency_us(0.5), load.latency_us(0.99), load.generator_share)


async def prove_service(data_dir: Path, held_units: int, *, archive_url: str | None = None) -> None:
    """Raises ProofFailed where a service that has ended did not do what it acknowledged."""
    settings = Settings(data_dir=data_dir, archive_url=archive_url)
    with open_engine(settings, exclusive=False) as engine:
        async with make_store(settings, engine.url) as store:
            skus = [sku_of(number) for number in range(SKUS)]
            await prove(store, skus, entries=SKUS + held_units, held_units=held_units)
            await prove_by_replay(store, settings)
