"""What the outside says too late, too early, twice, too much, or of things nobody knows."""

import pytest

from app.domain.outcomes import Done, OutOfStock
from app.domain.updates import UpdateKind, UpdateStatus
from app.store.store import Store
from tests.scripts.outside import A, B, Outside
from tests.simulation.sources import (
    ADJUST,
    CANCEL,
    COUNT,
    PACK,
    PICK,
    RECEIVE,
    RETURN,
    SALE,
    SHIP,
    TRANSFER,
    Fact,
)

ON_HAND_MAX = 10**12
UNKNOWN_TOKEN = "0-AAAAAAAAAAAAAAAAAAAAAA"
APPLIED, DUPLICATE = UpdateStatus.APPLIED, UpdateStatus.DUPLICATE


@pytest.fixture
async def outside(store: Store) -> Outside:
    """Ten units of A are at the warehouse."""
    told = Outside(store)
    assert await told(Fact("wms", RECEIVE, 10, 1), may_create=True) is APPLIED
    return told


class TestOrder:
    async def test_shipped_before_it_was_picked(self, outside: Outside) -> None:
        token = await outside.sell(2, "order")
        assert await outside(Fact("wms", SHIP, 2, 20, reference="order")) is APPLIED
        assert await outside.numbers() == (8, 0, 8)
        assert await outside.status(token) == "fulfilled"
        assert await outside(Fact("wms", PICK, 2, 10, reference="order")) is APPLIED
        assert await outside(Fact("wms", PACK, 2, 15, reference="order")) is APPLIED
        assert await outside.numbers() == (8, 0, 8)

    async def test_shipped_before_it_was_sold(self, outside: Outside) -> None:
        await outside(Fact("wms", SHIP, 2, 20, reference="order"))
        assert await outside.numbers() == (8, 0, 8)
        await outside(Fact("shop", SALE, 3, 10, reference="order"))
        assert await outside.numbers() == (8, 1, 7)

    async def test_the_same_delivery_twice(self, outside: Outside) -> None:
        await outside.sell(2, "order")
        ship = Fact("wms", SHIP, 1, 20, reference="order")
        assert await outside(ship, delivery_id="d") is APPLIED
        before = await outside.state()
        assert await outside(ship, delivery_id="d") is DUPLICATE
        assert await outside.state() == before

    async def test_another_delivery_of_the_same_counts_up_to_what_was_sold(self, outside: Outside) -> None:
        token = await outside.sell(2, "order")
        assert await outside(Fact("wms", SHIP, 2, 20, reference="order")) is APPLIED
        assert await outside(Fact("wms", SHIP, 2, 20, reference="order")) is APPLIED
        assert await outside.numbers() == (8, 0, 8)
        assert await outside.status(token) == "fulfilled"

    async def test_more_was_shipped_than_sold(self, outside: Outside) -> None:
        """It stays on hand until the sale is heard of."""
        await outside.sell(2, "order")
        assert await outside(Fact("wms", SHIP, 5, 20, reference="order")) is APPLIED
        assert await outside.numbers() == (8, 0, 8)
        await outside(Fact("shop", SALE, 4, 10, reference="order"))
        assert await outside.numbers() == (6, 0, 6)

    async def test_a_sale_that_turns_out_smaller_than_what_was_shipped_gives_units_back(self, outside: Outside) -> None:
        await outside(Fact("wms", SHIP, 5, 20, reference="order"))
        assert await outside.numbers() == (5, 0, 5)
        await outside(Fact("shop", SALE, 2, 10, reference="order"))
        assert await outside.numbers() == (8, 0, 8)

    async def test_picked_after_it_was_cancelled(self, outside: Outside) -> None:
        token = await outside.sell(2, "order")
        assert await outside(Fact("shop", CANCEL, 2, 20, reference="order")) is APPLIED
        assert await outside.numbers() == (10, 0, 10)
        assert await outside.status(token) == "cancelled"
        assert await outside(Fact("wms", PICK, 2, 30, reference="order")) is APPLIED
        assert await outside(Fact("wms", PICK, 2, 30, reference=token)) is APPLIED
        assert await outside.status(token) == "cancelled"

    async def test_picked_after_we_cancelled_it(self, outside: Outside) -> None:
        token = await outside.sell(2)
        assert isinstance(await outside.store.commands.cancel(token), Done)
        assert await outside(Fact("wms", PICK, 2, 30, reference=token)) is APPLIED
        assert await outside.numbers() == (10, 0, 10)
        assert await outside.status(token) == "cancelled"

    async def test_what_left_by_a_pick_after_it_was_cancelled_has_left(self, outside: Outside) -> None:
        await outside.sell(2, "order")
        await outside(Fact("shop", CANCEL, 2, 20, reference="order"))
        assert await outside(Fact("3pl", PICK, 2, 30, reference="order")) is APPLIED
        assert await outside.numbers() == (8, 0, 8)

    async def test_more_was_cancelled_than_sold(self, outside: Outside) -> None:
        await outside.sell(2, "order")
        await outside.sell(3, "another")
        assert await outside(Fact("shop", CANCEL, 9, 20, reference="order")) is APPLIED
        assert await outside.numbers() == (10, 3, 7)

    async def test_two_sources_that_number_their_deliveries_alike_told_of_two_sales(self, outside: Outside) -> None:
        for source in ("erp", "shop"):
            assert await outside(Fact(source, SALE, 2, 20), delivery_id="17") is APPLIED
        assert await outside.numbers() == (10, 4, 6)


