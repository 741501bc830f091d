"""Availability as of a position or a time: what would have been answered then, and nothing else."""

import random
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import pytest

from tests.gateway import Gateway, done, refused
from tests.service import Home, eventually

pytestmark = pytest.mark.archived

Archived = Callable[[], None]
CALLS = 60


def as_of(gateway: Gateway, sku: str, moment: object, **query: str) -> dict[str, Any]:
    query = {"as_of": quote(str(moment)), **query}
    return done(gateway.get(f"skus/{sku}/availability?" + "&".join(f"{name}={text}" for name, text in query.items())))


def some_call(rng: random.Random, sku: str, category: str, token: str) -> tuple[str, str, object]:
    """Method, path and body of a call that moves something, or is refused."""
    origin, target = rng.sample(["main", "EAST", "WEST"], 2)
    units = rng.randrange(1, 6)
    wish = {"sku": sku, "quantity": units, "agent_id": "agent", "ttl_seconds": 60, "allow_backorder": True}
    transfer = {"from_location_id": origin, "to_location_id": target, "quantity": units, "reason": "moved"}
    policy = {"safety_stock": units, "backorder_limit": 3 * units, "next_restock_date": "2030-05-01"}
    defaults = {"low_stock_threshold": units, "lead_time_days": units, "substitutes": ["OTHER"]}
    reservation, adjustments = f"reservations/{token}", f"skus/{sku}/adjustments"
    return rng.choice(
        [
            *[("POST", "reservations", wish)] * 3,
            ("POST", f"{reservation}/commit", {}),
            ("POST", f"{reservation}/commit", {"lines": [{"sku": sku, "quantity": units}]}),
            ("POST", f"{reservation}/payment", {}),
            ("POST", f"{reservation}/extend", {"additional_seconds": units}),
            ("POST", f"{reservation}/release", {}),
            ("POST", f"{reservation}/cancel", {}),
            ("POST", f"{reservation}/allocations", {"strategy": "most_stock"}),
            ("POST", adjustments, {"on_hand_quantity": 2 * units, "location_id": origin, "reason": "counted"}),
            ("POST", adjustments, {"delta": units, "location_id": origin, "reason": "came"}),
            ("POST", f"skus/{sku}/transfers", transfer),
            ("PATCH", f"skus/{sku}", dict(rng.sample(sorted(policy.items()), 2))),
            ("PATCH", f"skus/{sku}", {"category": rng.choice([category, None])}),
            ("PUT", f"categories/{category}", dict(rng.sample(sorted(defaults.items()), 2))),
        ]
    )


def test_it_is_what_was_answered_then(gateway: Gateway, archived: Archived) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    sku, category = gateway.stock(8, backorder_limit=5), f"category-{uuid.uuid4().hex}"
    tokens = [f"0-{'A' * 22}"]
    calls, answers = [], [gateway.availability(sku)]
    for _ in range(CALLS):
        method, path, body = some_call(rng, sku, category, rng.choice(tokens))
        answer = gateway(method, path, body)
        assert answer.status < 500
        if (path, answer.status) == ("reservations", 201):
            tokens.append(answer.json["token"])
        calls.append((method, path.rpartition("/")[2], body, answer.status))
        answers.append(gateway.availability(sku))
    archived()
    for number, answered in enumerate(answers):
        assert as_of(gateway, sku, answered["as_of"]) == answered, (seed, calls[:number])
    # After the entry nothing happened until the next: the first answer that shows it is of the same quantities.
    for answered in {answer["sequence"]: answer for answer in reversed(answers)}.values():
        found = as_of(gateway, sku, answered["sequence"])
        same = {name for name in answered if name.endswith("_quantity")} | {"locations", "safety_stock"}
        assert {name: found[name] for name in same} == {name: answered[name] for name in same}, (seed, answered)


def test_what_was_due_had_its_effect_though_nobody_saw(gateway: Gateway, archived: Archived) -> None:
    sku = gateway.stock(5)
    held = gateway.reserve(sku, 2, ttl_seconds=1)
    eventually(lambda: gateway.availability(sku)["reserved_quantity"] == 0)
    expired = gateway.entries(sku=sku)[-1]
    assert (expired["type"], expired["at"] > held["expires_at"]) == ("reservation.expired", True)
    archived()
    last_moment = datetime.fromisoformat(held["expires_at"]) - timedelta(microseconds=1)
    before, then = as_of(gateway, sku, last_moment.isoformat()), as_of(gateway, sku, held["expires_at"])
    assert (before["reserved_quantity"], before["available_quantity"]) == (2, 3)
    assert before["next_release_at"] == held["expires_at"]
    assert (then["reserved_quantity"], then["available_quantity"], then["next_release_at"]) == (0, 5, None)


