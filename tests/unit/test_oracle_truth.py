"""The model of what the outside says, against cases reckoned by hand and against a count of single units."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from app.domain.types import Sku, Token
from tests.oracle_truth import Sale, Truth
from tests.simulation.sources import (
    ADJUST,
    CANCEL,
    COUNT,
    OBSERVE,
    PACK,
    PICK,
    RECEIVE,
    SALE,
    SHIP,
    SOURCES,
    TRANSFER,
    Fact,
    deliver,
    random_fact,
)

SKU = Sku("A")


@pytest.fixture(params=range(100))
def chance(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.param)


def truth(*facts: Fact, sales: Sequence[Sale] = ()) -> Truth:
    return Truth([deliver(fact.source, str(number), [fact.line(SKU)]) for number, fact in enumerate(facts)], sales)


def of_order(source: str, *events: object) -> Iterator[Fact]:
    """Events of one order: kind and quantity in turn, one after the other."""
    for at_us, (kind, quantity) in enumerate(zip(events[::2], events[1::2], strict=True), 1):
        yield Fact(source, kind, quantity, at_us, reference="order")  # type: ignore[arg-type] # in turn


class TestLocation:
    def test_without_a_count_all_that_came_and_went_is_there(self) -> None:
        facts = [Fact("wms", RECEIVE, 5, 2), Fact("erp", ADJUST, -2, 1), Fact("wms", OBSERVE, 70, 3)]
        assert truth(*facts).on_hand(SKU) == {"WH1": 3}

    def test_a_transfer_is_a_delta_at_both_ends(self) -> None:
        facts = [Fact("wms", TRANSFER, 3, 1, to_location_id="WH 2"), Fact("wms", COUNT, 10, 2, "WH 2")]
        assert truth(*facts).on_hand(SKU) == {"WH1": -3, "WH 2": 10}

    def test_a_count_covers_what_its_clock_has_seen(self) -> None:
        count = Fact("wms", COUNT, 10, 50, clock={"wms": 5, "pos": 2})
        for system, counter, left in [("wms", 4, 10), ("wms", 6, 11), ("pos", 2, 10), ("pos", 3, 11)]:
            delta = Fact(system, RECEIVE, 1, 99, clock={system: counter})
            assert truth(count, delta).on_hand(SKU) == {"WH1": left}, (system, counter)

    @pytest.mark.parametrize(("at_us", "left"), [(49, 10), (50, 10), (51, 11)])
    def test_of_a_system_that_it_does_not_know_a_count_covers_what_occurred_no_later(
        self, at_us: int, left: int
    ) -> None:
        count = Fact("wms", COUNT, 10, 50, clock={"wms": 5})
        assert truth(count, Fact("erp", RECEIVE, 1, at_us, clock={"erp": 1})).on_hand(SKU) == {"WH1": left}

    @pytest.mark.parametrize(
        ("counts", "believed"),
        [
            ([Fact("shop", COUNT, 1, 90), Fact("erp", COUNT, 2, 80), Fact("wms", COUNT, 3, 10)], 3),
            ([Fact("erp", COUNT, 1, 90), Fact("pos", COUNT, 2, 80)], 1),
            ([Fact("erp", COUNT, 1, 90), Fact("pos", COUNT, 2, 90)], 2),
            ([Fact("wms", COUNT, 1, 10), Fact("shop", COUNT, 2, 5, clock={"shop": 1, "wms": 10})], 2),
            ([Fact("wms", COUNT, 1, 10), Fact("shop", COUNT, 2, 50, clock={"shop": 1, "wms": 9})], 1),
            ([Fact("wms", COUNT, 5, 10, clock={"wms": 2}), Fact("wms", COUNT, 9, 99, clock={"wms": 1})], 5),
            ([Fact("wms", COUNT, 5, 10, clock={"wms": 2}), Fact("wms", COUNT, 4, 9, clock={"wms": 2})], 4),
        ],
        ids=["priority", "time", "name", "who has seen the other", "not all of it", "order of a source", "smaller"],
    )
    def test_which_count_is_believed(self, counts: Sequence[Fact], believed: int) -> None:
        assert truth(*counts).on_hand(SKU) == truth(*reversed(counts)).on_hand(SKU) == {"WH1": believed}

    def test_where_each_counts_what_it_has_seen_nothing_is_lost_whoever_is_believed(
        self, chance: random.Random
    ) -> None:
        """Each count is the sum of what its source has heard: so the sum of all is there in the end."""
        heard: dict[str, list[int]] = {name: [] for name in SOURCES}
        facts = []
        for at_us in range(1, 30):
            source = chance.choice(list(SOURCES))
            if chance.random() < 0.7:
                heard[source].append(chance.choice([-2, -1, 1, 5]))
                facts.append(Fact(source, ADJUST, heard[source][-1], at_us, clock={source: len(heard[source])}))
            else:
                seen = {name: chance.randint(0, len(units)) for name, units in heard.items()}
                seen[source] = len(heard[source])
                units = sum(sum(heard[name][:count]) for name, count in seen.items())
                facts.append(Fact(source, COUNT, units, at_us, clock=seen))
        chance.shuffle(facts)
        assert truth(*facts).on_hand(SKU).get("WH1", 0) == sum(sum(units) for units in heard.values())


class TestOrder:
    @pytest.mark.parametrize(
        ("events", "on_hand", "committed"),
        [
            ([SALE, 3], 0, 3),
            ([PICK, 3, SALE, 3, PACK, 2], 0, 3),
            ([SALE, 3, SHIP, 2], -2, 1),
            ([SALE, 3, CANCEL, 1, SHIP, 2], -2, 0),
            ([SALE, 3, CANCEL, 3, PICK, 3], 0, 0),
            ([SHIP, 2], -2, 0),
            ([SHIP, 2, SHIP, 3, SALE, 4], -4, 0),
            ([SALE, 1, PICK, 3, SHIP, 3], -1, 2),
            ([CANCEL, 1], 0, 0),
        ],
    )
    def test_one_reporter(self, events: Sequence[object], on_hand: int, committed: int) -> None:
        found = truth(*of_order("erp", *events))
        assert (found.on_hand(SKU).get("WH1", 0), found.committed(SKU)) == (on_hand, committed)

    def test_of_two_reporters_the_larger_number_counts(self) -> None:
        sale = Sale(Token("t"), {SKU: 3}, order_id="order", cancelled={SKU: 1})
        facts = [*of_order("shop", SALE, 1, SALE, 1), *of_order("erp", CANCEL, 2)]
        assert truth(*facts, sales=[sale]).committed(SKU) == 1
        assert truth(*facts).committed(SKU) == 0

    @pytest.mark.parametrize(
        ("source", "left"),
        [("pos", {"WH1": -3, "WH 2": -1}), ("3pl", {"WH1": -1, "WH 2": -3}), ("wms", {"WH 2": -4})],
    )
    def test_what_a_source_deducts_on_is_a_departure(self, source: str, left: dict[str, int]) -> None:
        """Who ships what it has deducted by then tells the same again; only what is more has left by it."""
        ship = Fact(source, SHIP, 4, 9, "WH 2", reference="order")
        found = truth(*of_order(source, SALE, 3, PICK, 1), ship, *of_order("shop", SALE, 4))
        assert found.on_hand(SKU) == left

    def test_of_two_that_tell_of_a_ship_the_one_is_believed_whose_counts_are(self) -> None:
        facts = [Fact("erp", SHIP, 3, 1, "WH 2", reference="order"), Fact("wms", SHIP, 2, 2, reference="order")]
        assert truth(*facts).on_hand(SKU) == {"WH1": -2, "WH 2": -1}

    def test_a_count_covers_a_departure_like_any_delta(self) -> None:
        """The second ship told of one unit only: the other was the first's, whose clock the count has seen."""
        facts = [
            Fact("erp", SHIP, 2, 5, reference="order", clock={"erp": 1}),
            Fact("wms", SHIP, 1, 9, reference="order", clock={"wms": 4}),
            Fact("wms", COUNT, 10, 7, clock={"wms": 3}),
        ]
        assert truth(*facts).on_hand(SKU) == {"WH1": 9}
        assert truth(*facts[::2]).on_hand(SKU) == {"WH1": 10}

    def test_without_a_reference_each_is_an_order_of_its_own(self) -> None:
        facts = [Fact("erp", SALE, 2, 1), Fact("pos", SALE, 3, 2), Fact("erp", SHIP, 1, 3), Fact("erp", SALE, 2, 4)]
        found = truth(*facts)
        assert (found.on_hand(SKU), found.committed(SKU)) == ({"WH1": -4}, 4)

    @pytest.mark.parametrize("reference", ["t", "order"])
    def test_a_token_and_an_order_id_name_the_same(self, reference: str) -> None:
        sale = Sale(Token("t"), {SKU: 3}, order_id="order")
        assert truth(Fact("wms", SHIP, 2, 1, reference=reference), sales=[sale]).committed(SKU) == 1

    def test_units_leave_once_each_by_who_is_heard_first(self, chance: random.Random) -> None:
        """Against single units: the n-th to leave is the n-th that anyone tells of, for the first in turn to do so."""
        facts = [
            Fact(
                source, chance.choice([SHIP, SHIP, SALE, PICK]), chance.randint(1, 4), at_us, source, reference="order"
            )
            for at_us, source in enumerate(chance.choices(["3pl", "erp", "wms", "shop"], k=9), 1)
        ]
        sold_by = Counter[str]()
        for fact in facts:
            sold_by[fact.source] += fact.quantity if fact.kind is SALE else 0
        sold = max(sold_by.values())
        left, units = Counter[str](), set[int]()
        for source, kind in [("wms", SHIP), ("3pl", PICK), ("3pl", SHIP), ("erp", SHIP), ("shop", SHIP)]:
            told = [fact for fact in facts if (fact.source, fact.kind) == (source, kind) for _ in range(fact.quantity)]
            new = {number for number in range(len(told)) if not sold or number < sold} - units
            units |= new
            left[source] += len(new)
        expected = {source: -count for source, count in left.items() if count}
        assert truth(*facts).on_hand(SKU) == expected


