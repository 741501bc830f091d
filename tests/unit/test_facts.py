"""The order of truth, by hand: what a location has by counts and deltas, in whatever order they are heard."""

from collections.abc import Mapping
from itertools import permutations

import pytest

from app.domain.facts import COUNTS_MAX, DELTAS_MAX, Count, Delta, Facts

Fact = Count | Delta


def count(value: int, at: int, *, source: str = "wms", priority: int = 3, **clock: int) -> Count:
    """Found at a time, having seen of each system so much; without a clock of itself so far as the time."""
    return Count(value, clock or {source: at}, priority, at, source)


def delta(quantity: int, counter: int, *, at: int | None = None, system: str = "wms") -> Delta:
    """A system's line; it happened at its counter if nothing else is said."""
    return Delta(quantity, system, counter, counter if at is None else at, f"{system}:{counter}")


def heard(*facts: Fact) -> tuple[int, list[bool]]:
    """What is on hand in the end, and if each fact said something new."""
    kept, on_hand, news = Facts(), 0, []
    for fact in facts:
        if isinstance(fact, Delta):
            on_hand += kept.take_delta(fact)
            news.append(True)
        else:
            found = kept.take_count(fact, on_hand)
            news.append(found is not None)
            on_hand = on_hand if found is None else found
    return on_hand, news


CASES: dict[str, tuple[list[Fact], int]] = {
    "nothing but deltas": ([delta(10, 1), delta(-3, 2)], 7),
    "a count has seen what is not above its counter": ([delta(10, 1), count(7, 3), delta(5, 2), delta(-1, 4)], 6),
    "a later count outdoes an earlier one": ([count(7, 3), count(4, 5), delta(2, 4)], 4),
    "where the clock does not tell, the time does": (
        [count(7, 5, wms=5), delta(-1, 90, at=5, system="pos"), delta(-2, 1, at=6, system="pos")], 5,
    ),
    "a clock that tells is believed, whatever the time": (
        [count(7, 5, wms=5, pos=90), delta(-1, 90, at=99, system="pos"), delta(-2, 91, at=1, system="pos")], 5,
    ),
    "a warehouse is believed before a partner that counted later": (
        [count(7, 5), count(9, 8, source="erp", priority=2)], 7,
    ),
    "the later of two that are believed alike": ([count(7, 5), count(9, 8, source="robot")], 9),
    "at one time the source whose name is later": ([count(7, 5), count(9, 5, source="robot")], 7),
    "of two that have seen the same the smaller": ([count(7, 5), count(6, 5)], 6),
    "one that has seen both outdoes both": ([count(7, 5), count(9, 6, source="erp"), count(3, 4, wms=5, erp=6)], 3),
}  # fmt: skip


@pytest.mark.parametrize(("facts", "on_hand"), CASES.values(), ids=CASES)
def test_any_order_ends_in_one_state(facts: list[Fact], on_hand: int) -> None:
    for each in permutations(facts):
        assert heard(*each)[0] == on_hand, each


def test_a_count_that_was_outdone_is_stale() -> None:
    assert heard(count(7, 5), count(9, 4)) == (7, [True, False])
    assert heard(count(7, 5), count(7, 5)) == (7, [True, False])
    assert heard(count(7, 5), count(8, 5)) == (7, [True, False])
    assert heard(count(7, 5), count(8, 6, wms=5)) == (7, [True, False])


def test_of_counts_side_by_side_the_least_believed_is_forgotten() -> None:
    facts = Facts()
    for number in range(COUNTS_MAX + 1):
        assert facts.take_count(Count(number, {f"s{number}": 1}, 3, 10 + number, "wms"), 0) == number
    assert [each.value for each in facts.counts] == list(range(1, COUNTS_MAX + 1))


@pytest.mark.parametrize(
    ("clock", "at", "is_stale"),
    [({"wms": 5}, 0, False), ({"wms": 4}, 99, True), ({"erp": 1}, 4, True), ({"erp": 1}, 5, False)],
)
def test_a_count_below_the_floor_is_stale(clock: Mapping[str, int], at: int, *, is_stale: bool) -> None:
    """Nobody knows any more what came since."""
    facts = Facts()
    for counter in range(1, DELTAS_MAX + 6):
        assert facts.take_delta(delta(1, counter)) == 1
    assert (facts.floors, len(facts.deltas)) == ({"wms": (5, 5)}, DELTAS_MAX)
    found = facts.take_count(Count(0, clock, 3, at, "wms"), DELTAS_MAX + 5)
    assert found == (None if is_stale else DELTAS_MAX)


def test_a_delta_that_says_nothing_is_not_kept() -> None:
    facts = Facts()
    assert facts.take_delta(delta(0, 1)) == 0
    assert facts.deltas == []


def test_a_delta_is_amended_at_its_own_place_in_time() -> None:
    facts, departed = Facts(), delta(-2, 3)
    facts.take_delta(departed)
    facts.take_delta(delta(5, 4))
    assert facts.amend_delta(departed, 1) == 1
    assert [(each.counter, each.quantity) for each in facts.deltas] == [(3, -1), (4, 5)]
    assert facts.amend_delta(departed, 1) == 1
    assert facts.amend_delta(delta(0, 1), -4) == -4
    assert [(each.counter, each.quantity) for each in facts.deltas] == [(1, -4), (4, 5)]
    facts.take_count(count(9, 3), 0)
    assert facts.amend_delta(departed, -2) == 0  # the count has seen it
    assert facts.amend_delta(delta(0, 4), -5) == -5


def test_what_an_authority_says_is_its_last_count_and_what_that_has_not_seen() -> None:
    facts = Facts()
    facts.take_count(count(7, 5), 0)
    facts.take_count(count(9, 4, source="erp", priority=2), 7)
    facts.take_delta(delta(-1, 6))
    found = facts.count_of("erp")
    assert found is not None
    assert (found.value, facts.on_hand_by(found)) == (9, 8)
    assert facts.count_of("pos") is None
