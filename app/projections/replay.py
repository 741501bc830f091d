"""Replays a partition's ledger: proves every command and keeps the state that they add up to. Pure.

It says a second time, apart from the scripts, what each type of entry does, so that a script that errs is found. An
entry proves itself by arithmetic: the balances before it and its quantity give the balances after it. A command is
judged whole, because only together its entries account for every line of a reservation.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import msgspec

from app.domain.entries import Entry
from app.domain.errors import LedgerBroken
from app.domain.types import Allocation, Line, Sku, Token
from app.projections.replayed import OPEN, Backorder, Place, Record, Stock, format_lines, put_record, put_stock
from app.store.commands import SEEN_RETENTION_MS
from app.store.decoding import POLICY_FIELDS, decode_policy
from app.store.keys import PartitionKeys
from app.store.state import State

# A keyed request may take its token again once the engine has forgotten the record. It keeps one for a day at least,
# by its wall clock; half of that forgives the wall clock's jumps.
TOKEN_REST_US_MIN = 12 * 3600 * 1_000_000


class Replay:
    """A fold over the entries of one partition, from the first on. Raises LedgerBroken at the first that lies."""

    def __init__(self, keys: PartitionKeys, *, retention_ms: int, committed_retention_ms: int) -> None:
        self._keys = keys
        self._retention_us = retention_ms * 1000
        self._committed_retention_us = committed_retention_ms * 1000
        self._command: list[Entry] = []
        self._seen: dict[str, tuple[str, int]] = {}
        self.sequence = 0
        self.at_us = 0
        self.stocks: dict[Sku, Stock] = {}
        self.records: dict[Token, Record] = {}
        self.categories: dict[str, dict[str, str]] = {}

    def feed(self, entry: Entry) -> None:
        """Takes the next entry. Its command is judged when the next one begins, or at `finish`."""
        _expect(entry, entry.sequence == self.sequence + 1, f"follows sequence {self.sequence}: the ledger has a gap")
        _expect(entry, entry.at_us >= self.at_us, "is earlier than the entry before it")
        if entry.command == entry.sequence:
            self.finish()
        else:
            is_next = bool(self._command) and _follows(entry, self._command[-1])
            _expect(entry, is_next, "does not belong to the command it names")
        self.sequence, self.at_us = entry.sequence, entry.at_us
        self._command.append(entry)

    def finish(self) -> None:
        """Judges the command that is not judged yet: there are no more entries of it."""
        command, self._command = self._command, []
        if not command:
            return
        groups = [(token, list(entries)) for token, entries in groupby(command, lambda entry: entry.token)]
        for token, entries in groups:
            is_of_one = entries[-1].sku == groups[0][1][-1].sku
            _expect(entries[-1], is_of_one, "voids for another SKU than its command is about")
            if token is not None:
                self._apply_reservation(token, entries)
            else:
                self._apply_stock(entries)

    def state(self) -> State:
        """The keys that an engine with this ledger has."""
        keys, state = self._keys, State()
        for sku, stock in self.stocks.items():
            put_stock(state, keys, sku, stock)
        for category, fields in self.categories.items():
            if fields:
                state.hashes[keys.category(category)] = fields
        for token, record in self.records.items():
            kept_us = self._committed_retention_us if record.status == "committed" else self._retention_us
            put_record(state, keys, token, record, kept_us=kept_us)
        for key, (text, at_us) in self._seen.items():
            state.strings[key] = text
            state.expires_at_us[key] = at_us + SEEN_RETENTION_MS * 1000
        return state

    def sequence_of(self, key: str) -> int:
        """The last entry about a key; of a key that no entry is about, the last of all."""
        keys = self._keys
        for sku, stock in self.stocks.items():
            if key in (
                keys.sku(sku), keys.locations(sku), keys.holds(sku), keys.backorders(sku), keys.backorder_queue(sku)
            ):  # fmt: skip
                return stock.sequence
        for token, record in self.records.items():
            if key == keys.reservation(token):
                return record.last_sequence or record.sequence
        return self.sequence

    def _apply_stock(self, command: Sequence[Entry]) -> None:
        first = command[0]
        match first.type:
            case "stock.adjusted":
                _expect_one(command)
                self._change_stock(first, is_count_possible=True)
            case "stock.transferred":
                _expect_transfer(command)
                for entry in command:
                    self._change_stock(entry, is_count_possible=False)
            case "sku.updated":
                _expect_one(command)
                self._change_policy(first)
            case "category.updated":
                _expect_one(command)
                self._change_category(first)
            case _:
                raise LedgerBroken(first.sequence, f"is of type {first.type}, which is none of a SKU's")
        if key := first.data.get("key"):
            seen = self._keys.seen("adjustment", str(key))
            self._seen[seen] = (f"{first.data.get('fingerprint', '')}\t{self.sequence}", first.at_us)

    def _change_stock(self, entry: Entry, *, is_count_possible: bool) -> None:
        stock = self.stocks.setdefault(entry.sku, Stock())
        is_location = bool(entry.location_id) and entry.location_kind in {"shared", "dedicated"}
        _expect(entry, is_location, "names no location")
        is_shared = entry.location_kind == "shared"
        place = stock.locations.setdefault(entry.location_id or "", Place(is_shared))
        _expect(
            entry, place.is_shared == is_shared, f"says that the location is {entry.location_kind}, which it is not"
        )
        place.on_hand += entry.quantity
        _expect(entry, place.on_hand >= 0 or entry.quantity > 0, f"leaves {place.on_hand} units at {entry.location_id}")
        withheld = {stock.safety_stock}
        if is_shared and is_count_possible:  # a count reckons anew, a difference downwards does not
            at_entry = stock.safety_stock_at(entry.on_hand)
            withheld = {at_entry} if entry.quantity > 0 else {at_entry, stock.safety_stock}
        self._withhold(entry, stock, withheld)
        self._move(entry, on_hand=entry.quantity if is_shared else 0)

    def _change_policy(self, entry: Entry) -> None:
        stock = self.stocks.setdefault(entry.sku, Stock())
        _expect(entry, entry.quantity == 0, "changes a policy and a quantity")
        changes = _policy_of(entry)
        kept = {name: text for name, text in stock.policy_fields.items() if name not in stock.inherited}
        own = {name: text for name, text in {**kept, **changes}.items() if text != ""}
        defaults = self.categories.get(own.get("category", ""), {})
        stock.inherited = tuple(name for name in POLICY_FIELDS if name in defaults and name not in own)
        stock.policy_fields = {**defaults, **own}
        stock.policy = decode_policy(stock.policy_fields)
        self._withhold(entry, stock, {stock.safety_stock_at(entry.on_hand)})
        self._move(entry)

    def _change_category(self, entry: Entry) -> None:
        _expect(entry, entry.sku == "", "is of a category and of a SKU")
        self._withhold(entry, Stock(), {0})
        is_none = not any((entry.quantity, entry.on_hand, entry.reserved, entry.committed, entry.backordered))
        _expect(entry, is_none and entry.available == 0, "is of a category and has units")
        fields = {name: text for name, text in _policy_of(entry).items() if text != ""}
        self.categories[str(entry.data.get("category"))] = fields

    def _withhold(self, entry: Entry, stock: Stock, withheld: set[int]) -> None:
        _expect(entry, entry.safety_stock in withheld, f"withholds {entry.safety_stock} units, not {min(withheld)}")
        stock.safety_stock = entry.safety_stock or 0

    def _apply_reservation(self, token: Token, command: Sequence[Entry]) -> None:
        first, last = command[0], command[-1]
        for entry in command:
            is_signed = entry.type == "stock.allocated"
            _expect(entry, entry.quantity > 0 or is_signed, f"is about {entry.quantity} units")
        if first.type == "reservation.held":
            self._hold(token, command)
            return
        record = self.records.get(token)
        if record is None:
            raise LedgerBroken(first.sequence, "is about a reservation that never was")
        is_same = (first.agent_id, first.channel) == (record.agent_id, record.channel)
        _expect(first, is_same, "is another agent's or channel's than the reservation")
        deadline_us = record.expires_us
        self._apply_verb(token, record, command)
        _expect(first, first.expires_us == record.expires_us, f"moves the deadline from {deadline_us}")
        record.last_sequence = last.sequence
        if key := first.data.get("key"):
            record.remembered[str(key)] = (
                f"{first.data.get('fingerprint', '')}\t{last.sequence}\t{record.expires_us}\n"
                f"{format_lines(self._lines_now(token, record))}"
            )

    def _apply_verb(self, token: Token, record: Record, command: Sequence[Entry]) -> None:
        first = command[0]
        match first.type:
            case "reservation.extended" | "reservation.payment_pending":
                self._move_deadline(record, command)
            case "reservation.committed" if record.status == "pending_reconciliation":
                self._settle_sale(record, command)
            case "reservation.committed" | "reservation.reconciling":
                self._commit(token, record, command)
            case "reservation.released" | "reservation.expired" | "reservation.voided":
                self._give_back(token, record, command)
            case "reservation.cancelled":
                self._cancel(token, record, command)
            case "stock.allocated":
                self._allocate(record, command)
            case _:
                raise LedgerBroken(first.sequence, f"is of type {first.type}, which is none of a reservation's")

    def _hold(self, token: Token, command: Sequence[Entry]) -> None:
        first = command[0]
        earlier = self.records.get(token)
        if earlier is not None:
            rests_since_us = earlier.rests_since_us
            is_forgotten = rests_since_us is not None and first.at_us - rests_since_us >= TOKEN_REST_US_MIN
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
            if missing:
                stock.backorders[token] = Backorder(missing, entry.sequence)
            self._move(entry, reserved=entry.quantity, backordered=missing)
            limit = stock.policy.channel_limits.get(entry.channel or "")
            has = stock.promised.get(entry.channel or "", 0)
            _expect(entry, limit is None or has <= limit, f"gives the channel {has} units, more than its limit {limit}")
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
        record.rests_since_us = command[0].at_us

    def _commit(self, token: Token, record: Record, command: Sequence[Entry]) -> None:
        first = command[0]
        is_sale = first.type == "reservation.committed"
        _expect_open(first, record)
        sold = {entry.sku: entry.quantity for entry in command if entry.type == first.type}
        unsold = {entry.sku: entry.quantity for entry in command if entry.type == "reservation.released"}
        _expect(command[-1], len(sold) + len(unsold) == len(command), "sells or returns a line twice, or does neither")
        for line in record.current_lines:
            is_conserved = sold.get(line.sku, 0) + unsold.get(line.sku, 0) == line.quantity
            _expect(command[-1], is_conserved, f"does not account for {line.quantity} units of {line.sku}")
            shortfall = self.stocks[line.sku].shortfall if line.sku in sold else 0
            _expect(
                first, shortfall == 0, f"sells {line.sku}, of which {shortfall} units more are promised than there are"
            )
        before = self._lines_now(token, record)
        for entry in command:
            if entry.type == "reservation.released":
                self._return(token, entry, reserved=-entry.quantity)
            else:
                units = entry.quantity if is_sale else 0
                self._move(entry, reserved=-units, committed=units)
        if unsold:
            kept = (line for line in before if line.sku in sold)
            record.remaining = tuple(_reduced(line, unsold.get(line.sku, 0)) for line in kept)
        if not is_sale:
            record.first_expires_us = record.first_expires_us or record.expires_us
            record.expires_us = first.expires_us or 0
            _expect(first, record.expires_us > first.at_us, "opens a reconciliation window that is over")
        else:
            record.rests_since_us = first.at_us
        record.status = "committed" if is_sale else "pending_reconciliation"
        if order_id := first.data.get("order_id"):
            record.order_id = str(order_id)

    def _give_back(self, token: Token, record: Record, command: Sequence[Entry]) -> None:
        first = command[0]
        if first.type == "reservation.released":
            _expect_open(first, record)
        elif first.type == "reservation.voided":
            self._expect_shortfall(token, record, command)
        else:
            _expect(first, record.status in OPEN, f"expires a reservation that is {record.status}")
            _expect(first, first.at_us >= record.expires_us, "expires a reservation before its deadline")
            is_payment = record.status == "payment_pending"
            _expect(first, (first.reason == "payment_expired") == is_payment, "gives the wrong reason")
        _expect_whole(record, command)
        for entry in command:
            self._return(token, entry, reserved=-entry.quantity)
        record.status = first.type.removeprefix("reservation.")
        record.rests_since_us = first.at_us

    def _expect_shortfall(self, token: Token, record: Record, command: Sequence[Entry]) -> None:
        """The SKU of the last entry is short, and the reservation may be voided for it."""
        first, last = command[0], command[-1]
        is_voidable = record.status in {"held", "pending_reconciliation"} and first.reason == "shortfall"
        _expect(first, is_voidable, f"voids a reservation that is {record.status}")
        _expect(first, first.at_us < record.expires_us, "voids a reservation whose deadline has passed")
        if first.data.get("parted"):  # the SKU that was short is in another partition since a rebuild
            return
        stock = self._stock_of(last)
        _expect(last, stock.shortfall > 0, "voids a reservation without a shortfall")
        needs_stock = stock.backordered_of(token) < last.quantity
        _expect(last, needs_stock, "voids a reservation that needs no stock")

    def _cancel(self, token: Token, record: Record, command: Sequence[Entry]) -> None:
        first = command[0]
        _expect(first, record.status == "committed", f"cancels a reservation that is {record.status}")
        cancelled = {entry.sku: entry.quantity for entry in command if entry.type == first.type}
        _expect(command[-1], len(cancelled) == len(command), "cancels a line twice, or does something else besides")
        before = self._lines_now(token, record)
        for entry in command:
            line = _line_of(record, entry)
            _expect(entry, 0 < entry.quantity <= line.quantity, f"cancels {entry.quantity} of {line.quantity} units")
            self._return(token, entry, committed=-entry.quantity)
        reduced = [_reduced(line, cancelled.get(line.sku, 0)) for line in before]
        self._trim_allocations(record, {line.sku: line.quantity for line in reduced})
        if left := tuple(line for line in reduced if line.quantity):
            record.committed = record.committed or record.current_lines
            record.remaining = left
        else:
            record.status = "cancelled"
            record.rests_since_us = first.at_us

    def _allocate(self, record: Record, command: Sequence[Entry]) -> None:
        first = command[0]
        _expect(first, record.status == "committed", f"allocates units of a reservation that is {record.status}")
        try:
            rows = msgspec.convert(first.data["allocations"], list[tuple[Sku, str, int]])
        except (KeyError, msgspec.ValidationError):
            raise LedgerBroken(first.sequence, "does not say what it allocates") from None
        named = {sku for sku, _, _ in rows}
        decided = [
            *(each for each in record.allocations if each.sku not in named),
            *(Allocation(sku, location_id, quantity) for sku, location_id, quantity in rows),
        ]
        change: Counter[tuple[Sku, str]] = Counter()
        for each in decided:
            change[each.sku, each.location_id] += each.quantity
        for each in record.allocations:
            change[each.sku, each.location_id] -= each.quantity
        said = {(entry.sku, entry.location_id or ""): entry.quantity for entry in command}
        is_whole = len(said) == len(command) and all(entry.type == first.type for entry in command)
        is_said = is_whole and said == {at: units for at, units in change.items() if units}
        _expect(command[-1], is_said, "allocates something else than it says")
        for line in record.current_lines:
            units = sum(each.quantity for each in decided if each.sku == line.sku)
            _expect(command[-1], units <= line.quantity, f"allocates {units} of {line.quantity} units of {line.sku}")
        for entry in command:
            line = _line_of(record, entry)
            place = self.stocks[line.sku].locations.get(entry.location_id or "", Place(is_shared=False))
            place.allocated += entry.quantity
            is_there = entry.quantity < 0 or (place.is_shared and place.allocated <= place.on_hand)
            _expect(entry, is_there, f"allocates units that {entry.location_id} has not")
            self._move(entry)
        record.allocations = tuple(decided)

    def _trim_allocations(self, record: Record, left: dict[Sku, int]) -> None:
        """Takes from the allocations, the last first, what the lines no longer hold."""
        kept = []
        for each in record.allocations:
            quantity = min(each.quantity, left.get(each.sku, 0))
            left[each.sku] = left.get(each.sku, 0) - quantity
            self.stocks[each.sku].locations[each.location_id].allocated -= each.quantity - quantity
            if quantity:
                kept.append(replace(each, quantity=quantity))
        record.allocations = tuple(kept)

    def _lines_now(self, token: Token, record: Record) -> tuple[Line, ...]:
        """What a reservation holds or has sold, with what of it no stock covers yet."""
        return tuple(
            replace(line, backordered=self.stocks[line.sku].backordered_of(token)) for line in record.current_lines
        )

    def _return(self, token: Token, entry: Entry, *, reserved: int = 0, committed: int = 0) -> None:
        """Units come back: those promised beyond stock first."""
        stock = self._stock_of(entry)
        returned = min(stock.backordered_of(token), entry.quantity)
        stock.take_backorder(token, returned)
        self._move(entry, reserved=reserved, committed=committed, backordered=-returned)

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
        if entry.channel is not None:
            stock.promised[entry.channel] = stock.promised.get(entry.channel, 0) + reserved + committed
        stock.cover_backorders()
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
    if first.type == "reservation.voided":  # the SKU that is short comes last
        lines.sort(key=lambda line: line[0] == command[-1].sku)
    is_whole = lines == [(entry.sku, entry.quantity) for entry in command if entry.type == first.type]
    _expect(command[-1], is_whole and len(lines) == len(command), "does not account for the lines of the reservation")


def _expect_one(command: Sequence[Entry]) -> None:
    _expect(command[-1], len(command) == 1, "is a second entry of a command on one SKU")


def _expect_transfer(command: Sequence[Entry]) -> None:
    """Units leave one location and come to another, and nothing else happens."""
    match command:
        case [left, arrived]:
            is_whole = left.quantity == -arrived.quantity < 0 and (left.type, left.sku) == (arrived.type, arrived.sku)
            is_transfer = is_whole and left.location_id != arrived.location_id
        case _:
            is_transfer = False
    _expect(command[-1], is_transfer, "is no transfer: units leave one location and come to another")


def _follows(entry: Entry, earlier: Entry) -> bool:
    """Are both of one command? All entries about one reservation or SKU share their words; voids follow their cause."""
    if (entry.command, entry.at_us) != (earlier.command, earlier.at_us):
        return False
    if entry.type == "reservation.voided" and entry.token != earlier.token:
        return earlier.token is None or earlier.type == entry.type
    return _words_of(entry) == _words_of(earlier)


def _words_of(entry: Entry) -> tuple[object, ...]:
    return (entry.token, entry.agent_id, entry.channel, entry.expires_us, entry.reason, entry.data)


def _line_of(record: Record, entry: Entry) -> Line:
    for line in record.current_lines:
        if line.sku == entry.sku:
            return line
    raise LedgerBroken(entry.sequence, f"is about {entry.sku}, which the reservation does not hold")


def _reduced(line: Line, quantity: int) -> Line:
    """The line without so many units: those promised beyond stock go first."""
    return Line(line.sku, line.quantity - quantity, line.backordered - min(line.backordered, quantity))


def _policy_of(entry: Entry) -> dict[str, str]:
    """The fields that an entry changes; empty text takes one away."""
    try:
        changes = msgspec.convert(entry.data["policy"], dict[str, str])
        decode_policy(changes)
    except (KeyError, ValueError, msgspec.MsgspecError):
        raise LedgerBroken(entry.sequence, "does not say a policy") from None
    return changes
