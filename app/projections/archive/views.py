"""The views: reservations and SKUs as the entries so far leave them. Pure; the writer loads and stores the rows.

They believe the ledger: whether an entry is right is what `app.projections.replay` proves. A type of entry that nobody
knows here moves balances and status like any other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import msgspec

from app.domain.entries import Entry
from app.domain.errors import LedgerBroken
from app.domain.types import Sku, Token

# What a type of entry makes of the status, where that is not its own name: None leaves it as it is.
STATUS_AFTER = {"extended": None, "reconciling": "pending_reconciliation"}
# After these a reservation has all the units that it had; after others some have left it.
KEEPING = frozenset(
    {
        "reservation.extended",
        "reservation.payment_pending",
        "reservation.reconciling",
        "reservation.committed",
        "reservation.fulfilled",
        "stock.allocated",
    }
)
ORDER_NEWS = frozenset({"stock.sale", "stock.picked", "stock.packed", "stock.shipped", "stock.cancelled"})
LIVE = frozenset({"held", "payment_pending", "pending_reconciliation"})


@dataclass(slots=True)
class LineRow:
    """A line of a reservation; `sequence` is its promise's, which says who was promised first."""

    token: Token
    partition: int
    number: int
    sku: Sku
    quantity: int
    backordered: int
    sequence: int
    created_us: int


@dataclass(slots=True)
class ReservationRow:
    """A reservation; its lines by SKU, in order."""

    token: Token
    partition: int
    sequence: int
    status: str
    agent_id: str
    channel: str
    reference: str | None
    order_id: str | None
    details: str
    created_us: int
    expires_us: int
    first_expires_us: int | None
    ended_us: int | None
    reason: str
    holder: str | None
    lines: dict[Sku, LineRow] = field(default_factory=dict)


@dataclass(slots=True)
class LocationRow:
    """What a SKU has at a location; `allocated` of it are committed units that will leave from there."""

    on_hand: int = 0
    kind: str = "shared"
    allocated: int = 0


@dataclass(slots=True)
class InventoryRow:
    """A SKU; its policy as the fields of its hash, among which `inherited` names those that are its category's."""

    sku: Sku
    partition: int
    sequence: int = 0
    at_us: int = 0
    on_hand: int = 0
    reserved: int = 0
    committed: int = 0
    backordered: int = 0
    available: int = 0
    safety_stock: int = 0
    policy: dict[str, str] = field(default_factory=dict)
    locations: dict[str, LocationRow] = field(default_factory=dict)

    @property
    def shortfall(self) -> int:
        """Units promised that there are not, though nobody meant to."""
        return max(0, self.reserved + self.committed - self.on_hand - self.backordered)

    def apply_balances(self, entry: Entry) -> None:
        """Takes the balances that every entry has."""
        self.sequence, self.at_us = entry.sequence, entry.at_us
        self.on_hand, self.reserved, self.committed = entry.on_hand, entry.reserved, entry.committed
        self.backordered, self.available = entry.backordered, entry.available

    def apply(self, entry: Entry) -> None:
        """Becomes what the entry says."""
        self.apply_balances(entry)
        if entry.safety_stock is not None:
            self.safety_stock = entry.safety_stock
        if entry.type == "sku.updated":
            self._change_policy(entry)
        elif entry.location_id is not None:
            location = self.locations.setdefault(entry.location_id, LocationRow())
            location.kind = entry.location_kind or location.kind
            if entry.type == "stock.allocated":
                location.allocated += entry.quantity
            else:
                location.on_hand += entry.quantity

    def _change_policy(self, entry: Entry) -> None:
        changes, inherited = (
            msgspec.convert(entry.data.get(name, {}), dict[str, str]) for name in ("policy", "inherited")
        )
        of_category = self.policy.pop("inherited", "").split(",")
        own = {name: value for name, value in self.policy.items() if name not in of_category} | changes
        self.policy = {name: value for name, value in own.items() if value} | inherited
        if inherited:
            self.policy["inherited"] = ",".join(inherited)


@dataclass(slots=True)
class OrderReviewRow:
    """What a person should look at of a SKU in an order; one without a name has its reservation's token for one."""

    channel: str
    order_id: str
    sku: Sku
    kind: str
    since_us: int

    @property
    def key(self) -> tuple[str, str, Sku]:
        return self.channel, self.order_id, self.sku


