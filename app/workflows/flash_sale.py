"""A flash sale over real HTTP: many agents, few units, each agent acting on the advice it gets."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import httpx

from app.domain.errors import LastunitError

SKU = "FLASH-SALE"
TTL_SECONDS = 30
PAUSE_SECONDS_MAX = 0.25
CHANGED_MINDS = 0.1
ATTEMPTS_MAX = 1000
CALLS_AT_ONCE_MAX = 64
CALL_SECONDS_MAX = 30


class SaleFailed(LastunitError):
    """An answer that a flash sale never expects."""


@dataclass(slots=True)
class Tally:
    """What the agents were told: tokens of what they bought, and how many of each other answer they got."""

    bought: list[str] = field(default_factory=list)
    gave_up: int = 0
    changed_minds: int = 0
    refusals: int = 0
    calls: int = 0


class _Client:
    """HTTP with a bound on calls at once: agents wait here, not in the connection pool, whose queue is slow."""

    def __init__(self, address: str) -> None:
        self._http = httpx.AsyncClient(base_url=address, timeout=CALL_SECONDS_MAX, trust_env=False)
        self._turns = asyncio.Semaphore(CALLS_AT_ONCE_MAX)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()

    async def post(self, path: str, body: object = None, *, idempotency_key: str | None = None) -> httpx.Response:
        """The answer to a POST, whatever its status."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        async with self._turns:
            return await self._http.post(path, json=body, headers=headers)


async def run_flash_sale(
    address: str, *, agents: int, units: int, seed: int, on_agent_done: Callable[[], None]
) -> Tally:
    """Puts `units` on sale and lets every agent try to buy one; raises SaleFailed on an answer that must not be.

    One in ten of those who hold a unit changes its mind and releases it; whoever is refused comes back when the
    advice says that a hold may still end, and gives up when it says so.
    """
    tally = Tally()
    async with _Client(address) as client:
        stocked = await client.post(
            f"/inventory/v1/skus/{SKU}/adjustments", {"on_hand_quantity": units, "reason": "flash sale"}
        )
        _expect(stocked, 200)

        async def buy(number: int) -> None:
            await _buy(client, number, random.Random(f"{seed}-{number}"), tally)  # noqa: S311 - a simulation
            on_agent_done()

        async with asyncio.TaskGroup() as group:
            for number in range(agents):
                group.create_task(buy(number))
    return tally


async def _buy(client: _Client, number: int, chance: random.Random, tally: Tally) -> None:
    """One agent, until it has bought, changed its mind or given up."""
    for attempt in range(ATTEMPTS_MAX):
        tally.calls += 1
        answer = await client.post(
            "/inventory/v1/reservations",
            {"sku": SKU, "agent_id": f"agent-{number}", "ttl_seconds": TTL_SECONDS},
            idempotency_key=f"{number}-{attempt}",
        )
        if answer.status_code == httpx.codes.CREATED:
            await _decide(client, answer.json()["token"], chance, tally)
            return
        _expect(answer, httpx.codes.CONFLICT)
        tally.refusals += 1
        advice = answer.json()["lines"][0]["advice"]
        if advice["action"] != "retry_after":
            break
        pause_seconds = min(advice["retry_after_ms"] / 1000, PAUSE_SECONDS_MAX)
        await asyncio.sleep(pause_seconds * chance.uniform(0.5, 1))
    tally.gave_up += 1


async def _decide(client: _Client, token: str, chance: random.Random, tally: Tally) -> None:
    """Pays for what is held, or lets it go."""
    await asyncio.sleep(chance.uniform(0, PAUSE_SECONDS_MAX))
    verb = "release" if chance.random() < CHANGED_MINDS else "commit"
    tally.calls += 1
    _expect(await client.post(f"/inventory/v1/reservations/{token}/{verb}"), 200)
    if verb == "commit":
        tally.bought.append(token)
    else:
        tally.changed_minds += 1


def _expect(answer: httpx.Response, status: int) -> None:
    if answer.status_code != status:
        raise SaleFailed(
            f"{answer.request.method} {answer.request.url.path} was answered {answer.status_code}: {answer.text[:200]}"
        )
