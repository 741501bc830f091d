"""Reservations over HTTP: every field, every verb in every state, every refusal."""

import re
from datetime import datetime, timedelta
from typing import Any
from unicodedata import normalize

import pytest

from tests.gateway import TIME, Answer, Gateway, done, refused, shaped
from tests.service import Service, eventually
from tests.webhooks import deliver, said

MANY_LINES = {
    "token": re.compile(r"[\w-]{22,}"),
    "status": str,
    "agent_id": str,
    "channel": str,
    "reference": str | None,
    "order_id": str | None,
    "lines": list,
    "created_at": TIME,
    "expires_at": TIME,
    "ttl_seconds": float,
    "sequence": int,
    "review_due_at": str | None,
    "availability": list,
    "metadata": dict,
}
SINGLE_LINE = {**MANY_LINES, "sku": str, "quantity": int}
REMAINING = {"sku": str, "available_quantity": int, "pressure": str, "advice": dict}
SHORT_LINE = {**REMAINING, "requested_quantity": int}


def seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)) / timedelta(seconds=1)


def lines_of(reservation: dict[str, Any]) -> dict[str, int]:
    return {line["sku"]: line["quantity"] for line in reservation["lines"]}


def balances(gateway: Gateway, sku: str) -> tuple[int, int, int, int]:
    """On hand, reserved, committed, available."""
    found = gateway.availability(sku)
    return (
        found["on_hand_quantity"],
        found["reserved_quantity"],
        found["committed_quantity"],
        found["available_quantity"],
    )


# Reserve


def test_reserve_with_the_least_that_must_be_said(gateway: Gateway) -> None:
    sku = gateway.stock(12)
    answer = gateway.post("reservations", {"sku": sku, "agent_id": "agent_xyz"})
    held = done(answer, 201)
    shaped(held, {**SINGLE_LINE, "status": "held", "agent_id": "agent_xyz", "channel": "direct", "sku": sku})
    assert answer.headers["location"] == f"/inventory/v1/reservations/{held['token']}"
    assert held["lines"] == [{"sku": sku, "quantity": 1, "backordered": 0}]
    assert held["availability"] == [
        {"sku": sku, "available_quantity": 11, "pressure": "normal", "advice": {"action": "proceed"}}
    ]
    assert (held["quantity"], held["metadata"], held["ttl_seconds"]) == (1, {}, 10.0)
    assert (held["reference"], held["order_id"], held["review_due_at"]) == (None, None, None)
    assert seconds_between(held["created_at"], held["expires_at"]) == 10
    (entry,) = gateway.entries(token=held["token"])
    assert (held["sequence"], held["created_at"]) == (entry["sequence"], entry["at"])
    assert done(gateway.get(answer.headers["location"])) == held


def test_reserve_with_all_that_can_be_said(gateway: Gateway) -> None:
    sku = gateway.stock()
    said = {"reference": "cart-7", "metadata": {"a": "1", "b": ""}, "channel": "web"}
    held = gateway.reserve(sku, 3, ttl_seconds=1.5, rationale="the buyer asked twice", allow_backorder=True, **said)
    assert {name: held[name] for name in said} == said
    assert (held["quantity"], held["ttl_seconds"]) == (3, 1.5)
    (entry,) = gateway.entries(token=held["token"])
    assert entry["data"]["rationale"] == "the buyer asked twice"


@pytest.mark.parametrize(
    "said",
    [
        {"quantity": 1_000_000},
        {"ttl_seconds": 1},
        {"ttl_seconds": 1800},
        {"agent_id": "x" * 128},
        {"agent_id": "\N{LATIN SMALL LETTER U}\N{COMBINING DIAERESIS}" * 128},
        {"channel": "日本 1/2"},
        {"reference": "x" * 255},
        {"rationale": "x" * 500},
        {"metadata": {"k" * 62 + f"{number:02}": "é" * 500 for number in range(20)}},
        {"metadata": {"\u0000": "\n"}},
    ],
)
def test_the_most_that_may_be_said(gateway: Gateway, said: dict[str, Any]) -> None:
    held = done(gateway.post("reservations", {"sku": gateway.stock(10**6), "agent_id": "agent"} | said), 201)
    for name in held.keys() & said.keys():
        assert held[name] == (normalize("NFC", said[name]) if name == "agent_id" else said[name])