class Backorders:
    """The open promises beyond stock of one SKU, oldest first; `units` is their sum."""

    def __init__(self, lines: dict[Token, LineRow]) -> None:
        self.lines = lines
        self.units = sum(line.backordered for line in lines.values())

    def take(self, token: Token, units: int) -> None:
        """That many units of a reservation are no longer backordered."""
        line = self.lines[token]
        line.backordered -= units
        self.units -= units
        if not line.backordered:
            del self.lines[token]


class Views:
    """The rows that some entries are about: loaded, moved on by these entries, to be stored.

    `changed_*` are those that are not as they were loaded, `dropped_*` those that are no more.
    """

    def __init__(
        self,
        inventory: dict[Sku, InventoryRow],
        reservations: dict[Token, ReservationRow],
        backorders: dict[Sku, Backorders],
        order_reviews: dict[tuple[str, str, Sku], OrderReviewRow],
    ) -> None:
        self.inventory = inventory
        self.reservations = reservations
        self.backorders = backorders
        self.order_reviews = order_reviews
        self.changed_inventory: dict[Sku, InventoryRow] = {}
        self.changed_reservations: dict[Token, ReservationRow] = {}
        self.dropped_reservations: list[ReservationRow] = []
        self.changed_lines: dict[tuple[Token, Sku], LineRow] = {}
        self.dropped_lines: list[LineRow] = []
        self.changed_reviews: dict[tuple[str, str, Sku], OrderReviewRow] = {}
        self.dropped_reviews: list[OrderReviewRow] = []

    def apply(self, entries: Iterable[Entry]) -> None:
        """Takes whole commands, in order. One may be about several reservations: a count, and whom it voids."""
        for (token, *_), group in groupby(entries, key=_verb_of):
            moved = list(group)
            kind = moved[0].type
            if token is None or not kind.startswith("reservation."):
                self._apply_stock(moved)
            elif kind == "reservation.held":
                self._hold(token, moved)
            else:
                self._move(token, moved)

    def _apply_stock(self, moved: Sequence[Entry]) -> None:
        for entry in moved:
            if entry.sku:  # what is about a category is about no SKU
                self._apply_balances(entry)
                self._cover(entry)
            if order := order_named_by(entry):
                self._review_order(order, entry)
            if entry.token in self.reservations:  # where its units are to leave from
                row = self.changed_reservations[entry.token] = self.reservations[entry.token]
                row.sequence = entry.sequence

    def _apply_balances(self, entry: Entry) -> int:
        """The SKU as the entry says; returns by how much more is backordered than before."""
        row = self.inventory.get(entry.sku)
        if row is None:
            row = self.inventory[entry.sku] = InventoryRow(entry.sku, entry.partition)
        before = row.backordered
        row.apply(entry)
        self.changed_inventory[entry.sku] = row
        return row.backordered - before

    def _move(self, token: Token, moved: Sequence[Entry]) -> None:
        first, last = moved[0], moved[-1]
        row = self.reservations.get(token)
        if row is None:
            raise LedgerBroken(first.sequence, "is about a reservation that the archive has not seen begin")
        self.changed_reservations[token] = row
        taken: dict[Sku, int] = {}
        for entry in moved:
            self._apply_balances(entry)
            if entry.type not in KEEPING:
                taken[entry.sku] = entry.quantity
                self._give_back(row, entry)
            self._cover(entry)

        # Of what ends whole the lines stay as they were at last; of a part, what is left.
        is_part = bool(taken) and any(taken.get(line.sku) != line.quantity for line in row.lines.values())
        if is_part:
            self._reduce(row, taken)
        kind = first.type.removeprefix("reservation.")
        status = STATUS_AFTER.get(kind, kind)
        if status is not None and not (kind == "cancelled" and is_part):
            row.status = status
        if row.status not in LIVE and row.status != "committed":
            row.ended_us = first.at_us
        row.sequence, row.reason = last.sequence, first.reason
        if first.expires_us is not None and first.expires_us != row.expires_us:
            row.first_expires_us = row.first_expires_us or row.expires_us
            row.expires_us = first.expires_us
        if order_id := first.data.get("order_id"):
            self._name_order(row, str(order_id))

    def _name_order(self, row: ReservationRow, order_id: str) -> None:
        """What was to be looked at of a reservation is of its order now."""
        row.order_id = order_id
        for review in [each for each in self.order_reviews.values() if each.order_id == row.token]:
            self._drop_review(review)
            self._open_review(replace(review, order_id=order_id))

    def _review_order(self, order: str, entry: Entry) -> None:
        """News of an order ask for a review of the SKU, or close the one that was open."""
        channel, row = str(entry.data.get("channel")), self.reservations.get(Token(order))
        if row is not None:
            channel, order = row.channel, row.order_id or row.token
        review = OrderReviewRow(channel, order, entry.sku, entry.reason, entry.at_us)
        before = self.order_reviews.get(review.key)
        if before is not None and before.kind != entry.reason:
            self._drop_review(before)
        if entry.reason and (before is None or before.kind != entry.reason):
            self._open_review(review)

    def _open_review(self, review: OrderReviewRow) -> None:
        self.order_reviews[review.key] = self.changed_reviews[review.key] = review

    def _drop_review(self, review: OrderReviewRow) -> None:
        del self.order_reviews[review.key]
        self.changed_reviews.pop(review.key, None)
        self.dropped_reviews.append(review)

    def _hold(self, token: Token, moved: Sequence[Entry]) -> None:
        """A new reservation; one that had the token before is forgotten, as the engine has forgotten it."""
        if earlier := self.reservations.get(token):
            self._forget(earlier)
        first, last = moved[0], moved[-1]
        reference, holder = first.data.get("reference"), first.data.get("holder")
        row = self.reservations[token] = self.changed_reservations[token] = ReservationRow(
            token=token,
            partition=first.partition,
            sequence=last.sequence,
            status="held",
            agent_id=first.agent_id or "",
            channel=first.channel or "",
            reference=None if reference is None else str(reference),
            order_id=None,
            details=msgspec.json.encode(first.data).decode() if first.data else "",
            created_us=first.at_us,
            expires_us=first.expires_us or 0,
            first_expires_us=None,
            ended_us=None,
            reason=first.reason,
            holder=None if holder is None else str(holder),
        )
        for entry in moved:
            self._add_line(row, entry, backordered=self._apply_balances(entry))
            self._cover(entry)

    def _forget(self, row: ReservationRow) -> None:
        self.dropped_reservations.append(row)
        for sku, line in row.lines.items():
            self.changed_lines.pop((row.token, sku), None)
            self.dropped_lines.append(line)

    def _add_line(self, row: ReservationRow, entry: Entry, *, backordered: int) -> None:
        line = LineRow(
            token=row.token,
            partition=entry.partition,
            number=len(row.lines),
            sku=entry.sku,
            quantity=entry.quantity,
            backordered=backordered,
            sequence=entry.sequence,
            created_us=entry.at_us,
        )
        row.lines[entry.sku] = self.changed_lines[row.token, entry.sku] = line
        if backordered:
            open_ones = self.backorders.setdefault(entry.sku, Backorders({}))
            open_ones.lines[row.token] = line
            open_ones.units += backordered

    def _give_back(self, row: ReservationRow, entry: Entry) -> None:
        """What was promised beyond stock goes first."""
        line = row.lines[entry.sku]
        if line.backordered:
            self.changed_lines[row.token, line.sku] = line
            self.backorders[line.sku].take(row.token, min(line.backordered, entry.quantity))

    def _cover(self, entry: Entry) -> None:
        """Units that arrived or came back cover the oldest promises, until as much is backordered as the entry says."""
        open_ones = self.backorders.get(entry.sku)
        while open_ones and open_ones.units > entry.backordered:
            token, line = next(iter(open_ones.lines.items()))
            self.changed_lines[token, entry.sku] = line
            open_ones.take(token, min(line.backordered, open_ones.units - entry.backordered))

    def _reduce(self, row: ReservationRow, taken: Mapping[Sku, int]) -> None:
        for sku, quantity in taken.items():
            line = row.lines[sku]
            line.quantity -= quantity
            if line.quantity:
                self.changed_lines[row.token, sku] = line
            else:
                del row.lines[sku]
                self.changed_lines.pop((row.token, sku), None)
                self.dropped_lines.append(line)


def order_named_by(entry: Entry) -> str | None:
    """The order that an entry brings news of, or names for the first time: its id, or the token of a reservation."""
    name = entry.data.get("reference") if entry.type in ORDER_NEWS else entry.data.get("order_id")
    return None if name is None else str(name)


def _verb_of(entry: Entry) -> tuple[Token | None, int, int, bool]:
    """Is the same for what one verb did to one reservation; what its order makes of it comes one by one."""
    number = entry.sequence if entry.reason == "order" else 0
    return entry.token, entry.command, number, entry.type == "reservation.fulfilled"
