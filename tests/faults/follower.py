"""The oracle led by a ledger: it does what each command's entries say was done, and must come to the same entries.

What was due is settled where the ledger says so, for a command settles only some of it; that it was due is checked.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from app.api.answers import availability_payload, reservation_payload
from app.domain.caps import NO_CAPS, Caps
from app.domain.entries import Entry
from app.domain.outcomes import Done, Held, SkuAnswered
from app.domain.types import Line, Sku, Token
from tests.gateway import Answer
from tests.oracle import Oracle
from tests.oracle_ledger import Limits
from tests.oracle_partition import Request
from tests.oracle_stock import LIVE, OPEN, Record

US = 1_000_000
HOUR_US = 3600 * US
LIMITS = Limits(max_lifetime_us=HOUR_US, retention_us=24 * HOUR_US, committed_retention_us=30 * 24 * HOUR_US)
AS_AT_FIRST = ("token", "lines", "created_at", "expires_at", "sequence")  # in a repeated answer; the rest is of now

Asked = tuple[str, str, Mapping[str, Any], tuple[str, ...]]  # verb, path, body, scope of the key


class Misfit(AssertionError):
    """The ledger, or an answer, is not what the oracle says."""


class Follower(Oracle):
    """Lives through one partition's ledger, a command at a time."""

    def __init__(self, caps: Caps = NO_CAPS) -> None:
        super().__init__(replace(LIMITS, caps=caps))
        self._live: dict[Token, Record] = {}

    def follow(self, command: Sequence[Entry], asked: Asked | None, answers: Iterable[Answer]) -> None:
        """The next command, what was asked for if a client asked, and what it was told. Raises Misfit."""
        head, before = command[0], len(self.ledger)
        self.now_us = head.at_us
        said: dict[str, Any] | None = None
        try:
            if asked:
                said = _payload(self._act(head, *asked))
            else:
                self._settle_as_told(head)
        except (AssertionError, KeyError) as error:
            raise Misfit(f"oracle: it cannot do what entry {head.sequence} says: {error!r}") from error
        for told, expected in zip_longest(command, self.ledger[before:]):
            if told != expected:
                raise Misfit(f"oracle: {told}\n  and not {expected}")
        if head.token:
            self._keep_live(self.records[head.token])
        for answer in answers:
            _compare(answer, said, head)

    def _act(self, head: Entry, verb: str, path: str, body: Mapping[str, Any], scope: tuple[str, ...]) -> object:
        fingerprint, subject = str(head.data["fingerprint"]), path.split("/")[1:2]
        if verb == "reserve":
            lines = [Line(Sku(line["sku"]), line["quantity"]) for line in body["lines"]]
            account = f"agent:{body['agent_id']}"
            request = Request(scope=scope, fingerprint=fingerprint, holder=scope[0], account=account)
            return self.reserve(
                lines, agent_id=body["agent_id"], channel="direct", ttl_us=_us(body), token=Token(str(head.token)),
                allow_backorder=body["allow_backorder"], request=request,
            )  # fmt: skip
        request = Request({}, scope, str(head.data["key"]), fingerprint)
        if verb == "adjust":
            return self._adjust_main(Sku(*subject), body["delta"], body["reason"], request)
        how: dict[str, Any] = {}
        if verb in ("commit", "cancel"):
            how["lines"] = [Line(Sku(line["sku"]), line["quantity"]) for line in body.get("lines", [])]
        if verb == "commit":
            how["order_id"] = body["order_id"]
        elif verb == "payment":
            how["ttl_us"] = _us(body)
        elif verb == "extend":
            how |= {"counted_from": "now", "amount_us": _us(body)}
        outcome: object = getattr(self, verb)(Token(*subject), **how, request=request)
        return outcome

    def _adjust_main(self, sku: Sku, delta: int, reason: str, request: Request) -> object:
        how: dict[str, Any] = {"location_id": "main", "location_kind": "shared", "mode": "delta", "amount": delta}
        return self.adjust(sku, **how, reason=reason, request=request)

    def _settle_as_told(self, head: Entry) -> None:
        """What no client with a key asked for: stock and policy as they were set up, and the end of what was due."""
        if head.type == "sku.updated":
            fields: Any = head.data["policy"]
            policy = {name: int(text) if text.isdigit() else text for name, text in fields.items()}
            self.put_sku(head.sku, policy, may_create=False, request=Request({"policy": fields}))
        elif head.type == "stock.adjusted":
            self._adjust_main(head.sku, head.quantity, head.reason, Request())
        else:
            record = self.records[Token(str(head.token))]
            assert head.type == "reservation.expired", "nobody asked for it"
            assert record.status in OPEN, f"it was {record.status}"
            assert record.deadline_us <= self.now_us, "it was not due"
            self._settle_one(record)

    def _keep_live(self, record: Record) -> None:
        if record.status in LIVE:
            self._live[record.token] = record
        else:
            self._live.pop(record.token, None)

    # The oracle looks through all that there ever was; these find the same in what lives.

    def _due(self, sku: Sku | None = None) -> list[Record]:
        due = [record for record in self._live.values() if record.status in LIVE and record.deadline_us <= self.now_us]
        return [record for record in due if sku in (None, *record.skus)]

    def _settle(self, skus: Iterable[Sku], account: str = "") -> bool:
        return True

    def _open_in(self, account: str) -> list[Record]:
        return [record for record in self._live.values() if record.account == account and record.status in OPEN]

    def _next_release_us(self, sku: Sku) -> int | None:
        holds = [record for record in self._live.values() if record.status in OPEN and sku in record.skus]
        return min((record.deadline_us for record in holds), default=None)


def _us(body: Mapping[str, Any]) -> int:
    return round(float(body["ttl_seconds"]) * US)


def _payload(outcome: object) -> dict[str, Any]:
    """As the gateway shows it; what is no success is no effect either."""
    if isinstance(outcome, Held | Done):
        return reservation_payload(outcome.reservation)
    assert isinstance(outcome, SkuAnswered), f"it is refused: {outcome}"
    return availability_payload(outcome.state)


def _compare(answer: Answer, said: dict[str, Any] | None, head: Entry) -> None:
    assert said is not None
    found = answer.json
    if "idempotent-replayed" not in answer.headers:
        if found != said:
            raise Misfit(f"answer: to entry {head.sequence} {found}\n  and not {said}")
        return
    for name in AS_AT_FIRST if "token" in said else ("sequence",):
        if found[name] != said[name]:
            raise Misfit(f"answer: {name} of a repeated answer to entry {head.sequence} is {found[name]}")
