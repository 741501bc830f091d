"""Retries: one key and one request get the first answer, once, whatever happened in between."""

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gateway import NOTHING, Answer, Gateway, done, refused
from tests.service import eventually

AT_ONCE = 16
BODY = {"sku": "SKU", "agent_id": "agent", "ttl_seconds": 60}
COUNT = {"reason": "count", "on_hand_quantity": 0}
# The call, what comes with it, and what makes another request of it.
KEYED_CALLS = [
    ("POST reservations", BODY, BODY | {"quantity": 2}),
    ("POST reservations", BODY | {"metadata": {"a": "1"}}, BODY | {"metadata": {"a": "2"}}),
    ("POST reservations", BODY | {"reference": "cart"}, BODY),
    ("POST reservations/TOKEN/commit", NOTHING, {"order_id": "order"}),
    ("POST reservations/TOKEN/commit", {"lines": [{"sku": "SKU", "quantity": 1}]}, NOTHING),
    ("POST reservations/TOKEN/release", NOTHING, NOTHING),
    ("DELETE reservations/TOKEN", NOTHING, NOTHING),
    ("POST reservations/TOKEN/extend", {"additional_seconds": 5}, {"additional_seconds": 6}),
    ("POST reservations/TOKEN/extend", {"ttl_seconds": 70}, {"additional_seconds": 70}),
    ("POST reservations/TOKEN/payment", NOTHING, {"ttl_seconds": 121}),
    ("POST reservations/TOKEN/cancel", {"lines": [{"sku": "SKU", "quantity": 1}]}, NOTHING),
    ("POST skus/SKU/adjustments", {"reason": "count", "delta": 1}, {"reason": "count", "delta": 2}),
    ("POST skus/SKU/adjustments", COUNT, COUNT | {"reference": "sheet 7"}),
    ("POST skus/SKU/adjustments", COUNT, {"reason": "count", "delta": 0}),
    ("POST skus/SKU/adjustments", COUNT, COUNT | {"location_id": "EAST"}),
]

Call = Callable[..., Answer]


@pytest.fixture
def key() -> str:
    """One that nobody used before."""
    return uuid.uuid4().hex


def prepared(gateway: Gateway, call: str) -> tuple[str, Call]:
    """A SKU of its own, and the call about it, or about three units of it that are held (for a cancel: sold)."""
    sku, token = gateway.stock(50), ""
    if "TOKEN" in call:
        token = gateway.reserve(sku, 3)["token"]
    if call.endswith("cancel"):
        done(gateway.post(f"reservations/{token}/commit"))

    def send(value: object, key: str) -> Answer:
        method, path = call.replace("SKU", sku).replace("TOKEN", token).split()
        if value is not NOTHING:
            value = json.loads(json.dumps(value).replace("SKU", sku))
        return gateway(method, path, value, idempotency_key=key)

    return sku, send


@pytest.mark.parametrize(("call", "value", "other"), KEYED_CALLS)
def test_a_retry_gets_the_first_answer_and_another_request_a_conflict(
    gateway: Gateway, key: str, call: str, value: object, other: object
) -> None:
    sku, send = prepared(gateway, call)
    first = send(value, key)
    assert first.status == (201 if call == "POST reservations" else 200), first.body
    assert "idempotent-replayed" not in first.headers
    ledger = gateway.entries(sku=sku)
    again = send(value, f'"{key}"')
    assert again.status == first.status
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers.get("location") == first.headers.get("location")
    assert again.headers.get("etag") == first.headers.get("etag")
    assert again.json | {"as_of": ""} == first.json | {"as_of": ""}
    if other is not value:
        refused(send(other, key), 422, "idempotency_conflict")
    assert gateway.entries(sku=sku) == ledger


@pytest.mark.parametrize(("call", "value", "other"), KEYED_CALLS)
def test_calls_at_once_with_one_key_are_one_call(
    gateway: Gateway, key: str, call: str, value: object, other: object
) -> None:
    sku, send = prepared(gateway, call)
    before = len(gateway.entries(sku=sku))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda _: send(value, key), range(AT_ONCE)))
    (status,) = {answer.status for answer in answers}
    assert status in (200, 201)
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    said = [{name: text for name, text in answer.json.items() if name != "as_of"} for answer in answers]
    assert all(one == said[0] for one in said)
    (command_id,) = {entry["command_id"] for entry in gateway.entries(sku=sku)[before:]}
    assert command_id


def test_a_replayed_reserve_is_as_at_first_but_for_its_state(gateway: Gateway, key: str) -> None:
    a, b = gateway.stock(), gateway.stock()
    lines = [{"sku": a, "quantity": 3}, {"sku": b, "quantity": 1}]
    body = {"lines": lines, "agent_id": "agent", "metadata": {"a": "1"}}
    first = done(gateway.post("reservations", body, idempotency_key=key), 201)
    done(gateway.verb(first, "extend", {"additional_seconds": 9}))
    done(gateway.verb(first, "commit", {"lines": [{"sku": a, "quantity": 2}]}))
    now = done(gateway.post("reservations", body, idempotency_key=key), 201)
    assert now["status"] == "committed"
    current = ("status", "availability")
    assert [now[name] for name in now if name not in current] == [first[name] for name in first if name not in current]


