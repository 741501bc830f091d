"""Every history of a small world: three agents, two units, one count, one expiry, in any order, up to eight steps.

All that the scripts may do with few things they do with one of these: the real scripts on the virtual clock, the oracle
beside them. Histories that lead to the same state go on as one, for what comes next depends on the state alone.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.domain.types import Line, Sku, Token
from app.store.commands import Idempotency
from tests.engines import Engine, chosen
from tests.oracle_stock import LIVE
from tests.simulation.half import Divergence
from tests.simulation.twin import Saved, Twin, open_twin

STEPS_MAX = 8
STEPS_ELSEWHERE_MAX = 5  # with another engine than the first
AGENTS = ("one", "two", "three")
UNITS, COUNTED = 2, 1
LAST = Sku("the last one")
TTL_US = 10_000_000
MORE_US = 5_000_000
VERBS: dict[str, dict[str, Any]] = {
    "commit": {"order_id": ""},
    "release": {},
    "extend": {"counted_from": "deadline", "amount_us": MORE_US},
    "payment": {"ttl_us": TTL_US + MORE_US},
    "cancel": {},
}
ENDS = {"committed", "released", "expired", "cancelled", "voided"}
COUNT, TIME = "a count", "time passes"  # each happens once

Step = Callable[[], Awaitable[object]]
Records = tuple[tuple[Any, ...], ...]
State = tuple[int, int, int, bool, bool, Records]


@dataclass(frozen=True, slots=True)
class Moment:
    """A state as it can be gone back to, and the first history that led there."""

    saved: Saved
    history: tuple[str, ...]


class World:
    """What may happen in it."""

    def __init__(self, twin: Twin) -> None:
        self._twin = twin
        self._tokens = {agent: twin.token_of(LAST, _key(agent)) for agent in AGENTS}

    def steps(self, history: tuple[str, ...]) -> Iterator[tuple[str, Step]]:
        """What may come next. Of the agents that hold nothing yet only one may begin, because they are alike."""
        first_idle = next((agent for agent in AGENTS if self._twin.record(self._tokens[agent]) is None), None)
        for agent, token in self._tokens.items():
            is_here = self._twin.record(token) is not None
            if is_here or agent == first_idle:
                yield f"{agent} reserves", partial(self._reserve, agent)
            for verb in VERBS if is_here else ():
                yield f"{verb} of {agent}", partial(self._verb, verb, token)
        if COUNT not in history:
            yield COUNT, partial(self.count, COUNTED)
        if TIME not in history:
            yield TIME, self._pass_time

    def state(self, history: tuple[str, ...]) -> State:
        """All that what comes next depends on: the stock, and the reservations in the order they began."""
        stock = self._twin.stock(LAST)
        assert stock
        records = tuple(
            (
                record.status, record.lines, tuple(record.sold.items()),
                (record.deadline_us - record.created_us, self._twin.time_left_us(record))
                if record.status in LIVE else None,
            )
            for record in self._twin.records
        )  # fmt: skip
        return stock.on_hand, stock.reserved, stock.committed, COUNT in history, TIME in history, records

    async def count(self, units: int) -> object:
        return await self._twin.adjust(
            LAST, location_id="main", location_kind="shared", mode="count", amount=units, reason="counted",
            idempotency=None,
        )  # fmt: skip

    async def _reserve(self, agent: str) -> object:
        """The same request each time: one hold, however often it comes."""
        return await self._twin.reserve(
            [Line(LAST, 1)], agent_id=agent, channel="direct", ttl_us=TTL_US, allow_backorder=False,
            idempotency=_key(agent),
        )  # fmt: skip

    async def _verb(self, name: str, token: Token) -> object:
        return await self._twin.verb(name, token, idempotency=None, details={}, **VERBS[name])

    async def _pass_time(self) -> None:
        """Until the deadline of what nobody moved; whoever asks next finds it there."""
        self._twin.clock.advance_us(TTL_US)
        await self._twin.availability(LAST, channel="direct")


def _key(agent: str) -> Idempotency:
    return Idempotency(scope=("", agent, "POST", "/inventory/v1/reservations", "key"), fingerprint="a request")


async def _is_new(twin: Twin, world: World, known: set[State], history: tuple[str, ...], step: Step) -> bool:
    """Takes the step; whether that led to a state not met before, which is then looked at as a whole."""
    try:
        await step()
        state = world.state(history)
        if state in known:
            return False
        await twin.check_state()
    except Divergence as divergence:
        raise Divergence(f"after {', '.join(history)}: {divergence}") from None
    known.add(state)
    return True


async def test_every_history_of_a_small_world(engine: Engine) -> None:
    """Prints how many states there are, and by how many steps they were looked for."""
    steps_max = STEPS_MAX if engine.name == chosen()[0] else STEPS_ELSEWHERE_MAX
    async with open_twin(engine, seed=0) as twin:
        world = World(twin)
        await world.count(UNITS)
        edge, taken = [Moment(twin.save(), ())], 0
        known = {world.state(())}
        for _ in range(steps_max):
            reached = []
            for moment in edge:
                twin.restore(moment.saved)
                entries = twin.entry_count
                for name, step in list(world.steps(moment.history)):
                    history = (*moment.history, name)
                    if await _is_new(twin, world, known, history, step):
                        reached.append(Moment(twin.save(), history))
                    taken += 1
                    if name == TIME or twin.entry_count > entries:
                        twin.restore(moment.saved)
            edge = reached
        print(f"{len(known)} states in {steps_max} steps or fewer; {taken} steps were taken between them")
        met = {record[0] for *_, records in known for record in records}
        assert met >= ENDS
