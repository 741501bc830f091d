"""A warehouse's day over real HTTP: it says what it does by signed webhooks, agents sell what it has meanwhile.

A partner who has more of it is asked.
"""

import asyncio
import base64
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import httpx
import msgspec
from standardwebhooks import Webhook

from app.domain.errors import LastunitError
from app.workflows.partner import Partner

SKU = "TULIP"
SOURCE, AUTHORITY = "wms", "erp"
LOCATION = "main"
RECEIVED, SOLD, RETURNED, MISSING, ELSEWHERE = 100, 40, 2, 1, 25
CALL_SECONDS_MAX = 30
POLL_SECONDS = 0.5  # in the world 30, which nobody wants to watch
LOOK_SECONDS, LOOKS_MAX = 0.02, 1000


class DayFailed(LastunitError):
    """An answer that a warehouse's day never expects."""


@dataclass(frozen=True, slots=True)
class Step:
    """What somebody said, and what the service says of the SKU right after; `ms` that it took, all calls together."""

    said: str
    on_hand: int
    available: int
    committed: int
    ms: float


def new_secret() -> str:
    """A secret of Standard Webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


def configuration(secret: str, partner: Partner, url: str) -> str:
    """The lastunit.toml of a service that this warehouse and its ERP talk to, and that asks the partner there."""
    return f"""
[sources.{SOURCE}]
secrets = ["{secret}"]
unknown_sku = "create"

[sources.{AUTHORITY}]
secrets = ["{secret}"]

[sources.partner]
connector = "rest"

[sources.partner.poll]
url = "{url}"
token = "{partner.token}"
interval_seconds = {POLL_SECONDS}

[locations.{LOCATION}]
authority = "{AUTHORITY}"
"""


class Warehouse:
    """Signs and sends; a client of the service's other routes as well."""

    def __init__(self, address: str, secret: str) -> None:
        self._http = httpx.AsyncClient(base_url=address, timeout=CALL_SECONDS_MAX, trust_env=False)
        self._webhook = Webhook(secret)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def say(
        self,
        kind: str,
        lines: Mapping[str, int],
        *,
        source: str = SOURCE,
        delivery_id: str | None = None,
        **rest: object,
    ) -> dict[str, Any]:
        """Sends a delivery about one moment: now. Returns the service's answer; raises DayFailed unless it is 200."""
        now = datetime.now(UTC)
        body = msgspec.json.encode({
            "type": kind, "occurred_at": now.isoformat(), "location_id": LOCATION,
            "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines.items()], **rest,
        }).decode()  # fmt: skip
        webhook_id = delivery_id or f"msg_{secrets.token_hex(12)}"
        headers = {
            "content-type": "application/json",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhook.sign(webhook_id, now, body),
        }
        path = f"/inventory/v1/webhooks/{source}"
        return _done(await self._http.post(path, content=body.encode(), headers=headers), 200)

    async def post(self, path: str, body: object = None, *, status: int = 200) -> dict[str, Any]:
        """Any other call."""
        return _done(await self._http.post(path, json=body), status)

    async def availability(self) -> dict[str, Any]:
        """What the service says of the SKU."""
        return _done(await self._http.get(f"/inventory/v1/skus/{SKU}/availability"), 200)

    async def wait_for(self, on_hand: int) -> None:
        """Until the service has that many of the SKU: somebody else tells it. Raises DayFailed."""
        for _ in range(LOOKS_MAX):
            if (await self.availability())["on_hand_quantity"] == on_hand:
                return
            await asyncio.sleep(LOOK_SECONDS)
        raise DayFailed(f"the service never had {on_hand} of {SKU}")


async def live_a_day(warehouse: Warehouse, partner: Partner) -> Sequence[Step]:
    """Receives, sells, picks, packs, ships, takes back, counts; then the ERP counts, and reconciliation finds out.

    In the end the partner is asked what he has.
    """
    steps: list[Step] = []

    async def note(said: str, started: float) -> None:
        ms = (time.perf_counter() - started) * 1000
        found = await warehouse.availability()
        steps.append(
            Step(
                said,
                on_hand=found["on_hand_quantity"],
                available=found["available_quantity"],
                committed=found["committed_quantity"],
                ms=ms,
            )
        )

    started = time.perf_counter()
    await warehouse.say("receive", {SKU: RECEIVED})
    await note(f"the warehouse receives {RECEIVED}", started)
    started = time.perf_counter()
    tokens = [await _buy(warehouse, number) for number in range(SOLD)]
    await note(f"agents buy {SOLD}, one each", started)
    for kind, word in (("pick", "picks"), ("pack", "packs"), ("ship", "ships")):
        started = time.perf_counter()
        for token in tokens:
            await warehouse.say(kind, {SKU: 1}, reference=token)
        await note(f"the warehouse {word} each order", started)
    started = time.perf_counter()
    repeated = {"delivery_id": "msg_return", "reference": tokens[0]}
    await warehouse.say("return", {SKU: RETURNED}, **repeated)
    await warehouse.say("return", {SKU: RETURNED}, **repeated)
    await note(f"{RETURNED} come back, told twice", started)
    found = await warehouse.availability()
    started = time.perf_counter()
    await warehouse.say("count", {SKU: found["on_hand_quantity"] - MISSING})
    await note(f"a cycle count misses {MISSING}", started)
    found = await warehouse.availability()
    started = time.perf_counter()
    await warehouse.say("count", {SKU: found["on_hand_quantity"] - MISSING}, source=AUTHORITY)
    await note(f"a silent hour: the ERP counts {MISSING} less", started)
    started = time.perf_counter()
    report = await warehouse.post("/inventory/v1/admin/reconciliations")
    await note(f"reconciliation corrects {report['corrected']}", started)
    started = time.perf_counter()
    partner.set_stock(SKU, ELSEWHERE)
    await warehouse.wait_for(steps[-1].on_hand + ELSEWHERE)
    await note(f"a partner, polled, has {ELSEWHERE} more", started)
    return steps


def proven(steps: Sequence[Step]) -> Iterator[tuple[str, bool]]:
    """What must be true of a day, each with whether it is."""
    available = [step.available for step in steps]
    left = RECEIVED - SOLD
    yield "picking, packing and shipping changed nothing of what can be sold", available[1:5] == [left] * 4
    yield (
        "what was shipped is no longer on hand, and no longer committed",
        ((steps[4].on_hand, steps[4].committed) == (left, 0)),
    )
    yield "a return counts once, however often it is told", available[5] == left + RETURNED
    yield (
        "a scan is believed at once, an ERP's count by reconciliation",
        (available[6:9] == [left + RETURNED - MISSING] * 2 + [left + RETURNED - 2 * MISSING]),
    )
    yield "what a partner has can be sold as soon as it was polled", available[9] == available[8] + ELSEWHERE


async def _buy(warehouse: Warehouse, number: int) -> str:
    held = await warehouse.post("/inventory/v1/reservations", {"sku": SKU, "agent_id": f"agent-{number}"}, status=201)
    token = str(held["token"])
    await warehouse.post(f"/inventory/v1/reservations/{token}/commit")
    return token


def _done(answer: httpx.Response, status: int) -> dict[str, Any]:
    if answer.status_code != status:
        request = answer.request
        raise DayFailed(f"{request.method} {request.url.path} was answered {answer.status_code}: {answer.text[:300]}")
    found: dict[str, Any] = answer.json()
    return found