def test_a_replayed_verb_is_as_at_first_but_for_its_state(gateway: Gateway, key: str) -> None:
    held = gateway.reserve(gateway.stock(), 3)
    extended = done(gateway.verb(held, "extend", {"additional_seconds": 9}, idempotency_key=key))
    done(gateway.verb(held, "extend", {"additional_seconds": 9}))
    done(gateway.verb(held, "commit", {"lines": [{"sku": held["sku"], "quantity": 1}]}))
    now = done(gateway.verb(held, "extend", {"additional_seconds": 9}, idempotency_key=key))
    assert now["status"] == "committed"
    for name in ("token", "lines", "created_at", "expires_at", "ttl_seconds", "sequence"):
        assert now[name] == extended[name]


def test_a_refusal_is_not_remembered(gateway: Gateway, key: str) -> None:
    sku = gateway.stock(1)
    holder = gateway.reserve(sku)
    body = {"sku": sku, "agent_id": "agent"}
    refused(gateway.post("reservations", body, idempotency_key=key), 409, "out_of_stock", lines=list)
    done(gateway.verb(holder, "release"))
    held = done(gateway.post("reservations", body, idempotency_key=key), 201)
    refused(gateway.verb(held, "cancel", idempotency_key=f"{key}-cancel"), 409, "reservation_not_committed")
    done(gateway.verb(held, "commit"))
    assert done(gateway.verb(held, "cancel", idempotency_key=f"{key}-cancel"))["status"] == "cancelled"


def test_what_the_key_belongs_to(gateway: Gateway, key: str) -> None:
    """One key names another request for another agent, another reservation, another SKU, another method."""
    a, b = gateway.stock(), gateway.stock()
    tokens = {
        done(gateway.post("reservations", {"sku": a, "agent_id": agent}, idempotency_key=key), 201)["token"]
        for agent in ("one", "two")
    }
    assert len(tokens) == 2
    for token in tokens:
        assert "idempotent-replayed" not in gateway.post(f"reservations/{token}/commit", idempotency_key=key).headers
    for sku in (a, b):
        answer = gateway.post(f"skus/{sku}/adjustments", {"delta": 1, "reason": "r"}, idempotency_key=key)
        assert "idempotent-replayed" not in answer.headers
    held = gateway.reserve(a)
    path = f"reservations/{held['token']}"
    assert "idempotent-replayed" not in gateway("DELETE", path, idempotency_key=key).headers
    assert "idempotent-replayed" not in gateway("POST", f"{path}/release", idempotency_key=key).headers


def test_defaults_that_are_said_make_no_other_request(gateway: Gateway, key: str) -> None:
    body = {"sku": gateway.stock(), "agent_id": "agent"}
    first = gateway.post("reservations", body, idempotency_key=key)
    said: dict[str, object] = body | {
        "quantity": 1,
        "channel": "direct",
        "allow_backorder": False,
        "reference": None,
        "metadata": {},
    }
    assert done(gateway.post("reservations", said, idempotency_key=key), 201) == done(first, 201)


def test_an_expired_reservation_is_still_the_first_answer(gateway: Gateway, key: str) -> None:
    body = {"sku": gateway.stock(), "agent_id": "agent", "ttl_seconds": 1}
    first = done(gateway.post("reservations", body, idempotency_key=key), 201)
    eventually(lambda: gateway.read(first)["status"] == "expired")
    again = done(gateway.post("reservations", body, idempotency_key=key), 201)
    assert (again["token"], again["status"]) == (first["token"], "expired")


@pytest.mark.parametrize("key", ["", '""', "x" * 256, '"' + "x" * 256 + '"', "schlüssel", "a\tb"])
@pytest.mark.parametrize("call", ["POST reservations", "POST skus/SKU/adjustments", "POST reservations/TOKEN/payment"])
def test_a_key_that_is_none(gateway: Gateway, call: str, key: str) -> None:
    sku, send = prepared(gateway, call)
    before = gateway.entries(sku=sku)
    value = next(value for known, value, _ in KEYED_CALLS if known == call)
    (error,) = refused(send(value, key), 422, "validation_failed")["errors"]
    assert error["field"] == "Idempotency-Key"
    assert gateway.entries(sku=sku) == before


def test_two_keys_are_none(gateway: Gateway) -> None:
    keys = [("Idempotency-Key", "a"), ("Idempotency-Key", "a"), ("Content-Type", "application/json")]
    body = json.dumps({"sku": gateway.stock(), "agent_id": "agent"}).encode()
    refused(gateway.send("POST", "reservations", body, keys), 422, "validation_failed")


def test_a_quoted_key_is_its_contents(gateway: Gateway, key: str) -> None:
    body = {"sku": gateway.stock(), "agent_id": "agent"}
    done(gateway.post("reservations", body, idempotency_key=rf'"{key}\"b\\c"'), 201)
    answer = gateway.post("reservations", body, idempotency_key=rf'{key}"b\c')
    assert answer.headers["idempotent-replayed"] == "true"
