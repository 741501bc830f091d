"""The checker itself: a history that was, and the same made wrong by hand in every way that it must find."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.api.answers import availability_payload, reservation_payload
from app.domain.entries import Entry
from app.domain.outcomes import Done, Held, OutOfStock, SkuAnswered
from app.domain.types import Line, Sku, Token
from app.store.keys import derived_token, idempotency_hash
from tests.faults.follower import LIMITS
from tests.faults.history import KEYS, Attempt, Call, History, violations
from tests.gateway import JSON, Answer
from tests.oracle import Oracle
from tests.oracle_partition import Request

SECRET = b"a secret"
S = 1_000_000
A = Sku("A")


class Tale:
    """What agents did, second after second, as the oracle tells it; and what it then says they were told."""

    def __init__(self) -> None:
        self.oracle = Oracle(LIMITS)
        self.calls: list[Call] = []
        self.second = 0

    def happen(self, path: str, body: dict[str, Any], key: str, *, method: str = "POST") -> Call:
        """A call that lasts from this second to the next."""
        self.second += 1
        call = Call(0, method, path, body, key)
        self.calls.append(call)
        self.oracle.now_us = self.second * S + S // 2
        status, said = self._act(call)
        self.hear(call, status, said)
        return call

    def hear(self, call: Call, status: int, said: dict[str, Any], **headers: str) -> None:
        answer = Answer(status, {"content-type": JSON, **headers}, json.dumps(said).encode())
        call.attempts.append(Attempt(self.second, self.second + 0.9, answer))

    def _act(self, call: Call) -> tuple[int, dict[str, Any]]:
        outcome = self._outcome(call)
        if isinstance(outcome, OutOfStock):
            rows = [{"sku": row.line.sku, "available_quantity": row.remaining.available} for row in outcome.lines]
            return 409, {"code": "out_of_stock", "lines": rows}
        if isinstance(outcome, Held | Done):
            return 201 if call.verb == "reserve" else 200, reservation_payload(outcome.reservation)
        assert isinstance(outcome, SkuAnswered)
        return 200, availability_payload(outcome.state)

    def _outcome(self, call: Call) -> object:
        if call.verb == "availability":
            return self.oracle.availability(A, channel="")
        name = idempotency_hash(SECRET, *call.scope)
        request = Request({}, call.scope, "" if call.verb == "reserve" else name, "f")
        how: Any = call.body
        if call.verb == "reserve":
            lines = [Line(Sku(line["sku"]), line["quantity"]) for line in how["lines"]]
            return self.oracle.reserve(
                lines, agent_id=how["agent_id"], channel="direct", ttl_us=round(how["ttl_seconds"] * S),
                allow_backorder=False, token=derived_token(KEYS, SECRET, *call.scope), request=request,
            )  # fmt: skip
        if call.verb == "adjust":
            return self.oracle.adjust(
                A, location_id="main", location_kind="shared", mode="delta", amount=how["delta"], reason="found",
                request=request,
            )  # fmt: skip
        done: object = getattr(self.oracle, call.verb)(Token(call.path.split("/")[1]), **how, request=request)
        return done


def tell() -> Tale:
    """Ten units: two are bought, two given back, two forgotten; once there are too few, and once somebody asks."""
    tale = Tale()
    tale.happen("skus/A/adjustments", {"delta": 10, "reason": "found"}, "count")
    bought, returned, _forgotten = (
        tale.happen("reservations", _body(name), name) for name in ("buy", "return", "forget")
    )
    sold = tale.happen(f"reservations/{_token(bought)}/commit", {"order_id": "o"}, "commit")
    tale.hear(sold, 200, _said(sold), **{"idempotent-replayed": "true"})
    tale.happen(f"reservations/{_token(returned)}/release", {}, "release")
    tale.happen("skus/A/availability", {}, "", method="GET")
    tale.happen("reservations", _body("too many", quantity=7), "too many")
    lost = tale.happen("reservations", _body("lost"), "lost")
    lost.attempts[0] = replace(lost.attempts[0], answer=_problem(503, "outcome_unknown"))
    tale.second = 20
    tale.happen("skus/A/availability", {}, "", method="GET")
    return tale


def _body(agent: str, quantity: int = 2) -> dict[str, Any]:
    lines = [{"sku": "A", "quantity": quantity}]
    return {"lines": lines, "agent_id": agent, "ttl_seconds": 9.0, "allow_backorder": False}


def _said(call: Call) -> dict[str, Any]:
    assert call.attempts[0].answer
    found: dict[str, Any] = call.attempts[0].answer.json
    return found


def _token(call: Call) -> str:
    return str(_said(call)["token"])


def _problem(status: int, code: str) -> Answer:
    return Answer(status, {"content-type": JSON}, json.dumps({"code": code}).encode())


# What somebody who cheats would write: calls by their place, entries by their sequence.

Lie = Callable[[Tale, list[Entry]], object]


def answered(place: int, attempt: int = 0, /, **changed: Any) -> Lie:
    """A call was told something else."""

    def lie(tale: Tale, _: list[Entry]) -> None:
        found = tale.calls[place].attempts[attempt]
        assert found.answer
        body = json.dumps({**found.answer.json, **changed}).encode()
        tale.calls[place].attempts[attempt] = replace(found, answer=replace(found.answer, body=body))

    return lie


def answered_with(place: int, status: int, code: str) -> Lie:
    def lie(tale: Tale, _: list[Entry]) -> None:
        tale.calls[place].attempts[:] = [replace(tale.calls[place].attempts[0], answer=_problem(status, code))]

    return lie


def at(place: int, started: float, ended: float) -> Lie:
    """A call was made at another time."""

    def lie(tale: Tale, _: list[Entry]) -> None:
        attempts = tale.calls[place].attempts
        attempts[:] = [replace(attempt, started=started, ended=ended) for attempt in attempts]

    return lie


def written(sequence: int, **changed: Any) -> Lie:
    """An entry says something else."""

    def lie(_: Tale, entries: list[Entry]) -> None:
        entries[sequence - 1] = replace(entries[sequence - 1], **changed)

    return lie


def moved_up(entry: Entry, units: int) -> Entry:
    return replace(entry, sequence=entry.sequence + units, command=entry.command + units)


def untold(sequence: int) -> Lie:
    """An entry never was; those after it move up."""

    def lie(_: Tale, entries: list[Entry]) -> None:
        entries[sequence - 1 :] = [moved_up(entry, -1) for entry in entries[sequence:]]

    return lie


def told_twice(sequence: int) -> Lie:
    """An entry comes again at the end."""

    def lie(_: Tale, entries: list[Entry]) -> None:
        entries.append(moved_up(entries[sequence - 1], len(entries) + 1 - sequence))

    return lie


# Places: 0 count, 1 to 3 reserve, 4 commit, 5 release, 6 look, 7 too many, 8 lost, 9 look.
# Entries: 1 adjusted, 2 to 4 held, 5 committed, 6 released, 7 held (lost), 8 and 9 expired.
LIES: list[tuple[str, Lie]] = [
    ("gap", lambda _, entries: entries.pop(3)),
    ("balance", written(5, available=5)),
    ("balance", written(5, reserved=-1)),
    ("ends", told_twice(5)),
    ("ends", told_twice(8)),
    ("twice", told_twice(2)),
    ("lost", untold(5)),
    ("lost", untold(1)),
    ("sequence", answered(4, sequence=6)),
    ("answer", answered_with(4, 500, "internal_error")),
    ("answer", answered_with(4, 404, "reservation_not_found")),
    ("refused", answered_with(4, 503, "ledger_unavailable")),
    ("refused", answered_with(1, 409, "channel_limit_exceeded")),
    ("ghost", at(4, 0.1, 1.0)),
    ("order", at(4, 8.1, 8.2)),
    ("order", at(2, 1.1, 1.2)),
    ("read", answered(6, available_quantity=7)),
    ("read", at(6, 2.95, 2.99)),
    ("read", at(9, 2.95, 2.99)),
    ("read", answered(7, lines=[{"sku": "A", "available_quantity": 5}])),
    ("answer", answered(4, order_id="another")),
    ("answer", answered(4, 1, token="another")),
    ("answer", answered(0, on_hand_quantity=11)),
    ("oracle", written(2, quantity=1)),
    ("oracle", written(8, at_us=5 * S)),
    ("oracle", written(2, agent_id="another")),
    ("oracle", written(5, data={"key": "nobody's", "fingerprint": "f"})),
]


def test_a_history_that_was_has_no_violations() -> None:
    tale = tell()
    kinds = [entry.type.rpartition(".")[2] for entry in tale.oracle.ledger]
    assert kinds == ["adjusted", "held", "held", "held", "committed", "released", "held", "expired", "expired"]
    assert violations(History(tale.calls, tale.oracle.ledger, SECRET, wall_offset=0)) == []


@pytest.mark.parametrize(("kind", "lie"), LIES, ids=[f"{number}-{kind}" for number, (kind, _) in enumerate(LIES)])
def test_a_history_that_cannot_have_been_is_found_out(kind: str, lie: Lie) -> None:
    tale = tell()
    entries = list(tale.oracle.ledger)
    lie(tale, entries)
    found = violations(History(tale.calls, entries, SECRET, wall_offset=0))
    assert kind in {violation.partition(":")[0] for violation in found}, found
