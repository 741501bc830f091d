"""The typed commands over the real scripts: every reply becomes its outcome."""

import asyncio
from functools import partial

import pytest

from app.domain.errors import EngineBusy, EngineCorrupt
from app.domain.outcomes import (
    AboveLimit,
    ChannelLimitExceeded,
    Done,
    Held,
    IdempotencyConflict,
    LifetimeExceeded,
    LocationShort,
    OutOfStock,
    QuantityAboveLimit,
    QuantityExceeds,
    ReservationEnded,
    ReservationNotFound,
    ReserveOutcome,
    SequenceMismatch,
    Shortfall,
    SkuAnswered,
    SkuNotFound,
    StockBelowZero,
    TooManyKeys,
    TooManyLocations,
)
from app.domain.types import Allocation, Line, Location, Policy, Sku, Token
from app.store.commands import Idempotency
from app.store.decoding import encode_policy
from app.store.store import Store
from tests.conftest import OpenStore
from tests.engines import Engine
from tests.virtual_clock import SECOND_US, VirtualClock

A, B = Sku("A"), Sku("Ä/B c")
KEY = Idempotency(("holder", "key"), "fingerprint")
OTHER = Idempotency(("holder", "key"), "another")
TTL_US = 10 * SECOND_US


async def stock(store: Store, sku: Sku = A, amount: int = 10, **policy: object) -> None:
    if policy:
        await store.commands.put_sku(sku, encode_policy(policy), may_create=True)
    await store.commands.adjust(sku, location_id="main", mode="delta", amount=amount, reason="found")


async def reserve(
    store: Store, *lines: Line, allow_backorder: bool = False, idempotency: Idempotency | None = None
) -> ReserveOutcome:
    return await store.commands.reserve(
        lines or [Line(A, 1)], agent_id="agent", channel="direct", ttl_us=TTL_US, allow_backorder=allow_backorder,
        details={"reference": "cart"}, idempotency=idempotency,
    )  # fmt: skip


async def hold(store: Store, *lines: Line) -> Token:
    outcome = await reserve(store, *lines)
    assert isinstance(outcome, Held)
    return outcome.reservation.token


async def test_held(store: Store, clock: VirtualClock) -> None:
    await stock(store)
    await stock(store, B, 1, backorder_limit=5)
    outcome = await reserve(store, Line(A, 2), Line(B, 3), allow_backorder=True)
    assert isinstance(outcome, Held)
    held = outcome.reservation
    assert (held.status, held.agent_id, held.channel, held.order_id) == ("held", "agent", "direct", "")
    assert (held.created_at_us, held.expires_at_us) == (clock.now_us, clock.now_us + TTL_US)
    assert held.lines == (Line(A, 2), Line(B, 3, backordered=2))
    assert [row.available for row in held.remaining] == [8, 0]
    assert held.review_due_at_us is not None
    read = await store.commands.read(held.token)
    assert read == Done(held, is_replayed=False, has_effect=False)


async def test_reserve_refused(store: Store, clock: VirtualClock) -> None:
    assert await reserve(store) == SkuNotFound(A)
    await stock(
        store,
        A,
        1,
        max_quantity_per_reservation=3,
        backorder_limit=1,
        substitutes=("B",),
        next_restock_date="2026-02-01",
    )
    await hold(store)
    refused = await reserve(store, Line(A, 3), allow_backorder=True)
    assert isinstance(refused, OutOfStock)
    (short,) = refused.lines
    assert (short.line, short.remaining.available, short.backorder_left) == (Line(A, 3), 0, 1)
    assert (short.next_release_us, short.next_restock_date, short.substitutes) == (
        clock.now_us + TTL_US,
        "2026-02-01",
        ("B",),
    )
    assert await reserve(store, Line(A, 4)) == QuantityAboveLimit(A, 3)


async def test_keys(store: Store) -> None:
    await stock(store)
    first = await reserve(store, idempotency=KEY)
    again = await reserve(store, idempotency=KEY)
    assert isinstance(first, Held)
    assert again == Held(first.reservation, is_replayed=True)
    assert await reserve(store, idempotency=OTHER) == IdempotencyConflict()
    token = first.reservation.token
    for verb in (store.commands.release, store.commands.cancel):
        assert isinstance(await verb(token, idempotency=KEY), Done | ReservationEnded)
    assert await store.commands.release(token, idempotency=OTHER) == IdempotencyConflict()


async def test_verbs_refused(store: Store) -> None:
    nobodys = Token("0-" + "x" * 22)
    for token in (nobodys, Token("7-" + "x" * 22), Token("x"), Token("")):
        assert await store.commands.release(token) == ReservationNotFound()
        assert await store.commands.read(token) == ReservationNotFound()
    await stock(store)
    token = await hold(store, Line(A, 2))
    assert await store.commands.commit(token, order_id="", lines=[Line(A, 3)]) == QuantityExceeds()
    assert await store.commands.extend(token, counted_from="now", amount_us=3601 * SECOND_US) == LifetimeExceeded()
    paid = await hold(store, Line(A, 2))
    await store.commands.payment(paid, ttl_us=TTL_US)
    await store.commands.adjust(A, location_id="main", mode="count", amount=0, reason="lost")
    voided = await store.commands.commit(token, order_id="")
    assert isinstance(voided, ReservationEnded)
    assert voided.reservation.status == "voided"
    assert await store.commands.commit(paid, order_id="") == Shortfall()
    await store.commands.release(paid)
    ended = await store.commands.payment(paid, ttl_us=TTL_US)
    assert isinstance(ended, ReservationEnded)
    assert ended.reservation.status == "released"