def test_a_hundred_lines(gateway: Gateway) -> None:
    skus = [gateway.stock(1) for _ in range(100)]
    body = {"lines": [{"sku": sku, "quantity": 1} for sku in skus], "agent_id": "agent"}
    held = done(gateway.post("reservations", body), 201)
    assert list(lines_of(held)) == skus
    assert len(gateway.entries(token=held["token"])) == 100
    assert lines_of(done(gateway.verb(held, "commit", {"lines": body["lines"][1:]}))) == dict.fromkeys(skus[1:], 1)


def test_many_lines_are_merged_in_order_of_first_appearance(gateway: Gateway) -> None:
    a, b = gateway.stock(), gateway.stock()
    lines = [{"sku": sku, "quantity": quantity} for sku, quantity in ((b, 1), (a, 2), (b, 4))]
    held = done(gateway.post("reservations", {"lines": lines, "agent_id": "agent"}), 201)
    shaped(held, MANY_LINES)
    assert [(line["sku"], line["quantity"]) for line in held["lines"]] == [(b, 5), (a, 2)]
    assert [row["sku"] for row in held["availability"]] == [b, a]
    first, last = gateway.entries(token=held["token"])
    assert [(first["sku"], first["quantity"]), (last["sku"], last["quantity"])] == [(b, 5), (a, 2)]
    assert last["sequence"] == first["sequence"] + 1 == held["sequence"]
    assert first["command_id"] == last["command_id"]


def test_lines_with_one_sku_are_one_line_checked_as_a_sum(gateway: Gateway) -> None:
    sku = gateway.stock(3)
    twice = {"lines": [{"sku": sku, "quantity": 2}] * 2, "agent_id": "agent"}
    problem = refused(gateway.post("reservations", twice), 409, "out_of_stock", lines=list)
    assert problem["lines"][0]["requested_quantity"] == 4
    held = done(gateway.post("reservations", {**twice, "lines": [{"sku": sku, "quantity": 1}] * 2}), 201)
    shaped(held, {**SINGLE_LINE, "sku": sku})
    assert held["quantity"] == 2


def test_all_or_nothing_and_only_short_lines_are_listed(gateway: Gateway) -> None:
    plenty, short = gateway.stock(100), gateway.stock(2)
    lines = [{"sku": plenty, "quantity": 1}, {"sku": short, "quantity": 3}]
    answer = gateway.post("reservations", {"lines": lines, "agent_id": "agent"})
    (line,) = refused(answer, 409, "out_of_stock", lines=list)["lines"]
    shaped(line, SHORT_LINE)
    assert (line["sku"], line["requested_quantity"], line["available_quantity"]) == (short, 3, 2)
    assert (line["pressure"], line["advice"]) == ("low", {"action": "give_up"})
    assert balances(gateway, plenty) == (100, 0, 0, 100)
    assert not [entry for sku in (plenty, short) for entry in gateway.entries(sku=sku) if entry["token"]]


@pytest.mark.parametrize(
    ("policy", "advice"),
    [
        ({}, {"action": "give_up"}),
        ({"substitutes": ["B", "C"]}, {"action": "substitute", "alternatives": ["B", "C"]}),
        (
            {"substitutes": ["B"], "next_restock_date": "2030-01-31"},
            {"action": "preorder", "next_restock_date": "2030-01-31"},
        ),
        ({"next_restock_date": "2030-01-31", "backorder_limit": 9}, {"action": "backorder"}),
    ],
)
def test_advice_of_a_refusal(gateway: Gateway, policy: dict[str, object], advice: dict[str, object]) -> None:
    sku = gateway.stock(0, **policy)
    answer = gateway.post("reservations", {"sku": sku, "agent_id": "agent"})
    (line,) = refused(answer, 409, "out_of_stock", lines=list)["lines"]
    assert (line["advice"], line["pressure"]) == (advice, "out")
    assert gateway.availability(sku)["advice"] == advice


