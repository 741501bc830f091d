"""What is assumed of a SKU while nobody can ask the engine."""

from dataclasses import replace

import pytest

from app.domain.types import Policy, Sku, SkuState
from app.workflows.degraded import assume

MINUTE_US = 60 * 1_000_000
AS_OF_US = 1_700_000_000_000_000


def state(available: int, degraded_policy: str, **policy: object) -> SkuState:
    return SkuState(
        sku=Sku("A"), as_of_us=AS_OF_US, sequence=7, on_hand=available, reserved=0, committed=0, backordered=0,
        safety_stock=0, available=available, shortfall=0, next_release_us=None, locations=(),
        policy=replace(Policy(degraded_policy=degraded_policy), **policy),  # type: ignore[arg-type] # any of its fields
    )  # fmt: skip


@pytest.mark.parametrize(
    ("degraded_policy", "last_known", "age_minutes", "assumed"),
    [
        ("assume_out_of_stock", 100, 0, 0),
        ("conservative", 100, 0, 100),
        ("conservative", 100, 1, 50),
        ("conservative", 100, 2, 33),
        ("conservative", 100, 99, 1),
        ("conservative", 100, 100, 0),
        ("conservative", 1, 1 / MINUTE_US, 0),
        ("conservative", 10**12, 1, 5 * 10**11),
        ("conservative", 0, 1, 0),
        ("assume_in_stock", 100, 1000, 100),
        ("assume_in_stock", 0, 0, 1),
        ("escalate", 100, 1000, 100),
        ("escalate", 0, 0, 0),
    ],
)
def test_what_each_policy_makes_of_what_was_known(
    degraded_policy: str, last_known: int, age_minutes: float, assumed: int
) -> None:
    found = assume(state(last_known, degraded_policy), channel=None, now_us=AS_OF_US + round(age_minutes * MINUTE_US))
    assert found
    assert found.available == assumed
    assert found.confidence == pytest.approx(1 / (1 + age_minutes))


def test_refuse_says_nothing() -> None:
    assert assume(state(100, "refuse"), channel=None, now_us=AS_OF_US) is None
    assert assume(state(100, "what another version knows"), channel=None, now_us=AS_OF_US) is None


def test_a_clock_that_is_behind_makes_nothing_younger_than_new() -> None:
    found = assume(state(100, "conservative"), channel=None, now_us=AS_OF_US - MINUTE_US)
    assert found
    assert (found.available, found.age_us, found.confidence) == (100, 0, 1)


@pytest.mark.parametrize(("channel", "assumed"), [(None, 100), ("web", 5), ("closed", 0), ("direct", 100)])
def test_a_channel_has_its_limit(channel: str | None, assumed: int) -> None:
    known = state(100, "assume_in_stock", channel_limits={"web": 5, "closed": 0})
    found = assume(known, channel=channel, now_us=AS_OF_US)
    assert found
    assert found.available == assumed
