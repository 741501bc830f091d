"""What one caller may hold, over HTTP: who counts as one, what it is told, and what operators see of it."""

import secrets
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.gateway import NOTHING, TIME, Answer, Gateway, done, refused, shaped
from tests.keys import key_row, write_keys
from tests.service import eventually, open_home

pytestmark = pytest.mark.archived

CALLERS = {"operator": ("operator", {}), "shop": ("agent", {}), "bot": ("agent", {"agent_id": "bot"})}
KEYS = {name: f"lu_{secrets.token_urlsafe(32)}" for name in CALLERS}
COOLDOWN_SECONDS = 3600


def by(gateway: Gateway, name: str, method: str, path: str, value: object = NOTHING) -> Answer:
    """A call with this caller's key."""
    return gateway(method, path, value, authorization=f"Bearer {KEYS[name]}")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    path = tmp_path_factory.mktemp("caps") / "keys.json"
    write_keys(path, *(key_row(KEYS[name], name, scope, **bound) for name, (scope, bound) in CALLERS.items()))
    with open_home(is_archived=True) as home:
        service = home.serve(
            api_keys_file=path,
            agent_open_holds_max=2,
            agent_held_units_max=4,
            agent_expired_holds_max=2,
            agent_cooldown_seconds=COOLDOWN_SECONDS,
        )
        home.await_archive()
        yield service.gateway.hold_to_its_word()


@pytest.fixture
def sku(gateway: Gateway) -> str:
    name = f"SKU-{secrets.token_hex(6)}"
    done(by(gateway, "operator", "POST", f"skus/{name}/adjustments", {"delta": 50, "reason": "test"}))
    return name


def reserve(gateway: Gateway, name: str, sku: str, agent_id: str, **fields: object) -> Answer:
    return by(gateway, name, "POST", "reservations", {"sku": sku, "agent_id": agent_id, "ttl_seconds": 60, **fields})


def beyond(answer: Answer, cap: str, *, limit: int, current: int) -> dict[str, Any]:
    """The refusal of a call that would exceed a cap, with its advice."""
    problem = refused(answer, 429, "agent_quota_exceeded", cap=str, limit=int, current=int, advice=dict)
    assert (problem["cap"], problem["limit"], problem["current"]) == (cap, limit, current)
    return problem


def test_a_key_that_names_any_agent_counts_as_one_caller(gateway: Gateway, sku: str) -> None:
    first, second = (done(reserve(gateway, "shop", sku, f"agent-{number}"), 201) for number in range(2))
    answer = reserve(gateway, "shop", sku, "agent-2")
    advice = beyond(answer, "open_holds", limit=2, current=2)["advice"]
    assert advice["action"] == "retry_after"
    assert 0 < advice["retry_after_ms"] <= 60_000
    assert 0 < int(answer.headers["retry-after"]) <= 60
    done(by(gateway, "shop", "POST", f"reservations/{first['token']}/release"))
    third = done(reserve(gateway, "shop", sku, "agent-2"), 201)
    for held in (second, third):
        done(by(gateway, "shop", "POST", f"reservations/{held['token']}/commit"))


def test_an_operator_is_believed_which_agent_it_holds_for(gateway: Gateway, sku: str) -> None:
    for number in range(4):
        done(reserve(gateway, "operator", sku, f"of-operator-{number}"), 201)
    done(reserve(gateway, "operator", sku, "of-operator-0"), 201)
    beyond(reserve(gateway, "operator", sku, "of-operator-0"), "open_holds", limit=2, current=2)


def test_more_than_one_may_ever_hold(gateway: Gateway, sku: str) -> None:
    problem = beyond(reserve(gateway, "operator", sku, "large", quantity=5), "held_units", limit=4, current=0)
    assert (problem["advice"], problem["retryable"]) == ({"action": "give_up"}, False)


def test_who_lets_holds_expire_is_seen_and_waits(gateway: Gateway, sku: str) -> None:
    for _ in range(2):
        held = done(reserve(gateway, "bot", sku, "bot", ttl_seconds=1), 201)
        eventually(partial(_has_expired, gateway, held))
    problem = beyond(reserve(gateway, "bot", sku, "bot"), "expired_holds", limit=2, current=2)
    assert problem["advice"]["retry_after_ms"] > (COOLDOWN_SECONDS - 60) * 1000

    def row() -> dict[str, Any]:
        page = done(by(gateway, "operator", "GET", "admin/hoarders?limit=1000&window_seconds=3600"))
        assert page["next_cursor"] is None
        return next((item for item in page["items"] if item["agent_id"] == "bot"), {"expired": 0})

    eventually(lambda: row()["expired"] == 2)
    shaped(row(), {
        "agent_id": "bot", "holder": "bot", "open_reservations": int, "held_quantity": int, "reserved": int,
        "sold": int, "expired": int, "cooling_until": TIME,
    })  # fmt: skip
    assert row() == row() | {"open_reservations": 0, "held_quantity": 0, "reserved": 2, "sold": 0}


def test_the_report_has_who_holds_most_first(gateway: Gateway, sku: str) -> None:
    for quantity in (3, 4, 2):
        done(reserve(gateway, "operator", sku, f"holds-{quantity}", quantity=quantity), 201)
    done(by(gateway, "operator", "POST", f"reservations/{_sold(gateway, sku)}/commit"))

    def held() -> list[tuple[str, int]]:
        items = done(by(gateway, "operator", "GET", "admin/hoarders"))["items"]
        return [(row["agent_id"], row["held_quantity"]) for row in items if row["agent_id"].startswith("holds")]

    eventually(lambda: held() == [("holds-4", 4), ("holds-3", 3), ("holds-2", 2)])


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "window_seconds=0", "window_seconds=3601", "windows=5"])
def test_a_report_that_is_none_is_refused(gateway: Gateway, query: str) -> None:
    refused(by(gateway, "operator", "GET", f"admin/hoarders?{query}"), 422, "validation_failed")


def _sold(gateway: Gateway, sku: str) -> str:
    return str(done(reserve(gateway, "operator", sku, "buys"), 201)["token"])


def _has_expired(gateway: Gateway, held: dict[str, Any]) -> bool:
    return bool(done(by(gateway, "operator", "GET", f"reservations/{held['token']}"))["status"] == "expired")