def test_a_hold_that_may_end_is_worth_waiting_for(gateway: Gateway) -> None:
    sku = gateway.stock(1, backorder_limit=9)
    held = gateway.reserve(sku, ttl_seconds=30)
    answer = gateway.post("reservations", {"sku": sku, "agent_id": "other"})
    advice = refused(answer, 409, "out_of_stock", lines=list)["lines"][0]["advice"]
    shaped(advice, {"action": "retry_after", "retry_after_ms": int, "next_release_at": held["expires_at"]})
    assert 0 < advice["retry_after_ms"] <= 30_000
    assert gateway.availability(sku)["next_release_at"] == held["expires_at"]


@pytest.mark.parametrize(
    ("units", "pressure"), [(1, "out"), (2, "low"), (6, "low"), (7, "normal"), (100, "normal"), (101, "abundant")]
)
def test_pressure_of_what_is_left(gateway: Gateway, units: int, pressure: str) -> None:
    sku = gateway.stock(units)
    held = gateway.reserve(sku)
    assert held["availability"][0]["pressure"] == gateway.availability(sku)["pressure"] == pressure


def test_backordered_units_are_reviewed_a_day_later(gateway: Gateway) -> None:
    sku = gateway.stock(2, backorder_limit=5)
    held = gateway.reserve(sku, 3, allow_backorder=True)
    assert held["lines"] == [{"sku": sku, "quantity": 3, "backordered": 1}]
    assert seconds_between(held["created_at"], held["review_due_at"]) == 24 * 3600
    found = gateway.availability(sku)
    assert (found["available_quantity"], found["backordered_quantity"], found["is_backorderable"]) == (0, 1, True)
    too_many = {"sku": sku, "quantity": 5, "agent_id": "agent", "allow_backorder": True}
    refused(gateway.post("reservations", too_many), 409, "out_of_stock", lines=list)
    assert gateway.reserve(sku, 4, allow_backorder=True)["lines"][0]["backordered"] == 4
    assert not gateway.availability(sku)["is_backorderable"]


def test_safety_stock_is_not_sold(gateway: Gateway) -> None:
    sku = gateway.stock(10, safety_stock=9)
    refused(gateway.post("reservations", {"sku": sku, "quantity": 2, "agent_id": "a"}), 409, "out_of_stock", lines=list)
    gateway.reserve(sku, 1)


def test_refusals_about_the_sku(gateway: Gateway) -> None:
    sku = gateway.stock(10, max_quantity_per_reservation=2)
    gateway.reserve(sku, 2)
    problem = refused(
        gateway.post("reservations", {"sku": sku, "quantity": 3, "agent_id": "a"}), 422, "quantity_above_limit"
    )
    assert "2" in problem["detail"]
    refused(gateway.post("reservations", {"sku": "nobody told", "agent_id": "a"}), 404, "sku_not_found")


# Verbs, in every state

UNKNOWN = {"token": "0-AAAAAAAAAAAAAAAAAAAAAA"}
# The verbs that take a held reservation there; what has expired has a fixture of its own.
WAYS = {
    "held": (),
    "payment_pending": ("payment",),
    "committed": ("commit",),
    "released": ("release",),
    "cancelled": ("commit", "cancel"),
    "pending_reconciliation": ("commit",),
    "fulfilled": ("commit", "ship"),
}
GONE = "410 reservation_expired"
SOLD = "409 reservation_committed"
NO_SALE = "409 reservation_not_committed"
SHIPPED = "409 reservation_fulfilled"
# state: what read, commit, release, DELETE, extend, payment and cancel come to there
OUTCOMES = {
    "held": ("held", "committed", "released", "released", "held", "payment_pending", NO_SALE),
    "payment_pending": (
        "payment_pending", "committed", "released", "released", "payment_pending", "payment_pending", NO_SALE,
    ),
    "committed": ("committed", "committed", SOLD, SOLD, SOLD, SOLD, "cancelled"),
    "pending_reconciliation": (
        "pending_reconciliation", "pending_reconciliation", SOLD, SOLD, SOLD, SOLD, NO_SALE,
    ),
    "released": (
        "released", "409 reservation_released", "released", "released", "409 reservation_released",
        "409 reservation_released", NO_SALE,
    ),
    "expired": ("expired", GONE, "expired", "expired", GONE, GONE, NO_SALE),
    "cancelled": (
        "cancelled", "409 reservation_cancelled", "409 reservation_cancelled", "409 reservation_cancelled",
        "409 reservation_cancelled", "409 reservation_cancelled", "cancelled",
    ),
    "fulfilled": ("fulfilled", "fulfilled", SHIPPED, SHIPPED, SHIPPED, SHIPPED, SHIPPED),
}  # fmt: skip
CALLS = (
    ("GET", "", None), ("POST", "/commit", None), ("POST", "/release", None), ("DELETE", "", None),
    ("POST", "/extend", {"ttl_seconds": 60}), ("POST", "/payment", None), ("POST", "/cancel", None),
)  # fmt: skip
KEYS_TRIED = 400
MOVES_IN_PLACE = {("held", "/extend"), ("payment_pending", "/extend"), ("payment_pending", "/payment")}


