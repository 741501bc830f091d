"""The contract as a model: what every command must answer, and what the ledger must say after it.

Written from the documents and not from the scripts: integers, dictionaries and sums, no index, no encoding. Nothing
here is random or reads a clock: engine time is set from outside, and a new reservation is given its token.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from app.domain.entries import Entry
from app.domain.outcomes import (
    AboveLimit,
    AdjustOutcome,
    AvailabilityOutcome,
    Done,
    Held,
    IdempotencyConflict,
    LifetimeExceeded,
    OutOfStock,
    PutSkuOutcome,
    QuantityAboveLimit,
    QuantityExceeds,
    ReservationEnded,
    ReservationNotFound,
    ReserveOutcome,
    SequenceMismatch,
    Shortfall,
    ShortLine,
    SkuAnswered,
    SkuNotFound,
    StockBelowZero,
    VerbOutcome,
)
from app.domain.types import Line, Policy, Remaining, Reservation, Sku, SkuState, Token

QUANTITY_MAX = 10**12
# How much is settled of what a command is not about, in lines; what it is about is settled whole.
SETTLED_ELSEWHERE_LINES_MAX = 4
SWEPT_LINES_MAX = 100

OPEN = ("held", "payment_pending")
LIVE = (*OPEN, "pending_reconciliation")


@dataclass(frozen=True, slots=True)
class Request:
    """What comes with a command: the caller's words; of an Idempotency-Key the scope, and what the ledger calls it."""

    details: Mapping[str, object] = field(default_factory=dict)
    scope: tuple[str, ...] = ()
    key_hash: str = ""
    fingerprint: str = ""

    @property
    def data(self) -> dict[str, object]:
        """What the ledger keeps of it."""
        kept = {**self.details, "key": self.key_hash, "fingerprint": self.fingerprint}
        return {name: value for name, value in kept.items() if value != ""}


