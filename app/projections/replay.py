"""Replays a partition's ledger: proves every command and keeps the state that they add up to. Pure.

It says a second time, apart from the scripts, what each type of entry does, so that a script that errs is found. An
entry proves itself by arithmetic: the balances before it and its quantity give the balances after it. A command is
judged whole, because only together its entries account for every line of a reservation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from app.domain.entries import Entry
from app.domain.errors import LedgerBroken
from app.domain.types import Line, Policy, Sku, Token
from app.store.commands import SEEN_RETENTION_MS
from app.store.decoding import decode_policy
from app.store.keys import PartitionKeys
from app.store.state import State

OPEN = frozenset({"held", "payment_pending"})
LIVE = OPEN | {"pending_reconciliation"}
# A keyed request may take its token again once the engine has forgotten the record. It keeps one for a day at least,
# by its wall clock; half of that forgives the wall clock's jumps.
TOKEN_REST_US_MIN = 12 * 3600 * 1_000_000


@dataclass(slots=True)
class Stock:
    """A SKU as the entries so far leave it."""

    on_hand: int = 0
    reserved: int = 0
    committed: int = 0
    backordered: int = 0
    safety_stock: int = 0
    sequence: int = 0
    policy: Policy = field(default_factory=Policy)
    policy_fields: dict[str, str] = field(default_factory=dict)
    locations: dict[str, int] = field(default_factory=dict)

    @property
    def available(self) -> int:
        """What may still be promised; negative when more is promised or withheld than there is."""
        return self.on_hand + self.backordered - self.reserved - self.committed - self.safety_stock

    def safety_stock_at(self, on_hand: int) -> int:
        """What the policy withholds of so many units: the larger of its units and its percentage, rounded up."""
        share = -(-max(0, on_hand) * self.policy.safety_stock_basis_points // 10_000)
        return max(self.policy.safety_stock, share)


@dataclass(slots=True)
class Record:
    """A reservation as the entries so far leave it: see lua/includes/reservation.lua."""

    agent_id: str
    channel: str
    details: str
    fingerprint: str
    lines: tuple[Line, ...]
    created_us: int
    expires_us: int
    sequence: int
    status: str = "held"
    remaining: tuple[Line, ...] | None = None
    committed: tuple[Line, ...] | None = None
    last_sequence: int | None = None
    order_id: str | None = None
    first_expires_us: int | None = None
    ended_us: int | None = None
    remembered: dict[str, str] = field(default_factory=dict)

    @property
    def current_lines(self) -> tuple[Line, ...]:
        """What it holds or has sold; of an ended one, what it held or had sold at last."""
        return self.lines if self.remaining is None else self.remaining


class Replay:
    """A fold over the entries of one partition, from the first on. Raises LedgerBroken at the first that lies."""

    def __init__(self, keys: PartitionKeys, *, retention_ms: int) -> None:
        self._keys = keys
        self._retention_us = retention_ms * 1000
        self._command: list[Entry] = []
        self._seen: dict[str, tuple[str, int]] = {}
        self.sequence = 0
        self.at_us = 0
        self.stocks: dict[Sku, Stock] = {}
        self.records: dict[Token, Record] = {}

    def feed(self, entry: Entry) -> None:
        """Takes the next entry. Its command is judged when the next one begins, or at `finish`."""
        _expect(entry, entry.sequence == self.sequence + 1, f"follows sequence {self.sequence}: the ledger has a gap")
        _expect(entry, entry.at_us >= self.at_us, "is earlier than the entry before it")
        if entry.command == entry.sequence:
            self.finish()
        else:
            is_next = bool(self._command) and _command_of(entry) == _command_of(self._command[0])
            _expect(entry, is_next, "does not belong to the command it names")
        self.sequence, self.at_us = entry.sequence, entry.at_us
        self._command.append(entry)

    def finish(self) -> None:
        """Judges the command that is not judged yet: there are no more entries of it."""
        command, self._command = self._command, []
        if not command:
            return
        if command[0].token is not None:
            self._apply_reservation(command[0].token, command)
        else:
            _expect(command[-1], len(command) == 1, "is a second entry of a command on one SKU")
            self._apply_stock(command[0])

    def state(self) -> State:
        """The keys that an engine with this ledger has."""
        keys, state = self._keys, State()
        for sku, stock in self.stocks.items():
            state.hashes[keys.sku(sku)] = _stock_fields(stock)
            if stock.locations:
                state.hashes[keys.locations(sku)] = {name: str(units) for name, units in stock.locations.items()}
        for token, record in self.records.items():
            state.hashes[keys.reservation(token)] = _record_fields(record)
            if record.ended_us is not None:
                state.expires_at_us[keys.reservation(token)] = record.ended_us + self._retention_us
            if record.status in LIVE:
                for key in (keys.deadlines, *(keys.holds(line.sku) for line in record.current_lines)):
                    state.zsets.setdefault(key, {})[token] = str(record.expires_us)
        for key, (text, at_us) in self._seen.items():
            state.strings[key] = text
            state.expires_at_us[key] = at_us + SEEN_RETENTION_MS * 1000
        return state

    def sequence_of(self, key: str) -> int:
        """The last entry about a key; of a key that no entry is about, the last of all."""
        keys = self._keys
        for sku, stock in self.stocks.items():
            if key in (keys.sku(sku), keys.locations(sku), keys.holds(sku)):
                return stock.sequence
        for token, record in self.records.items():
            if key == keys.reservation(token):
                return record.last_sequence or record.sequence
        return self.sequence

    def _apply_stock(self, entry: Entry) -> None:
        stock = self.stocks.setdefault(entry.sku, Stock())
        match entry.type:
            case "stock.adjusted":
                _expect(entry, bool(entry.location_id), "names no location")
                location = entry.location_id or ""
                at_location = stock.locations.get(location, 0) + entry.quantity
                _expect(entry, at_location >= 0 or entry.quantity > 0, f"leaves {at_location} units at {location}")
                stock.locations[location] = at_location
                withheld = {stock.safety_stock_at(entry.on_hand)}
                if entry.quantity <= 0:  # a count reckons anew, a difference downwards does not
                    withheld.add(stock.safety_stock)
            case "sku.updated":
                _expect(entry, entry.quantity == 0, "changes a policy and a quantity")
                stock.policy_fields = _changed_policy(entry, stock.policy_fields)
                stock.policy = decode_policy(stock.policy_fields)
                withheld = {stock.safety_stock_at(entry.on_hand)}
            case _:
                raise LedgerBroken(entry.sequence, f"is of type {entry.type}, which is none of a SKU's")
        _expect(entry, entry.safety_stock in withheld, f"withholds {entry.safety_stock} units, not {min(withheld)}")
        stock.safety_stock = entry.safety_stock or 0
        self._move(entry, on_hand=entry.quantity)
        if key := entry.data.get("key"):
            seen = self._keys.seen("adjustment", str(key))
            self._seen[seen] = (f"{entry.data.get('fingerprint', '')}\t{entry.sequence}", entry.at_us)

    def _apply_reservation(self, token: Token, command: Sequence[Entry]) -> None:
        first, last = command[0], command[-1]
        for entry in command:
            _expect(entry, entry.quantity > 0, f"is about {entry.quantity} units")
        if first.type == "reservation.held":
            self._hold(token, command)
            return
        record = self.records.get(token)
        if record is None:
            raise LedgerBroken(first.sequence, "is about a reservation that never was")
        is_same = (first.agent_id, first.channel) == (record.agent_id, record.channel)
        _expect(first, is_same, "is another agent's or channel's than the reservation")
        deadline_us = record.expires_us
        match first.type:
            case "reservation.extended" | "reservation.payment_pending":
                self._move_deadline(record, command)
            case "reservation.committed" if record.status == "pending_reconciliation":
                self._settle_sale(record, command)
            case "reservation.committed" | "reservation.reconciling":
                self._commit(record, command)
            case "reservation.released" | "reservation.expired":
                self._give_back(record, command)
            case "reservation.cancelled":
                self._cancel(record, command)
            case _:
                raise LedgerBroken(first.sequence, f"is of type {first.type}, which is none of a reservation's")
        _expect(first, first.expires_us == record.expires_us, f"moves the deadline from {deadline_us}")
        record.last_sequence = last.sequence
        if key := first.data.get("key"):
            record.remembered[str(key)] = (
                f"{first.data.get('fingerprint', '')}\t{last.sequence}\t{record.expires_us}\n"
                f"{_format_lines(record.current_lines)}"
            )

    def _hold(self, token: Token, command: Sequence[Entry]) -> None:
        first = command[0]
        earlier = self.records.get(token)
        if earlier is not None:
            is_forgotten = earlier.ended_us is not None and first.at_us - earlier.ended_us >= TOKEN_REST_US_MIN
            _expect(first, is_forgotten, "takes a token that is in use")
        lines: list[Line] = []
        for entry in command:
            _expect(entry, entry.type == first.type, "is no hold, in a command that holds")
            _expect(entry, all(line.sku != entry.sku for line in lines), "holds a SKU for the second time")
            stock = self._stock_of(entry)
            quantity_max = stock.policy.max_quantity_per_reservation or entry.quantity
            _expect(entry, entry.quantity <= quantity_max, f"holds more than {quantity_max} units")
            missing = max(0, entry.quantity - max(0, stock.available))
            is_covered = missing == 0 or missing <= stock.policy.backorder_limit - stock.backordered
            _expect(entry, is_covered, f"holds {missing} units more than are available or may be backordered")
            self._move(entry, reserved=entry.quantity, backordered=missing)
            lines.append(Line(entry.sku, entry.quantity, missing))
        assert first.agent_id is not None
        assert first.channel is not None
        assert first.expires_us is not None
        _expect(first, first.expires_us > first.at_us, "holds until a time that has passed")
        self.records[token] = Record(
            agent_id=first.agent_id,
            channel=first.channel,
            details=msgspec.json.encode(first.data).decode() if first.data else "",
            fingerprint=str(first.data.get("fingerprint", "")),
            lines=tuple(lines),
            created_us=first.at_us,
            expires_us=first.expires_us,
            sequence=command[-1].sequence,
        )

    def _move_deadline(self, record: Record, command: Sequence[Entry]) -> None:
        first = command[0]
        _expect_open(first, record)
        _expect_whole(record, command)
        for entry in command:
            self._move(entry)
        expires_us = first.expires_us or 0
        _expect(first, expires_us >= record.expires_us, "moves the deadline back")
        if record.first_expires_us is None:
            record.first_expires_us = record.expires_us
        record.expires_us = expires_us
        if first.type == "reservation.payment_pending":
            record.status = "payment_pending"

    def _settle_sale(self, record: Record, command: Sequence[Entry]) -> None:
        _expect(command[0], command[0].at_us >= record.expires_us, "ends a reconciliation window before its time")
        _expect_whole(record, command)
        for entry in command:
            self._move(entry, reserved=-entry.quantity, committed=entry.quantity)
        record.status = "committed"

    def _commit(self, record: Record, command: Sequence[Entry]) -> None:
        first = command[0]
        is_sale = first.type == "reservation.committed"
        _expect_open(first, record)
        for line in record.current_lines:
            stock = self.stocks[line.sku]
            shortfall = stock.reserved + stock.committed - stock.on_hand - stock.backordered
            _expect(
                first, shortfall <= 0, f"sells {line.sku}, of which {shortfall} units more are promised than there are"
            )
        sold = {entry.sku: entry.quantity for entry in command if entry.type == first.type}
        unsold = {entry.sku: entry.quantity for entry in command if entry.type == "reservation.released"}
        _expect(command[-1], len(sold) + len(unsold) == len(command), "sells or returns a line twice, or does neither")
        for line in record.current_lines:
            is_conserved = sold.get(line.sku, 0) + unsold.get(line.sku, 0) == line.quantity
            _expect(command[-1], is_conserved, f"does not account for {line.quantity} units of {line.sku}")
        for entry in command:
            backordered = _line_of(record, entry).backordered
            if entry.type == "reservation.released":
                self._move(entry, reserved=-entry.quantity, backordered=-min(backordered, entry.quantity))
            else:
                units = entry.quantity if is_sale else 0
                self._move(entry, reserved=-units, committed=units)
        if unsold:
            kept = (line for line in record.current_lines if line.sku in sold)
            record.remaining = tuple(_reduced(line, unsold.get(line.sku, 0)) for line in kept)
        if not is_sale:
            record.first_expires_us = record.first_expires_us or record.expires_us
            record.expires_us = first.expires_us or 0
            _expect(first, record.expires_us > first.at_us, "opens a reconciliation window that is over")
        record.status = "committed" if is_sale else "pending_reconciliation"
        if order_id := first.data.get("order_id"):
            record.order_id = str(order_id)

    def _give_back(self, record: Record, command: Sequence[Entry]) -> None:
        first = command[0]
        if first.type == "reservation.released":
            _expect_open(first, record)
        else:
            _expect(first, record.status in OPEN, f"expires a reservation that is {record.status}")
            _expect(first, first.at_us >= record.expires_us, "expires a reservation before its deadline")
            is_payment = record.status == "payment_pending"
            _expect(first, (first.reason == "payment_expired") == is_payment, "gives the wrong reason")
        _expect_whole(record, command)
        for entry in command:
            line = _line_of(record, entry)
            self._move(entry, reserved=-line.quantity, backordered=-line.backordered)
        record.status = first.type.removeprefix("reservation.")
        record.ended_us = first.at_us

    def _cancel(self, record: Record, command: Sequence[Entry]) -> None:
        first = command[0]
        _expect(first, record.status == "committed", f"cancels a reservation that is {record.status}")
        cancelled = {entry.sku: entry.quantity for entry in command if entry.type == first.type}
        _expect(command[-1], len(cancelled) == len(command), "cancels a line twice, or does something else besides")
        for entry in command:
            line = _line_of(record, entry)
            _expect(entry, 0 < entry.quantity <= line.quantity, f"cancels {entry.quantity} of {line.quantity} units")
            self._move(entry, committed=-entry.quantity, backordered=-min(line.backordered, entry.quantity))
        reduced = (_reduced(line, cancelled.get(line.sku, 0)) for line in record.current_lines)
        if left := tuple(line for line in reduced if line.quantity):
            record.committed = record.committed or record.current_lines
            record.remaining = left
        else:
            record.status = "cancelled"
            record.ended_us = first.at_us

    def _stock_of(self, entry: Entry) -> Stock:
        stock = self.stocks.get(entry.sku)
        if stock is None:
            raise LedgerBroken(entry.sequence, "is about a SKU that never was")
        return stock

    def _move(
        self, entry: Entry, *, on_hand: int = 0, reserved: int = 0, committed: int = 0, backordered: int = 0
    ) -> None:
        """Changes the balances by that much and expects the entry to say the same."""
        stock = self._stock_of(entry)
        stock.on_hand += on_hand
        stock.reserved += reserved
        stock.committed += committed
        stock.backordered += backordered
        stock.sequence = entry.sequence
        for name in ("on_hand", "reserved", "committed", "backordered"):
            said, reckoned = getattr(entry, name), getattr(stock, name)
            _expect(entry, said == reckoned, f"says that {name} is {said}, but it is {reckoned}")
            _expect(entry, reckoned >= 0 or name == "on_hand", f"leaves {name} at {reckoned}")
        available = max(0, stock.available)
        _expect(entry, entry.available == available, f"says that {entry.available} are available, but {available} are")


def _expect(entry: Entry, is_so: bool, fault: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not is_so:
        raise LedgerBroken(entry.sequence, fault)


def _expect_open(first: Entry, record: Record) -> None:
    """The verb finds the reservation open and in time."""
    _expect(first, record.status in OPEN, f"changes a reservation that is {record.status}")
    _expect(first, first.at_us < record.expires_us, "changes a reservation whose deadline has passed")


def _expect_whole(record: Record, command: Sequence[Entry]) -> None:
    """The command is one entry a line, of one type, each about all of its units."""
    first, lines = command[0], [(line.sku, line.quantity) for line in record.current_lines]
    is_whole = lines == [(entry.sku, entry.quantity) for entry in command if entry.type == first.type]
    _expect(command[-1], is_whole and len(lines) == len(command), "does not account for the lines of the reservation")


def _command_of(entry: Entry) -> tuple[object, ...]:
    """What all entries of a command share."""
    shape = (entry.token, entry.agent_id, entry.channel, entry.expires_us)
    return (entry.command, entry.at_us, *shape, entry.reason, entry.data)


def _line_of(record: Record, entry: Entry) -> Line:
    for line in record.current_lines:
        if line.sku == entry.sku:
            return line
    raise LedgerBroken(entry.sequence, f"is about {entry.sku}, which the reservation does not hold")


def _reduced(line: Line, quantity: int) -> Line:
    """The line without so many units: those promised beyond stock go first."""
    return Line(line.sku, line.quantity - quantity, line.backordered - min(line.backordered, quantity))


def _changed_policy(entry: Entry, fields: dict[str, str]) -> dict[str, str]:
    try:
        changes = msgspec.convert(entry.data["policy"], dict[str, str])
        changed = {name: text for name, text in {**fields, **changes}.items() if text != ""}
        decode_policy(changed)
    except (KeyError, ValueError, msgspec.MsgspecError):
        raise LedgerBroken(entry.sequence, "does not say a policy") from None
    return changed


def _format_lines(lines: Sequence[Line]) -> str:
    return "\n".join(f"{line.sku}\t{line.quantity}\t{line.backordered}" for line in lines)


def _stock_fields(stock: Stock) -> dict[str, str]:
    names = ("on_hand", "reserved", "committed", "backordered", "safety_stock", "sequence")
    return {**{name: str(getattr(stock, name)) for name in names}, **stock.policy_fields}


def _record_fields(record: Record) -> dict[str, str]:
    fields: dict[str, str | None] = {
        "status": record.status,
        "agent": record.agent_id,
        "channel": record.channel,
        "lines": _format_lines(record.lines),
        "created_us": str(record.created_us),
        "expires_us": str(record.expires_us),
        "sequence": str(record.sequence),
        "details": record.details or None,
        "fingerprint": record.fingerprint if record.details else None,
        "remaining_lines": None if record.remaining is None else _format_lines(record.remaining),
        "committed_lines": None if record.committed is None else _format_lines(record.committed),
        "last_sequence": None if record.last_sequence is None else str(record.last_sequence),
        "order_id": record.order_id,
        "first_expires_us": None if record.first_expires_us is None else str(record.first_expires_us),
    }
    remembered = {f"key:{key_hash}": text for key_hash, text in record.remembered.items()}
    return {name: text for name, text in fields.items() if text is not None} | remembered