def call(gateway: Gateway, reservation: dict[str, Any], method: str, suffix: str, body: object) -> Any:
    path = f"reservations/{reservation['token']}{suffix}"
    return gateway(method, path) if body is None else gateway(method, path, body)


def ship(gateway: Gateway, reservation: dict[str, Any]) -> Answer:
    """The warehouse ships all of it."""
    lines = [(line["sku"], line["quantity"]) for line in reservation["lines"]]
    return deliver(gateway, "wms", said("ship", *lines, reference=reservation["token"]))


@pytest.fixture(scope="module")
def expired(service: Service) -> dict[str, Any]:
    """A reservation that nobody can wake again."""
    gateway = service.gateway
    held = gateway.reserve(gateway.stock(), ttl_seconds=1)
    eventually(lambda: gateway.read(held)["status"] == "expired")
    return held


@pytest.mark.parametrize(
    ("state", "verb", "outcome"),
    [(state, verb, outcome) for state, row in OUTCOMES.items() for verb, outcome in zip(CALLS, row, strict=True)],
    ids=lambda value: value if isinstance(value, str) else "".join(value[:2]),
)
def test_verb_in_state(
    gateway: Gateway, expired: dict[str, Any], state: str, verb: tuple[str, str, object], outcome: str
) -> None:
    held = expired
    if state != "expired":
        window = {"reconciliation_hold_seconds": 60} if state == "pending_reconciliation" else {}
        held = gateway.reserve(gateway.stock(5, **window), 2)
        for way in WAYS[state]:
            done(ship(gateway, held) if way == "ship" else gateway.verb(held, way))
    before = gateway.entries(token=held["token"])
    answer = call(gateway, held, *verb)
    if outcome[0].isdigit():
        status, _, code = outcome.partition(" ")
        refused(answer, int(status), code)
    else:
        found = done(answer)
        final = {"final_at": TIME} if outcome == "pending_reconciliation" else {}
        shaped(found, {**SINGLE_LINE, **final, "token": held["token"], "status": outcome, "sku": held["sku"]})
        assert found["created_at"] == held["created_at"]
    after = gateway.entries(token=held["token"])
    has_moved = outcome != state and not outcome[0].isdigit()
    assert len(after) - len(before) == (has_moved or (state, verb[1]) in MOVES_IN_PLACE)
    assert gateway.read(held)["status"] == (outcome if has_moved else state)


@pytest.mark.parametrize("verb", CALLS, ids=lambda verb: "".join(verb[:2]))
def test_verb_on_an_unknown_token(gateway: Gateway, verb: tuple[str, str, object]) -> None:
    refused(call(gateway, UNKNOWN, *verb), 404, "reservation_not_found")


def test_a_due_hold_is_back_although_nothing_sweeps(gateway: Gateway) -> None:
    looked_at, reserved, clock = gateway.stock(5), gateway.stock(5), gateway.stock()
    due = [gateway.reserve(sku, 5, ttl_seconds=1) for sku in (looked_at, reserved)]
    eventually(lambda: gateway.availability(clock)["as_of"] >= due[1]["expires_at"])
    gateway.reserve(reserved, 5)
    assert balances(gateway, looked_at) == (5, 0, 0, 5)
    for held in due:
        entry = gateway.entries(token=held["token"])[-1]
        assert (entry["type"], entry["quantity"], entry["available_quantity"]) == ("reservation.expired", 5, 5)
        assert entry["at"] >= held["expires_at"]


