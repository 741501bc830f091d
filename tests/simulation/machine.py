"""Hypothesis looks for the shortest history after which service and oracle disagree: what its machines have in common.

`HYPOTHESIS_PROFILE=long` looks for minutes instead of seconds. What it finds it prints as a program of a machine's
rules, and finds again in the next run.
"""

import asyncio
import os
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from app.domain.outcomes import Held
from app.domain.types import Allocation, Line, Sku, Token
from app.store.commands import Idempotency
from tests.engines import Engine
from tests.oracle_stock import LIVE, Record
from tests.simulation.simulation import CHANNELS, LOCATIONS, UNKNOWN_SKU
from tests.simulation.twin import open_twin

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")

SKUS = [Sku("x/availability"), Sku("日本 %"), Sku("{tag}")]
skus = st.sampled_from(SKUS)
lines = st.lists(st.builds(Line, skus, st.integers(1, 4)), min_size=1, max_size=3, unique_by=lambda line: line.sku)
units_of_each = st.lists(st.integers(0, 9), min_size=len(SKUS), max_size=len(SKUS))
shares = st.sampled_from(["all", "all", "one line", "one unit", "too much", "unknown"])
locations = st.sampled_from([*LOCATIONS])
one_or_two_locations = st.lists(locations, min_size=1, max_size=2, unique=True)
two_locations = st.lists(locations, min_size=2, max_size=2, unique=True)
channels = st.sampled_from(CHANNELS)
order_ids = st.sampled_from(["", "order 1"])
beside_us = st.sampled_from([0, -1, 1])

Key = tuple[str, str] | None


def policies_of(attributes: Mapping[str, Sequence[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in attributes.items()})


class Machine(RuleBasedStateMachine):
    """A command goes to both sides of a twin; a history ends with a look at all that they keep."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._twin = self._loop.run(self._stack.enter_async_context(open_twin(self.engine, seed=0)))
        self._agree = True

    def teardown(self) -> None:
        try:
            if self._agree:
                self._run(self._twin.check_state())
        finally:
            self._loop.run(self._stack.aclose())
            self._loop.close()

    def _run(self, command: Awaitable[object]) -> object:
        async def run() -> object:
            return await command

        self._agree = False
        outcome = self._loop.run(run())
        self._agree = True
        return outcome

    def _reserve(self, lines: list[Line], *, agent_id: str, channel: str, key: Key, **how: Any) -> list[Token]:
        idempotency = idempotency_of(key, "reserve", agent_id, channel)
        how = {"account": f"agent:{agent_id}", **how}
        reserve = self._twin.reserve(lines, agent_id=agent_id, channel=channel, idempotency=idempotency, **how)
        outcome = self._run(reserve)
        return [outcome.reservation.token] if isinstance(outcome, Held) else []

    def _verb(self, name: str, token: Token, *arguments: Any, key: Key = None, **how: Any) -> None:
        self._run(self._twin.verb(name, token, *arguments, idempotency=idempotency_of(key, name, token), **how))

    def _adjust(self, sku: Sku, mode: str, amount: int, *, key: Key = None, **how: Any) -> None:
        how = {"location_id": next(iter(LOCATIONS)), "location_kind": "shared", "expected_sequence": "", **how}
        idempotency, amount = idempotency_of(key, "adjust", sku), max(0, amount) if mode == "count" else amount
        self._run(self._twin.adjust(sku, mode=mode, amount=amount, reason="", idempotency=idempotency, **how))

    def _allocate(self, token: Token, share: str, places: list[str], *, key: Key = None) -> None:
        """All from one place, or one unit from another."""
        rows = []
        for line in self._lines(token, share) or self._record(token).lines:
            rest = len(places) - 1 if line.quantity > 1 else 0
            rows += [Allocation(line.sku, places[0], line.quantity - rest), Allocation(line.sku, places[-1], rest)]
        self._verb("allocate", token, [row for row in rows if row.quantity], details={}, key=key)

    def _let_time_pass_to_the_deadline(self, token: Token, beside_us: int) -> None:
        record = self._twin.record(token)
        if record and record.status in LIVE:
            self._twin.clock.advance_us(max(0, self._twin.time_left_us(record) + beside_us))

    def _record(self, token: Token) -> Record:
        record = self._twin.record(token)
        assert record
        return record

    def _lines(self, token: Token, share: str) -> list[Line]:
        first = self._record(token).lines[0]
        quantity = {"one line": first.quantity, "one unit": 1, "too much": first.quantity + 1, "unknown": 1}.get(share)
        return [Line(UNKNOWN_SKU if share == "unknown" else first.sku, quantity)] if quantity else []


def idempotency_of(key: Key, *scope: str) -> Idempotency | None:
    return Idempotency((*scope, key[0]), fingerprint=key[1]) if key else None


def search(machine: type[Machine], engine: Engine, *, examples: Mapping[str, int]) -> None:
    """Through so many histories as the profile has examples."""
    run_state_machine_as_test(
        type(machine.__name__, (machine,), {"engine": engine}),
        settings=settings(
            max_examples=examples[PROFILE],
            stateful_step_count=30,
            deadline=None,
            phases=set(Phase) - {Phase.explain},  # it takes minutes to name the line that raises
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
