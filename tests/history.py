"""A history of a store, told by its seed: every command, good and bad, in baskets, with keys, in virtual time.

And what sources outside say meanwhile of the same stock and the same orders: late, twice, one against the other.
"""

import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal

from app.domain.outcomes import Done, Held
from app.domain.types import Allocation, Line, Sku, Token
from app.domain.updates import Delivery, StockUpdate, UpdateResult, UpdateStatus
from app.store.commands import Idempotency, LocationKind
from app.store.store import Store
from app.store.updates import apply_delivery, reconcile_skus
from tests.simulation.sources import SOURCES, deliver, random_fact
from tests.virtual_clock import SECOND_US, START_US, VirtualClock

SKUS = [Sku(name) for name in "ABCDE"]
KINDS: dict[str, LocationKind] = {"main": "shared", "east": "shared", "fba": "dedicated"}
CATEGORIES = ["flowers", "gifts"]
ORDERS = ["order-1", "order-2", "order-3"]
NOBODYS = Token("0-" + "x" * 22)

Said = tuple[str, str, int]  # a line: source, delivery, number


class History:
    """Lives through `steps` random moments; the same seed on the same empty store lives through the same ones."""

    def __init__(self, store: Store, clock: VirtualClock, seed: int) -> None:
        self._commands = store.commands
        self._keyspace = store.keyspace
        self._clock = clock
        self._chance = random.Random(seed)
        self._tokens = [NOBODYS]
        self._sold: dict[Token, tuple[Line, ...]] = {}
        self.deliveries: list[Delivery] = []
        self.applied: set[Said] = set()
        self.outcomes: list[object] = []

    async def live(self, steps: int) -> None:
        events: tuple[Callable[[], Awaitable[object]], ...] = (
            self._adjust, self._put_sku, self._put_category, self._transfer, self._reserve, self._reserve,
            self._reserve, self._commit, self._commit, self._release, self._extend, self._pay, self._cancel,
            self._allocate, self._read, self._wait, self._deliver, self._deliver, self._deliver, self._deliver,
            self._deliver, self._reconcile,
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
        fields = {
            "safety_stock_units": "1",
            "backorder_limit": "6",
            "channel_limits": '{"web":7}',
            "low_stock_threshold": "9",
        }
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
            "low_stock_threshold": self._chance.choice(["", "2"]),
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
        token, order_id = self._chance.choice([self._token(), self._tokens[-1]]), self._chance.choice(["", *ORDERS])
        lines = self._some_lines() if self._chance.random() < 0.3 else []
        outcome = await self._commands.commit(token, order_id=order_id, lines=lines, idempotency=self._key())
        if isinstance(outcome, Done):
            self._sold[token] = outcome.reservation.lines
        return outcome

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
        token, lines = self._sale()
        some = self._chance.sample(lines, self._chance.randint(0, len(lines)))
        some = [Line(line.sku, self._chance.randint(1, line.quantity)) for line in some]
        return await self._commands.cancel(token, lines=some, idempotency=self._key())

    async def _allocate(self) -> object:
        token, lines = self._sale()
        rows = [Allocation(line.sku, self._location()[0], self._chance.randint(1, line.quantity)) for line in lines]
        return await self._commands.allocate(token, rows, idempotency=self._key())

    async def _deliver(self) -> object:
        delivery = self._delivery()
        if self.deliveries and self._chance.random() < 0.2:
            delivery = self._chance.choice(self.deliveries[-8:])
        self.deliveries.append(delivery)
        results = await apply_delivery(self._commands, self._keyspace, delivery, kind_of=kind_of)
        self.applied |= applied(delivery, results)
        return results

    def _delivery(self) -> Delivery:
        """Of what a source has seen, it has counted its own; of the others it may have missed the last."""
        source, number = self._chance.choice(list(SOURCES)), len(self.deliveries) + 1
        seen = {other: max(0, number - self._chance.randint(1, 9)) for other in self._chance.sample(list(SOURCES), 2)}
        lines = [self._line(source, at, seen | {source: number}) for at in range(self._chance.choice([1, 1, 1, 2, 4]))]
        return deliver(source, f"{source}-{number}", lines, may_create_skus=self._chance.random() < 0.5)

    def _line(self, source: str, number: int, clock: dict[str, int]) -> StockUpdate:
        at_us = self._clock.now_us - START_US + SECOND_US - self._chance.randint(0, SECOND_US)
        reference, sku = self._chance.choice(ORDERS), self._sku()
        if self._chance.random() < 0.4:
            reference, lines = self._sale()
            sku = self._chance.choice(lines).sku
        fact = random_fact(self._chance, source, at_us=at_us, clock=clock, order_id=reference)
        names = self._chance.sample(sorted(KINDS), 2)
        fact = replace(fact, location_id=names[0], to_location_id=fact.to_location_id and names[1])
        return replace(fact.line(sku, number=number), channel=self._chance.choice(["direct", "web"]))

    async def _reconcile(self) -> object:
        keys = self._chance.choice(self._keyspace.partitions)
        skus = [sku for sku in SKUS if self._keyspace.of_sku(sku) is keys]
        authorities = {location_id: self._chance.choice(list(SOURCES)) for location_id in KINDS}
        return await reconcile_skus(self._commands, keys, skus, authorities) if skus else None

    async def _read(self) -> object:
        return await self._commands.read(self._token())

    async def _wait(self) -> object:
        self._clock.advance(self._chance.choice([0.5, 1, 4, 20, 70]))
        return None

    def _location(self) -> tuple[str, LocationKind]:
        return self._chance.choice(sorted(KINDS.items()))

    def _sku(self) -> Sku:
        return self._chance.choice(SKUS)

    def _sale(self) -> tuple[Token, Sequence[Line]]:
        """Mostly one of the last, as it was sold."""
        sold = list(self._sold.items())[-4:]
        return self._chance.choice(sold) if sold and self._chance.random() < 0.8 else (self._token(), self._lines())

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


def kind_of(location_id: str) -> LocationKind:
    return KINDS.get(location_id, "shared")


def applied(delivery: Delivery, results: Iterable[UpdateResult]) -> set[Said]:
    """The lines that did something."""
    numbers = (result.number for result in results if result.status is UpdateStatus.APPLIED)
    return {(delivery.source, delivery.delivery_id, number) for number in numbers}
