"""Stock from outside: signed deliveries at a constant rate, a partner's page, a reconciliation beside reservations.

Deliveries and reservations come at the same rate, in turns, to one `lastunit serve` with its engine and its archive:
what a reservation waits for, durable as it is, is the machine's own, and what a delivery waits more is ours.
"""

import base64
import hmac
import secrets
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, cycle, takewhile
from pathlib import Path
from typing import Self

import httpx
import msgspec
import uvloop

from app.domain.types import Sku
from app.domain.updates import Delivery, SourcePriority, StockUpdate, UpdateKind, UpdateStatus
from app.settings import Settings
from app.store.catalogue import scan_skus
from app.store.commands import LocationKind
from app.store.engine import open_engine
from app.store.store import make_store
from app.store.updates import apply_delivery
from loadtests.bench.generator import Generator, Load, post
from loadtests.bench.proof import ProofFailed, prove_by_replay
from loadtests.bench.throughput import expect, reserve_request, service, sku_of
from tests.engines import chosen as engines
from tests.engines import running

CONNECTIONS = 32
RATE = 1_000  # deliveries a second, and reservations beside them
SKUS = 500
UNITS = 1_000  # of each line
PAGE_LINES = 1_000
DELIVERY_LINES = 10_000
RESERVE_RATE = 200  # a second, while a reconciliation runs and without one
RUN_SECONDS_MAX = 300
SLOW_CALL_US = 3_000
SETTINGS = """
[sources.wms]
secrets = ["{secret}"]
unknown_sku = "create"
[sources.erp]
secrets = ["{secret}"]
unknown_sku = "create"
[locations.main]
authority = "erp"
"""


@dataclass(frozen=True, slots=True)
class Latency:
    """Of the answers of one round, from the moment that each request was due."""

    p50_us: int
    p99_us: int
    generator_share: float

    @classmethod
    def of(cls, load: Load) -> Self:
        """What a round gave."""
        return cls(load.latency_us(0.5), load.latency_us(0.99), load.generator_share)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """A run over so many SKUs, and what reservations waited without one and meanwhile."""

    skus: int
    seconds: float
    idle: Latency
    meanwhile: Latency


@dataclass(frozen=True, slots=True)
class OutsideCost:
    """All rounds, in the order they were run in; `slow_calls` of the engine took longer than SLOW_CALL_US."""

    deliveries: list[Latency]
    reservations: list[Latency]
    page_ms: list[float]
    slow_calls: int
    reconciliation: Reconciliation


def measure_outside(*, rounds: int, seconds: float, pages: int, skus: int) -> OutsideCost:
    """Measures all three; raises ProofFailed where something was not applied, or not once."""
    with tempfile.TemporaryDirectory(prefix="lastunit-") as folder:
        data_dir, secret = Path(folder), secrets.token_bytes(24)
        text = base64.b64encode(secret).decode()
        (data_dir / "lastunit.toml").write_text(SETTINGS.format(secret=f"whsec_{text}"))
        with (
            service("app", "serve", "--port", "0", "--data-dir", folder) as address,
            Generator(address, connections=CONNECTIONS) as generator,
        ):
            sender = _Sender(generator, secret)
            deliveries, reservations = _take_turns(sender, rounds, seconds)
            reconciliation = _measure_reconciliation(sender, address, skus, seconds)
        uvloop.run(_prove(data_dir, sender.units))
    page_ms, slow_calls = uvloop.run(_measure_pages(pages))
    return OutsideCost(deliveries, reservations, page_ms, slow_calls, reconciliation)


class _Sender:
    """A source that signs what it sends, and adds up the units that it told of."""

    def __init__(self, generator: Generator, secret: bytes) -> None:
        self.generator = generator
        self.units = 0
        self._secret = secret
        self._ids = count()

    def delivery(self, source: str, kind: str, lines: Sequence[tuple[Sku, int]]) -> bytes:
        """One that is new, of this very moment."""
        rows = [{"sku": sku, "quantity": quantity} for sku, quantity in lines]
        body = msgspec.json.encode({"type": kind, "occurred_at": datetime.now(UTC), "lines": rows})
        delivery_id, timestamp = f"delivery-{next(self._ids)}", str(int(time.time()))
        signature = hmac.digest(self._secret, f"{delivery_id}.{timestamp}.".encode() + body, "sha256")
        headers = {
            "webhook-id": delivery_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
        }
        self.units += sum(quantity for _, quantity in lines)
        return post(f"/inventory/v1/webhooks/{source}", body, headers)

    def receipts(self, wanted: int) -> list[bytes]:
        """Each of units of one SKU."""
        return [self.delivery("wms", "receive", [(sku_of(n % SKUS), UNITS)]) for n in range(wanted)]


