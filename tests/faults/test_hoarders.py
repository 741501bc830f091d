"""Callers that hold and never buy: they keep no more than they may, and the others go on buying."""

import random
from collections import Counter
from typing import Any

import pytest

from app.domain.caps import Caps
from tests.faults.conftest import Measure
from tests.faults.proof import prove
from tests.faults.shop import ANSWER_SECONDS_MAX, Shop
from tests.gateway import Gateway, done
from tests.service import Home, eventually

HOARDERS = 4
CAPS = Caps(open_holds=60, held_units=200, sku_share_basis_points=1000, expired_holds=5, cooldown_us=2_000_000)
SETTINGS: dict[str, Any] = {
    "agent_open_holds_max": CAPS.open_holds,
    "agent_held_units_max": CAPS.held_units,
    "agent_sku_share_percent_max": 10,
    "agent_expired_holds_max": CAPS.expired_holds,
    "agent_cooldown_seconds": 2,
}


@pytest.mark.archived
def test_hoarders_keep_no_more_than_they_may(home: Home, measure: Measure, chance: random.Random) -> None:
    """The oracle, which knows the caps, agrees to every hold there is; a scarce SKU is not out of anybody's reach."""
    gateway = home.serve(**SETTINGS).gateway
    with Shop(gateway, chance, hoarders=HOARDERS) as shop:
        while len(met := _met(shop)) < 2 or met["expired_holds"] < HOARDERS:
            shop.advances(measure.commands // 4, seconds_max=measure.seconds_max)
        hoarders = {f"agent-{shop.agents + number}" for number in range(HOARDERS)}
        eventually(lambda: hoarders <= _unsold(gateway))
    bought = Counter(call.client >= shop.agents for call in shop.calls if call.verb == "commit" and call.acknowledged)
    assert bought[False] > 0
    assert bought[True] == 0
    assert shop.answers(503) == []
    assert shop.seconds_max < ANSWER_SECONDS_MAX
    prove(home, shop, gateway, caps=CAPS)
    print(dict(met))


def _unsold(gateway: Gateway) -> set[str]:
    """Who let more expire than was bought, by the report."""
    report = done(gateway.get("admin/hoarders?window_seconds=60"))["items"]
    return {row["agent_id"] for row in report if row["expired"] > row["sold"]}


def _met(shop: Shop) -> Counter[str]:
    """How often each cap was met."""
    return Counter(answer.json["cap"] for answer in shop.answers(429))
