"""Days in the shop from one seed: agents reserve, pay, commit and forget, operators count, clocks run and jump."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from app.domain.outcomes import Held
from app.domain.types import Line, Sku, Token
from app.store.commands import Idempotency
from tests.oracle import LIVE, OPEN
from tests.simulation.twin import MAX_LIFETIME_US, Twin

SKUS = [Sku(name) for name in ("A", "x/availability", "ABC/12", "é", "日本", "%", "a b", "{tag}")]
UNKNOWN_SKU = Sku("nobody told of this one")
UNKNOWN_TOKEN = Token("0-AAAAAAAAAAAAAAAAAAAAAA")
AGENTS = ["agent_1", "agent 2", "агент"]
CHANNELS = ["direct", "web shop"]
LOCATIONS = ["main", "WH 1", "倉庫"]
# What a policy's attribute may become.
POLICIES: dict[str, list[Any]] = {
    "safety_stock": [0, 0, 2],
    "safety_stock_basis_points": [0, 0, 1, 1_000, 3_333, 9_999],
    "backorder_limit": [0, 4, 30],
    "low_stock_threshold": [5, 0, 12],
    "max_quantity_per_reservation": [None, None, 3],
    "reconciliation_hold_us": [0, 0, 1_000_000, 3_000_000],
    "lead_time_days": [None, 3],
    "next_restock_date": [None, "2026-02-01"],
    "incoming": [0, 40],
    "substitutes": [(), ("A", "日本")],
    "variant_group": [None, "größe"],
}
SECOND_US = 1_000_000
RECENT = 40
STATE_CHECKED_EVERY, REBUILT_EVERY = 250, 900

Command = Callable[..., Awaitable[object]]


class Simulation:
    """Random commands on a twin. All that happens follows from the seed."""

    def __init__(self, twin: Twin, *, seed: int) -> None:
        self._twin = twin
        self._random = random.Random(seed)
        self._tokens = [UNKNOWN_TOKEN]
        self._keyed: list[tuple[Command, tuple[Any, ...], dict[str, Any]]] = []
        self._steps: dict[Callable[[], Awaitable[object]], int] = {
            self._let_time_pass: 10, self._set_clock: 2, self._reserve: 36, self._commit: 9, self._release: 3,
            self._extend: 8, self._payment: 5, self._cancel: 7, self._adjust: 9, self._put_sku: 4, self._read: 4,
            self._availability: 6, self._sweep: 2, self._repeat: 12,
        }  # fmt: skip

    async def run(self, commands: int) -> None:
        """Raises Divergence, which says at which step."""
        for sku in SKUS[:-2]:
            how: dict[str, Any] = {"location_id": LOCATIONS[0], "reason": "the shop opens", "idempotency": None}
            await self._twin.adjust(sku, mode="count", amount=self._random.randint(0, 12), **how)
        for number in range(1, commands + 1):
            step = self._random.choices(list(self._steps), list(self._steps.values()))[0]
            try:
                await step()
                if number % STATE_CHECKED_EVERY == 0 or number == commands:
                    await self._twin.check_state()
                if number % REBUILT_EVERY == 0:
                    await self._twin.rebuild()
            except Exception as error:
                error.add_note(f"at step {number}, which was to {step.__name__.strip('_')}")
                raise

    # What agents do

    async def _reserve(self) -> object:
        how_many = self._random.choice([1, 1, 1, 1, 2, 3, len(SKUS)])
        skus = self._random.sample(SKUS, how_many)
        if self._random.random() < 0.02:
            skus.append(UNKNOWN_SKU)
        outcome = await self._keyed_or_not(
            self._twin.reserve,
            [Line(sku, self._random.choice([1, 1, 1, 1, 2, 2, 3, 3, 5, 1_000_000])) for sku in skus],
            agent_id=self._random.choice(AGENTS),
            channel=self._random.choice(CHANNELS),
            ttl_us=self._random.choice([SECOND_US, 15 * SECOND_US, self._random.randint(1, 25 * SECOND_US)]),
            allow_backorder=self._random.random() < 0.3,
        )
        if isinstance(outcome, Held):
            self._tokens.append(outcome.reservation.token)
        return outcome

    async def _commit(self) -> object:
        token = self._token(*OPEN)
        order_id = self._random.choice(["", "order 1", "№ 2"])
        return await self._verb("commit", token, order_id=order_id, lines=self._lines_of(token))

    async def _release(self) -> object:
        return await self._verb("release", self._token(*OPEN))

    async def _extend(self) -> object:
        token, counted_from = self._token(*OPEN), self._random.choice(["now", "deadline"])
        amount_us = self._random.choice([1, 5 * SECOND_US, self._random.randint(1, 30 * SECOND_US)])
        record = self._twin.oracle.records.get(token)
        if record and self._random.random() < 0.2:
            # To the end of its lifetime, or just past it.
            start_us = record.deadline_us if counted_from == "deadline" else self._twin.now_us
            amount_us = max(1, record.created_us + MAX_LIFETIME_US - start_us + self._random.choice([0, 1]))
        return await self._verb("extend", token, counted_from=counted_from, amount_us=amount_us)

    async def _payment(self) -> object:
        return await self._verb("payment", self._token(*OPEN), ttl_us=self._random.randint(1, 30 * SECOND_US))

    async def _cancel(self) -> object:
        token = self._token("committed")
        return await self._verb("cancel", token, lines=self._lines_of(token))

    async def _read(self) -> object:
        return await self._twin.read(self._token(*LIVE))

    async def _availability(self) -> object:
        return await self._twin.availability(self._random.choice([*SKUS, *SKUS, UNKNOWN_SKU]))

    async def _repeat(self) -> object:
        """A retry of what came with a key, or another request with the same."""
        if not self._keyed:
            return None
        command, arguments, how = self._random.choice(self._keyed[-RECENT // 4 :])
        if self._random.random() < 0.2:
            how = {**how, "idempotency": replace(how["idempotency"], fingerprint="of another request")}
        return await command(*arguments, **how)

    async def _verb(self, name: str, token: Token, **how: Any) -> object:
        details = self._random.choice([{}, {"rationale": "“cheap”, they\tsay"}])
        return await self._keyed_or_not(self._twin.verb, name, token, details=details, **how)

    async def _keyed_or_not(self, command: Command, *arguments: Any, **how: Any) -> object:
        if self._random.random() < 0.6:
            return await command(*arguments, **how, idempotency=None)
        key = Idempotency(("holder", f"key {self._random.getrandbits(64)}"), "of a request")
        self._keyed.append((command, arguments, {**how, "idempotency": key}))
        return await command(*arguments, **how, idempotency=key)

    def _token(self, *statuses: str) -> Token:
        """Mostly of a reservation in one of these statuses, if there is one; else of any."""
        records = self._twin.oracle.records
        fitting = [token for token in self._tokens[-RECENT:] if token in records and records[token].status in statuses]
        return self._random.choice(fitting if fitting and self._random.random() < 0.7 else self._tokens[-RECENT:])

    def _lines_of(self, token: Token) -> list[Line]:
        """No lines, which means all; or some of what the reservation has; or more than that."""
        record = self._twin.oracle.records.get(token)
        if record is None or self._random.random() < 0.5:
            return []
        lines = self._random.sample(record.lines, self._random.randint(1, len(record.lines)))
        lines = [Line(line.sku, self._random.randint(1, line.quantity)) for line in lines]
        if self._random.random() < 0.1:
            lines[0] = Line(self._random.choice([lines[0].sku, UNKNOWN_SKU]), lines[0].quantity + 3)
        return lines

    # What operators do

    async def _adjust(self) -> object:
        record = self._twin.oracle.records.get(self._token(*OPEN))
        sku = self._random.choice([*SKUS, *record.skus * 4] if record else SKUS)
        mode = self._random.choice(["delta", "delta", "count"])
        amount = self._random.choice([0, 0, 3, 15]) if mode == "count" else self._random.randint(-6, 8)
        if sku == SKUS[-1] and self._random.random() < 0.2:
            amount = 10**12 - self._random.randint(0, 10)
        return await self._keyed_or_not(
            self._twin.adjust,
            sku,
            location_id=self._random.choice([LOCATIONS[0], LOCATIONS[0], *LOCATIONS]),
            mode=mode,
            amount=amount,
            reason="a look into the shelf",
            expected_sequence=self._if_match(sku),
        )

    async def _put_sku(self) -> object:
        sku = self._random.choice([*SKUS, UNKNOWN_SKU])
        names = self._random.sample(list(POLICIES), self._random.choice([1, 2, len(POLICIES)]))
        policy = {name: self._random.choice(POLICIES[name]) for name in names}
        may_create = sku != UNKNOWN_SKU and self._random.random() < 0.8
        return await self._twin.put_sku(sku, policy, may_create=may_create, expected_sequence=self._if_match(sku))

    async def _sweep(self) -> object:
        return await self._twin.expire()

    def _if_match(self, sku: Sku) -> str:
        stock = self._twin.oracle.skus.get(sku)
        return self._random.choice([*[""] * 6, "*", "0", str(stock.sequence if stock else 1)])

    # What clocks do

    async def _let_time_pass(self) -> None:
        deadlines = [record.deadline_us for record in self._twin.oracle.records.values() if record.status in LIVE]
        if deadlines and self._random.random() < 0.4:
            # To just before a deadline, exactly there, or just after it.
            passed_us = min(deadlines) - self._twin.now_us + self._random.choice([-1, 0, 1])
        else:
            passed_us = self._random.choice([1, 1_000, 10_000, 100_000])
        if self._random.random() < 0.03:
            passed_us = self._random.choice([5 * SECOND_US, 90 * SECOND_US, self._random.randint(1, 600 * SECOND_US)])
        self._twin.clock.advance_us(max(1, passed_us))

    async def _set_clock(self) -> None:
        """Somebody sets the engine's clock, which no gateway sees."""
        seconds = self._random.choice([-0.000_001, -1, -90, -7200, 0.5, 1.999, 2, 2.1, 3, 3, 3, 31, 61, 7200])
        self._twin.clock.step(seconds)
