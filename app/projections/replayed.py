"""What the entries of a partition leave behind: its SKUs and reservations, and the keys that an engine has for them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from app.domain.facts import Count, Facts
from app.domain.orders import ORDER_KEPT_US, Order, OrderLine
from app.domain.types import Allocation, Line, Policy, Sku, Token
from app.store.keys import PartitionKeys
from app.store.state import State

OPEN = frozenset({"held", "payment_pending"})
LIVE = OPEN | {"pending_reconciliation"}
ACCOUNT_KEPT_US = 24 * 3600 * 1_000_000
SOLD = frozenset({"committed", "fulfilled"})


@dataclass(slots=True)
class Place:
    """What a SKU has at a location."""

    is_shared: bool
    on_hand: int = 0
    allocated: int = 0
    facts: Facts = field(default_factory=Facts)


@dataclass(slots=True)
class Backorder:
    """Units of a reservation that no stock covers yet, and the sequence of their promise."""

    units: int
    sequence: int


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
    inherited: tuple[str, ...] = ()
    locations: dict[str, Place] = field(default_factory=dict)
    promised: dict[str, int] = field(default_factory=dict)  # by channel, reserved and committed
    backorders: dict[Token, Backorder] = field(default_factory=dict)  # the oldest promise first

    @property
    def available(self) -> int:
        """What may still be promised; negative when more is promised or withheld than there is."""
        return self.on_hand + self.backordered - self.reserved - self.committed - self.safety_stock

    @property
    def shortfall(self) -> int:
        """Promises that neither stock nor a backorder stands behind."""
        return max(0, self.reserved + self.committed - self.on_hand - self.backordered)

    def backordered_of(self, token: Token) -> int:
        """Units of a reservation that no stock covers yet."""
        return self.backorders[token].units if token in self.backorders else 0

    def take_backorder(self, token: Token, units: int) -> None:
        """So many units of a reservation are promised beyond stock no more."""
        if units:
            backorder = self.backorders[token]
            backorder.units -= units
            if not backorder.units:
                del self.backorders[token]

    def cover_backorders(self) -> None:
        """Puts what is available behind what was promised beyond stock, the oldest promise first."""
        units = min(self.backordered, max(0, self.available))
        self.backordered -= units
        while units:
            token, backorder = next(iter(self.backorders.items()))
            covered = min(units, backorder.units)
            units -= covered
            self.take_backorder(token, covered)

    def safety_stock_at(self, on_hand: int) -> int:
        """What the policy withholds of so many units: the larger of its units and its percentage, rounded up."""
        share = -(-max(0, on_hand) * self.policy.safety_stock_basis_points // 10_000)
        return max(self.policy.safety_stock, share)


@dataclass(slots=True)
class Account:
    """What is remembered of a caller that let holds expire, where that is capped: see lua/includes/account.lua.

    What it holds are its open reservations.
    """

    expired: int = 0
    expired_since_us: int = 0
    cooling_until_us: int = 0
    rests_since_us: int = 0  # when the last reservation left it

    def note_expiry(self, data: Mapping[str, object]) -> None:
        """Takes what the entry of an expiry says of it."""
        self.expired = msgspec.convert(data.get("expired", 0), int)
        self.expired_since_us = msgspec.convert(data.get("expired_since_us", 0), int)
        self.cooling_until_us = msgspec.convert(data.get("cooling_until_us", self.cooling_until_us), int)


@dataclass(slots=True)
class Record:
    """A reservation as the entries so far leave it: see lua/includes/reservation.lua."""

    agent_id: str
    channel: str
    details: str
    fingerprint: str
    holder: str
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
    rests_since_us: int | None = None  # when it ended, or was sold
    has_order: bool = False  # one of its own, named by its token
    is_parted: bool = False  # sold when the ledger had other partitions: what became of it by its order is only told
    allocations: tuple[Allocation, ...] = ()
    account: str = ""
    remembered: dict[str, str] = field(default_factory=dict)

    @property
    def current_lines(self) -> tuple[Line, ...]:
        """What it holds or has sold; of an ended one, what it held or had sold at last."""
        return self.lines if self.remaining is None else self.remaining

    def take_back(self, left: tuple[Line, ...], *, at_us: int) -> None:
        """Of what was sold only this is left."""
        if left:
            self.committed = self.committed or self.current_lines
            self.remaining = left
        else:
            self.status = "cancelled"
            self.rests_since_us = at_us

    def trim_allocations(self, left: Mapping[Sku, int]) -> list[Allocation]:
        """Takes from the allocations, the last first, what is no longer left; returns each change."""
        undecided, kept, changes = dict(left), [], []
        for each in self.allocations:
            quantity = min(each.quantity, undecided.get(each.sku, 0))
            undecided[each.sku] = undecided.get(each.sku, 0) - quantity
            if quantity:
                kept.append(replace(each, quantity=quantity))
            if quantity < each.quantity:
                changes.append(replace(each, quantity=quantity - each.quantity))
        self.allocations = tuple(kept)
        return changes


def put_stock(state: State, keys: PartitionKeys, sku: Sku, stock: Stock) -> None:
    """Adds the keys of a SKU."""
    state.hashes[keys.sku(sku)] = _stock_fields(stock)
    if stock.locations:
        state.hashes[keys.locations(sku)] = _location_fields(stock)
    if facts := dict(_facts_fields(stock)):
        state.hashes[keys.facts(sku)] = facts
    if stock.backorders:
        state.hashes[keys.backorders(sku)] = {token: str(each.units) for token, each in stock.backorders.items()}
        state.zsets[keys.backorder_queue(sku)] = {token: str(each.sequence) for token, each in stock.backorders.items()}
    if category := stock.policy.category:
        state.zsets.setdefault(keys.category_skus(category), {})[sku] = "0"


def put_record(state: State, keys: PartitionKeys, token: Token, record: Record, *, kept_us: int) -> None:
    """Adds the keys of a reservation; once it rests, the engine forgets it after `kept_us`."""
    state.hashes[keys.reservation(token)] = _record_fields(record)
    if record.rests_since_us is not None:
        state.expires_at_us[keys.reservation(token)] = record.rests_since_us + kept_us
    if record.status in LIVE:
        for key in (keys.deadlines, *(keys.holds(line.sku) for line in record.current_lines)):
            state.zsets.setdefault(key, {})[token] = str(record.expires_us)


def put_account(
    state: State, keys: PartitionKeys, name: str, account: Account, records: Mapping[Token, Record]
) -> None:
    """Adds the keys of an account with these open reservations; the engine forgets one that has none."""
    units = Counter[Sku]()
    for record in records.values():
        for line in record.current_lines:
            units[line.sku] += line.quantity
    noted = ("expired", "expired_since_us", "cooling_until_us")
    fields = {name: str(value) for name in noted if (value := getattr(account, name))}
    fields |= {f"units\t{sku}": str(quantity) for sku, quantity in units.items()}
    if units:
        fields["units"] = str(units.total())
        state.zsets[keys.account_holds(name)] = {token: str(record.expires_us) for token, record in records.items()}
    elif fields:
        state.expires_at_us[keys.account(name)] = account.rests_since_us + ACCOUNT_KEPT_US
    if fields:
        state.hashes[keys.account(name)] = fields


def put_order(state: State, keys: PartitionKeys, order: Order) -> None:
    """Adds the key of an order, which the engine drops a day after it is forgotten."""
    key = keys.order(order.channel, order.order_id)
    lines = {f"line\t{sku}": text for sku, line in order.lines.items() if (text := _order_line_text(line))}
    numbers = {"at_us": str(order.at_us), "open": str(order.open), "shipped": str(order.shipped)}
    reservations = {"tokens": "\n".join(order.tokens), "reservation_lines": str(order.reservation_lines)}
    state.hashes[key] = {**numbers, **(reservations if order.tokens else {}), **lines}
    state.expires_at_us[key] = order.at_us + ORDER_KEPT_US


def _order_line_text(line: OrderLine) -> str:
    told = (f"told\t{kind}\t{reporter}\t{units}" for (kind, reporter), units in line.told.items())
    left = (
        f"left\t{each.effective}\t{each.quantity}\t{each.priority}\t{int(each.is_ship)}\t{each.occurred_at_us}\t"
        f"{each.system}\t{each.counter}\t{each.source}\t{each.location_id}\t{each.of}"
        for each in line.departures
    )
    return "\n".join((*told, *left))


def format_lines(lines: Sequence[Line]) -> str:
    """Lines as the scripts store them."""
    return "\n".join(f"{line.sku}\t{line.quantity}\t{line.backordered}" for line in lines)


def _stock_fields(stock: Stock) -> dict[str, str]:
    names = ("on_hand", "reserved", "committed", "backordered", "safety_stock", "sequence")
    return {
        **{name: str(getattr(stock, name)) for name in names},
        **stock.policy_fields,
        **({"inherited": ",".join(stock.inherited)} if stock.inherited else {}),
        **{f"limit:{channel}": str(limit) for channel, limit in stock.policy.channel_limits.items()},
        **{f"promised:{channel}": str(units) for channel, units in stock.promised.items() if units},
    }


def _location_fields(stock: Stock) -> dict[str, str]:
    fields = {}
    for name, place in stock.locations.items():
        fields[f"on_hand\t{name}"] = str(place.on_hand)
        if not place.is_shared:
            fields[f"kind\t{name}"] = "dedicated"
        if place.allocated:
            fields[f"allocated\t{name}"] = str(place.allocated)
    return fields


def _facts_fields(stock: Stock) -> Iterator[tuple[str, str]]:
    for name, place in stock.locations.items():
        facts = place.facts
        counts = (_count_row(count) for count in facts.counts)
        deltas = (
            f"{each.occurred_at_us}\t{each.system}\t{each.counter}\t{each.quantity}\t{each.of}" for each in facts.deltas
        )
        floors = (f"{system}\t{counter}\t{at_us}" for system, (counter, at_us) in facts.floors.items())
        for kind, rows in (("counts", counts), ("deltas", deltas), ("floors", floors)):
            if text := "\n".join(rows):
                yield f"{kind}\t{name}", text
        if facts.enforced:
            yield f"enforced\t{name}", _count_row(facts.enforced)


def _count_row(count: Count) -> str:
    head = (count.value, count.priority, count.occurred_at_us, count.source)
    return "\t".join(map(str, (*head, *_clock(count.clock))))


def _clock(clock: Mapping[str, int]) -> Iterator[object]:
    for system, counter in sorted(clock.items()):
        yield from (system, counter)


def _record_fields(record: Record) -> dict[str, str]:
    rows = (f"{each.sku}\t{each.location_id}\t{each.quantity}" for each in record.allocations)
    fields: dict[str, str | None] = {
        "status": record.status,
        "agent": record.agent_id,
        "channel": record.channel,
        "lines": format_lines(record.lines),
        "created_us": str(record.created_us),
        "expires_us": str(record.expires_us),
        "sequence": str(record.sequence),
        "details": record.details or None,
        "fingerprint": record.fingerprint if record.details else None,
        "holder": record.holder or None,
        "account": record.account or None,
        "remaining_lines": None if record.remaining is None else format_lines(record.remaining),
        "committed_lines": None if record.committed is None else format_lines(record.committed),
        "last_sequence": None if record.last_sequence is None else str(record.last_sequence),
        "order_id": record.order_id,
        "has_order": "1" if record.has_order else None,
        "first_expires_us": None if record.first_expires_us is None else str(record.first_expires_us),
        "allocations": "\n".join(rows) or None,
    }
    remembered = {f"key:{key_hash}": text for key_hash, text in record.remembered.items()}
    return {name: text for name, text in fields.items() if text is not None} | remembered