# Commit


def test_commit_sells_what_is_held(gateway: Gateway) -> None:
    sku = gateway.stock(5)
    held = gateway.reserve(sku, 2)
    sold = done(gateway.verb(held, "commit", {"order_id": "order-1"}))
    assert (sold["order_id"], sold["quantity"], sold["availability"][0]["available_quantity"]) == ("order-1", 2, 3)
    assert sold["expires_at"] == held["expires_at"]
    assert balances(gateway, sku) == (5, 0, 2, 3)
    again = done(gateway.verb(held, "commit", {"order_id": "order-2", "lines": [{"sku": sku, "quantity": 2}]}))
    assert again == sold, "the order is not compared again"
    refused(gateway.verb(held, "commit", {"lines": [{"sku": sku, "quantity": 1}]}), 409, "reservation_committed")


def test_part_of_a_basket_is_sold_and_the_rest_goes_back(gateway: Gateway) -> None:
    a, b = gateway.stock(5), gateway.stock(5)
    basket = {"lines": [{"sku": a, "quantity": 3}, {"sku": b, "quantity": 2}], "agent_id": "agent"}
    held = done(gateway.post("reservations", basket), 201)
    part = {"lines": [{"sku": a, "quantity": 1}] * 2}
    sold = done(gateway.verb(held, "commit", part))
    assert lines_of(sold) == lines_of(gateway.read(held)) == {a: 2}
    assert sold["sku"] == a
    assert (balances(gateway, a), balances(gateway, b)) == ((5, 0, 2, 3), (5, 0, 0, 5))
    *_, committed, first_back, second_back = gateway.entries(token=held["token"])
    moved = [(entry["type"], entry["sku"], entry["quantity"]) for entry in (committed, first_back, second_back)]
    assert moved == [("reservation.committed", a, 2), ("reservation.released", a, 1), ("reservation.released", b, 2)]
    assert {committed["command_id"], first_back["command_id"], second_back["command_id"]} == {committed["command_id"]}
    assert sold["sequence"] == second_back["sequence"]
    assert done(gateway.verb(held, "commit", part)) == sold
    for other in ({}, {"lines": basket["lines"]}, {"lines": [{"sku": a, "quantity": 1}]}):
        refused(gateway.verb(held, "commit", other), 409, "reservation_committed")


@pytest.mark.parametrize("verb", ["commit", "cancel"])
def test_no_more_than_there_is(gateway: Gateway, verb: str) -> None:
    sku, other = gateway.stock(5), gateway.stock(5)
    held = gateway.reserve(sku, 2)
    if verb == "cancel":
        done(gateway.verb(held, "commit"))
    before = balances(gateway, sku)
    for lines in ([{"sku": sku, "quantity": 3}], [{"sku": sku, "quantity": 2}] * 2, [{"sku": other, "quantity": 1}]):
        refused(gateway.verb(held, verb, {"lines": lines}), 409, "quantity_exceeds_reservation")
    assert balances(gateway, sku) == before


def test_a_reconciliation_window_ends_in_a_sale(gateway: Gateway) -> None:
    sku = gateway.stock(5, reconciliation_hold_seconds=0.2)
    held = gateway.reserve(sku, 2)
    pending = done(gateway.verb(held, "commit"))
    assert pending["final_at"] == pending["expires_at"]
    assert balances(gateway, sku) == (5, 2, 0, 3)
    eventually(lambda: gateway.read(held)["status"] == "committed")
    shaped(gateway.read(held), SINGLE_LINE)
    assert balances(gateway, sku) == (5, 0, 2, 3)
    sale = gateway.entries(token=held["token"])[-1]
    assert sale["type"] == "reservation.committed"
    assert sale["at"] >= pending["final_at"]