async def test_a_channel_has_its_share(store: Store) -> None:
    await stock(store, channel_limits={"direct": 3})
    await hold(store, Line(A, 2))
    assert await reserve(store, Line(A, 2)) == ChannelLimitExceeded(A, limit=3, promised=2)
    for channel, left in (("direct", 1), ("web", None), ("", None)):
        answered = await store.commands.availability(A, channel=channel)
        assert isinstance(answered, SkuAnswered)
        assert answered.state.channel_left == left


async def test_allocate(store: Store) -> None:
    await stock(store)
    token = await hold(store, Line(A, 2))
    here, elsewhere = Allocation(A, "main", 2), Allocation(A, "east", 1)
    assert isinstance(await store.commands.allocate(token, [here]), ReservationEnded)
    await store.commands.commit(token, order_id="")
    assert await store.commands.allocate(token, [elsewhere]) == LocationShort()
    assert await store.commands.allocate(token, [here, elsewhere]) == QuantityExceeds()
    done = await store.commands.allocate(token, [here], details={"rationale": "near"}, idempotency=KEY)
    assert isinstance(done, Done)
    again = await store.commands.allocate(token, [here], details={"rationale": "near"}, idempotency=KEY)
    assert again == Done(done.reservation, is_replayed=True, has_effect=False)
    assert await store.commands.allocate(token, [here]) == Done(done.reservation, is_replayed=False, has_effect=False)
    answered = await store.commands.availability(A)
    assert isinstance(answered, SkuAnswered)
    assert answered.state.locations == (Location("main", is_shared=True, on_hand=10, allocated=2),)


async def test_transfer(store: Store) -> None:
    transfer = partial(store.commands.transfer, A, from_location_id="main", reason="moved")
    assert await transfer(to_location_id="east", quantity=1) == SkuNotFound(A)
    await stock(store)
    assert await transfer(to_location_id="east", quantity=11) == StockBelowZero()
    assert await transfer(to_location_id="east", quantity=1, expected_sequence="7") == SequenceMismatch(1)
    moved = await transfer(to_location_id="east", to_location_kind="dedicated", quantity=4, idempotency=KEY)
    assert isinstance(moved, SkuAnswered)
    assert (moved.state.on_hand, moved.state.sequence) == (6, 3)
    assert moved.state.locations == (
        Location("east", is_shared=False, on_hand=4, allocated=0),
        Location("main", is_shared=True, on_hand=6, allocated=0),
    )
    again = await transfer(to_location_id="east", to_location_kind="dedicated", quantity=4, idempotency=KEY)
    assert again == SkuAnswered(moved.state, is_replayed=True)
    assert await transfer(to_location_id="east", quantity=5, idempotency=OTHER) == IdempotencyConflict()


async def test_a_shortfall_is_closed_behind_the_callers_back(store: Store) -> None:
    """However many calls it takes: the answer has what stands when it is over, and the sequence of its own command."""
    await stock(store, A, 500)
    await asyncio.gather(*(hold(store) for _ in range(500)))
    count = partial(store.commands.adjust, A, location_id="main", mode="count", amount=50, reason="lost")
    counted = await count(idempotency=KEY)
    assert isinstance(counted, SkuAnswered)
    assert (counted.state.reserved, counted.state.shortfall, counted.state.available) == (50, 0, 0)
    assert counted.state.sequence == 1 + 500 + 1 + 200, "later voids are commands of their own"
    assert await count(idempotency=KEY) == SkuAnswered(counted.state, is_replayed=True)


async def test_categories(store: Store) -> None:
    (keys,) = store.keyspace.partitions
    fields = encode_policy({"safety_stock": 3, "channel_limits": {"web": 4}})
    assert await store.commands.put_category(keys, "flowers", fields) == 1
    put = await store.commands.put_sku(A, encode_policy({"category": "flowers"}), may_create=True)
    assert isinstance(put, SkuAnswered)
    assert put.state.policy == Policy(category="flowers", safety_stock=3, channel_limits={"web": 4})


async def test_too_many_keys(store: Store) -> None:
    await stock(store)
    token = await hold(store)
    outcomes = [
        await store.commands.extend(
            token, counted_from="now", amount_us=TTL_US, idempotency=Idempotency((str(n),), "f")
        )
        for n in range(300)
    ]
    assert isinstance(outcomes[0], Done)
    assert outcomes[-1] == TooManyKeys()


