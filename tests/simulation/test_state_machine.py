"""Hypothesis in the shop: agents, operators and clocks; see tests/simulation/machine.py."""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, initialize, multiple, rule

from app.domain.caps import NO_CAPS, Caps
from app.domain.types import Line, Sku, Token
from tests.engines import Engine
from tests.simulation.machine import (
    SKUS,
    Key,
    Machine,
    beside_us,
    channels,
    idempotency_of,
    lines,
    locations,
    one_or_two_locations,
    order_ids,
    policies_of,
    search,
    shares,
    skus,
    two_locations,
    units_of_each,
)
from tests.simulation.simulation import (
    AGENTS,
    CATEGORIES,
    CHANNELS,
    DEFAULTS,
    POLICIES,
    SECOND_US,
    UNKNOWN_SKU,
)
from tests.simulation.twin import MAX_LIFETIME_US

EXAMPLES = {"quick": 60, "long": 5_000}

details = st.sampled_from([{}, {"rationale": "“cheap”, they\tsay"}])
# The few keys meet again by themselves: the same request, or another one with the same key.
keys = st.sampled_from([None, None, None, ("k1", "a request"), ("k1", "another request"), ("k2", "a request")])
if_match = st.sampled_from(["", "", "", "", "*", "0", "3"])
durations_us = st.sampled_from([5 * SECOND_US, 15 * SECOND_US, SECOND_US, 1])
steps_seconds = st.sampled_from([0, 0, -1, 1, 31, 7200])
caps = st.sampled_from(
    [
        NO_CAPS,
        NO_CAPS,
        Caps(open_holds=2, expired_holds=3, cooldown_us=10 * SECOND_US),
        Caps(held_units=5, expired_holds=1, cooldown_us=SECOND_US),
        Caps(sku_share_basis_points=3_400),
    ]
)
policies, defaults = policies_of(POLICIES), policies_of(DEFAULTS)


class Shop(Machine):
    """Agents, operators and clocks."""

    tokens: Bundle[Token] = Bundle("tokens")

    @initialize(
        target=tokens,
        policy=policies,
        caps=caps,
        units=units_of_each,
        baskets=st.lists(lines, min_size=1, max_size=3),
    )
    def open_the_shop(
        self, policy: dict[str, Any], caps: Caps, units: list[int], baskets: list[list[Line]]
    ) -> MultipleResults[Token]:
        """With some stock, a policy, caps perhaps, and agents who wait outside."""
        self._run(self._twin.set_caps(caps))
        for sku, amount in zip(SKUS, units, strict=True):
            self._adjust(sku, "count", amount)
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

    @rule(token=tokens, share=shares, order_id=order_ids, details=details, key=keys)
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
        record = self._record(token)
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

    @rule(token=tokens, share=shares, places=one_or_two_locations, key=keys)
    def allocate(self, token: Token, share: str, places: list[str], key: Key) -> None:
        self._allocate(token, share, places, key=key)

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
        self._adjust(sku, mode, amount, key=key, **how)

    @rule(token=tokens, left=st.integers(0, 1))
    def count_takes_its_units_away(self, token: Token, left: int) -> None:
        self._adjust(self._record(token).skus[0], "count", left)

    @rule(token=tokens, units=st.integers(1, 9))
    def units_arrive(self, token: Token, units: int) -> None:
        self._adjust(self._record(token).skus[0], "delta", units)

    @rule(
        sku=skus,
        places=two_locations,
        to_location_kind=st.sampled_from(["shared", "dedicated"]),
        quantity=st.integers(1, 4),
        expected_sequence=if_match,
        key=keys,
    )
    def transfer(self, sku: Sku, places: list[str], key: Key, **how: Any) -> None:
        from_to = {"from_location_id": places[0], "to_location_id": places[1]}
        self._run(
            self._twin.transfer(sku, reason="", idempotency=idempotency_of(key, "transfer", sku), **from_to, **how)
        )

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

    @rule(caps=caps)
    def cap(self, caps: Caps) -> None:
        self._run(self._twin.set_caps(caps))

    @rule(token=tokens, beside_us=beside_us)
    def let_time_pass_to_the_deadline(self, token: Token, beside_us: int) -> None:
        self._let_time_pass_to_the_deadline(token, beside_us)

    @rule(passed_us=st.sampled_from([0, 1, SECOND_US, 3 * SECOND_US, 90 * SECOND_US]), set_seconds=steps_seconds)
    def let_time_pass(self, passed_us: int, set_seconds: int) -> None:
        """And perhaps somebody sets the engine's clock."""
        self._twin.clock.advance_us(passed_us)
        self._twin.clock.step(set_seconds)


@pytest.mark.timeout(7200)  # what was found is made short before it is shown, and that takes its time
def test_no_history_is_found_in_which_they_disagree(engine: Engine) -> None:
    search(Shop, engine, examples=EXAMPLES)
