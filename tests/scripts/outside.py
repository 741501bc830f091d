"""A source that says facts of a SKU or two, and an agent who buys meanwhile."""

from collections.abc import Mapping

from app.domain.outcomes import Done, Held, ReserveOutcome, SkuAnswered
from app.domain.types import Line, Sku, SkuState, Token
from app.domain.updates import UpdateStatus
from app.store.store import Store
from app.store.updates import apply_delivery
from tests.simulation.sources import Fact, deliver, kind_of
from tests.virtual_clock import SECOND_US

A, B = Sku("A"), Sku("B")


class Outside:
    """Says facts of A, each in a delivery of its own where none is named."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._deliveries = 0

    async def __call__(
        self, fact: Fact, *, delivery_id: str = "", sku: Sku = A, may_create: bool = False
    ) -> UpdateStatus:
        self._deliveries += 1
        return (await self.tell({sku: fact}, delivery_id=delivery_id or str(self._deliveries), may_create=may_create))[
            0
        ]

    async def tell(
        self, facts: Mapping[Sku, Fact], *, delivery_id: str, may_create: bool = False
    ) -> list[UpdateStatus]:
        """Of several SKUs, in one delivery."""
        lines = [fact.line(sku, number=number) for number, (sku, fact) in enumerate(facts.items())]
        source = next(iter(facts.values())).source
        delivery = deliver(source, delivery_id, lines, may_create_skus=may_create)
        results = await apply_delivery(self.store.commands, self.store.keyspace, delivery, kind_of=kind_of)
        assert [(each.number, each.sku) for each in results] == [(line.number, line.sku) for line in lines]
        return [each.status for each in results]

    async def state(self, sku: Sku = A) -> SkuState:
        answer = await self.store.commands.availability(sku)
        assert isinstance(answer, SkuAnswered)
        return answer.state

    async def numbers(self, sku: Sku = A) -> tuple[int, int, int]:
        """On hand, committed, available."""
        state = await self.state(sku)
        return state.on_hand, state.committed, state.available

    async def reserve(self, quantity: int) -> ReserveOutcome:
        return await self.store.commands.reserve(
            [Line(A, quantity)], agent_id="agent", channel="direct", ttl_us=60 * SECOND_US,
            allow_backorder=False, details=None, idempotency=None,
        )  # fmt: skip

    async def hold(self, quantity: int) -> Token:
        held = await self.reserve(quantity)
        assert isinstance(held, Held)
        return held.reservation.token

    async def sell(self, quantity: int, order_id: str = "") -> Token:
        token = await self.hold(quantity)
        assert isinstance(await self.store.commands.commit(token, order_id=order_id), Done)
        return token

    async def status(self, token: Token) -> str:
        found = await self.store.commands.read(token)
        assert isinstance(found, Done)
        return found.reservation.status
