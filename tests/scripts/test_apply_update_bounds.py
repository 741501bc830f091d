"""How many deltas and counts a location keeps, how many events an order; what becomes of those beyond."""

import random

import pytest

from app.domain.updates import UpdateStatus
from app.store.store import Store
from tests.scripts.outside import Outside
from tests.simulation.sources import COUNT, RECEIVE, SALE, SHIP, Fact

DELTAS_MAX, COUNTS_MAX, EVENTS_MAX = 64, 8, 64
RECEIVED = DELTAS_MAX + 6
FLOOR = 2 * 6  # the number of the last one that is forgotten
APPLIED, STALE = UpdateStatus.APPLIED, UpdateStatus.STALE


@pytest.fixture
async def outside(store: Store) -> Outside:
    return Outside(store)


class TestDeltas:
    """The warehouse received single units, and has counted them by twos: numbers 2, 4, 6 ..., each at that time."""

    @pytest.fixture(autouse=True)
    async def received(self, outside: Outside) -> None:
        for number in range(2, 2 * RECEIVED + 1, 2):
            assert await outside(Fact("wms", RECEIVE, 1, number), may_create=True) is APPLIED
        assert await outside.numbers() == (RECEIVED, 0, RECEIVED)

    @pytest.mark.parametrize(("number", "on_hand"), [
        (FLOOR, 100 + DELTAS_MAX), (FLOOR + 1, 100 + DELTAS_MAX), (FLOOR + 2, 100 + DELTAS_MAX - 1),
        (2 * RECEIVED, 100), (2 * RECEIVED + 1, 100),
    ])  # fmt: skip
    @pytest.mark.parametrize("source", ["wms", "erp"])
    async def test_a_count_that_has_seen_what_is_forgotten(
        self, outside: Outside, source: str, number: int, on_hand: int
    ) -> None:
        """Who does not know the other's numbers goes by time."""
        assert await outside(Fact(source, COUNT, 100, number)) is APPLIED
        assert await outside.numbers() == (on_hand, 0, on_hand)

    @pytest.mark.parametrize("source", ["wms", "erp"])
    async def test_a_count_that_has_not_is_stale(self, outside: Outside, source: str) -> None:
        before = await outside.state()
        assert await outside(Fact(source, COUNT, 100, FLOOR - 1)) is STALE
        assert await outside.state() == before

    async def test_numbers_go_before_time(self, outside: Outside) -> None:
        late = Fact("erp", COUNT, 100, 1, clock={"erp": 1, "wms": FLOOR})
        early = Fact("erp", COUNT, 100, 10_000, clock={"erp": 2, "wms": FLOOR - 1})
        assert [await outside(early), await outside(late)] == [STALE, APPLIED]
        assert await outside.numbers() == (100 + DELTAS_MAX, 0, 100 + DELTAS_MAX)

    async def test_one_that_comes_late_counts_and_is_forgotten_at_once(self, outside: Outside) -> None:
        assert await outside(Fact("wms", RECEIVE, 7, FLOOR - 1)) is APPLIED
        assert await outside.numbers() == (RECEIVED + 7, 0, RECEIVED + 7)
        assert await outside(Fact("wms", COUNT, 100, FLOOR)) is APPLIED
        assert await outside.numbers() == (100 + DELTAS_MAX, 0, 100 + DELTAS_MAX)

    async def test_what_is_forgotten_still_counts_until_something_newer_is_found(self, outside: Outside) -> None:
        assert await outside(Fact("wms", COUNT, 100, FLOOR)) is APPLIED
        for number in range(1, 2 * DELTAS_MAX, 2):
            assert await outside(Fact("wms", RECEIVE, 1, 2 * RECEIVED + number)) is APPLIED
        assert await outside.numbers() == (100 + 2 * DELTAS_MAX, 0, 100 + 2 * DELTAS_MAX)
        assert await outside(Fact("wms", COUNT, 50, 2 * RECEIVED - 1)) is STALE
        assert await outside(Fact("wms", COUNT, 50, 2 * RECEIVED)) is APPLIED
        assert await outside.numbers() == (50 + DELTAS_MAX, 0, 50 + DELTAS_MAX)

    async def test_another_source_has_a_floor_of_its_own(self, outside: Outside) -> None:
        """What the till numbers is far below; none of it is forgotten yet."""
        assert await outside(Fact("pos", SALE, 3, 2 * RECEIVED + 9, clock={"pos": 1})) is APPLIED
        count = Fact("erp", COUNT, 100, 2 * RECEIVED + 10, clock={"erp": 1, "pos": 0, "wms": 2 * RECEIVED})
        assert await outside(count) is APPLIED
        assert await outside.numbers() == (97, 0, 97)


async def test_a_count_that_stands_beside_the_believed_one_is_stale_once_it_is_below_the_floor(
    outside: Outside,
) -> None:
    """When the believed one is outdone, it would be the next; but nobody knows what came since."""
    await outside(Fact("pos", COUNT, 50, 1), may_create=True)
    await outside(Fact("wms", COUNT, 100, 2))
    for number in range(RECEIVED):
        await outside(Fact("erp", RECEIVE, 1, 3 + number))
    assert await outside(Fact("shop", COUNT, 10, 80, clock={"shop": 1, "wms": 2})) is APPLIED
    assert await outside.numbers() == (10, 0, 10)


async def test_of_more_counts_than_a_location_keeps_the_believed_one_stays(outside: Outside) -> None:
    """None has seen all that another has; so all would stand, and the last one is believed."""
    numbers = list(range(1, COUNTS_MAX + 5))
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    random.Random(seed).shuffle(numbers)
    await outside(Fact("wms", RECEIVE, 7, 0, clock={"wms": 0}), may_create=True)
    for number in numbers:
        count = Fact("wms", COUNT, 10 * number, number, clock={"wms": number, "erp": 100 - number})
        assert await outside(count) in (APPLIED, STALE)
    last = max(numbers)
    assert (await outside.state()).on_hand == 10 * last
    await outside(Fact("erp", RECEIVE, 5, 50, clock={"erp": 100 - last + 1}))
    await outside(Fact("erp", RECEIVE, 3, 50, clock={"erp": 100 - last}))
    assert (await outside.state()).on_hand == 10 * last + 5
    assert await outside(Fact("erp", COUNT, 1, 0, clock={"erp": 100, "wms": 100})) is APPLIED
    assert (await outside.state()).on_hand == 1


async def test_an_order_has_so_many_departures_and_no_more(outside: Outside) -> None:
    await outside(Fact("wms", RECEIVE, 100, 0), may_create=True)
    for number in range(EVENTS_MAX):
        assert await outside(Fact("wms", SHIP, 1, number + 1, reference="order")) is APPLIED
    before = await outside.state()
    assert await outside(Fact("wms", SHIP, 1, 1000, reference="order")) is UpdateStatus.TOO_MANY_EVENTS
    assert await outside.state() == before
    assert await outside(Fact("wms", SHIP, 1, 1000, reference="another")) is APPLIED
    assert await outside.numbers() == (100 - EVENTS_MAX - 1, 0, 100 - EVENTS_MAX - 1)