@dataclass(slots=True)
class Stock:
    """A SKU."""

    locations: dict[str, int] = field(default_factory=dict)
    reserved: int = 0
    committed: int = 0
    backordered: int = 0
    safety_stock: int = 0
    sequence: int = 0
    policy: Policy = field(default_factory=Policy)

    @property
    def on_hand(self) -> int:
        return sum(self.locations.values())

    @property
    def available(self) -> int:
        return max(0, self.on_hand + self.backordered - self.reserved - self.committed - self.safety_stock)

    @property
    def shortfall(self) -> int:
        return max(0, self.reserved + self.committed - self.on_hand - self.backordered)

    def withhold(self) -> None:
        """Safety stock in units: the larger of the policy's units and its percentage of what is on hand, rounded up."""
        percentage = -(-self.on_hand * self.policy.safety_stock_basis_points // 10_000)
        self.safety_stock = max(self.policy.safety_stock, percentage)


@dataclass(slots=True)
class Record:
    """A reservation. `lines` is what is still held or committed, or what it last was; `sold` what was committed."""

    token: Token
    agent_id: str
    channel: str
    details: bytes
    created_us: int
    deadline_us: int
    lines: tuple[Line, ...]
    first_lines: tuple[Line, ...]
    sequence: int = 0
    status: str = "held"
    order_id: str = ""
    sold: Mapping[Sku, int] = field(default_factory=dict)

    @property
    def skus(self) -> list[Sku]:
        return [line.sku for line in self.lines]

    @property
    def quantities(self) -> dict[Sku, int]:
        return {line.sku: line.quantity for line in self.lines}

    def wanted(self, lines: Sequence[Line]) -> dict[Sku, int] | None:
        """These quantities, everything where no line is named; None where it does not hold as much."""
        held = self.quantities
        wanted = {line.sku: line.quantity for line in lines} or held
        return wanted if all(quantity <= held.get(sku, 0) for sku, quantity in wanted.items()) else None


class Oracle:
    """One partition. A command is named as in app.store.commands, takes what it takes, answers what it must answer."""

    def __init__(self, *, max_lifetime_us: int) -> None:
        self.now_us = 0
        self.ledger: list[Entry] = []
        self.skus: dict[Sku, Stock] = {}
        self.records: dict[Token, Record] = {}
        self.answers: dict[tuple[str, ...], tuple[str, Reservation]] = {}
        self.adjustments: dict[tuple[str, ...], tuple[str, int]] = {}
        self._common: dict[str, Any] = {}
        self._max_lifetime_us = max_lifetime_us

    # Commands on reservations

    def reserve(
        self,
        lines: Sequence[Line],
        *,
        agent_id: str,
        channel: str,
        ttl_us: int,
        allow_backorder: bool,
        token: Token,
        request: Request,
    ) -> ReserveOutcome:
        """Each SKU comes once; `token` is used if the units are held now."""
        self._settle(line.sku for line in lines)
        if request.scope in self.answers:
            fingerprint, first = self.answers[request.scope]
            if fingerprint != request.fingerprint:
                return IdempotencyConflict()
            return Held(self._as_at_first(first, self.records[first.token]), is_replayed=True)
        for line in lines:
            if line.sku not in self.skus:
                return SkuNotFound(line.sku)
        for line in lines:
            quantity_max = self.skus[line.sku].policy.max_quantity_per_reservation
            if quantity_max is not None and line.quantity > quantity_max:
                return QuantityAboveLimit(line.sku, quantity_max)
        if short := tuple(self._short_lines(lines, allow_backorder=allow_backorder)):
            return OutOfStock(short, self.now_us)

        available = {line.sku: self.skus[line.sku].available for line in lines}
        held = tuple(Line(n.sku, n.quantity, max(0, n.quantity - available[n.sku])) for n in lines)
        details = msgspec.json.encode(request.data) if request.data else b""
        record = Record(token, agent_id, channel, details, self.now_us, self.now_us + ttl_us, held, held)
        self.records[token] = record
        self._begin(request.data)
        for line in held:
            self.skus[line.sku].reserved += line.quantity
            self.skus[line.sku].backordered += line.backordered
            self._append(record, "held", line.sku, line.quantity)
        return Held(self._done(record, request).reservation, is_replayed=False)

    def _short_lines(self, lines: Sequence[Line], *, allow_backorder: bool) -> Iterator[ShortLine]:
        for line in lines:
            stock = self.skus[line.sku]
            backorder_left = max(0, stock.policy.backorder_limit - stock.backordered)
            if line.quantity > stock.available + (backorder_left if allow_backorder else 0):
                yield ShortLine(
                    line, self._remaining([line])[0], backorder_left, self._next_release_us(line.sku),
                    max(0, stock.on_hand + stock.backordered - stock.committed - stock.safety_stock),
                    stock.policy.next_restock_date, stock.policy.substitutes,
                )  # fmt: skip

    def commit(self, token: Token, *, order_id: str, lines: Sequence[Line] = (), request: Request) -> VerbOutcome:
        record = self._opened(token, request)
        if not isinstance(record, Record):
            return record
        if record.status in ("committed", "pending_reconciliation"):
            asked = {line.sku: line.quantity for line in lines or record.first_lines}
            return self._unchanged(record) if asked == record.sold else ReservationEnded(self._answer(record))
        if record.status not in OPEN:
            return ReservationEnded(self._answer(record))
        wanted = record.wanted(lines)
        if wanted is None:
            return QuantityExceeds()
        if any(self.skus[sku].shortfall for sku in record.skus):
            return Shortfall()

        window_us = max(self.skus[sku].policy.reconciliation_hold_us for sku in wanted)
        if window_us:
            record.deadline_us = self.now_us + window_us
        unsold = {sku: quantity - wanted.get(sku, 0) for sku, quantity in record.quantities.items()}
        self._begin({**request.data, "order_id": order_id} if order_id else request.data)
        for sku in record.skus:
            if sku in wanted:
                if not window_us:
                    self._sell(sku, wanted[sku])
                self._append(record, "reconciling" if window_us else "committed", sku, wanted[sku])
        self._give_back(record, "released", unsold)
        record.status = "pending_reconciliation" if window_us else "committed"
        record.order_id, record.sold = order_id, wanted
        return self._done(record, request)

    def release(self, token: Token, *, request: Request) -> VerbOutcome:
        record = self._opened(token, request)
        if not isinstance(record, Record):
            return record
        if record.status in ("released", "expired"):
            return self._unchanged(record)
        if record.status not in OPEN:
            return ReservationEnded(self._answer(record))
        self._begin(request.data)
        self._give_back(record, "released", record.quantities)
        record.status = "released"
        return self._done(record, request)

    def cancel(self, token: Token, *, lines: Sequence[Line] = (), request: Request) -> VerbOutcome:
        record = self._opened(token, request)
        if not isinstance(record, Record):
            return record
        if record.status == "cancelled" and not lines:
            return self._unchanged(record)
        if record.status != "committed":
            return ReservationEnded(self._answer(record))
        wanted = record.wanted(lines)
        if wanted is None:
            return QuantityExceeds()
        record.status = "cancelled" if wanted == record.quantities else "committed"
        self._begin(request.data)
        self._give_back(record, "cancelled", wanted)
        return self._done(record, request)

    def extend(
        self, token: Token, *, counted_from: Literal["now", "deadline"], amount_us: int, request: Request
    ) -> VerbOutcome:
        return self._move_deadline(token, None, counted_from, amount_us, request)

    def payment(self, token: Token, *, ttl_us: int, request: Request) -> VerbOutcome:
        return self._move_deadline(token, "payment_pending", "now", ttl_us, request)

    def _move_deadline(
        self, token: Token, status: str | None, counted_from: str, amount_us: int, request: Request
    ) -> VerbOutcome:
        record = self._opened(token, request)
        if not isinstance(record, Record):
            return record
        if record.status not in OPEN:
            return ReservationEnded(self._answer(record))
        start_us = self.now_us if counted_from == "now" else record.deadline_us
        deadline_us = max(record.deadline_us, start_us + amount_us)
        if deadline_us > record.created_us + self._max_lifetime_us:
            return LifetimeExceeded()
        record.deadline_us, record.status = deadline_us, status or record.status
        self._begin(request.data)
        for line in record.lines:
            self._append(record, status or "extended", line.sku, line.quantity)
        return self._done(record, request)

    def read(self, token: Token) -> VerbOutcome:
        record = self._opened(token, Request())
        return self._unchanged(record) if isinstance(record, Record) else record

    def expire(self) -> tuple[int, int | None]:
        """A sweep: the lines that it settled, and the next deadline."""
        lines = self._settle_elsewhere(SWEPT_LINES_MAX)
        live = [record.deadline_us for record in self.records.values() if record.status in LIVE]
        return lines, min(live, default=None)

    # Commands on SKUs

    def adjust(
        self,
        sku: Sku,
        *,
        location_id: str,
        mode: Literal["delta", "count"],
        amount: int,
        reason: str,
        expected_sequence: str = "",
        request: Request,
    ) -> AdjustOutcome:
        self._settle([sku])
        if request.scope in self.adjustments:
            fingerprint, sequence = self.adjustments[request.scope]
            if fingerprint != request.fingerprint:
                return IdempotencyConflict()
            return SkuAnswered(replace(self._state(sku), sequence=sequence), is_replayed=True)
        if mismatch := self._mismatch(sku, expected_sequence):
            return mismatch
        stock = self.skus.get(sku) or Stock()
        before = stock.locations.get(location_id, 0)
        change = amount if mode == "delta" else amount - before
        if before + change < 0:
            return StockBelowZero()
        if stock.on_hand + change > QUANTITY_MAX:
            return AboveLimit()

        self.skus[sku] = stock
        stock.locations[location_id] = before + change
        if mode == "count" or change > 0:
            stock.withhold()
        self._begin(request.data, reason)
        shape = {"location_id": location_id, "source": "operator", "safety_stock": stock.safety_stock}
        self._append_entry("stock.adjusted", sku, change, **shape)
        if request.scope:
            self.adjustments[request.scope] = request.fingerprint, stock.sequence
        return SkuAnswered(self._state(sku))

    def put_sku(
        self, sku: Sku, policy: Mapping[str, Any], *, may_create: bool, expected_sequence: str = "", request: Request
    ) -> PutSkuOutcome:
        """`policy` holds the attributes of a Policy that change."""
        self._settle([sku])
        if mismatch := self._mismatch(sku, expected_sequence):
            return mismatch
        is_new = sku not in self.skus
        if is_new and not may_create:
            return SkuNotFound(sku)
        stock = self.skus.setdefault(sku, Stock())
        stock.policy = replace(stock.policy, **policy)
        stock.withhold()
        self._begin(request.data)
        self._append_entry("sku.updated", sku, 0, source="operator", safety_stock=stock.safety_stock)
        return SkuAnswered(self._state(sku), is_created=is_new)

    def availability(self, sku: Sku) -> AvailabilityOutcome:
        self._settle([sku])
        return SkuAnswered(self._state(sku)) if sku in self.skus else SkuNotFound(sku)

    def _mismatch(self, sku: Sku, expected_sequence: str) -> SequenceMismatch | None:
        """Where If-Match does not hold; of a SKU that does not exist, whose sequence is 0, it never does."""
        sequence = self.skus[sku].sequence if sku in self.skus else 0
        holds = expected_sequence == "" or (sequence > 0 and expected_sequence in ("*", str(sequence)))
        return None if holds else SequenceMismatch(sequence)

    # What is due

    def _due(self, sku: Sku | None = None) -> list[Record]:
        due = [r for r in self.records.values() if r.status in LIVE and r.deadline_us <= self.now_us]
        return sorted((r for r in due if sku in (None, *r.skus)), key=lambda r: (r.deadline_us, r.token))

    def _settle(self, skus: Iterable[Sku]) -> None:
        for sku in skus:
            for record in self._due(sku):
                self._settle_one(record)
        self._settle_elsewhere(SETTLED_ELSEWHERE_LINES_MAX)

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
            record.status = "committed"
            for line in record.lines:
                self._sell(line.sku, line.quantity)
                self._append(record, "committed", line.sku, line.quantity)
        else:
            record.status = "expired"
            self._give_back(record, "expired", record.quantities)

    # What the commands are made of

    def _opened(self, token: Token, request: Request) -> Record | ReservationNotFound | IdempotencyConflict | Done:
        """The record, unless there is none or the request is a repeated one."""
        record = self.records.get(token)
        if record is None:
            return ReservationNotFound()
        self._settle(record.skus)
        if request.scope not in self.answers:
            return record
        fingerprint, first = self.answers[request.scope]
        if fingerprint != request.fingerprint:
            return IdempotencyConflict()
        answer = replace(self._as_at_first(first, record), order_id=record.order_id)
        return Done(answer, is_replayed=True, has_effect=False)

    def _as_at_first(self, first: Reservation, record: Record) -> Reservation:
        return replace(first, status=record.status, remaining=self._remaining(first.lines))

    def _done(self, record: Record, request: Request) -> Done:
        answer = self._answer(record)
        if request.scope:
            self.answers[request.scope] = request.fingerprint, answer
        return Done(answer, is_replayed=False, has_effect=True)

    def _unchanged(self, record: Record) -> Done:
        """It wrote nothing, so nothing is remembered."""
        return Done(self._answer(record), is_replayed=False, has_effect=False)

    def _sell(self, sku: Sku, quantity: int) -> None:
        self.skus[sku].reserved -= quantity
        self.skus[sku].committed += quantity

    def _give_back(self, record: Record, kind: str, quantities: Mapping[Sku, int]) -> None:
        """Units go back, first those that were promised beyond stock; the record keeps the rest, if any is left."""
        left = []
        for line in record.lines:
            quantity = quantities.get(line.sku, 0)
            backordered, stock = min(line.backordered, quantity), self.skus[line.sku]
            if quantity:
                stock.committed -= quantity if kind == "cancelled" else 0
                stock.reserved -= quantity if kind != "cancelled" else 0
                stock.backordered -= backordered
                self._append(record, kind, line.sku, quantity)
            if quantity < line.quantity:
                left.append(Line(line.sku, line.quantity - quantity, line.backordered - backordered))
        record.lines = tuple(left) or record.lines

    def _begin(self, data: Mapping[str, object], reason: str = "") -> None:
        """What all entries of a command have in common."""
        command = len(self.ledger) + 1
        self._common = {"partition": 0, "command": command, "at_us": self.now_us, "data": data, "reason": reason}

    def _append(self, record: Record, kind: str, sku: Sku, quantity: int) -> None:
        record.sequence = len(self.ledger) + 1
        self._append_entry(
            f"reservation.{kind}", sku, quantity, token=record.token, agent_id=record.agent_id,
            channel=record.channel, expires_us=record.deadline_us,
        )  # fmt: skip

    def _append_entry(self, kind: str, sku: Sku, quantity: int, **shape: Any) -> None:
        stock = self.skus[sku]
        stock.sequence = len(self.ledger) + 1
        entry = Entry(
            **self._common, **shape, sequence=stock.sequence, type=kind, sku=sku, quantity=quantity,
            on_hand=stock.on_hand, reserved=stock.reserved, committed=stock.committed,
            backordered=stock.backordered, available=stock.available,
        )  # fmt: skip
        self.ledger.append(entry)

    # Answers

    def _answer(self, record: Record) -> Reservation:
        return Reservation(
            record.token, record.status, record.agent_id, record.channel, record.order_id, record.details,
            record.created_us, record.deadline_us, record.sequence, record.lines, self._remaining(record.lines),
        )  # fmt: skip

    def _remaining(self, lines: Iterable[Line]) -> tuple[Remaining, ...]:
        stocks = [(line.sku, self.skus[line.sku]) for line in lines]
        return tuple(Remaining(sku, stock.available, stock.policy.low_stock_threshold) for sku, stock in stocks)

    def _next_release_us(self, sku: Sku) -> int | None:
        """When the next unit may come back: from a hold or a payment, never from a reconciliation window."""
        holds = [record for record in self.records.values() if record.status in OPEN and sku in record.skus]
        return min((record.deadline_us for record in holds), default=None)

    def _state(self, sku: Sku) -> SkuState:
        stock = self.skus[sku]
        return SkuState(
            sku=sku, as_of_us=self.now_us, sequence=stock.sequence, on_hand=stock.on_hand, reserved=stock.reserved,
            committed=stock.committed, backordered=stock.backordered, safety_stock=stock.safety_stock,
            available=stock.available, shortfall=stock.shortfall, next_release_us=self._next_release_us(sku),
            locations=tuple(sorted(stock.locations.items())), policy=stock.policy,
        )  # fmt: skip
