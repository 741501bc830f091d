"""A count that leaves less than is promised: what needs stock is voided until the rest is enough."""

import pytest

from app.domain.types import Sku
from tests.scripts.partition import DAY_MS, TTL_US, Partition
from tests.virtual_clock import SECOND_US

WINDOW_US = 2 * SECOND_US


def lose(partition: Partition, name: str, quantity: int) -> str:
    """Takes units of A away, in one of the ways they can go; the status."""
    if name == "import_stock":
        return partition(name, "A", "main", "shared", partition.balances("A")[0] - quantity, "").status
    return partition(name, amount=-quantity, quantity=quantity, to_location_kind="dedicated").status


def voided(partition: Partition, after: int) -> list[str]:
    return [entry["token"] for entry in partition.entries(after) if entry["type"] == "reservation.voided"]


def test_whole_reservations_are_voided_the_newest_first_until_the_rest_is_enough(partition: Partition) -> None:
    partition.stock("A", 9)
    oldest, middle, newest = partition.hold("A", 4), partition.hold("A", 3), partition.hold("A", 2)
    before = partition.sequence
    reply = partition("adjust", mode="count", amount=5, reason="counted")
    assert (reply.status, reply.on_hand, reply.reserved) == ("adjusted", "5", "4")
    assert (reply.available, reply.shortfall) == ("1", "0")
    assert partition.told(before) == [
        ("stock.adjusted", "A", "-4", ""),
        ("reservation.voided", "A", "2", newest),
        ("reservation.voided", "A", "3", middle),
    ]
    assert {entry["command"] for entry in partition.entries(before)} == {str(before + 1)}
    assert [entry["reason"] for entry in partition.entries(before)] == ["counted", "shortfall", "shortfall"]
    assert reply.sequence == str(partition.sequence) == str(before + 3)
    assert partition("read", token=oldest).state == "held"


def test_as_much_as_there_is_may_be_promised(partition: Partition) -> None:
    partition.stock("A", 9, safety_stock_units=2)
    partition.hold("A", 4)
    partition.sell("A", 1)
    before = partition.sequence
    assert partition("adjust", mode="count", amount=5).available == "0"
    assert voided(partition, before) == []
    assert partition("adjust", amount=-1).shortfall == "0"
    assert len(voided(partition, before)) == 1


def test_what_is_voided_stays_so_and_is_remembered_for_a_day(partition: Partition) -> None:
    partition.stock("A", 2)
    token = partition.hold("A", 2)
    deadline_us = partition.clock.now_us + TTL_US
    partition("adjust", mode="count", amount=1)
    assert DAY_MS - 10_000 < partition.ttl_ms(token) <= DAY_MS
    assert partition.client.exists(partition.keys.deadlines, partition.keys.holds(Sku("A"))) == 0
    sequence = partition.sequence
    reply = partition("read", token=token)
    assert (reply.state, reply.lines, reply.sequence) == ("voided", "A\t2\t0", str(sequence))
    assert reply.expires_us == str(deadline_us)
    assert partition("release", token=token).status == "unchanged"
    for verb in ("commit", "extend", "payment", "cancel"):
        assert partition(verb, token=token).status == "ended"
    assert partition("allocate", "A", "main", 1, token=token).status == "ended"
    partition.clock.advance_us(TTL_US)
    partition("expire")
    assert partition.sequence == sequence
    assert partition("reserve", "A", 1).status == "held"


def test_windows_come_after_all_that_is_held(partition: Partition) -> None:
    partition.stock("A", 5, reconciliation_hold_us=WINDOW_US)
    held = [partition.hold("A", 1), partition.hold("A", 1)]
    windows = [partition.hold("A", 1), partition.hold("A", 1), partition.hold("A", 1)]
    for token in windows:
        partition("commit", token=token)
    before = partition.sequence
    partition("adjust", mode="count", amount=1)
    assert voided(partition, before) == [held[1], held[0], windows[2], windows[1]]
    assert partition.record(windows[1])["status"] == "voided"
    partition.clock.advance_us(WINDOW_US)
    assert partition("read", token=windows[0]).state == "committed"
    assert partition("read", token=windows[1]).state == "voided"
    assert partition.balances("A") == (1, 0, 1, 0)


