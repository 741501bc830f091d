"""What all commands of the model have in common: settling what is due, voiding, what is forgotten, the answers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.domain.callers import Claim
from app.domain.outcomes import Done, IdempotencyConflict, ReservationNotFound, SkuAnswered
from app.domain.types import Line, Remaining, Reservation, Sku, SkuState, Token
from tests.oracle_ledger import DAY_US, ORDER_SALES_KEPT_US, Limits
from tests.oracle_orders import Orders
from tests.oracle_stock import LIVE, OPEN, Order, Record

# How much one call settles, in lines: of what it is about, and of all else.
SETTLED_LINES_MAX = 200
SETTLED_ELSEWHERE_LINES_MAX = 4
VOIDED_LINES_MAX = 200
SEEN_RETENTION_US = 7 * DAY_US

Scope = tuple[str, ...]  # of an Idempotency-Key


@dataclass(frozen=True, slots=True)
class Request:
    """What comes with a command: the caller's words; of an Idempotency-Key the scope, and what the ledger calls it.

    `holder` is whose key a reservation is made with, `account` where it counts; `claim` is whose one must be that is
    named by its token.
    """

    details: Mapping[str, object] = field(default_factory=dict)
    scope: Scope = ()
    key_hash: str = ""
    fingerprint: str = ""
    holder: str = ""
    account: str = ""
    claim: Claim | None = None

    @property
    def data(self) -> dict[str, object]:
        """What the ledger keeps of it."""
        kept = {**self.details, "key": self.key_hash, "fingerprint": self.fingerprint}
        return {name: value for name, value in kept.items() if value != ""}

    def is_good_for(self, record: Record) -> bool:
        """Nobody claims it, or whoever may: where it came with no key, no holder."""
        owners = {"agent": record.agent_id, "holder": record.holder or None}
        return self.claim is None or owners[self.claim.kind] == self.claim.owner


@dataclass(slots=True)
class Expiries:
    """How many holds of one account expired since the first of them, and until when it may hold nothing new."""

    count: int = 0
    since_us: int = 0
    cooling_until_us: int = 0


class Partition(Orders):
    """Settles, voids and forgets; knows repeated requests."""

    def __init__(self, limits: Limits, *, index: int = 0) -> None:
        super().__init__(limits, index=index)
        self.categories: dict[str, dict[str, Any]] = {}
        self._answers: dict[Scope, tuple[str, Reservation]] = {}
        self._stock_answers: dict[Scope, tuple[str, int, int]] = {}
        self._expiries: dict[str, Expiries] = {}
        self._is_clear = True  # of what is due, the SKUs that the last verb was about

    # What is due

    def _due(self, sku: Sku | None = None) -> list[Record]:
        due = [r for r in self.records.values() if r.status in LIVE and r.deadline_us <= self.now_us]
        return sorted((r for r in due if sku in (None, *r.skus)), key=lambda r: (r.deadline_us, r.token))

    def _settle(self, skus: Iterable[Sku], account: str = "") -> bool:
        """What one call settles; False where more may be due on these SKUs, which does not stop a verb."""
        left = SETTLED_LINES_MAX
        for sku, its_account in [*((sku, "") for sku in skus), *([(None, account)] if account else [])]:
            for record in [
                due for due in self._due(sku) if its_account in ("", due.account if due.status in OPEN else "")
            ]:
                if left > 0:
                    left -= len(record.lines)
                    self._settle_one(record)
            if left <= 0:
                return False
        self._settle_elsewhere(SETTLED_ELSEWHERE_LINES_MAX)
        return True

    def _settle_whole(self, sku: Sku) -> None:
        """A call that has more to settle is repeated."""
        while not self._settle([sku]):
            pass

    def _settle_elsewhere(self, lines_max: int) -> int:
        lines = 0
        for record in self._due():
            if lines < lines_max:
                lines += len(record.lines)
                self._settle_one(record)
        return lines

    def _settle_one(self, record: Record) -> None:
        """A due hold goes back; a reconciliation window that is over becomes a sale. A command of its own."""
        self._begin({}, "payment_expired" if record.status == "payment_pending" else "")
        if record.status == "pending_reconciliation":
            news = self._open_order_of(record) if record.is_of_order else None
            for line in record.lines:
                if news:
                    self._sell_to(news, record, line.sku, line.quantity)
                else:
                    self._sell(line.sku, line.quantity)
                self._append(record, "committed", line.sku, line.quantity)
            self._end(record, "committed")
            if news:
                self._close(news)
        else:
            self._common["data"] = self._note_expiry(record)
            self._give_back(record, "expired", record.quantities)
            self._end(record, "expired")

    def _note_expiry(self, record: Record) -> dict[str, object]:
        """The last that may expire in a short time is followed by a pause, after which counting begins anew."""
        caps = self.limits.caps
        if not record.account or caps.expired_holds is None:
            return {}
        noted = self._expiries.setdefault(record.account, Expiries())
        if noted.count == 0 or record.deadline_us >= noted.since_us + caps.cooldown_us:
            noted.count, noted.since_us = 0, record.deadline_us
        noted.count += 1
        if noted.count < caps.expired_holds:
            return {"expired": noted.count, "expired_since_us": noted.since_us}
        noted.count = 0
        noted.cooling_until_us = max(noted.cooling_until_us, record.deadline_us + caps.cooldown_us)
        return {"cooling_until_us": noted.cooling_until_us}

    # What is no longer there

    def _close_shortfall(self, sku: Sku) -> int:
        """Voids whole reservations, as entries of the command in hand, until what is left of them is there.

        Held ones first, then those in their reconciliation window, the newest first; not those that need no stock. What
        is beyond a bound is voided by commands of their own. Returns the SKU's sequence before these.
        """
        stock, lines, sequence = self.skus[sku], 0, 0
        self._go_on("shortfall")
        for status in ("held", "pending_reconciliation"):
            for record in reversed(self.records.values()):
                units = record.quantities.get(sku, 0)
                needs_stock = units > stock.uncovered.get(record, 0)
                if stock.shortfall and record.status == status and needs_stock:
                    if lines + len(record.lines) > VOIDED_LINES_MAX:
                        sequence = sequence or stock.sequence
                        self._begin({}, "shortfall")
                        lines = 0
                    lines += len(record.lines)
                    self._give_back(record, "voided", record.quantities, last=sku)
                    self._end(record, "voided")
        return sequence or stock.sequence

    # What has rested

    def forget(self) -> tuple[list[Record], list[Scope], list[Order]]:
        """Lets go of what has rested: reservations with their answers, answers of commands on SKUs, orders."""
        rested = [r for r in self.records.values() if r.kept_until_us is not None and r.kept_until_us <= self.now_us]
        for record in rested:
            del self.records[record.token]
        self._answers = {scope: kept for scope, kept in self._answers.items() if kept[1].token in self.records}
        stale = [scope for scope, (_, _, until_us) in self._stock_answers.items() if until_us <= self.now_us]
        for scope in stale:
            del self._stock_answers[scope]
        old = [order for order in self.orders.values() if order.at_us + ORDER_SALES_KEPT_US <= self.now_us]
        for order in old:
            del self.orders[order.name]
        return rested, stale, old

    # What the commands are made of

    def _opened(self, token: Token, request: Request) -> Record | ReservationNotFound | IdempotencyConflict | Done:
        """The record, unless there is none, or another's, or the request is a repeated one."""
        record = self.records.get(token)
        if record is None or not request.is_good_for(record):
            return ReservationNotFound()
        self._is_clear = self._settle(record.skus)
        if record in self._due():
            self._settle_one(record)
        if request.scope not in self._answers:
            return record
        fingerprint, first = self._answers[request.scope]
        if fingerprint != request.fingerprint:
            return IdempotencyConflict()
        answer = replace(self._as_at_first(first, record), order_id=record.order_id)
        return Done(answer, is_replayed=True, has_effect=False)

    def _as_at_first(self, first: Reservation, record: Record) -> Reservation:
        return replace(first, status=record.status, remaining=self._remaining(first.lines))

    def _done(self, record: Record, request: Request) -> Done:
        answer = self._answer(record)
        if request.scope:
            self._answers[request.scope] = request.fingerprint, answer
        return Done(answer, is_replayed=False, has_effect=True)

    def _unchanged(self, record: Record) -> Done:
        """It wrote nothing, so nothing is remembered."""
        return Done(self._answer(record), is_replayed=False, has_effect=False)

    def _stock_replayed(self, sku: Sku, request: Request) -> IdempotencyConflict | SkuAnswered | None:
        if request.scope not in self._stock_answers:
            return None
        fingerprint, sequence, _ = self._stock_answers[request.scope]
        if fingerprint != request.fingerprint:
            return IdempotencyConflict()
        return SkuAnswered(replace(self._state(sku), sequence=sequence), is_replayed=True)

    def _stock_done(self, sku: Sku, sequence: int, request: Request) -> SkuAnswered:
        if request.scope:
            until_us = self.now_us + SEEN_RETENTION_US
            self._stock_answers[request.scope] = request.fingerprint, sequence, until_us
        return SkuAnswered(replace(self._state(sku), sequence=sequence))

    # Answers

    def _answer(self, record: Record) -> Reservation:
        return Reservation(
            record.token, record.status, record.agent_id, record.channel, record.order_id, record.details,
            record.created_us, record.deadline_us, record.sequence, self._lines(record), self._remaining(record.lines),
        )  # fmt: skip

    def _lines(self, record: Record) -> tuple[Line, ...]:
        """With what of them no stock covers now."""
        return tuple(replace(n, backordered=self.skus[n.sku].uncovered.get(record, 0)) for n in record.lines)

    def _remaining(self, lines: Iterable[Line]) -> tuple[Remaining, ...]:
        stocks = [(line.sku, self.skus[line.sku]) for line in lines]
        return tuple(Remaining(sku, stock.available, stock.policy.low_stock_threshold) for sku, stock in stocks)

    def _next_release_us(self, sku: Sku) -> int | None:
        """When the next unit may come back: from a hold or a payment, never from a reconciliation window."""
        holds = [record for record in self.records.values() if record.status in OPEN and sku in record.skus]
        return min((record.deadline_us for record in holds), default=None)

    def _state(self, sku: Sku, channel: str = "") -> SkuState:
        stock = self.skus[sku]
        limit = stock.policy.channel_limits.get(channel)
        return SkuState(
            sku=sku, as_of_us=self.now_us, sequence=stock.sequence, on_hand=stock.on_hand, reserved=stock.reserved,
            committed=stock.committed, backordered=stock.backordered, safety_stock=stock.safety_stock,
            available=stock.available, shortfall=stock.shortfall, next_release_us=self._next_release_us(sku),
            locations=stock.locations, policy=stock.policy,
            channel_left=None if limit is None else max(0, limit - stock.promised[channel]),
        )  # fmt: skip
