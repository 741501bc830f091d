"""A history of a store, told by its seed: every command, good and bad, in baskets, with keys, in virtual time."""

import random
from collections.abc import Awaitable, Callable
from typing import Literal

from app.domain.outcomes import Held
from app.domain.types import Allocation, Line, Sku, Token
from app.store.commands import Idempotency, LocationKind
from app.store.store import Store
from tests.virtual_clock import SECOND_US, VirtualClock

SKUS = [Sku(name) for name in "ABCDE"]
KINDS: dict[str, LocationKind] = {"main": "shared", "east": "shared", "fba": "dedicated"}
CATEGORIES = ["flowers", "gifts"]
NOBODYS = Token("0-" + "x" * 22)


class History:
    """Lives through `steps` random moments; the same seed on the same empty store lives through the same ones."""

    def __init__(self, store: Store, clock: VirtualClock, seed: int) -> None:
        self._commands = store.commands
        self._keyspace = store.keyspace
        self._clock = clock
        self._chance = random.Random(seed)
        self._tokens = [NOBODYS]
        self.outcomes: list[object] = []

    async def live(self, steps: int) -> None:
        events: tuple[Callable[[], Awaitable[object]], ...] = (
            self._adjust, self._put_sku, self._put_category, self._transfer, self._reserve, self._reserve,
            self._reserve, self._commit, self._commit, self._release, self._extend, self._pay, self._cancel,
            self._allocate, self._read, self._wait,
        )  # fmt: skip
        for _ in range(steps):
            self.outcomes.append(await self._chance.choice(events)())

    async def _adjust(self) -> object:
        location_id, kind = self._location()
        if self._chance.random() < 0.5:
            return await self._commands.adjust(
                self._sku(), location_id=location_id, location_kind=kind, mode="delta",
                amount=self._chance.randint(-3, 20), reason="found", idempotency=self._key(),
            )  # fmt: skip
        return await self._commands.adjust(
            self._sku(), location_id="main", mode="count", amount=self._chance.randint(0, 20), reason="counted"
        )

    async def _transfer(self) -> object:
        (from_id, _), (to_id, kind) = self._chance.sample(sorted(KINDS.items()), 2)
        return await self._commands.transfer(
            self._sku(), from_location_id=from_id, to_location_id=to_id, to_location_kind=kind,
            quantity=self._chance.randint(1, 6), reason="moved", idempotency=self._key(),
        )  # fmt: skip

    async def _put_category(self) -> object:
        fields = {"safety_stock_units": "1", "backorder_limit": "6", "channel_limits": '{"web":7}'}
        kept = dict(self._chance.sample(sorted(fields.items()), self._chance.randint(0, len(fields))))
        partition, category = self._chance.choice(self._keyspace.partitions), self._chance.choice(CATEGORIES)
        return await self._commands.put_category(partition, category, kept)

    async def _put_sku(self) -> object:
        policy = {
            "safety_stock_units": self._chance.choice(["", "0", "2"]),
            "safety_stock_basis_points": self._chance.choice(["0", "500", "3333"]),
            "backorder_limit": self._chance.choice(["", "0", "4", "9"]),
            "category": self._chance.choice(["", *CATEGORIES]),
            "channel_limits": self._chance.choice(["", '{"web":3}', '{"direct":9,"web":4}']),
            "max_quantity_per_reservation": self._chance.choice(["", "4"]),
            "reconciliation_hold_us": self._chance.choice(["0", "0", "2000000"]),
            "variant_group": self._chance.choice(["", "shirts"]),
        }
        fields = dict(self._chance.sample(sorted(policy.items()), self._chance.randint(1, len(policy))))
        return await self._commands.put_sku(self._sku(), fields, may_create=self._chance.random() < 0.5)

    async def _reserve(self) -> object:
        outcome = await self._commands.reserve(
            self._lines(), agent_id="agent", channel=self._chance.choice(["direct", "web"]),
            ttl_us=self._chance.randint(1, 30) * SECOND_US,
            allow_backorder=self._chance.random() < 0.5, idempotency=self._key(),
            details=self._chance.choice([None, {"reference": "Grün", "metadata": {"a": "b"}}]),
        )  # fmt: skip
        if isinstance(outcome, Held):
            self._tokens.append(outcome.reservation.token)
        return outcome

    async def _commit(self) -> object:
        order_id, lines = self._chance.choice(["", "order-1"]), self._some_lines()
        return await self._commands.commit(self._token(), order_id=order_id, lines=lines, idempotency=self._key())

    async def _release(self) -> object:
        return await self._commands.release(self._token(), idempotency=self._key())

    async def _extend(self) -> object:
        counted_from: Literal["now", "deadline"] = "now" if self._chance.random() < 0.5 else "deadline"
        amount_us = self._chance.choice([1, 5, 4000]) * SECOND_US
        return await self._commands.extend(
            self._token(), counted_from=counted_from, amount_us=amount_us, idempotency=self._key()
        )

    async def _pay(self) -> object:
        return await self._commands.payment(self._token(), ttl_us=9 * SECOND_US, idempotency=self._key())

    async def _cancel(self) -> object:
        return await self._commands.cancel(self._token(), lines=self._some_lines(), idempotency=self._key())

    async def _allocate(self) -> object:
        lines = self._lines()
        rows = [Allocation(line.sku, self._location()[0], self._chance.randint(1, line.quantity)) for line in lines]
        return await self._commands.allocate(self._token(), rows, idempotency=self._key())

    async def _read(self) -> object:
        return await self._commands.read(self._token())

    async def _wait(self) -> object:
        self._clock.advance(self._chance.choice([0.5, 1, 4, 20, 70]))
        return None

    def _location(self) -> tuple[str, LocationKind]:
        return self._chance.choice(sorted(KINDS.items()))

    def _sku(self) -> Sku:
        return self._chance.choice(SKUS)

    def _token(self) -> Token:
        return self._chance.choice(self._tokens[-8:])

    def _lines(self) -> list[Line]:
        partition = self._keyspace.of_sku(self._sku())
        skus = [sku for sku in SKUS if self._keyspace.of_sku(sku) is partition]
        count = min(len(skus), self._chance.choice([1, 1, 2, len(SKUS)]))
        return [Line(sku, self._chance.randint(1, 5)) for sku in self._chance.sample(skus, count)]

    def _some_lines(self) -> list[Line]:
        return self._lines() if self._chance.random() < 0.6 else []

    def _key(self) -> Idempotency | None:
        if self._chance.random() < 0.5:
            return None
        return Idempotency(("holder", str(self._chance.randrange(40))), f"fingerprint-{self._chance.randrange(2)}")
