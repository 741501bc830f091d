"""What it costs to ask who calls: reserve with a key beside reserve on an open service.

Once in this process, the gateway's own code around an engine that answers at once; once through HTTP, two services with
an engine each. Rounds alternate. Counted is time of a core, of which a busy machine takes nothing away.
"""

import json
import os
import secrets
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, cast

import uvloop

from app.access.limits import RateLimit
from app.api.front import Front
from app.api.reservations import hot_reservation_routes
from app.api.routing import HotTable
from app.api.services import Services
from app.domain.outcomes import Held
from app.domain.types import Line, Remaining, Reservation, Sku, Token
from app.settings import Settings
from app.store.keys import Keyspace
from app.store.store import Store
from loadtests.bench.generator import Generator
from loadtests.bench.throughput import CONNECTIONS, SKUS, expect, reserve_request, service, stock_requests

CALLS = 200
RATE = "1000000/second"  # is counted, and never met
KEY = f"lu_{secrets.token_urlsafe(32)}"
TICKS = os.sysconf("SC_CLK_TCK")
BODY = json.dumps({"sku": "SKU-000001", "quantity": 1, "agent_id": "agent-1", "ttl_seconds": 60}).encode()
HEADERS = [(b"host", b"lastunit"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


@dataclass(frozen=True, slots=True)
class AccessCost:
    """Us of a core that a reserve takes, a value a round.

    Of the gateway's own code: open, with a key, with a rate as well. Of worker and engine together: open, with a key.
    """

    open_us: list[float]
    key_us: list[float]
    rate_us: list[float]
    open_service_us: list[float]
    key_service_us: list[float]

    @property
    def share(self) -> float:
        """What the key adds to worker and engine, as a share: the median of what neighbouring rounds say."""
        pairs = zip(self.open_service_us, self.key_service_us, strict=True)
        return median(keyed / free for free, keyed in pairs) - 1


def measure_access(*, rounds: int, seconds: float) -> AccessCost:
    """Runs both; raises ProofFailed where an answer was none."""
    with tempfile.TemporaryDirectory(prefix="lastunit-") as folder:
        path = Path(folder) / "keys.json"
        path.write_text(json.dumps({"keys": [_row("bench", KEY, "operator")]}))
        open_us, key_us, rate_us = uvloop.run(_measure_fronts(path, rounds=40 * rounds))
        open_service_us, key_service_us = _measure_services(path, Path(folder), rounds=rounds, seconds=seconds)
    return AccessCost(open_us, key_us, rate_us, open_service_us, key_service_us)


def _row(key_id: str, key: str, scope: str) -> dict[str, Any]:
    return {"id": key_id, "sha256": sha256(key.encode()).hexdigest(), "scopes": [scope]}


async def _measure_fronts(path: Path, *, rounds: int) -> list[list[float]]:
    bearer = (b"authorization", f"Bearer {KEY}".encode())
    sides = [
        (_front(Settings()), HEADERS),
        (_front(Settings(api_keys_file=path)), [*HEADERS, bearer]),
        (_front(Settings(api_keys_file=path, rate_limit=RATE)), [*HEADERS, bearer]),
    ]
    taken_us: list[list[float]] = [[] for _ in sides]
    for number in range(rounds):
        for index in sorted(range(len(sides)), reverse=number % 2 == 1):
            front, headers = sides[index]
            started = time.process_time()
            for _ in range(CALLS):
                await _call(front, headers)
            taken_us[index].append(round((time.process_time() - started) / CALLS * 1e6, 2))
    return taken_us


def _front(settings: Settings) -> Front:
    """The gateway's hot path, on a store that holds whatever it is asked for."""
    held = Held(
        Reservation(
            token=Token("0-AAAAAAAAAAAAAAAAAAAAAA"), status="held", agent_id="agent-1", channel="direct", order_id="",
            details=b"", created_at_us=1, expires_at_us=2, sequence=1, lines=(Line(Sku("SKU-000001"), 1),),
            remaining=(Remaining(Sku("SKU-000001"), 9, 5),),
        ),
        is_replayed=False,
    )  # fmt: skip

    async def reserve(*_: object, **__: object) -> Held:
        return held

    services = Services(settings)
    commands = SimpleNamespace(reserve=reserve)
    services.opened_store = cast("Store", SimpleNamespace(commands=commands, keyspace=Keyspace(1)))
    return Front(
        cast("Any", None),
        HotTable(hot_reservation_routes(services).routes),
        gate=services.gate,
        rate_limit=RateLimit(settings.rate_limit) if settings.rate_limit else None,
        bodies=services.bodies,
        body_bytes_max=settings.body_bytes_max,
        log_requests=False,
    )


async def _call(front: Front, headers: Sequence[tuple[bytes, bytes]]) -> None:
    async def receive() -> Any:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: Any) -> None:
        assert message.get("status", 201) == 201

    path = b"/inventory/v1/reservations"
    scope = {"type": "http", "method": "POST", "raw_path": path, "path": "", "query_string": b"", "headers": headers}
    await front(scope, receive, send)


def _measure_services(path: Path, folder: Path, *, rounds: int, seconds: float) -> tuple[list[float], list[float]]:
    requests = [reserve_request(number) for number in range(SKUS)]
    bearer = f"\r\nAuthorization: Bearer {KEY}\r\n".encode()
    shown = [_with(request, bearer) for request in requests]
    taken: dict[str, list[float]] = {"key": [], "open": []}
    with (
        service("app", "serve", "--port", "0", "--data-dir", str(folder / "open"), archive_url="") as free,
        service(
            "app", "serve", "--port", "0", "--data-dir", str(folder / "key"), archive_url="", api_keys_file=path
        ) as keyed,
        Generator(free, connections=CONNECTIONS) as ask_free,
        Generator(keyed, connections=CONNECTIONS) as ask_keyed,
    ):
        expect(ask_free.run(stock_requests()), status=200)
        expect(ask_keyed.run(_with(request, bearer) for request in stock_requests()), status=200)
        sides = {"key": (ask_keyed, shown), "open": (ask_free, requests)}
        for number in range(-1, rounds):
            for side in sorted(sides, reverse=number % 2 == 1):
                generator, asked = sides[side]
                started = _core_seconds(folder / side)
                load = generator.run(cycle(asked), seconds=seconds)
                expect(load, status=201)
                if number >= 0:
                    taken[side].append((_core_seconds(folder / side) - started) / load.statuses[201] * 1e6)
    return taken["open"], taken["key"]


def _core_seconds(data_dir: Path) -> float:
    """What the engine has taken, and its parent, which is the worker."""
    engine = _stat(json.loads((data_dir / "engine.json").read_text())["pid"])
    return sum(int(ticks) for stat in (engine, _stat(int(engine[1]))) for ticks in stat[11:13]) / TICKS


def _stat(pid: int) -> list[str]:
    """What Linux says of a process, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def _with(request: bytes, header: bytes) -> bytes:
    return request.replace(b"\r\n", header, 1)