def test_how_new_a_reservation_is_says_its_sequence_and_not_its_deadline(partition: Partition) -> None:
    partition.stock("A", 3)
    first = partition.hold("A", 1, ttl_us=3 * TTL_US)
    second = partition.hold("A", 1, ttl_us=TTL_US)
    third = partition.hold("A", 1, ttl_us=2 * TTL_US)
    partition("extend", token=first, amount_us=5 * TTL_US)
    before = partition.sequence
    partition("adjust", mode="count", amount=1)
    assert voided(partition, before) == [third, second]


def test_a_payment_that_runs_and_a_sale_are_left_to_a_person(partition: Partition) -> None:
    partition.stock("A", 3)
    paying, held = partition.hold("A", 1), partition.hold("A", 1)
    partition("payment", token=paying)
    sold = partition.sell("A", 1)
    reply = partition("adjust", mode="count", amount=0)
    assert (reply.status, reply.reserved, reply.committed, reply.shortfall) == ("adjusted", "1", "1", "2")
    assert [partition.record(token)["status"] for token in (paying, held, sold)] == [
        "payment_pending",
        "voided",
        "committed",
    ]
    before = partition.snapshot()
    answer = partition("commit", token=paying)
    assert (answer.status, answer.state) == ("shortfall", "payment_pending")
    assert partition.snapshot() == before
    partition("adjust", amount=2)
    assert partition("commit", token=paying).status == "committed"


def test_a_basket_is_voided_whole_and_frees_its_other_skus(partition: Partition) -> None:
    for sku in ("A", "B", "C"):
        partition.stock(sku, 5)
    token = partition.hold("B", 1, "A", 2, "C", 3)
    before = partition.sequence
    reply = partition("adjust", mode="count", amount=1)
    assert partition.told(before) == [
        ("stock.adjusted", "A", "-4", ""),
        ("reservation.voided", "B", "1", token),
        ("reservation.voided", "C", "3", token),
        ("reservation.voided", "A", "2", token),
    ], "the SKU that is short comes last"
    assert reply.sequence == str(partition.sequence)
    assert partition("read", token=token).lines == "B\t1\t0\nA\t2\t0\nC\t3\t0", "the record keeps its order"
    assert [partition.balances(sku)[1] for sku in "ABC"] == [0, 0, 0]
    assert partition.client.exists(partition.keys.deadlines, *(partition.keys.holds(Sku(sku)) for sku in "ABC")) == 0


def test_what_a_basket_frees_goes_to_who_waits_for_it(partition: Partition) -> None:
    """Two baskets are voided; the first one's B covers the other's, whose line is then no backorder any more."""
    partition.stock("A", 2)
    partition.stock("B", 1, backorder_limit=5)
    older = partition.hold("A", 1, "B", 1)
    newer = partition.hold("A", 1, "B", 1, allow_backorder=1)
    waiting = partition.hold("B", 1, allow_backorder=1)
    assert partition.backorders("B") == {newer: 1, waiting: 1}
    before = partition.sequence
    partition("adjust", mode="count", amount=0)
    assert voided(partition, before) == [newer, newer, older, older]
    assert partition.backorders("B") == {}
    assert partition.balances("B") == (1, 1, 0, 0)
    assert partition("read", token=waiting).lines == "B\t1\t0"


def test_what_is_promised_beyond_stock_needs_none_and_stays(partition: Partition) -> None:
    partition.stock("A", 3, backorder_limit=9)
    covered, partly = partition.hold("A", 2), partition.hold("A", 3, allow_backorder=1)
    beyond = partition.hold("A", 4, allow_backorder=1)
    before = partition.sequence
    reply = partition("adjust", mode="count", amount=2)
    assert voided(partition, before) == [partly], "the newer one has no unit of A that was there"
    assert (reply.reserved, reply.backordered, reply.shortfall) == ("6", "4", "0")
    assert partition.backorders("A") == {beyond: 4}
    partition("adjust", mode="count", amount=0)
    assert partition.record(covered)["status"] == "voided"
    assert partition.record(beyond)["status"] == "held"
    assert partition.balances("A") == (0, 4, 0, 4)