async def test_adjust(store: Store) -> None:
    adjust = store.commands.adjust
    answered = await adjust(A, location_id="main", mode="delta", amount=5, reason="found", idempotency=KEY)
    assert isinstance(answered, SkuAnswered)
    assert (answered.state.on_hand, answered.is_replayed) == (5, False)
    assert answered.state.locations == (Location("main", is_shared=True, on_hand=5, allocated=0),)
    again = await adjust(A, location_id="main", mode="delta", amount=5, reason="found", idempotency=KEY)
    assert again == SkuAnswered(answered.state, is_replayed=True)
    other = await adjust(A, location_id="main", mode="delta", amount=6, reason="found", idempotency=OTHER)
    assert other == IdempotencyConflict()
    assert await adjust(A, location_id="main", mode="delta", amount=-6, reason="lost") == StockBelowZero()
    assert await adjust(A, location_id="main", mode="delta", amount=10**12, reason="found") == AboveLimit()
    mismatch = await adjust(A, location_id="main", mode="count", amount=1, reason="lost", expected_sequence="7")
    assert mismatch == SequenceMismatch(1)
    for number in range(199):
        await adjust(A, location_id=str(number), mode="count", amount=0, reason="counted")
    assert await adjust(A, location_id="more", mode="count", amount=0, reason="counted") == TooManyLocations()


async def test_put_sku_and_availability(store: Store) -> None:
    policy = Policy(
        safety_stock=1,
        safety_stock_basis_points=250,
        backorder_limit=3,
        low_stock_threshold=4,
        max_quantity_per_reservation=5,
        reconciliation_hold_us=2_000_000,
        lead_time_days=6,
        next_restock_date="2026-03-01",
        incoming=7,
        substitutes=("B", "Ç"),
        variant_group="shirts",
        category="flowers",
        channel_limits={"web": 5, "Ä": 0},
        degraded_policy="conservative",
    )
    values = {name: getattr(policy, name) for name in Policy.__slots__}
    assert await store.commands.availability(A) == SkuNotFound(A)
    assert await store.commands.put_sku(A, encode_policy(values), may_create=False) == SkuNotFound(A)
    created = await store.commands.put_sku(A, encode_policy(values), may_create=True)
    assert isinstance(created, SkuAnswered)
    assert created.is_created
    assert created.state.policy == policy
    assert await store.commands.availability(A) == SkuAnswered(created.state)
    mismatch = await store.commands.put_sku(A, {}, may_create=True, expected_sequence="7")
    assert mismatch == SequenceMismatch(1)
    plain = {name: getattr(Policy(), name) for name in Policy.__slots__}
    reset = await store.commands.put_sku(A, encode_policy(plain), may_create=True)
    assert isinstance(reset, SkuAnswered)
    assert reset.state.policy == Policy()


async def test_reclaiming_is_done_behind_the_callers_back(store: Store, clock: VirtualClock) -> None:
    await stock(store, A, 1000)
    await asyncio.gather(*(hold(store) for _ in range(1000)))
    clock.advance_us(TTL_US)
    assert isinstance(await reserve(store, Line(A, 1000)), Held)


async def test_too_much_to_reclaim_is_busy(store: Store, clock: VirtualClock) -> None:
    await stock(store, A, 5000)
    await asyncio.gather(*(hold(store) for _ in range(4300)))
    clock.advance_us(TTL_US)
    with pytest.raises(EngineBusy):
        await store.commands.availability(A)
    assert isinstance(await store.commands.availability(A), SkuAnswered)


async def test_a_command_that_comes_too_late_is_busy(store: Store, clock: VirtualClock) -> None:
    await stock(store)
    token = await hold(store)
    clock.step(20)  # more than a call may take
    with pytest.raises(EngineBusy):
        await store.commands.release(token)
    assert isinstance(await store.commands.release(token), Done), "it has heard the time"


async def test_scripts_that_were_flushed_are_loaded_again(store: Store, engine: Engine) -> None:
    await stock(store, A, 100)
    engine.client.script_flush()
    outcomes = await asyncio.gather(*(reserve(store) for _ in range(150)))
    assert sum(isinstance(outcome, Held) for outcome in outcomes) == 100
    assert sum(isinstance(outcome, OutOfStock) for outcome in outcomes) == 50


@pytest.mark.damaging
async def test_a_damaged_key_is_a_fault(store: Store, engine: Engine) -> None:
    await stock(store)
    engine.client.set(store.keyspace.of_sku(A).sku(A), "x")
    with pytest.raises(EngineCorrupt):
        await reserve(store)


async def test_a_sku_is_sold_in_its_partition(open_store: OpenStore, clock: VirtualClock) -> None:
    store = await open_store(clock=clock, partitions=3)
    skus = [Sku(f"sku-{number}") for number in range(30)]
    for sku in skus:
        await stock(store, sku, 1)
        token = await hold(store, Line(sku, 1))
        assert store.keyspace.of_token(token)[0] is store.keyspace.of_sku(sku)
        assert isinstance(await store.commands.commit(token, order_id="order-1"), Done)
    ends = [await store.client.xlen(keys.ledger) for keys in store.keyspace.partitions]
    assert sum(ends) == 90
    assert min(ends) > 0
