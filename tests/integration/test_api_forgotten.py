"""Reservations that the engine has forgotten, as it does some time after their end: the archive answers for it."""

from collections.abc import Iterator
from typing import Any

import pytest

from app.domain.types import Token
from app.store.keys import Keyspace
from tests.gateway import Answer, Gateway, done, refused
from tests.service import Home, eventually, open_home
from tests.webhooks import SOURCES, deliver, said

pytestmark = pytest.mark.archived

Ended = tuple[Gateway, dict[str, dict[str, Any]]]
VERBS: dict[str, dict[str, Any]] = {
    "commit": {},
    "release": {},
    "extend": {"additional_seconds": 1},
    "payment": {},
    "cancel": {},
    "allocations": {"strategy": "most_stock"},
}
# state -> verbs that are answered with 200 and the reservation as it is, verbs that are refused with something else
# than the state's own name
ENDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "committed": (("commit",), ()),
    "released": (("release",), ("cancel", "allocations")),
    "expired": (("release",), ("cancel", "allocations")),
    "voided": (("release",), ("cancel", "allocations")),
    "cancelled": ((), ()),
    "fulfilled": (("commit",), ()),
}


@pytest.fixture
def way() -> str:
    """None of these routes is in the table."""
    return "table"


def forget(home: Home, token: str) -> None:
    """What the engine does itself a day after a hold's end, and a month after a sale."""
    home.is_damaged_on_purpose = True
    with home.client() as client:
        (keys, *_) = Keyspace(1).of_token(Token(token))
        assert client.delete(keys.reservation(Token(token))) == 1


@pytest.fixture(scope="module")
def ended() -> Iterator[Ended]:
    """A service, and a reservation in each state that ends one, read before it was forgotten."""
    with open_home(is_archived=True) as home:
        gateway = home.serve(sources=SOURCES).gateway.hold_to_its_word()
        made = {state: end(gateway, state) for state in ENDS}
        home.await_archive()
        for reservation in made.values():
            forget(home, reservation["token"])
        yield gateway, made


def end(gateway: Gateway, state: str) -> dict[str, Any]:
    """A reservation in this state."""
    sku = gateway.stock(5)
    made = gateway.reserve(sku, 3, ttl_seconds=1 if state == "expired" else 60, reference="cart", channel="web")
    match state:
        case "committed":
            done(gateway.verb(made, "commit", {"lines": [{"sku": sku, "quantity": 2}], "order_id": "order"}))
        case "fulfilled":
            done(gateway.verb(made, "commit"))
            done(deliver(gateway, "wms", said("ship", (sku, 3), reference=made["token"])))
        case "released":
            done(gateway.verb(made, "release"))
        case "cancelled":
            done(gateway.verb(made, "commit"))
            done(gateway.verb(made, "cancel"))
        case "voided":
            done(gateway.post(f"skus/{sku}/adjustments", {"on_hand_quantity": 2, "reason": "counted"}))
        case _:
            eventually(lambda: gateway.read(made)["status"] == "expired")
    found = gateway.read(made)
    assert found["status"] == state
    return found


@pytest.mark.parametrize("state", ENDS)
def test_it_is_read_as_it_was(ended: Ended, state: str) -> None:
    gateway, found = ended
    assert gateway.read(found[state]) == found[state]


def call(gateway: Gateway, reservation: dict[str, Any], verb: str) -> Answer:
    if verb == "delete":
        return gateway("DELETE", f"reservations/{reservation['token']}")
    return gateway.verb(reservation, verb, VERBS[verb])


@pytest.mark.parametrize("state", ENDS)
@pytest.mark.parametrize("verb", [*VERBS, "delete"])
def test_a_verb_says_how_it_ended(ended: Ended, verb: str, state: str) -> None:
    gateway, found = ended
    before = gateway.entries(limit=1000)
    answer = call(gateway, found[state], verb)
    done_by, not_sold_by = ENDS[state]
    if verb.replace("delete", "release") in done_by:
        assert done(answer) == found[state]
    elif verb in not_sold_by:
        refused(answer, 409, "reservation_not_committed")
    else:
        refused(answer, 410 if state == "expired" else 409, f"reservation_{state}")
    assert gateway.entries(limit=1000) == before


def test_a_commit_is_repeated_with_the_same_lines_only(ended: Ended) -> None:
    gateway, found = ended
    sold = found["committed"]
    same = {"lines": [{"sku": sold["sku"], "quantity": 1}] * 2}
    assert done(gateway.verb(sold, "commit", same)) == sold
    other = {"lines": [{"sku": sold["sku"], "quantity": 3}]}
    refused(gateway.verb(sold, "commit", other), 409, "reservation_committed")


def test_one_that_should_live_is_not_believed_to(home: Home) -> None:
    """What the archive has as held and the engine has not: it was lost there."""
    gateway = home.serve().gateway
    held = gateway.reserve(gateway.stock())
    home.await_archive()
    forget(home, held["token"])
    refused(gateway.get(f"reservations/{held['token']}"), 404, "reservation_not_found")
    refused(gateway.verb(held, "commit"), 404, "reservation_not_found")


@pytest.mark.parametrize("token", ["x", "0-", f"0-{'A' * 22}", f"7-{'A' * 22}", f"x-{'A' * 22}", "%F0%9F%98%80"])
def test_one_that_never_was(gateway: Gateway, token: str) -> None:
    unknown = {"token": token}
    refused(gateway.get(f"reservations/{token}"), 404, "reservation_not_found")
    for verb, body in VERBS.items():
        refused(gateway.verb(unknown, verb, body), 404, "reservation_not_found")
