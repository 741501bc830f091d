"""Agents that buy, pay, change their minds and forget, and somebody who counts, whatever happens to the service.

They live in a thread of their own. An agent repeats a call with its key until somebody says how it ended, or gives up
and never asks again; at times it leaves before it is answered. All that they do is kept: see `tests/faults/history.py`.
"""

import asyncio
import itertools
import random
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Self

from tests.faults.history import COMES_AGAIN, DONE, Attempt, Call
from tests.gateway import NOTHING, Agent, Answer, Gateway, done, wire_of
from tests.service import eventually

AGENTS = 8
SKUS, UNITS = 12, 1_000_000
SCARCE, SCARCE_UNITS, BACKORDERS = 2, 200, 40  # some sell out, so that there are refusals, backorders and voids
LINES_MAX, QUANTITY_MAX = 3, 3
TTL_SECONDS = (1.0, 1.0, 30.0)  # some expire
ANSWER_SECONDS_MAX = 10.0  # no answer takes longer, says the contract
PAUSE_SECONDS = 0.02
LEAVES_SECONDS_MAX = 0.01
GIVES_UP = 0.1
JOIN_SECONDS_MAX = 60.0


class Shop:
    """Open until the end of the `with`. `calls` is what happened so far; `seconds_max` the slowest answer."""

    def __init__(
        self,
        gateway: Gateway,
        chance: random.Random,
        *,
        agents: int = AGENTS,
        hoarders: int = 0,
        leaves: float = 0.0,
        lines_min: int = 1,
    ) -> None:
        """A share of calls is left before its answer; a basket has so many lines at least. Hoarders never buy.

        Where the gateway has a key, its holder is `shop`.
        """
        self.calls: list[Call] = []
        self.skus = [f"sku-{number}" for number in range(SKUS)]
        self.peers = [gateway.peer]  # where an agent connects, to any of them
        self.bearer = gateway.bearer
        self.holder = "shop" if gateway.bearer else ""
        self.leaves = leaves
        self.lines_min = lines_min
        self.agents = agents
        self._chances = [random.Random(chance.random()) for _ in range(agents + hoarders)]
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), name="shop")
        self._failures: list[BaseException] = []
        self.acknowledged = 0  # calls with an effect that were said to be done
        self.unanswered = 0  # calls that waited as long as an answer may take
        self.started = time.monotonic()
        self.wall_offset = time.time() - self.started
        for number, sku in enumerate(self.skus):
            units = SCARCE_UNITS if number < SCARCE else UNITS
            done(gateway.post(f"skus/{sku}/adjustments", {"delta": units, "reason": "opening"}))
        for sku in self.skus[::3]:
            done(gateway("PATCH", f"skus/{sku}", {"backorder_limit": BACKORDERS}))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(JOIN_SECONDS_MAX)
        assert not self._thread.is_alive()
        if self._failures:
            raise self._failures[0]

    @property
    def seconds_max(self) -> float:
        attempts = (attempt for call in self.calls for attempt in call.attempts if attempt.answer)
        return max(attempt.ended - attempt.started for attempt in attempts)

    def answers(self, status: int) -> list[Answer]:
        """All with this status."""
        found = (attempt.answer for call in self.calls for attempt in call.attempts)
        return [answer for answer in found if answer and answer.status == status]

    def advances(self, count: int, *, seconds_max: float) -> None:
        """Returns when so many more calls are acknowledged."""
        goal = self.acknowledged + count
        eventually(lambda: self._failures or self.acknowledged >= goal, seconds_max=seconds_max)

    def ask_again(self, gateway: Gateway, count: int, chance: random.Random) -> None:
        """Repeats some of what was acknowledged: each must get its first answer."""
        known = [call for call in self.calls if call.key and call.acknowledged]
        for call in chance.sample(known, min(count, len(known))):
            started = time.monotonic()
            answer = gateway(call.method, call.path, call.body, idempotency_key=call.key)
            call.attempts.append(Attempt(started, time.monotonic(), answer))

    def ask(self, gateway: Gateway, path: str, body: Mapping[str, Any], *, key: str) -> Answer:
        """A call besides, answered as it is."""
        call, started = Call(-1, "POST", path, body, key, holder=self.holder), time.monotonic()
        answer = gateway.post(path, body, idempotency_key=key)
        call.attempts.append(Attempt(started, time.monotonic(), answer))
        self.calls.append(call)
        return answer

    def hold(self, gateway: Gateway, sku: str, *, ttl_seconds: float) -> str:
        """The token of a unit of a SKU that nobody else asks for."""
        done(gateway.post(f"skus/{sku}/adjustments", {"delta": 1, "reason": "opening"}))
        line = {"sku": sku, "quantity": 1}
        body = {"lines": [line], "agent_id": "agent", "ttl_seconds": ttl_seconds, "allow_backorder": False}
        return str(done(self.ask(gateway, "reservations", body, key=f"held-{len(self.calls)}"), 201)["token"])

    def hold_briefly(self, gateway: Gateway) -> str:
        """One that is due soon."""
        return self.hold(gateway, "forgotten", ttl_seconds=1)

    async def _live(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for client, chance in enumerate(self._chances):
                    group.create_task(_Client(self, client, chance).live())
        except BaseExceptionGroup as failures:
            self._failures += failures.exceptions

    @property
    def is_over(self) -> bool:
        return self._is_over.is_set()


class _Client:
    """One agent, with a connection that is opened anew whenever it is lost."""

    def __init__(self, shop: Shop, number: int, chance: random.Random) -> None:
        self._shop = shop
        self._number = number
        self._chance = chance
        self._keys = (f"{number}-{count}" for count in itertools.count())
        self._agent: Agent | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def live(self) -> None:
        ways: tuple[Callable[[], Awaitable[object]], ...] = (
            self._buy,
            self._buy,
            self._buy,
            self._change_its_mind,
            self._pay,
            self._forget,
            self._look,
            self._count,
        )
        if self._number >= self._shop.agents:
            ways = (self._forget, self._forget, self._change_its_mind, self._prolong)
        try:
            while not self._shop.is_over:
                await self._chance.choice(ways)()
        finally:
            self._leave()

    async def _buy(self) -> None:
        if held := await self._reserve():
            body: dict[str, Any] = {"order_id": f"order-{held['token']}"}
            if self._chance.random() < 0.3:
                body["lines"] = self._some(held["lines"])
            sold = await self._verb(held, "commit", body)
            if sold and self._chance.random() < 0.3:
                await self._verb(held, "cancel", {"lines": self._some(sold["lines"])})

    async def _change_its_mind(self) -> None:
        if held := await self._reserve():
            await self._verb(held, "release", {})

    async def _pay(self) -> None:
        if held := await self._reserve():
            await self._verb(held, "extend", {"ttl_seconds": 40})
            await self._verb(held, "payment", {"ttl_seconds": 50})
            await self._verb(held, "commit", {"order_id": f"order-{held['token']}"})

    async def _forget(self) -> None:
        await self._reserve()

    async def _prolong(self) -> None:
        if held := await self._reserve():
            await self._verb(held, "extend", {"ttl_seconds": 40})

    async def _look(self) -> None:
        await self._call("GET", f"skus/{self._chance.choice(self._shop.skus)}/availability")

    async def _count(self) -> None:
        """Mostly more than is sold meanwhile; at times so much less that holds are voided."""
        if self._chance.random() < 0.3:
            delta = -self._chance.randint(1, 60) if self._chance.random() < 0.1 else self._chance.randint(1, 60)
            path = f"skus/{self._chance.choice(self._shop.skus)}/adjustments"
            await self._call("POST", path, {"delta": delta, "reason": "found"}, key=next(self._keys))

    async def _reserve(self) -> dict[str, Any] | None:
        skus = self._chance.sample(self._shop.skus, self._chance.randint(self._shop.lines_min, LINES_MAX))
        return await self._call("POST", "reservations", {
            "lines": [{"sku": sku, "quantity": self._chance.randint(1, QUANTITY_MAX)} for sku in skus],
            "agent_id": f"agent-{self._number}", "ttl_seconds": self._chance.choice(TTL_SECONDS),
            "allow_backorder": self._chance.random() < 0.5,
        }, key=next(self._keys))  # fmt: skip

    async def _verb(self, held: Mapping[str, Any], verb: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        return await self._call("POST", f"reservations/{held['token']}/{verb}", body, key=next(self._keys))

    def _some(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        chosen = self._chance.sample(lines, self._chance.randint(1, len(lines)))
        return [{"sku": line["sku"], "quantity": self._chance.randint(1, line["quantity"])} for line in chosen]

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, key: str = ""
    ) -> dict[str, Any] | None:
        """What was said to be done; None where it was refused, or is given up."""
        call = Call(self._number, method, path, body or {}, key, holder=self._shop.holder)
        self._shop.calls.append(call)
        wire = wire_of(method, path, NOTHING if body is None else body, key=key, bearer=self._shop.bearer)
        while True:
            started = time.monotonic()
            answer = await self._attempt(wire)
            call.attempts.append(Attempt(started, time.monotonic(), answer))
            if answer and answer.status not in COMES_AGAIN:
                if answer.status not in DONE:
                    return None
                self._shop.acknowledged += bool(key)
                found: dict[str, Any] = answer.json
                return found
            if self._shop.is_over or self._chance.random() < GIVES_UP:
                return None
            await asyncio.sleep(PAUSE_SECONDS)

    async def _attempt(self, wire: bytes) -> Answer | None:
        """The answer; None where none came, or was not waited for."""
        leaves = self._chance.random() < self._shop.leaves
        try:
            if self._agent is None:
                reader, self._writer = await asyncio.open_connection(*self._chance.choice(self._shop.peers))
                self._agent = Agent(reader, self._writer)
            async with asyncio.timeout(self._chance.uniform(0, LEAVES_SECONDS_MAX) if leaves else ANSWER_SECONDS_MAX):
                return await self._agent.send(wire)
        except TimeoutError:
            self._shop.unanswered += not leaves
        except (OSError, asyncio.IncompleteReadError):
            pass
        self._leave()
        return None

    def _leave(self) -> None:
        if self._writer:
            with suppress(OSError):
                self._writer.transport.abort()
        self._agent = self._writer = None