def test_only_the_units_that_need_stock_make_up_for_what_is_short(partition: Partition) -> None:
    partition.stock("A", 4, backorder_limit=9)
    whole, partly = partition.hold("A", 2), partition.hold("A", 3, allow_backorder=1)
    before = partition.sequence
    assert partition("adjust", mode="count", amount=1).shortfall == "0"
    assert voided(partition, before) == [partly, whole], "of the first three units one waited for stock"


def test_a_backorder_that_stock_has_come_for_is_like_any_other_hold(partition: Partition) -> None:
    partition.stock("A", 0, backorder_limit=9)
    token = partition.hold("A", 2, allow_backorder=1)
    partition("adjust", amount=2)
    partition("adjust", amount=-1)
    assert partition.record(token)["status"] == "voided"


def test_what_is_due_ends_by_itself_and_takes_nobody_with_it(partition: Partition) -> None:
    partition.stock("A", 2)
    due, newer = partition.hold("A", 1), partition.hold("A", 1, ttl_us=2 * TTL_US)
    partition.clock.advance_us(TTL_US)
    partition("adjust", mode="count", amount=1)
    assert partition.record(due)["status"] == "expired"
    assert partition.record(newer)["status"] == "held"


@pytest.mark.parametrize("name", ["adjust", "transfer", "import_stock"])
def test_a_call_voids_200_lines_and_says_that_there_is_more(partition: Partition, name: str) -> None:
    partition.stock("A", 450)
    tokens = partition.hold_many(450)
    before = partition.sequence
    assert lose(partition, name, 450) == "voiding"
    assert voided(partition, before) == tokens[:-201:-1]
    assert partition("close_shortfall").status == "reclaiming"
    assert partition("close_shortfall").status == "closed"
    assert voided(partition, before) == tokens[::-1]
    commands = {entry["command"] for entry in partition.entries(before)}
    assert len(commands) == 3, "what is left is voided by commands of their own"
    assert partition("close_shortfall").status == "closed"
    assert partition.sequence == before + (2 if name == "transfer" else 1) + 450


def test_a_row_that_changes_the_policy_voids_what_it_first_covers(partition: Partition) -> None:
    """Less is withheld, so the promise has stock behind it; then the count takes that away."""
    partition.stock("A", 10, safety_stock_units=10, backorder_limit=9)
    token = partition.hold("A", 5, allow_backorder=1)
    before = partition.sequence
    policy = '{"policy":{"safety_stock_units":"0"}}'
    assert partition("import_stock", "A", "main", "shared", 4, policy).status == "done"
    assert partition.told(before) == [
        ("sku.updated", "A", "0", ""),
        ("stock.adjusted", "A", "-6", ""),
        ("reservation.voided", "A", "5", token),
    ]
    assert [entry["command"] for entry in partition.entries(before)] == [str(before + n) for n in (1, 2, 2)]


@pytest.mark.parametrize("name", ["adjust", "transfer"])
def test_a_keyed_loss_voids_once_and_is_answered_as_at_first(partition: Partition, name: str) -> None:
    partition.stock("A", 5)
    partition.hold("A", 3)
    given = {"amount": -3, "quantity": 3, "to_location_kind": "dedicated", "key_hash": "k", "fingerprint": "f"}
    first = partition(name, **given)
    before = partition.snapshot()
    again = partition(name, **given)
    assert (again.status, again.sequence) == ("replayed", first.sequence)
    assert again.same_as(first, but=("status",))
    assert partition.snapshot() == before