def test_a_record_remembers_so_many_keys_and_no_more(gateway: Gateway) -> None:
    held = gateway.reserve(gateway.stock())
    for number in range(KEYS_TRIED):
        answer = gateway.verb(held, "extend", {"ttl_seconds": 1}, idempotency_key=f"key-{number}")
        if answer.status == 429:
            refused(answer, 429, "agent_quota_exceeded")
            break
    else:
        pytest.fail("there is no bound")
    assert number > 200
    known = gateway.verb(held, "extend", {"ttl_seconds": 1}, idempotency_key="key-0")
    assert known.headers["idempotent-replayed"] == "true"
    assert done(gateway.verb(held, "release"))["status"] == "released", "what needs no key is not stopped"


# Extend, payment, cancel


def test_extend_from_now_and_from_the_deadline(gateway: Gateway) -> None:
    held = gateway.reserve(gateway.stock(), ttl_seconds=20)
    assert done(gateway.verb(held, "extend", {"ttl_seconds": 5}))["expires_at"] == held["expires_at"], "never earlier"
    later = done(gateway.verb(held, "extend", {"ttl_seconds": 40.5}))
    assert 0 <= seconds_between(held["created_at"], later["expires_at"]) - 40.5 < 10
    latest = done(gateway.verb(held, "extend", {"additional_seconds": 3}))
    assert seconds_between(later["expires_at"], latest["expires_at"]) == 3
    assert latest["ttl_seconds"] == seconds_between(held["created_at"], latest["expires_at"])
    assert gateway.entries(token=held["token"])[-1]["data"]["expires_at"] == latest["expires_at"]


def test_no_hold_outlives_its_lifetime(gateway: Gateway) -> None:
    held = gateway.reserve(gateway.stock(), ttl_seconds=1700)
    done(gateway.verb(held, "extend", {"additional_seconds": 1800}))
    refused(gateway.verb(held, "extend", {"additional_seconds": 101}), 409, "lifetime_exceeded")
    last = done(gateway.verb(held, "extend", {"additional_seconds": 100}))
    assert last["ttl_seconds"] == 3600
    refused(gateway.verb(held, "extend", {"additional_seconds": 1}), 409, "lifetime_exceeded")
    assert done(gateway.verb(held, "payment", {"ttl_seconds": 1800}))["expires_at"] == last["expires_at"]


def test_a_payment_gives_time_and_never_takes_it(gateway: Gateway) -> None:
    held = gateway.reserve(gateway.stock(), ttl_seconds=20)
    paying = done(gateway.verb(held, "payment"))
    assert 0 <= seconds_between(held["created_at"], paying["expires_at"]) - 120 < 10
    again = done(gateway.verb(held, "payment", {"ttl_seconds": 1}))
    assert (again["status"], again["expires_at"]) == ("payment_pending", paying["expires_at"])
    longer = done(gateway.verb(held, "payment", {"ttl_seconds": 1800}))
    assert longer["expires_at"] > paying["expires_at"]
    assert done(gateway.verb(held, "commit"))["status"] == "committed"


def test_a_payment_that_expires_says_so(gateway: Gateway) -> None:
    held = gateway.reserve(gateway.stock(), ttl_seconds=1)
    done(gateway.verb(held, "payment", {"ttl_seconds": 1}))
    eventually(lambda: gateway.read(held)["status"] == "expired")
    assert gateway.entries(token=held["token"])[-1]["reason"] == "payment_expired"


def test_cancel_in_parts_and_whole(gateway: Gateway) -> None:
    a, b = gateway.stock(5), gateway.stock(5)
    basket = {"lines": [{"sku": a, "quantity": 3}, {"sku": b, "quantity": 2}], "agent_id": "agent"}
    held = done(gateway.post("reservations", basket), 201)
    done(gateway.verb(held, "commit"))
    part = done(gateway.verb(held, "cancel", {"lines": [{"sku": a, "quantity": 1}, {"sku": b, "quantity": 2}]}))
    assert (part["status"], lines_of(part)) == ("committed", {a: 2})
    assert (balances(gateway, a), balances(gateway, b)) == ((5, 0, 2, 3), (5, 0, 0, 5))
    assert done(gateway.verb(held, "commit"))["status"] == "committed", "the sale that it was"
    whole = done(gateway.verb(held, "cancel"))
    assert whole["status"] == "cancelled"
    assert balances(gateway, a) == (5, 0, 0, 5)
    assert done(gateway.verb(held, "cancel")) == whole
