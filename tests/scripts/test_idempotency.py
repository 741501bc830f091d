"""The same key takes effect once, and a retry gets the first answer; another request with that key is a conflict."""

import pytest

from tests.scripts.partition import TTL_US, Partition, Reply
from tests.scripts.scenes import KEYED, prepare

AS_AT_FIRST = ("token", "created_us", "expires_us", "sequence", "lines", "agent", "channel", "order_id", "details")


def first_answer(reply: Reply, again: Reply) -> bool:
    """Whether all that a replay gives as at first is so; a reply has some of these fields."""
    return again.same_as(reply, but=tuple(name for name in reply.fields if name not in AS_AT_FIRST))


@pytest.mark.parametrize("name", KEYED)
def test_the_same_request_gets_the_first_answer_and_has_no_second_effect(partition: Partition, name: str) -> None:
    rest, given = prepare(partition, name)
    first = partition(name, *rest, **given)
    before = partition.snapshot()
    partition.clock.advance(1)
    again = partition(name, *rest, **given)
    assert again.status == "replayed"
    assert first_answer(first, again)
    assert partition.snapshot() == before


@pytest.mark.parametrize("name", KEYED)
def test_another_request_with_the_key_is_a_conflict(partition: Partition, name: str) -> None:
    rest, given = prepare(partition, name)
    partition(name, *rest, **given)
    before = partition.snapshot()
    assert partition(name, *rest, **{**given, "fingerprint": "another"}).status == "idempotency_conflict"
    assert partition.snapshot() == before


@pytest.mark.parametrize("name", [name for name in KEYED if name != "reserve"])
def test_another_key_is_another_request(partition: Partition, name: str) -> None:
    rest, given = prepare(partition, name)
    partition(name, *rest, **given)
    assert partition(name, *rest, **{**given, "key_hash": "another"}).status != "replayed"


@pytest.mark.parametrize("name", KEYED)
def test_the_first_answer_outlives_what_happens_next(partition: Partition, name: str) -> None:
    rest, given = prepare(partition, name)
    first = partition(name, *rest, **given)
    partition("adjust", amount=1)
    partition("extend", token="t", amount_us=2 * TTL_US)
    partition("commit", "A", 1, token="t")
    partition("cancel", token="t")
    partition.clock.advance_us(5 * TTL_US)
    again = partition(name, *rest, **given)
    assert again.status == "replayed"
    assert first_answer(first, again)


@pytest.mark.parametrize("name", ["commit", "extend", "payment", "release"])
def test_a_refusal_is_not_remembered(partition: Partition, name: str) -> None:
    partition.stock("A", 10)
    given = {"key_hash": "k", "fingerprint": "f"}
    assert partition(name, **given).status == "not_found"
    partition("reserve", "A", 1, token="t")
    assert partition(name, **given).status not in ("replayed", "not_found")


def test_a_refused_reserve_is_decided_afresh(partition: Partition) -> None:
    partition.stock("A", 1)
    assert partition("reserve", "A", 2, fingerprint="f").status == "out_of_stock"
    partition("adjust", amount=1)
    assert partition("reserve", "A", 2, fingerprint="f").status == "held"


def test_a_reserve_that_comes_again_after_its_deadline_is_the_expired_one(partition: Partition) -> None:
    partition.stock("A", 1)
    first = partition("reserve", "A", 1, fingerprint="f")
    partition.clock.advance_us(TTL_US)
    again = partition("reserve", "A", 1, fingerprint="f")
    assert (again.status, again.state) == ("replayed", "expired")
    assert first_answer(first, again)
    assert partition.balances("A") == (1, 0, 0, 0)


def test_a_token_is_nobody_elses(partition: Partition) -> None:
    partition.stock("A", 10)
    partition("reserve", "A", 1, token="t")
    before = partition.snapshot()
    for fingerprint in ("", "f"):
        assert partition("reserve", "A", 1, token="t", fingerprint=fingerprint).status == "idempotency_conflict"
    assert partition.snapshot() == before


def test_two_keys_on_one_record_are_both_remembered(partition: Partition) -> None:
    partition.stock("A", 10)
    partition("reserve", "A", 1, token="t")
    answers = {key: partition("extend", key_hash=key, fingerprint=key, counted_from="deadline") for key in "xy"}
    assert answers["x"].expires_us != answers["y"].expires_us
    for key, answer in answers.items():
        assert first_answer(answer, partition("extend", key_hash=key, fingerprint=key, counted_from="deadline"))


def test_how_many_keys_a_record_remembers_is_bounded(partition: Partition) -> None:
    partition.stock("A", 10)
    partition("reserve", "A", 1, token="t")
    statuses = [partition("extend", key_hash=f"k{number}", fingerprint="f").status for number in range(301)]
    most = statuses.index("too_many_keys")
    assert len(partition.record("t")) == 301
    assert set(statuses[:most]) == {"moved"}
    assert set(statuses[most:]) == {"too_many_keys"}
    assert partition("extend", key_hash="k0", fingerprint="f").status == "replayed"
    assert partition("extend").status == "moved", "without a key there is nothing to remember"