def test_exactly_as_much_as_one_call_may_is_done_by_one(partition: Partition) -> None:
    partition.stock("A", 201)
    tokens = partition.hold_many(201)
    assert partition("adjust", amount=-200).status == "adjusted"
    assert partition.balances("A") == (1, 1, 0, 0)
    assert partition.record(tokens[0])["status"] == "held"


def test_the_bound_counts_lines_and_no_basket_is_torn(partition: Partition) -> None:
    skus = [f"sku-{number}" for number in range(99)]
    for sku in skus:
        partition.stock(sku, 9)
    partition.stock("A", 9)
    for _ in range(3):
        partition.hold("A", 1, *(value for sku in skus for value in (sku, 1)))
    partition.hold("A", 1)
    before = partition.sequence
    assert partition("adjust", mode="count", amount=0).status == "voiding"
    assert partition.sequence == before + 1 + 101, "a second basket would have been line 201"
    assert partition("close_shortfall").status == "closed"
    assert partition.sequence == before + 1 + 301


def test_more_than_is_left_to_void_is_no_reason_to_come_again(partition: Partition) -> None:
    partition.stock("A", 210)
    for _ in range(10):
        partition("payment", token=partition.hold("A", 1))
    partition.hold_many(200)
    reply = partition("adjust", mode="count", amount=0)
    assert (reply.status, reply.shortfall) == ("adjusted", "10")


def test_a_thousand_holds_are_looked_at_those_that_end_last(partition: Partition) -> None:
    partition.stock("A", 1002)
    early = partition.hold("A", 1, ttl_us=TTL_US - 1)
    partition.hold_many(200)
    paying = partition.hold_many(800)
    for token in paying:
        partition("payment", token=token)
    assert partition("adjust", amount=-1002).status == "adjusted"
    assert partition.record(early)["status"] == "held", "it is the 1,001st"
    assert partition.balances("A") == (0, 801, 0, 0)


class TestCloseShortfall:
    def test_nothing_is_done_where_nothing_is_short(self, partition: Partition) -> None:
        partition.stock("A", 2)
        partition.hold("A", 2)
        before = partition.snapshot()
        reply = partition("close_shortfall")
        assert (reply.status, reply.reserved, reply.shortfall) == ("closed", "2", "0")
        assert partition("close_shortfall", sku="B").status == "sku_not_found"
        assert partition.snapshot() == before

    def test_what_is_due_is_settled_and_not_voided(self, partition: Partition) -> None:
        """What is due when the bound is met and the next call comes has ended by its deadline; a newer one stays."""
        partition.stock("A", 202)
        first = partition.hold("A", 1, ttl_us=2 * TTL_US)
        due = partition.hold("A", 1, ttl_us=TTL_US)
        partition.hold_many(200, ttl_us=3 * TTL_US)
        assert partition("adjust", amount=-201).status == "voiding"
        partition.clock.advance_us(TTL_US)
        reply = partition("close_shortfall")
        assert (reply.status, reply.reserved, reply.shortfall) == ("closed", "1", "0")
        assert partition.record(due)["status"] == "expired"
        assert partition.record(first)["status"] == "held"