def test_the_last_word_may_be_asked_for_at_once(gateway: Gateway) -> None:
    sku = gateway.stock(5)
    for units in range(5):
        found = done(gateway.post(f"skus/{sku}/adjustments", {"on_hand_quantity": units, "reason": "counted"}))
        assert as_of(gateway, sku, found["sequence"])["on_hand_quantity"] == units
        assert as_of(gateway, sku, gateway.availability(sku)["as_of"])["on_hand_quantity"] == units


def test_a_time_may_be_written_in_many_ways(gateway: Gateway, archived: Archived) -> None:
    sku = gateway.stock(5)
    answered = gateway.availability(sku)
    archived()
    moment = datetime.fromisoformat(answered["as_of"])
    east = moment.astimezone(timezone(timedelta(hours=5, minutes=30)))
    for text in (
        answered["as_of"], answered["as_of"].lower(), f"{answered['as_of'][:-1]}000Z", moment.isoformat(),
        east.isoformat(),
    ):  # fmt: skip
        assert as_of(gateway, sku, text) == answered


def test_one_location_of_then(gateway: Gateway, archived: Archived) -> None:
    sku = gateway.stock(5)
    then = done(gateway.post(f"skus/{sku}/adjustments", {"delta": 2, "location_id": "EAST", "reason": "came"}))
    done(gateway.post(f"skus/{sku}/adjustments", {"delta": 2, "location_id": "EAST", "reason": "came"}))
    archived()
    found = as_of(gateway, sku, then["sequence"], location_id="EAST")
    assert [(each["location_id"], each["on_hand_quantity"]) for each in found["locations"]] == [("EAST", 2)]
    assert found["on_hand_quantity"] == 7


def test_before_there_was_anything(gateway: Gateway, archived: Archived) -> None:
    older, sku = gateway.stock(1), gateway.stock(1)
    first = gateway.entries(sku=sku)[0]
    archived()
    for moment in (0, first["sequence"] - 1, gateway.entries(sku=older)[0]["at"], "1969-12-31T23:59:59Z",
                   "0001-01-01T00:00:00+23:59"):  # fmt: skip
        refused(gateway.get(f"skus/{sku}/availability?as_of={quote(str(moment))}"), 404, "sku_not_found")
    assert as_of(gateway, sku, first["sequence"])["sequence"] == first["sequence"]
    refused(gateway.get(f"skus/NO-{uuid.uuid4().hex}/availability?as_of=1"), 404, "sku_not_found")


IN_FIVE_MINUTES = "in five minutes"


@pytest.mark.parametrize(
    "moment",
    ["", "x", "-1", "1.5", "1e3", "9999999999999999", "99999999999999999", "0x10", "2026-11-21", "20261121T000000Z",
     "2026-11-21T10:00:00", "2026-11-21 10:00:00Z", "2026-02-30T10:00:00Z", "2026-11-21T25:00:00Z",
     "2026-11-21T10:00:60Z", "2026-W47-6T10:00:00Z", "2099-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59",
     "2026-11-21T10:00:00Zx", "٢٠٢٦-11-21T10:00:00Z", "٣", "1\n",
     "2026-11-21T10:00:00." + "0" * 60 + "Z", IN_FIVE_MINUTES],
    ids=lambda moment: moment.encode("unicode_escape").decode()[:24],
)  # fmt: skip
def test_a_moment_that_is_none_or_not_yet(gateway: Gateway, moment: str) -> None:
    if moment == IN_FIVE_MINUTES:
        moment = (datetime.now().astimezone() + timedelta(minutes=5)).isoformat()
    answer = gateway.get(f"skus/{gateway.stock(1)}/availability?as_of={quote(moment)}")
    (error,) = refused(answer, 422, "validation_failed")["errors"]
    assert error["field"] == "as_of"


def test_what_a_channel_could_have_had_is_not_known(gateway: Gateway) -> None:
    path = f"skus/{gateway.stock(1)}/availability"
    refused(gateway.get(f"{path}?as_of=1&channel=web"), 422, "validation_failed")
    for query in ("location=main", "location_id=", "channel=%20"):
        refused(gateway.get(f"{path}?{query}"), 422, "validation_failed")


def test_a_position_is_of_the_skus_partition(home: Home) -> None:
    gateway = home.serve(partitions=3).gateway
    skus = [gateway.stock(5) for _ in range(6)]
    answers = [gateway.availability(sku) for sku in skus]
    for sku in skus:
        gateway.reserve(sku, 2)
    home.await_archive()
    for sku, answered in zip(skus, answers, strict=True):
        assert as_of(gateway, sku, answered["sequence"])["available_quantity"] == 5
        assert as_of(gateway, sku, answered["as_of"]) == answered


def test_without_an_archive_the_past_is_gone(home: Home) -> None:
    gateway = home.serve(archive_url="").gateway
    sku = gateway.stock(1)
    refused(gateway.get(f"skus/{sku}/availability?as_of=1"), 503, "ledger_unavailable")