class TestStatus:
    @pytest.mark.parametrize(
        ("events", "status"),
        [
            ([], "committed"),
            ([SHIP, 1], "committed"),
            ([SHIP, 2], "fulfilled"),
            ([SHIP, 1, CANCEL, 1], "fulfilled"),
            ([CANCEL, 2], "cancelled"),
            ([SHIP, 1, CANCEL, 2], "cancelled"),
            ([SHIP, 2, SALE, 3], "committed"),
        ],
    )
    def test_it_follows_its_order(self, events: Sequence[object], status: str) -> None:
        sale = Sale(Token("t"), {SKU: 2}, order_id="order")
        assert truth(*of_order("wms", *events), sales=[sale]).status(Token("t")) == status


def test_neither_order_nor_repetition_matters(chance: random.Random) -> None:
    facts = [
        random_fact(
            chance,
            source := chance.choice(list(SOURCES)),
            at_us=chance.randint(1, 9),
            clock={"wms": chance.randint(0, 9), source: chance.randint(1, 9)},
            order_id=chance.choice(["one", "other"]),
        )
        for _ in range(12)
    ]
    deliveries = [deliver(fact.source, str(number), [fact.line(SKU)]) for number, fact in enumerate(facts)]
    told = Truth(deliveries)
    again = Truth(chance.sample([*deliveries, *deliveries[::2]], k=18))
    assert (again.on_hand(SKU), again.committed(SKU)) == (told.on_hand(SKU), told.committed(SKU))