def _take_turns(sender: _Sender, rounds: int, seconds: float) -> tuple[list[Latency], list[Latency]]:
    """Deliveries and reservations in turns; the first receipts make the SKUs."""
    expect(sender.generator.run(sender.receipts(SKUS)), status=200)
    wanted, taken = int(RATE * seconds), dict[str, list[Latency]](deliveries=[], reservations=[])
    for number in range(rounds):
        for side in sorted(taken, reverse=number % 2 == 1):
            is_delivery = side == "deliveries"
            requests = sender.receipts(wanted) if is_delivery else [reserve_request(n % SKUS) for n in range(wanted)]
            load = sender.generator.run_at(requests, rate=RATE)
            expect(load, status=200 if is_delivery else 201)
            taken[side].append(Latency.of(load))
    return taken["deliveries"], taken["reservations"]


def _measure_reconciliation(sender: _Sender, address: tuple[str, int], skus: int, seconds: float) -> Reconciliation:
    """A run over SKUs that the authority has counted, while agents reserve others."""
    for start in range(0, skus, DELIVERY_LINES):
        lines = [(sku_of(SKUS + n), UNITS) for n in range(start, min(start + DELIVERY_LINES, skus))]
        expect(sender.generator.run([sender.delivery("erp", "count", lines)]), status=200)
    requests = [reserve_request(n % SKUS) for n in range(int(RESERVE_RATE * seconds))]
    idle = sender.generator.run_at(requests, rate=RESERVE_RATE)
    with ThreadPoolExecutor(1) as executor:
        started = time.monotonic()
        url = f"http://{address[0]}:{address[1]}/inventory/v1/admin/reconciliations"
        run = executor.submit(httpx.post, url, timeout=RUN_SECONDS_MAX, trust_env=False)
        until_done = takewhile(lambda _: not run.done(), cycle(requests))
        meanwhile = sender.generator.run_at(until_done, rate=RESERVE_RATE)
        answer, run_seconds = run.result(), time.monotonic() - started
    for load in (idle, meanwhile):
        expect(load, status=201)
    if answer.status_code != 200 or answer.json()["checked"] != skus:
        raise ProofFailed(f"a reconciliation of {skus} SKUs answered {answer.text}")
    return Reconciliation(skus, run_seconds, Latency.of(idle), Latency.of(meanwhile))


async def _prove(data_dir: Path, units: int) -> None:
    """Raises ProofFailed unless what was told of is on hand, and the ledger says so."""
    settings = Settings(data_dir=data_dir)
    with open_engine(settings, exclusive=False) as engine:
        async with make_store(settings, engine.url) as store:
            await prove_by_replay(store, settings)
            found = 0
            for keys in store.keyspace.partitions:
                async for skus in scan_skus(store.client, keys):
                    async with store.client.pipeline(transaction=False) as pipeline:
                        for sku in skus:
                            pipeline.hget(keys.sku(sku), "on_hand")
                        found += sum(map(int, await pipeline.execute()))
    if found != units:
        raise ProofFailed(f"{units} units were told of, {found} are on hand")


async def _measure_pages(pages: int) -> tuple[list[float], int]:
    """How long pages of counts take that say something new, in ms; and the engine's slow calls."""
    taken = list[float]()
    with running(engines()[0]) as engine:
        async with make_store(Settings(), engine.url) as store:
            await store.client.config_set("slowlog-log-slower-than", SLOW_CALL_US)
            for number in range(pages + 1):
                started = time.perf_counter()
                results = await apply_delivery(store.commands, store.keyspace, _page(number), kind_of=_kind_of)
                taken.append((time.perf_counter() - started) * 1000)
                if {result.status for result in results} != {UpdateStatus.APPLIED}:
                    raise ProofFailed("a count that says something new was not applied")
            slow_calls = await store.client.slowlog_len()
    return taken[1:], slow_calls  # the first one makes the SKUs


def _page(number: int) -> Delivery:
    at_us = 1 + number
    lines = [
        StockUpdate(
            number=line, kind=UpdateKind.COUNT, sku=sku_of(line), location_id="main", quantity=(line + number) % UNITS,
            occurred_at_us=at_us, clock={"partner": at_us}, system="partner", channel="direct",
        )
        for line in range(PAGE_LINES)
    ]  # fmt: skip
    return Delivery(
        source="partner", delivery_id="", priority=SourcePriority.PARTNER, deduct_on=UpdateKind.SHIP,
        may_create_skus=True, updates=lines,
    )  # fmt: skip


def _kind_of(_location_id: str) -> LocationKind:
    return "shared"
