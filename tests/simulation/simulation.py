"""Days in the shop from one seed: agents reserve, pay, commit and forget, operators count, clocks run and jump."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from app.domain.callers import Claim
from app.domain.outcomes import Held
from app.domain.types import Allocation, Line, Sku, Token
from app.store.commands import Idempotency, LocationKind
from tests.oracle import QUANTITY_MAX
from tests.oracle_partition import VOIDED_LINES_MAX
from tests.oracle_stock import LIVE, OPEN, Stock
from tests.simulation.twin import MAX_LIFETIME_US, Twin

SKUS = [Sku(name) for name in ("A", "x/availability", "ABC/12", "é", "日本", "%", "a b", "{tag}")]
UNKNOWN_SKU = Sku("nobody told of this one")
UNKNOWN_TOKEN = Token("0-AAAAAAAAAAAAAAAAAAAAAA")
AGENTS = ["agent_1", "agent 2", "агент"]
HOLDERS = ["", "key 1", "ключ 2"]
CHANNELS = ["direct", "direct", "web shop"]
LOCATIONS: dict[str, LocationKind] = {"main": "shared", "WH 1": "shared", "倉庫": "shared", "FBA": "dedicated"}
CATEGORIES = ["shoes", "größe/1"]
# What a policy's attribute may become.
POLICIES: dict[str, list[Any]] = {
    "safety_stock": [0, 0, 2],
    "safety_stock_basis_points": [0, 0, 1, 1_000, 3_333, 9_999],
    "backorder_limit": [0, 4, 30, 30],
    "low_stock_threshold": [5, 0, 12],
    "max_quantity_per_reservation": [None, None, None, 3],
    "reconciliation_hold_us": [0, 0, 1_000_000, 3_000_000],
    "lead_time_days": [None, 3],
    "next_restock_date": [None, "2026-02-01"],
    "incoming": [0, 40],
    "substitutes": [(), ("A", "日本")],
    "variant_group": [None, "größe"],
    "category": [None, *CATEGORIES, *CATEGORIES],
    "channel_limits": [{}, {}, {}, {"direct": 9}, {"web shop": 0, "direct": 30}, {"nobody's": 1}],
    "degraded_policy": ["refuse", "escalate"],
}
DEFAULTS = {name: values for name, values in POLICIES.items() if name != "category"}
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
        self._steps: dict[Callable[[], Awaitable[object]], float] = {
            self._let_time_pass: 10, self._set_clock: 2, self._reserve: 36, self._commit: 10, self._release: 3,
            self._extend: 7, self._payment: 5, self._cancel: 7, self._allocate: 8, self._adjust: 14, self._transfer: 6,
            self._put_sku: 5, self._put_category: 1, self._read: 4, self._availability: 7, self._sweep: 2,
            self._repeat: 13, self._let_days_pass: 0.2, self._rush: 2, self._crowd: 0.1,
        }  # fmt: skip

    async def run(self, commands: int) -> None:
        """Raises Divergence, which says at which step."""
        for sku in SKUS[:-2]:
            await self._count(sku, "main", self._random.randint(0, 12))
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
        how_many = self._random.choice([*[1] * 8, *[2] * 4, 3, 3, len(SKUS)])
        skus = self._random.sample(SKUS, how_many)
        if self._random.random() < 0.02:
            skus.append(UNKNOWN_SKU)
        return await self._reserve_of(
            [sku for sku in skus if self._twin.partition_of(sku) == self._twin.partition_of(skus[0])]
        )

    async def _reserve_of(self, skus: list[Sku]) -> object:
        outcome = await self._keyed_or_not(
            self._twin.reserve,
            [Line(sku, self._random.choice([*[1] * 6, *[2] * 4, 3, 3, 3, 5, 5, 8, 1_000_000])) for sku in skus],
            agent_id=self._random.choice(AGENTS),
            channel=self._random.choice(CHANNELS),
            ttl_us=self._random.choice([SECOND_US, 15 * SECOND_US, self._random.randint(1, 25 * SECOND_US)]),
            allow_backorder=self._random.random() < 0.5,
            holder=self._random.choice(HOLDERS),
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
        record = self._twin.record(token)
        if record and self._random.random() < 0.2:
            # To the end of its lifetime, or just past it.
            start_us = record.deadline_us - (self._twin.time_left_us(record) if counted_from == "now" else 0)
            amount_us = max(1, record.created_us + MAX_LIFETIME_US - start_us + self._random.choice([0, 1]))
        return await self._verb("extend", token, counted_from=counted_from, amount_us=amount_us)

    async def _payment(self) -> object:
        return await self._verb("payment", self._token(*OPEN), ttl_us=self._random.randint(1, 30 * SECOND_US))

    async def _cancel(self) -> object:
        token = self._token("committed")
        return await self._verb("cancel", token, lines=self._lines_of(token))

    async def _allocate(self) -> object:
        token = self._token("committed")
        record = self._twin.record(token)
        lines = self._lines_of(token) or (record.lines if record else [Line(UNKNOWN_SKU, 1)])
        allocations = []
        for line in lines:
            stock = self._twin.stock(line.sku)
            free = [name for name, place in stock.places.items() if place.on_hand > place.allocated] if stock else []
            first, second = self._random.sample(
                free if len(free) > 1 and self._random.random() < 0.8 else [*LOCATIONS], 2
            )
            units = self._random.randint(1, line.quantity)
            allocations.append(Allocation(line.sku, first, units))
            if units < line.quantity:
                allocations.append(Allocation(line.sku, second, line.quantity - units))
        return await self._verb("allocate", token, allocations)

    async def _read(self) -> object:
        token = self._token(*LIVE)
        return await self._twin.read(token, claim=self._claim_of(token))

    async def _availability(self) -> object:
        channel = self._random.choice([*CHANNELS, ""])
        return await self._twin.availability(self._random.choice([*SKUS, *SKUS, UNKNOWN_SKU]), channel=channel)

    async def _repeat(self) -> object:
        """A retry of what came with a key, or another request with the same."""
        if not self._keyed:
            return None
        command, arguments, how = self._random.choice(self._keyed[-RECENT // 4 :])
        if self._random.random() < 0.2:
            how = {**how, "idempotency": replace(how["idempotency"], fingerprint="of another request")}
        return await command(*arguments, **how)

    async def _verb(self, name: str, token: Token, *arguments: Any, **how: Any) -> object:
        details = self._random.choice([{}, {"rationale": "“cheap”, they\tsay"}])
        how |= {"details": details, "claim": self._claim_of(token)}
        return await self._keyed_or_not(self._twin.verb, name, token, *arguments, **how)

    async def _keyed_or_not(self, command: Command, *arguments: Any, **how: Any) -> object:
        if self._random.random() < 0.6:
            return await command(*arguments, **how, idempotency=None)
        key = Idempotency(("holder", f"key {self._random.getrandbits(64)}"), "of a request")
        self._keyed.append((command, arguments, {**how, "idempotency": key}))
        return await command(*arguments, **how, idempotency=key)

    def _claim_of(self, token: Token) -> Claim | None:
        """Mostly by whoever may: anybody, its agent, the holder of the key that it was reserved with."""
        record = self._twin.record(token)
        if record is None or self._random.random() < 0.5:
            return None
        if self._random.random() < 0.1:
            return self._random.choice([Claim("agent", self._random.choice(AGENTS)), Claim("holder", HOLDERS[-1])])
        return self._random.choice([Claim("agent", record.agent_id), Claim("holder", record.holder)])

    def _token(self, *statuses: str) -> Token:
        """Mostly of a reservation in one of these statuses, if there is one; else of any."""
        known = [(token, self._twin.record(token)) for token in self._tokens[-RECENT:]]
        fitting = [token for token, record in known if record and record.status in statuses]
        return self._random.choice(fitting if fitting and self._random.random() < 0.7 else self._tokens[-RECENT:])

    def _lines_of(self, token: Token) -> list[Line]:
        """No lines, which means all; or some of what the reservation has; or more than that."""
        record = self._twin.record(token)
        if record is None or self._random.random() < 0.5:
            return []
        lines = self._random.sample(record.lines, self._random.randint(1, len(record.lines)))
        lines = [Line(line.sku, self._random.randint(1, line.quantity)) for line in lines]
        if self._random.random() < 0.1:
            lines[0] = Line(self._random.choice([lines[0].sku, UNKNOWN_SKU]), lines[0].quantity + 3)
        return lines

    # What operators do

    async def _adjust(self) -> object:
        sku, mode = self._sku(), self._random.choice(["delta", "count"])
        stock, location_id = self._twin.stock(sku), self._place_of(sku)
        place = stock.places.get(location_id) if stock else None
        amount = self._random.randint(-8, 8)
        if stock and self._random.random() < 0.7:
            amount += self._needed(stock)
        if mode == "count":
            amount = self._random.choice([0, 3, *[max(0, amount + (place.on_hand if place else 0))] * 4])
        if sku == SKUS[-1] and self._random.random() < 0.5:
            amount = QUANTITY_MAX - self._random.randint(0, 10)
        amount = max(-QUANTITY_MAX, min(amount, QUANTITY_MAX))
        return await self._keyed_or_not(
            self._twin.adjust,
            sku,
            location_id=location_id,
            location_kind=self._kind_of(location_id),
            mode=mode,
            amount=amount,
            reason="a look into the shelf",
            expected_sequence=self._if_match(sku),
        )

    async def _transfer(self) -> object:
        sku = self._sku() if self._random.random() < 0.96 else UNKNOWN_SKU
        stock, from_location_id = self._twin.stock(sku), self._place_of(sku)
        to_location_id = self._random.choice([name for name in LOCATIONS if name != from_location_id])
        place = stock.places.get(from_location_id) if stock else None
        return await self._keyed_or_not(
            self._twin.transfer,
            sku,
            from_location_id=from_location_id,
            to_location_id=to_location_id,
            to_location_kind=self._kind_of(to_location_id),
            quantity=self._random.choice([1, 2, 5, max(1, place.on_hand if place else 1)]),
            reason="a van",
            expected_sequence=self._if_match(sku),
        )

    async def _put_sku(self) -> object:
        sku = self._random.choice([*SKUS, UNKNOWN_SKU])
        may_create = sku != UNKNOWN_SKU and self._random.random() < 0.8
        how: dict[str, Any] = {"may_create": may_create, "expected_sequence": self._if_match(sku)}
        return await self._twin.put_sku(sku, self._some_of(POLICIES), **how)

    async def _put_category(self) -> None:
        """Its SKUs are written anew, but for when that is forgotten: then each takes it later."""
        category = self._random.choice(CATEGORIES)
        await self._twin.put_category(category, self._some_of(DEFAULTS))
        for sku in self._twin.skus_of(category) if self._random.random() < 0.7 else []:
            await self._twin.put_sku(sku, {}, may_create=False)

    async def _rush(self) -> None:
        """Some want the same, and one more thing; some of them buy; then less is found than was promised."""
        sku = self._random.choice(SKUS[:-1])
        others = [other for other in SKUS if self._twin.partition_of(other) == self._twin.partition_of(sku)]
        for _ in range(self._random.randint(3, 6)):
            outcome = await self._reserve_of(list(dict.fromkeys([*self._random.sample(others, 1), sku])))
            if isinstance(outcome, Held) and self._random.random() < 0.4:
                await self._verb("commit", outcome.reservation.token, order_id="")
        stock, location_id = self._twin.stock(sku), self._place_of(sku)
        if stock and location_id in stock.places:
            found = stock.places[location_id].on_hand + self._needed(stock) - self._random.randint(0, 8)
            await self._count(sku, location_id, max(0, found))

    async def _crowd(self) -> None:
        """More holds than one call voids or settles; then the shelves are found empty, or their time is over."""
        sku, channel, people = SKUS[0], CHANNELS[0], VOIDED_LINES_MAX + 30
        stock = self._twin.stock(sku)
        limits = {channel: people + (stock.promised[channel] if stock else 0)}
        policy = {"max_quantity_per_reservation": None, "safety_stock_basis_points": 0, "channel_limits": limits}
        await self._twin.put_sku(sku, policy, may_create=True)
        stock = self._twin.stock(sku)
        needed = people + stock.safety_stock + stock.backordered + self._needed(stock) if stock else 0
        await self._twin.adjust(sku, mode="delta", amount=max(0, needed), **_about("main"))
        how: dict[str, Any] = {"agent_id": AGENTS[0], "channel": channel, "ttl_us": SECOND_US, "idempotency": None}
        for _ in range(people):
            await self._twin.reserve([Line(sku, 1)], allow_backorder=False, **how)
        if self._random.random() < 0.5:
            for location_id in LOCATIONS:
                await self._count(sku, location_id, 0)
        else:
            self._twin.clock.advance_us(SECOND_US)
            await self._twin.reserve([Line(sku, people)], allow_backorder=False, **how)

    async def _count(self, sku: Sku, location_id: str, units: int) -> None:
        await self._twin.adjust(sku, mode="count", amount=units, **_about(location_id))

    def _sku(self) -> Sku:
        """Mostly one that is held."""
        record = self._twin.record(self._token("held"))
        return self._random.choice([*SKUS, *record.skus * 8] if record else SKUS)

    def _place_of(self, sku: Sku) -> str:
        """Mostly one with something there."""
        stock = self._twin.stock(sku)
        places = [name for name, place in stock.places.items() if place.on_hand] if stock else []
        return self._random.choice([*places * 3, *LOCATIONS])

    def _kind_of(self, location_id: str) -> str:
        """What the settings say of a location, which may have been changed."""
        return LOCATIONS[location_id] if self._random.random() < 0.9 else self._random.choice(["shared", "dedicated"])

    @staticmethod
    def _needed(stock: Stock) -> int:
        """Units with which all that is promised would just be there, but for what is backordered."""
        return stock.reserved + stock.committed - stock.on_hand - stock.backordered

    def _some_of(self, policies: dict[str, list[Any]]) -> dict[str, Any]:
        names = self._random.sample(list(policies), self._random.choice([1, 2, len(policies)]))
        return {name: self._random.choice(policies[name]) for name in names}

    async def _sweep(self) -> None:
        await self._twin.expire()

    def _if_match(self, sku: Sku) -> str:
        stock = self._twin.stock(sku)
        return self._random.choice([*[""] * 6, "*", "0", str(stock.sequence if stock else 1)])

    # What clocks do

    async def _let_time_pass(self) -> None:
        left_us = self._twin.time_to_next_deadline_us()
        if left_us is not None and self._random.random() < 0.4:
            # To just before a deadline, exactly there, or just after it.
            passed_us = left_us + self._random.choice([-1, 0, 1])
        else:
            passed_us = self._random.choice([1, 1_000, 10_000, 100_000])
        if self._random.random() < 0.03:
            passed_us = self._random.choice([5 * SECOND_US, 90 * SECOND_US, self._random.randint(1, 600 * SECOND_US)])
        self._twin.clock.advance_us(max(1, passed_us))

    async def _let_days_pass(self) -> None:
        """And what has ended is forgotten: who asks again with the same key asks anew."""
        self._twin.clock.advance_us(self._random.choice([1, 8, 11, 32]) * 86_400 * SECOND_US)
        await self._twin.expire()
        await self._twin.forget()
        for command, arguments, how in self._keyed[-RECENT:]:
            await command(*arguments, **how)

    async def _set_clock(self) -> None:
        """Somebody sets the engine's clock, which no gateway sees."""
        seconds = self._random.choice([-0.000_001, -1, -90, -7200, 0.5, 1.999, 2, 2.1, 3, 3, 3, 31, 61, 7200])
        self._twin.clock.step(seconds)


def _about(location_id: str) -> dict[str, Any]:
    kind = LOCATIONS[location_id]
    return {"location_id": location_id, "location_kind": kind, "reason": "the shop opens", "idempotency": None}
