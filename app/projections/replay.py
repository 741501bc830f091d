"""Replays a partition's ledger: proves every command and keeps the state that they add up to. Pure.

It says a second time, apart from the scripts, what each type of entry does, so that a script that errs is found. An
entry proves itself by arithmetic: the balances before it and its quantity give the balances after it. A command is
judged whole, because only together its entries account for every line of a reservation.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import msgspec

from app.domain.entries import Entry
from app.domain.errors import LedgerBroken
from app.domain.orders import Order
from app.domain.types import Allocation, Line, Sku, Token
from app.projections.books import Books
from app.projections.expectations import (
    expect,
    expect_one,
    expect_open,
    expect_transfer,
    expect_whole,
    follows,
    is_consequence,
    line_of,
    names_order,
    policy_of,
    reduced,
)
from app.projections.replay_orders import Following, OrderNews, news_of_reservation
from app.projections.replay_updates import (
    Applied,
    apply_update,
    is_from_outside,
    place_of,
    reconcile_place,
    remember_line,
)
from app.projections.replayed import OPEN, Backorder, Place, Record, Stock, format_lines
from app.store.decoding import POLICY_FIELDS, decode_policy
from app.store.keys import PartitionKeys
from app.store.state import State

# A keyed request may take its token again once the engine has forgotten the record. It keeps one for a day at least,
# by its wall clock; half of that forgives the wall clock's jumps.
TOKEN_REST_US_MIN = 12 * 3600 * 1_000_000
OF_CALLER = frozenset({"holder", "account"})  # what a hold says of who came, besides what they said


class Replay:
    """A fold over the entries of one partition, from the first on. Raises LedgerBroken at the first that lies."""

    def __init__(self, keys: PartitionKeys, *, retention_ms: int, committed_retention_ms: int) -> None:
        self._books = Books(keys, retention_ms * 1000, committed_retention_ms * 1000)
        self._command: list[Entry] = []
        self.sequence = 0
        self.at_us = 0

    @property
    def stocks(self) -> dict[Sku, Stock]:
        """Every SKU."""
        return self._books.stocks

    @property
    def records(self) -> dict[Token, Record]:
        """Every reservation that there ever was."""
        return self._books.records

    @property
    def categories(self) -> dict[str, dict[str, str]]:
        """The policy of every category."""
        return self._books.categories

    def feed(self, entry: Entry) -> None:
        """Takes the next entry. Its command is judged when the next one begins, or at `finish`."""
        expect(entry, entry.sequence == self.sequence + 1, f"follows sequence {self.sequence}: the ledger has a gap")
        expect(entry, entry.at_us >= self.at_us, "is earlier than the entry before it")
        if entry.command == entry.sequence:
            self.finish()
        else:
            is_next = bool(self._command) and follows(entry, self._command[0], self._command[-1])
            expect(entry, is_next, "does not belong to the command it names")
        self.sequence, self.at_us = entry.sequence, entry.at_us
        self._command.append(entry)

    def finish(self) -> None:
        """Judges the command that is not judged yet: there are no more entries of it."""
        command, self._command = self._command, []
        if not command:
            return
        count = next((at for at, entry in enumerate(command) if is_consequence(entry, command[0])), len(command))
        head, tail = command[:count], command[count:]
        if not head:
            Following(OrderNews(self._books, Order("", "")), tail, last=command[-1]).fulfil_parted()
            return
        voids: Sequence[Entry] = [entry for entry in tail if entry.type == "reservation.voided"]
        if applied := self._apply_head(head):
            voids = Following(applied.news, tail, last=command[-1]).follow(applied.corrections)
            applied.news.order.sequence = self.sequence
        else:
            expect(command[-1], len(voids) == len(tail), "follows from no news")
        for token, entries in groupby(voids, lambda entry: entry.token):
            voided = list(entries)
            expect(voided[-1], token is not None and voided[-1].sku == head[-1].sku, "voids for another SKU")
            self._apply_reservation(token or Token(""), voided)
        self._remember(head)

    def _apply_head(self, head: Sequence[Entry]) -> Applied | None:
        """What a command itself does; of what becomes of an order by it the rest is still to follow."""
        first = head[0]
        if first.token is None and is_from_outside(first):
            return apply_update(self._books, head)
        if first.token is None:
            self._apply_stock(head)
            return None
        applied = None
        for token, entries in groupby(head, lambda entry: entry.token):  # several only where all are voided
            of_one = list(entries)
            expect(of_one[-1], of_one[-1].sku == head[-1].sku, "voids for another SKU")
            applied = self._apply_reservation(token or Token(""), of_one)
        return applied

    def state(self) -> State:
        """The keys that an engine with this ledger has."""
        return self._books.state()

    def sequence_of(self, key: str) -> int:
        """The last entry about a key; of a key that no entry is about, the last of all."""
        keys = self._books.keys
        for sku, stock in self.stocks.items():
            if key in (
                keys.sku(sku), keys.locations(sku), keys.facts(sku), keys.holds(sku), keys.backorders(sku),
                keys.backorder_queue(sku),
            ):  # fmt: skip
                return stock.sequence
        for token, record in self.records.items():
            if key == keys.reservation(token):
                return record.last_sequence or record.sequence
        for order in self._books.orders.values():
            if key == keys.order(order.channel, order.order_id):
                return order.sequence
        if key in self._books.seen:  # what it remembers ends with a sequence
            return int(self._books.seen[key][0].rstrip("\n").rpartition("\t")[2])
        return self.sequence

    def _apply_stock(self, command: Sequence[Entry]) -> None:
        first = command[0]
        match first.type:
            case "stock.adjusted":
                expect_one(command)
                self._change_stock(first, is_count_possible=True)
            case "stock.transferred":
                expect_transfer(command)
                for entry in command:
                    self._change_stock(entry, is_count_possible=False)
            case "stock.corrected":
                expect_one(command)
                reconcile_place(self._books, first)
            case "sku.updated":
                expect_one(command)
                self._change_policy(first)
            case "category.updated":
                expect_one(command)
                self._change_category(first)
            case _:
                raise LedgerBroken(first.sequence, f"is of type {first.type}, which is none of a SKU's")

    def _change_stock(self, entry: Entry, *, is_count_possible: bool) -> None:
        stock = self.stocks.setdefault(entry.sku, Stock())
        place = place_of(stock, entry)
        is_shared = place.is_shared
        place.on_hand += entry.quantity
        expect(entry, place.on_hand >= 0 or entry.quantity >= 0, f"leaves {place.on_hand} units at {entry.location_id}")
        withheld = {stock.safety_stock}
        if is_shared and is_count_possible:  # a count reckons anew, a difference downwards does not
            at_entry = stock.safety_stock_at(entry.on_hand)
            withheld = {at_entry} if entry.quantity > 0 else {at_entry, stock.safety_stock}
        self._books.withhold(entry, stock, withheld)
        self._books.move(entry, on_hand=entry.quantity if is_shared else 0)

    def _change_policy(self, entry: Entry) -> None:
        stock = self.stocks.setdefault(entry.sku, Stock())
        expect(entry, entry.quantity == 0, "changes a policy and a quantity")
        changes = policy_of(entry)
        kept = {name: text for name, text in stock.policy_fields.items() if name not in stock.inherited}
        own = {name: text for name, text in {**kept, **changes}.items() if text != ""}
        defaults = self.categories.get(own.get("category", ""), {})
        stock.inherited = tuple(name for name in POLICY_FIELDS if name in defaults and name not in own)
        stock.policy_fields = {**defaults, **own}
        inherited = {name: defaults[name] for name in stock.inherited}
        expect(entry, entry.data.get("inherited", {}) == inherited, "has from its category what that does not say")
        stock.policy = decode_policy(stock.policy_fields)
        self._books.withhold(entry, stock, {stock.safety_stock_at(entry.on_hand)})
        self._books.move(entry)

    def _change_category(self, entry: Entry) -> None:
        expect(entry, entry.sku == "", "is of a category and of a SKU")
        self._books.withhold(entry, Stock(), {0})
        is_none = not any((entry.quantity, entry.on_hand, entry.reserved, entry.committed, entry.backordered))
        expect(entry, is_none and entry.available == 0, "is of a category and has units")
        fields = {name: text for name, text in policy_of(entry).items() if text != ""}
        self.categories[str(entry.data.get("category"))] = fields

    def _apply_reservation(self, token: Token, command: Sequence[Entry]) -> Applied | None:
        first, last = command[0], command[-1]
        for entry in command:
            is_signed = entry.type == "stock.allocated"
            expect(entry, entry.quantity > 0 or is_signed, f"is about {entry.quantity} units")
        if first.type == "reservation.held":
            self._hold(token, command)
            return None
        record = self.records.get(token)
        if record is None:
            raise LedgerBroken(first.sequence, "is about a reservation that never was")
        is_same = (first.agent_id, first.channel) == (record.agent_id, record.channel)
        expect(first, is_same, "is another agent's or channel's than the reservation")
        deadline_us, was_open = record.expires_us, record.status in OPEN
        news = self._apply_verb(token, record, command)
        expect(first, first.expires_us == record.expires_us, f"moves the deadline from {deadline_us}")
        record.last_sequence = last.sequence
        if record.account and was_open and record.status not in OPEN:
            self._books.note_account(record, first)
        return None if news is None else Applied(news, news.corrections())

    def _remember(self, head: Sequence[Entry]) -> None:
        """The answer of a keyed command, as it is once all that follows is done; the lines of a delivery."""
        first = head[0]
        if first.token is None and is_from_outside(first):
            remember_line(self._books, head, sequence=self.sequence)
        key, fingerprint = first.data.get("key"), first.data.get("fingerprint", "")
        if not key or first.type == "reservation.held":
            return
        if first.token is None:
            seen = self._books.keys.seen("adjustment", str(key))
            self._books.seen[seen] = (f"{fingerprint}\t{self.sequence}", first.at_us)
            return
        record = self.records[first.token]
        lines = format_lines(self._books.lines_now(first.token, record))
        record.remembered[str(key)] = f"{fingerprint}\t{record.last_sequence}\t{record.expires_us}\n{lines}"

    def _apply_verb(self, token: Token, record: Record, command: Sequence[Entry]) -> OrderNews | None:
        first = command[0]
        match first.type:
            case "reservation.extended" | "reservation.payment_pending":
                self._move_deadline(record, command)
            case "reservation.committed" if record.status == "pending_reconciliation":
                return self._settle_sale(token, record, command)
            case "reservation.committed" | "reservation.reconciling":
                return self._commit(token, record, command)
            case "reservation.released" | "reservation.expired" | "reservation.voided":
                return self._give_back(token, record, command)
            case "reservation.cancelled":
                return self._cancel(token, record, command)
            case "stock.allocated":
                self._allocate(record, command)
            case _:
                raise LedgerBroken(first.sequence, f"is of type {first.type}, which is none of a reservation's")
        return None

    def _news_of(self, token: Token, record: Record, first: Entry) -> OrderNews | None:
        """The order that a sale belongs to, where it has one."""
        order_id = str(first.data.get("order_id") or "")
        if not (order_id or record.order_id or record.has_order):
            return None
        return news_of_reservation(self._books, token, record, order_id=order_id, at_us=first.at_us)

    @staticmethod
    def _sell(token: Token, sku: Sku, units: int, news: OrderNews | None) -> int:
        """By how much more is committed: of what is sold, as much as the order did not have already."""
        return news.sell(token, sku, units) if news else units

    def _hold(self, token: Token, command: Sequence[Entry]) -> None:
        first = command[0]
        earlier = self.records.get(token)
        if earlier is not None:
            rests_since_us = earlier.rests_since_us
            is_forgotten = rests_since_us is not None and first.at_us - rests_since_us >= TOKEN_REST_US_MIN
            expect(first, is_forgotten, "takes a token that is in use")
        lines: list[Line] = []
        for entry in command:
            expect(entry, entry.type == first.type, "is no hold, in a command that holds")
            expect(entry, all(line.sku != entry.sku for line in lines), "holds a SKU for the second time")
            stock = self._books.stock_of(entry)
            quantity_max = stock.policy.max_quantity_per_reservation or entry.quantity
            expect(entry, entry.quantity <= quantity_max, f"holds more than {quantity_max} units")
            missing = max(0, entry.quantity - max(0, stock.available))
            is_covered = missing == 0 or missing <= stock.policy.backorder_limit - stock.backordered
            expect(entry, is_covered, f"holds {missing} units more than are available or may be backordered")
            if missing:
                stock.backorders[token] = Backorder(missing, entry.sequence)
            self._books.move(entry, reserved=entry.quantity, backordered=missing)
            limit = stock.policy.channel_limits.get(entry.channel or "")
            has = stock.promised.get(entry.channel or "", 0)
            expect(entry, limit is None or has <= limit, f"gives the channel {has} units, more than its limit {limit}")
            lines.append(Line(entry.sku, entry.quantity, missing))
        assert first.agent_id is not None
        assert first.channel is not None
        assert first.expires_us is not None
        expect(first, first.expires_us > first.at_us, "holds until a time that has passed")
        details = {name: value for name, value in first.data.items() if name not in OF_CALLER}
        self.records[token] = Record(
            agent_id=first.agent_id,
            channel=first.channel,
            details=msgspec.json.encode(details).decode() if details else "",
            fingerprint=str(first.data.get("fingerprint", "")),
            holder=str(first.data.get("holder", "")),
            account=str(first.data.get("account", "")),
            lines=tuple(lines),
            created_us=first.at_us,
            expires_us=first.expires_us,
            sequence=command[-1].sequence,
        )
        if self.records[token].account:
            self._books.note_account(self.records[token], first)

    def _move_deadline(self, record: Record, command: Sequence[Entry]) -> None:
        first = command[0]
        expect_open(first, record)
        expect_whole(record, command)
        for entry in command:
            self._books.move(entry)
        expires_us = first.expires_us or 0
        expect(first, expires_us >= record.expires_us, "moves the deadline back")
        if record.first_expires_us is None:
            record.first_expires_us = record.expires_us
        record.expires_us = expires_us
        if first.type == "reservation.payment_pending":
            record.status = "payment_pending"

    def _settle_sale(self, token: Token, record: Record, command: Sequence[Entry]) -> OrderNews | None:
        expect(command[0], command[0].at_us >= record.expires_us, "ends a reconciliation window before its time")
        expect_whole(record, command)
        news = self._news_of(token, record, command[0])
        for entry in command:
            committed = self._sell(token, entry.sku, entry.quantity, news)
            self._books.move(entry, reserved=-entry.quantity, committed=committed)
        record.status, record.is_parted = "committed", "parted" in command[0].data
        record.rests_since_us = command[0].at_us
        return news

    def _commit(self, token: Token, record: Record, command: Sequence[Entry]) -> OrderNews | None:
        first = command[0]
        is_sale = first.type == "reservation.committed"
        expect_open(first, record)
        sold = {entry.sku: entry.quantity for entry in command if entry.type == first.type}
        unsold = {entry.sku: entry.quantity for entry in command if entry.type == "reservation.released"}
        expect(command[-1], len(sold) + len(unsold) == len(command), "sells or returns a line twice, or does neither")
        for line in record.current_lines:
            is_conserved = sold.get(line.sku, 0) + unsold.get(line.sku, 0) == line.quantity
            expect(command[-1], is_conserved, f"does not account for {line.quantity} units of {line.sku}")
            shortfall = self.stocks[line.sku].shortfall if line.sku in sold else 0
            expect(
                first, shortfall == 0, f"sells {line.sku}, of which {shortfall} units more are promised than there are"
            )
        before = self._books.lines_now(token, record)
        news = self._news_of(token, record, first) if is_sale or names_order(record, first) else None
        told = {line.sku: sold.get(line.sku, 0) if is_sale else 0 for line in before}
        committed = {sku: self._sell(token, sku, units, news) for sku, units in told.items()}
        for entry in command:
            more = committed.pop(entry.sku, 0)
            if entry.type == "reservation.released":
                self._books.give_back(token, entry, reserved=-entry.quantity, committed=more)
            else:
                self._books.move(entry, reserved=-entry.quantity if is_sale else 0, committed=more)
        if unsold:
            kept = (line for line in before if line.sku in sold)
            record.remaining = tuple(reduced(line, unsold.get(line.sku, 0)) for line in kept)
        if not is_sale:
            record.first_expires_us = record.first_expires_us or record.expires_us
            record.expires_us = first.expires_us or 0
            expect(first, record.expires_us > first.at_us, "opens a reconciliation window that is over")
        else:
            record.rests_since_us = first.at_us
        record.status, record.is_parted = "committed" if is_sale else "pending_reconciliation", "parted" in first.data
        self._name_order(record, first)
        return news

    @staticmethod
    def _name_order(record: Record, first: Entry) -> None:
        if order_id := first.data.get("order_id"):
            record.order_id = str(order_id)

    def _give_back(self, token: Token, record: Record, command: Sequence[Entry]) -> OrderNews | None:
        first, news = command[0], None
        if first.type == "reservation.released":
            expect_open(first, record)
        elif first.type == "reservation.voided":
            self._expect_shortfall(token, record, command)
        else:
            expect(first, record.status in OPEN, f"expires a reservation that is {record.status}")
            expect(first, first.at_us >= record.expires_us, "expires a reservation before its deadline")
            is_payment = record.status == "payment_pending"
            expect(first, (first.reason == "payment_expired") == is_payment, "gives the wrong reason")
        expect_whole(record, command)
        if names_order(record, first):  # by a commit whose sales are in another partition since a rebuild
            news = self._news_of(token, record, first)
        for entry in command:
            committed = self._sell(token, entry.sku, 0, news)
            self._books.give_back(token, entry, reserved=-entry.quantity, committed=committed)
        record.status = first.type.removeprefix("reservation.")
        record.rests_since_us = first.at_us
        self._name_order(record, first)
        return news

    def _expect_shortfall(self, token: Token, record: Record, command: Sequence[Entry]) -> None:
        """The SKU of the last entry is short, and the reservation may be voided for it."""
        first, last = command[0], command[-1]
        is_voidable = record.status in {"held", "pending_reconciliation"} and first.reason == "shortfall"
        expect(first, is_voidable, f"voids a reservation that is {record.status}")
        expect(first, first.at_us < record.expires_us, "voids a reservation whose deadline has passed")
        if first.data.get("parted"):  # the SKU that was short is in another partition since a rebuild
            return
        stock = self._books.stock_of(last)
        expect(last, stock.shortfall > 0, "voids a reservation without a shortfall")
        needs_stock = stock.backordered_of(token) < last.quantity
        expect(last, needs_stock, "voids a reservation that needs no stock")

    def _cancel(self, token: Token, record: Record, command: Sequence[Entry]) -> OrderNews | None:
        first = command[0]
        expect(first, record.status == "committed", f"cancels a reservation that is {record.status}")
        cancelled = {entry.sku: entry.quantity for entry in command if entry.type == first.type}
        returned, trimmed = command[: len(cancelled)], command[len(cancelled) :]
        is_cancel = all(entry.type == first.type for entry in returned)
        is_cancel = is_cancel and all(entry.type == "stock.allocated" for entry in trimmed)
        expect(command[-1], is_cancel, "cancels a line twice, or does something else besides")
        news = self._news_of(token, record, first)
        before = self._books.lines_now(token, record)
        for entry in returned:
            line = line_of(record, entry)
            expect(entry, 0 < entry.quantity <= line.quantity, f"cancels {entry.quantity} of {line.quantity} units")
            committed = news.cancel(entry.sku, entry.quantity) if news else -entry.quantity
            expect(entry, committed == -entry.quantity, "takes units back that have left")
            self._books.give_back(token, entry, committed=committed)
        lines = [reduced(line, cancelled.get(line.sku, 0)) for line in before]
        left = {line.sku: line.quantity for line in lines}
        self._books.trim_allocations(record, left, trimmed, last=command[-1])
        record.take_back(tuple(line for line in lines if line.quantity), at_us=first.at_us)
        return news

    def _allocate(self, record: Record, command: Sequence[Entry]) -> None:
        first = command[0]
        expect(first, record.status == "committed", f"allocates units of a reservation that is {record.status}")
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
        expect(command[-1], is_said, "allocates something else than it says")
        for line in record.current_lines:
            units = sum(each.quantity for each in decided if each.sku == line.sku)
            expect(command[-1], units <= line.quantity, f"allocates {units} of {line.quantity} units of {line.sku}")
        for entry in command:
            line = line_of(record, entry)
            place = self.stocks[line.sku].locations.get(entry.location_id or "", Place(is_shared=False))
            place.allocated += entry.quantity
            is_there = entry.quantity < 0 or (place.is_shared and place.allocated <= place.on_hand)
            expect(entry, is_there, f"allocates units that {entry.location_id} has not")
            self._books.move(entry)
        record.allocations = tuple(decided)