class TestCommit:
    """What is left to void when somebody wants to buy is voided first."""

    def leave(self, partition: Partition, *skus: str, on_hand_left: int = 0) -> list[str]:
        """Three baskets of these SKUs that are still held, the oldest first, and more than there is now."""
        for sku in skus:
            partition.stock(sku, 203)
        lines = [value for sku in skus for value in (sku, 1)]
        tokens = [partition.hold(*lines) for _ in range(3)]
        for sku in skus:
            partition.hold_many(200, sku)
            amount = on_hand_left if sku == skus[-1] else 0
            assert partition("adjust", sku=sku, mode="count", amount=amount).status == "voiding"
        return tokens

    def test_the_hold_itself_may_be_among_them(self, partition: Partition) -> None:
        first, second, third = self.leave(partition, "A")
        before = partition.sequence
        reply = partition("commit", token=second, key_hash="k", fingerprint="f")
        assert (reply.status, reply.state) == ("ended", "voided")
        assert voided(partition, before) == [third, second, first]
        assert {entry["command"] for entry in partition.entries(before)} == {str(before + 1)}
        assert partition.balances("A") == (0, 0, 0, 0)

    def test_it_goes_on_where_enough_was_voided(self, partition: Partition) -> None:
        partition.stock("A", 202)
        first = partition.hold("A", 1)
        partition.hold_many(201)
        assert partition("adjust", amount=-201).status == "voiding"
        before = partition.sequence
        reply = partition("commit", token=first)
        assert (reply.status, reply.state) == ("committed", "committed")
        assert [entry["type"] for entry in partition.entries(before)] == ["reservation.voided", "reservation.committed"]
        assert [entry["command"] for entry in partition.entries(before)] == [str(before + 1), str(before + 2)]
        assert partition.balances("A") == (1, 0, 1, 0)

    def test_no_hold_is_voided_for_a_sku_that_the_voids_for_another_have_put_in_order(
        self, partition: Partition
    ) -> None:
        partition.stock("B", 1)
        kept = partition.hold("B", 1)
        baskets = self.leave(partition, "A", "B", on_hand_left=1)
        before = partition.sequence
        assert partition("commit", token=baskets[0]).state == "voided"
        assert voided(partition, before) == [token for basket in reversed(baskets) for token in (basket, basket)][:6]
        assert len({entry["command"] for entry in partition.entries(before)}) == 1
        assert partition.record(kept)["status"] == "held"

    def test_only_what_is_to_be_sold_matters(self, partition: Partition) -> None:
        partition.stock("B", 1)
        partition.stock("A", 1)
        token = partition.hold("A", 1, "B", 1)
        partition("payment", token=token)
        partition("adjust", sku="A", mode="count", amount=0)
        before = partition.snapshot()
        assert partition("commit", token=token).status == "shortfall"
        assert partition("commit", "A", 1, token=token).status == "shortfall"
        assert partition.snapshot() == before
        assert partition("commit", "B", 1, token=token).status == "committed"

    def test_nothing_is_voided_for_what_is_not_to_be_sold(self, partition: Partition) -> None:
        partition.stock("B", 1)
        partition.stock("A", 203)
        basket = partition.hold("A", 1, "B", 1)
        partition.hold_many(201)
        assert partition("adjust", mode="count", amount=0).status == "voiding"
        before = partition.sequence
        assert partition("commit", "B", 1, token=basket).status == "committed"
        assert voided(partition, before) == []

    def test_nothing_is_voided_before_all_that_is_due_has_ended(self, partition: Partition) -> None:
        """One hold is short, until the last of 201 payments has expired."""
        partition.stock("A", 404)
        held = [partition.hold("A", 1, ttl_us=2 * TTL_US) for _ in range(3)]
        for token in partition.hold_many(201):
            partition("payment", token=token, ttl_us=TTL_US)
        partition.hold_many(200, ttl_us=2 * TTL_US)
        assert partition("adjust", mode="count", amount=3).status == "voiding"
        partition.clock.advance_us(TTL_US)
        assert partition("commit", token=held[2]).status == "reclaiming"
        assert partition("commit", token=held[2]).status == "committed"
        assert partition.record(held[0])["status"] == partition.record(held[1])["status"] == "held"

    def test_it_comes_again_until_all_that_can_be_voided_is(self, partition: Partition) -> None:
        partition.stock("A", 402)
        paying = partition.hold("A", 1)
        partition("payment", token=paying)
        partition.hold_many(401)
        assert partition("adjust", mode="count", amount=0).status == "voiding"
        before = partition.sequence
        assert partition("commit", token=paying).status == "reclaiming"
        assert len(voided(partition, before)) == 200
        assert partition("commit", token=paying).status == "shortfall"
        assert len(voided(partition, before)) == 201
        partition("adjust", amount=1)
        assert partition("commit", token=paying).status == "committed"
