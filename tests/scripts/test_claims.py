"""Whose a reservation is, decided where everything else is: to whoever it is not, it is not there."""

import pytest

from tests.scripts.partition import TTL_US, Partition
from tests.scripts.scenes import OF_A_SALE, VERBS, WORK, prepare

FOREIGN = (
    "agent\tanother",
    "holder\tanother",
    "holder\t",
    "agent\t",
    "agent\tshop",
    "holder\tagent",
    "agent",
    "shop",
    "\t",
)


def prepared(partition: Partition, verb: str, **reserved: object) -> dict[str, object]:
    """A call of a verb that does something to `t`, which was reserved so."""
    partition.stock("A", 10)
    partition.stock("B", 10)
    partition("reserve", "A", 2, "B", 1, token="t", **reserved)
    if verb in OF_A_SALE:
        partition("commit", token="t")
    return {"token": "t"}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("claim", ["agent\tagent", "holder\tshop"])
def test_owners_find_what_is_theirs(partition: Partition, verb: str, claim: str) -> None:
    call = prepared(partition, verb, holder="shop")
    assert partition(verb, *WORK.get(verb, ()), **call, claim=claim).status not in ("not_found", "ended")


@pytest.mark.parametrize("verb", VERBS)
def test_nobody_else_does_and_nothing_happens(partition: Partition, verb: str) -> None:
    call = prepared(partition, verb, holder="shop")
    partition.hold("A", 1, ttl_us=1)
    partition.clock.advance_us(1)  # so that even to settle what is due would be an effect
    missing = partition(verb, *WORK.get(verb, ()), token="nobody's", claim=FOREIGN[0])
    before = partition.snapshot()
    for claim in FOREIGN:
        reply = partition(verb, *WORK.get(verb, ()), **call, claim=claim, key_hash="k", fingerprint="f")
        assert reply.status == "not_found"
        assert reply.same_as(missing, but=("now_us",))
    assert partition.snapshot() == before


@pytest.mark.parametrize("verb", VERBS)
def test_what_was_reserved_without_a_key_has_no_holder(partition: Partition, verb: str) -> None:
    call = prepared(partition, verb)
    assert "holder" not in partition.record("t")
    for claim in ("holder\t", "holder\tshop"):
        assert partition(verb, *WORK.get(verb, ()), **call, claim=claim).status == "not_found"
    assert partition(verb, *WORK.get(verb, ()), **call, claim="agent\tagent").status != "not_found"


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "read"])
def test_a_remembered_answer_is_for_its_owner(partition: Partition, verb: str) -> None:
    work, keyed = prepare(partition, verb)
    how = {"token": "t", **keyed}
    partition(verb, *work, **how, claim="agent\tagent")
    assert partition(verb, *work, **how, claim="agent\tagent").status == "replayed"
    assert partition(verb, *work, **how, claim="agent\tanother").status == "not_found"


def test_a_foreign_hold_that_is_due_is_settled_by_others(partition: Partition) -> None:
    prepared(partition, "read", holder="shop")
    partition.clock.advance_us(TTL_US)
    sequence = partition.sequence
    assert partition("read", token="t", claim="holder\tanother").status == "not_found"
    assert partition.sequence == sequence
    assert partition("read", token="t", claim="holder\tshop").state == "expired"


def test_the_ledger_says_who_holds_the_key(partition: Partition) -> None:
    prepared(partition, "read", holder="jwt:shop")
    assert partition.record("t")["holder"] == "jwt:shop"
    held = [entry for entry in partition.entries() if entry["type"] == "reservation.held"]
    assert [entry["data"] for entry in held] == ['{"holder":"jwt:shop"}'] * 2