@pytest.mark.parametrize("kind", [SALE, PICK, PACK, SHIP, CANCEL])
async def test_a_token_nobody_has_heard_of(outside: Outside, kind: UpdateKind) -> None:
    before = await outside.state()
    assert await outside(Fact("wms", kind, 1, 20, reference=UNKNOWN_TOKEN)) is UpdateStatus.UNKNOWN_REFERENCE
    assert await outside.state() == before


class TestSku:
    @pytest.mark.parametrize("kind", [ADJUST, COUNT, RECEIVE, RETURN, SALE, SHIP])
    async def test_nobody_has_heard_of_it(self, outside: Outside, kind: UpdateKind) -> None:
        assert await outside(Fact("wms", kind, 1, 20), sku=B) is UpdateStatus.UNKNOWN_SKU
        created = await outside(Fact("wms", kind, 1, 20), sku=B, may_create=True)
        assert created is (APPLIED if kind in (COUNT, RECEIVE) else UpdateStatus.UNKNOWN_SKU)

    async def test_the_other_lines_are_applied_and_it_is_when_it_is_known(self, outside: Outside) -> None:
        facts = {A: Fact("wms", RETURN, 1, 20), B: Fact("wms", RETURN, 2, 20)}
        assert await outside.tell(facts, delivery_id="d") == [APPLIED, UpdateStatus.UNKNOWN_SKU]
        assert await outside.numbers() == (11, 0, 11)
        await outside(Fact("wms", COUNT, 5, 10), sku=B, may_create=True)
        assert await outside.tell(facts, delivery_id="d") == [DUPLICATE, APPLIED]
        assert await outside.tell(facts, delivery_id="d") == [DUPLICATE, DUPLICATE]
        assert (await outside.numbers(), await outside.numbers(B)) == ((11, 0, 11), (7, 0, 7))


class TestQuantity:
    async def test_shipped_before_it_was_received(self, outside: Outside) -> None:
        """Less than nothing is on hand; nothing is available, and nobody is refused the truth."""
        assert await outside(Fact("wms", SHIP, 12, 20)) is APPLIED
        assert await outside.numbers() == (-2, 0, 0)
        assert isinstance(await outside.reserve(1), OutOfStock)
        assert await outside(Fact("wms", RECEIVE, 5, 15)) is APPLIED
        assert await outside.numbers() == (3, 0, 3)

    async def test_what_is_no_longer_there_is_nobodys(self, outside: Outside) -> None:
        older, newer, sold = await outside.hold(4), await outside.hold(4), await outside.sell(2)
        assert await outside(Fact("wms", COUNT, 6, 20)) is APPLIED
        assert [await outside.status(token) for token in (older, newer, sold)] == ["held", "voided", "committed"]
        assert await outside.numbers() == (6, 2, 0)

    @pytest.mark.parametrize("fact", [
        Fact("wms", RECEIVE, ON_HAND_MAX - 9, 20),
        Fact("wms", RETURN, ON_HAND_MAX, 20, "WH 2"),
        Fact("wms", TRANSFER, ON_HAND_MAX, 20, "倉庫", to_location_id="WH1"),
        Fact("wms", COUNT, ON_HAND_MAX, 20, "WH 2"),
    ])  # fmt: skip
    async def test_more_than_there_can_be(self, outside: Outside, fact: Fact) -> None:
        before = await outside.state()
        assert await outside(fact, delivery_id="d") is UpdateStatus.ABOVE_LIMIT
        assert await outside.state() == before

    async def test_what_was_too_much_is_applied_when_there_is_room(self, outside: Outside) -> None:
        much = Fact("wms", RECEIVE, ON_HAND_MAX - 9, 20)
        assert await outside(much, delivery_id="d") is UpdateStatus.ABOVE_LIMIT
        await outside(Fact("wms", ADJUST, -1, 15))
        assert await outside(much, delivery_id="d") is APPLIED
        assert (await outside.state()).on_hand == ON_HAND_MAX

    async def test_at_more_locations_than_there_can_be(self, outside: Outside) -> None:
        for number in range(199):
            assert await outside(Fact("wms", COUNT, 1, 20, f"place {number}")) is APPLIED
        before = await outside.state()
        assert await outside(Fact("wms", COUNT, 1, 20, "one too many")) is UpdateStatus.TOO_MANY_LOCATIONS
        too_far = Fact("wms", TRANSFER, 1, 20, to_location_id="one too many")
        assert await outside(too_far) is UpdateStatus.TOO_MANY_LOCATIONS
        assert await outside.state() == before
