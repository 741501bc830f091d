"""Seeded runs against every engine. A seed that once found something stays in the list."""

import random
from collections import Counter

import pytest

from tests.engines import Engine
from tests.simulation.simulation import Simulation
from tests.simulation.twin import Twin, open_twin

STEPS = 2400
SEEDS = (2, 6, 8)
# What the fixed seeds must meet between them, or they prove less than they seem to.
OUTCOMES = {
    "reserve": (
        "Held", "Held again", "ChannelLimitExceeded", "IdempotencyConflict", "OutOfStock", "QuantityAboveLimit",
        "SkuNotFound", "busy",
    ),
    "commit": ("Done", "Done again", "QuantityExceeds", "ReservationEnded", "Shortfall"),
    "release": ("Done", "Done again", "ReservationEnded"),
    "extend": ("Done", "Done again", "LifetimeExceeded", "ReservationEnded"),
    "payment": ("Done", "Done again", "ReservationEnded"),
    "cancel": ("Done", "Done again", "QuantityExceeds", "ReservationEnded"),
    "adjust": (
        "SkuAnswered", "SkuAnswered again", "AboveLimit", "IdempotencyConflict", "SequenceMismatch", "StockBelowZero",
    ),
    "transfer": (
        "SkuAnswered", "SkuAnswered again", "AboveLimit", "IdempotencyConflict", "SequenceMismatch", "SkuNotFound",
        "StockBelowZero",
    ),
    "allocate": ("Done", "Done again", "LocationShort", "QuantityExceeds", "ReservationEnded"),
    "put_sku": ("SkuAnswered", "SequenceMismatch", "SkuNotFound"),
    "put_category": ("int",),
    "read": ("Done", "ReservationNotFound"),
    "availability": ("SkuAnswered", "SkuNotFound"),
    "expire": ("Swept",),
    "entry": ("reservation.reconciling", "reservation.voided", "stock.allocated", "stock.transferred"),
}  # fmt: skip


async def simulated(engine: Engine, *, seed: int, steps: int, partitions: int = 1) -> Twin:
    print(f"make simulate SEED={seed} repeats this run")
    async with open_twin(engine, seed=seed, partitions=partitions) as twin:
        await Simulation(twin, seed=seed).run(steps)
    return twin


async def test_service_and_oracle_agree(engine: Engine) -> None:
    said = Counter[str]()
    for seed in SEEDS:
        said += (await simulated(engine, seed=seed, steps=STEPS)).said
    missed = [f"{name} {word}" for name, words in OUTCOMES.items() for word in words if f"{name} {word}" not in said]
    assert not missed, "no seed met these outcomes: choose other seeds, or more steps"


async def test_service_and_oracle_agree_on_what_nobody_has_seen(engine: Engine) -> None:
    await simulated(engine, seed=random.randrange(10**6), steps=STEPS // 3)


async def test_service_and_oracle_agree_on_three_partitions(engine: Engine) -> None:
    await simulated(engine, seed=random.randrange(10**6), steps=STEPS // 3, partitions=3)


async def test_same_seed_gives_the_same_ledger_to_the_byte(engine: Engine) -> None:
    ledgers = [(await simulated(engine, seed=seed, steps=400)).ledger_bytes() for seed in (7, 7, 8)]
    assert len(ledgers[0]) > 10_000
    assert ledgers[0] == ledgers[1]
    assert ledgers[0] != ledgers[2]


@pytest.mark.parametrize("forgotten", ["Oracle._settle", "Oracle._sell", "Oracle._close_shortfall", "Stock.cover"])
async def test_the_comparison_can_fail(engine: Engine, forgotten: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"tests.{'oracle_stock' if 'Stock' in forgotten else 'oracle'}.{forgotten}", lambda *_: True)
    with pytest.raises(AssertionError, match="service: "):
        await simulated(engine, seed=SEEDS[0], steps=STEPS)
