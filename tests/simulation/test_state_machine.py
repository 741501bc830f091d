"""Hypothesis looks for the shortest history after which service and oracle disagree.

`HYPOTHESIS_PROFILE=long` looks for minutes instead of seconds. What it finds it prints as a program of these rules, and
finds again in the next run.
"""

import asyncio
import os
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from app.domain.outcomes import Held
from app.domain.types import Allocation, Line, Sku, Token
from app.store.commands import Idempotency
from tests.engines import Engine
from tests.oracle_stock import LIVE
from tests.simulation.simulation import (
    AGENTS,
    CATEGORIES,
    CHANNELS,
    DEFAULTS,
    LOCATIONS,
    POLICIES,
    SECOND_US,
    UNKNOWN_SKU,
)
from tests.simulation.twin import MAX_LIFETIME_US, open_twin

EXAMPLES = {"quick": 150, "long": 5_000}
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")

SKUS = [Sku("x/availability"), Sku("日本 %"), Sku("{tag}")]
skus = st.sampled_from(SKUS)
lines = st.lists(st.builds(Line, skus, st.integers(1, 4)), min_size=1, max_size=3, unique_by=lambda line: line.sku)
details = st.sampled_from([{}, {"rationale": "“cheap”, they\tsay"}])
# The few keys meet again by themselves: the same request, or another one with the same key.
keys = st.sampled_from([None, None, None, ("k1", "a request"), ("k1", "another request"), ("k2", "a request")])
if_match = st.sampled_from(["", "", "", "", "*", "0", "3"])
durations_us = st.sampled_from([5 * SECOND_US, 15 * SECOND_US, SECOND_US, 1])
steps_seconds = st.sampled_from([0, 0, -1, 1, 31, 7200])
shares = st.sampled_from(["all", "all", "one line", "one unit", "too much", "unknown"])
locations = st.sampled_from([*LOCATIONS])
channels = st.sampled_from(CHANNELS)


