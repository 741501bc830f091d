from dataclasses import replace

import pytest

from app.domain.types import Line, Location, Policy, Remaining, Sku, Token
from app.store.calls import ReservationReply, SkuReply
from app.store.decoding import (
    decode_lines,
    decode_policy,
    decode_remaining,
    decode_reservation,
    decode_sku,
    encode_policy,
)

RESERVATION = ReservationReply(
    b"committed", b"9", b"held", "Ägent".encode(), b"web", b"", b'{"a":1}', b"5", b"15", b"3", b"A\t2\t1", b"A\t0\t5"
)
LOCATIONS = b"west\tdedicated\t5\t0\nmain\tshared\t7\t2\neast\tshared\t3\t4"
SKU = SkuReply._make([*b"found 9 3 10 1 2 0 4 3 0 0".split(), LOCATIONS, b"8", b"4", *[b""] * 13])


def test_lines() -> None:
    assert decode_lines("ü x\t2\t1\nB\t1000000000000\t0".encode()) == (Line(Sku("ü x"), 2, 1), Line(Sku("B"), 10**12))
    assert decode_remaining(b"A\t0\t5\nB\t7\t0") == (Remaining(Sku("A"), 0, 5), Remaining(Sku("B"), 7, 0))


@pytest.mark.parametrize("text", [b"", b"A", b"A\t1", b"A\t1\t2\t3", b"A\t1.5\t0", b"A\tx\t0"])
def test_malformed_rows_are_no_lines(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says: nothing is guessed
        decode_lines(text)


def test_reservation() -> None:
    found = decode_reservation(Token("t"), RESERVATION)
    assert (found.token, found.status, found.agent_id, found.channel, found.order_id) == (
        "t",
        "held",
        "Ägent",
        "web",
        "",
    )
    assert (found.created_at_us, found.expires_at_us, found.sequence, found.details) == (5, 15, 3, b'{"a":1}')
    assert found.review_due_at_us == 5 + 24 * 3600 * 10**6
    assert decode_reservation(Token("t"), RESERVATION._replace(lines=b"A\t2\t0")).review_due_at_us is None


def test_sku() -> None:
    state = decode_sku(Sku("A"), SKU)
    assert (state.on_hand, state.reserved, state.committed, state.safety_stock, state.available) == (10, 1, 2, 4, 3)
    assert (state.sequence, state.as_of_us, state.next_release_us) == (3, 9, None)
    assert state.locations == (
        Location("east", is_shared=True, on_hand=3, allocated=4),
        Location("main", is_shared=True, on_hand=7, allocated=2),
        Location("west", is_shared=False, on_hand=5, allocated=0),
    )
    assert [location.available for location in state.locations] == [0, 5, 5]
    assert (state.channel_left, state.shortfall) == (8, 0)
    assert decode_sku(Sku("A"), SKU._replace(channel_left=b"")).channel_left is None
    assert state.policy == Policy(safety_stock=4)
    assert decode_sku(Sku("A"), SKU._replace(locations=b"", next_release_us=b"77")).next_release_us == 77


@pytest.mark.parametrize("field", ["reserved", "committed", "backordered", "safety_stock", "available"])
def test_a_negative_quantity_is_not_passed_on(field: str) -> None:
    with pytest.raises(AssertionError):
        decode_sku(Sku("A"), SKU._replace(**{field: b"-1"}))


def test_a_policy_comes_back_as_it_was() -> None:
    policy = Policy(1, 250, 3, 4, 5, 2_000_000, 6, "2026-03-01", 7, ("B", "Ç"), "shirts", "flowers")
    policy = replace(policy, channel_limits={"web": 5, "Ä": 0}, degraded_policy="conservative")
    values = {name: getattr(policy, name) for name in Policy.__slots__}
    assert decode_policy(encode_policy(values)) == policy
    assert decode_policy({}) == Policy()
    plain = {name: getattr(Policy(), name) for name in Policy.__slots__}
    assert decode_policy(encode_policy(plain)) == Policy()


def test_only_what_is_named_is_encoded() -> None:
    assert encode_policy({"safety_stock": 0, "lead_time_days": None, "substitutes": ()}) == {
        "safety_stock_units": "0",
        "lead_time_days": "",
        "substitutes": "",
    }