def policies_of(attributes: Mapping[str, Sequence[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in attributes.items()})


policies, defaults = policies_of(POLICIES), policies_of(DEFAULTS)

Key = tuple[str, str] | None


class Shop(RuleBasedStateMachine):
    """The commands and the clocks. A command goes to both sides of a twin."""

    engine: Engine
    tokens: Bundle[Token] = Bundle("tokens")

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

    @initialize(
        target=tokens,
        policy=policies,
        units=st.lists(st.integers(0, 9), min_size=len(SKUS), max_size=len(SKUS)),
        baskets=st.lists(lines, min_size=1, max_size=3),
    )
    def open_the_shop(
        self, policy: dict[str, Any], units: list[int], baskets: list[list[Line]]
    ) -> MultipleResults[Token]:
        """With some stock, a policy, and agents who wait outside."""
        for sku, amount in zip(SKUS, units, strict=True):
            self._count(sku, amount)
        self._run(self._twin.put_sku(SKUS[0], policy, may_create=True))
        how: dict[str, Any] = {"agent_id": AGENTS[0], "channel": CHANNELS[0], "allow_backorder": True, "key": None}
        how["ttl_us"] = 15 * SECOND_US
        return multiple(*(token for basket in baskets for token in self._reserve(basket, **how)))

    @rule(
        target=tokens,
        lines=lines,
        agent_id=st.sampled_from(AGENTS),
        channel=channels,
        ttl_us=durations_us,
        allow_backorder=st.booleans(),
        key=keys,
    )
    def reserve(self, lines: list[Line], **how: Any) -> MultipleResults[Token]:
        return multiple(*self._reserve(lines, **how))

    @rule(token=tokens, share=shares, order_id=st.sampled_from(["", "order 1"]), details=details, key=keys)
    def commit(self, token: Token, share: str, **how: Any) -> None:
        self._verb("commit", token, lines=self._lines(token, share), **how)

    @rule(token=tokens, share=shares, details=details, key=keys)
    def cancel(self, token: Token, share: str, **how: Any) -> None:
        self._verb("cancel", token, lines=self._lines(token, share), **how)

    @rule(token=tokens, details=details, key=keys)
    def release(self, token: Token, **how: Any) -> None:
        self._verb("release", token, **how)

    @rule(token=tokens, counted_from=st.sampled_from(["now", "deadline", None]), by_us=durations_us, key=keys)
    def prolong(self, token: Token, counted_from: str | None, by_us: int, key: Key) -> None:
        if counted_from:
            self._verb("extend", token, counted_from=counted_from, amount_us=by_us, details={}, key=key)
        else:
            self._verb("payment", token, ttl_us=by_us, details={}, key=key)

    @rule(token=tokens, past_us=st.sampled_from([0, 1]))
    def extend_to_the_end_of_its_lifetime(self, token: Token, past_us: int) -> None:
        record = self._twin.record(token)
        assert record
        by_us = record.created_us + MAX_LIFETIME_US - record.deadline_us + past_us
        self._verb("extend", token, counted_from="deadline", amount_us=max(1, by_us), details={}, key=None)

    @rule(token=tokens)
    def read(self, token: Token) -> None:
        self._run(self._twin.read(token))

    @rule(sku=st.sampled_from([*SKUS, UNKNOWN_SKU]), channel=channels)
    def availability(self, sku: Sku, channel: str) -> None:
        self._run(self._twin.availability(sku, channel=channel))

    @rule(happens=st.sampled_from(["sweep", "sweep", "sweep", "rebuild"]))
    def between_commands(self, happens: str) -> None:
        self._run(self._twin.expire() if happens == "sweep" else self._twin.rebuild())

    @rule(token=tokens, share=shares, places=st.lists(locations, min_size=1, max_size=2, unique=True), key=keys)
    def allocate(self, token: Token, share: str, places: list[str], key: Key) -> None:
        """All from one place, or one unit from another."""
        record = self._twin.record(token)
        assert record
        rows = []
        for line in self._lines(token, share) or record.lines:
            rest = len(places) - 1 if line.quantity > 1 else 0
            rows += [Allocation(line.sku, places[0], line.quantity - rest), Allocation(line.sku, places[-1], rest)]
        self._verb("allocate", token, [row for row in rows if row.quantity], details={}, key=key)

    @rule(
        sku=skus,
        location_id=locations,
        location_kind=st.sampled_from(["shared", "shared", "dedicated"]),
        mode=st.sampled_from(["count", "delta"]),
        amount=st.integers(0, 6) | st.integers(-3, -1),
        expected_sequence=if_match,
        key=keys,
    )
    def adjust(self, sku: Sku, mode: str, amount: int, key: Key, **how: Any) -> None:
        idempotency, amount = _idempotency(key, "adjust", sku), max(0, amount) if mode == "count" else amount
        self._run(self._twin.adjust(sku, mode=mode, amount=amount, reason="", idempotency=idempotency, **how))

    @rule(token=tokens, left=st.integers(0, 1))
    def count_takes_its_units_away(self, token: Token, left: int) -> None:
        record = self._twin.record(token)
        assert record
        self._count(record.skus[0], left)

    @rule(token=tokens, units=st.integers(1, 9))
    def units_arrive(self, token: Token, units: int) -> None:
        record = self._twin.record(token)
        assert record
        self.adjust(record.skus[0], mode="delta", amount=units, key=None, **self._at(next(iter(LOCATIONS))))

    @rule(
        sku=skus,
        places=st.lists(locations, min_size=2, max_size=2, unique=True),
        to_location_kind=st.sampled_from(["shared", "dedicated"]),
        quantity=st.integers(1, 4),
        expected_sequence=if_match,
        key=keys,
    )
    def transfer(self, sku: Sku, places: list[str], key: Key, **how: Any) -> None:
        from_to = {"from_location_id": places[0], "to_location_id": places[1]}
        self._run(self._twin.transfer(sku, reason="", idempotency=_idempotency(key, "transfer", sku), **from_to, **how))

    @rule(category=st.sampled_from(CATEGORIES), policy=defaults, is_refreshed=st.booleans())
    def put_category(self, category: str, policy: dict[str, Any], *, is_refreshed: bool) -> None:
        self._run(self._twin.put_category(category, policy))
        for sku in self._twin.skus_of(category) if is_refreshed else []:
            self._run(self._twin.put_sku(sku, {}, may_create=False))

    @rule(
        sku=st.sampled_from([*SKUS, UNKNOWN_SKU]), policy=policies, may_create=st.booleans(), expected_sequence=if_match
    )
    def put_sku(self, sku: Sku, policy: dict[str, Any], **how: Any) -> None:
        self._run(self._twin.put_sku(sku, policy, **how))

    @rule(token=tokens, beside_us=st.sampled_from([0, -1, 1]))
    def let_time_pass_to_the_deadline(self, token: Token, beside_us: int) -> None:
        record = self._twin.record(token)
        if record and record.status in LIVE:
            self._twin.clock.advance_us(max(0, self._twin.time_left_us(record) + beside_us))

    @rule(passed_us=st.sampled_from([0, 1, SECOND_US, 3 * SECOND_US, 90 * SECOND_US]), set_seconds=steps_seconds)
    def let_time_pass(self, passed_us: int, set_seconds: int) -> None:
        """And perhaps somebody sets the engine's clock."""
        self._twin.clock.advance_us(passed_us)
        self._twin.clock.step(set_seconds)

    def _run(self, command: Awaitable[object]) -> object:
        async def run() -> object:
            return await command

        self._agree = False
        outcome = self._loop.run(run())
        self._agree = True
        return outcome

    def _reserve(self, lines: list[Line], *, agent_id: str, channel: str, key: Key, **how: Any) -> list[Token]:
        idempotency = _idempotency(key, "reserve", agent_id, channel)
        reserve = self._twin.reserve(lines, agent_id=agent_id, channel=channel, idempotency=idempotency, **how)
        outcome = self._run(reserve)
        return [outcome.reservation.token] if isinstance(outcome, Held) else []

    def _verb(self, name: str, token: Token, *arguments: Any, key: Key, **how: Any) -> None:
        self._run(self._twin.verb(name, token, *arguments, idempotency=_idempotency(key, name, token), **how))

    def _count(self, sku: Sku, units: int) -> None:
        self.adjust(sku, mode="count", amount=units, key=None, **self._at(next(iter(LOCATIONS))))

    @staticmethod
    def _at(location_id: str) -> dict[str, Any]:
        return {"location_id": location_id, "location_kind": "shared", "expected_sequence": ""}

    def _lines(self, token: Token, share: str) -> list[Line]:
        record = self._twin.record(token)
        assert record
        first = record.lines[0]
        quantity = {"one line": first.quantity, "one unit": 1, "too much": first.quantity + 1, "unknown": 1}.get(share)
        return [Line(UNKNOWN_SKU if share == "unknown" else first.sku, quantity)] if quantity else []


def _idempotency(key: Key, *scope: str) -> Idempotency | None:
    return Idempotency((*scope, key[0]), fingerprint=key[1]) if key else None


@pytest.mark.timeout(7200)  # what was found is made short before it is shown, and that takes its time
def test_no_history_is_found_in_which_they_disagree(engine: Engine) -> None:
    run_state_machine_as_test(
        type("Shop", (Shop,), {"engine": engine}),
        settings=settings(
            max_examples=EXAMPLES[PROFILE],
            stateful_step_count=30,
            deadline=None,
            phases=set(Phase) - {Phase.explain},  # it takes minutes to name the line that raises
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
