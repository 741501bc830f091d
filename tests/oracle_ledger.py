"""What a partition of the model knows, and its ledger: what is sold and given back, and the entries about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.caps import NO_CAPS, Caps
from app.domain.entries import Entry
from app.domain.types import Allocation, Line, Sku, Token
from tests.oracle_stock import Order, Record, Stock

OPERATOR = "operator"
DAY_US = 24 * 3600 * 1_000_000
ORDER_SALES_KEPT_US = 31 * DAY_US


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service is set to, in us."""

    max_lifetime_us: int
    retention_us: int
    committed_retention_us: int
    caps: Caps = NO_CAPS


class Ledger:
    """Balances, reservations and orders; what is done to them, each with the entry that tells it."""

    def __init__(self, limits: Limits, *, index: int = 0) -> None:
        self.now_us = 0
        self.ledger: list[Entry] = []
        self.skus: dict[Sku, Stock] = {}
        self.records: dict[Token, Record] = {}
        self.orders: dict[tuple[str, str], Order] = {}
        self._common: dict[str, Any] = {}
        self.limits = limits
        self._index = index

    # What is done

    def _sell(self, sku: Sku, quantity: int) -> None:
        self.skus[sku].reserved -= quantity
        self.skus[sku].committed += quantity

    def _give_back(self, record: Record, kind: str, quantities: Mapping[Sku, int], *, last: Sku | None = None) -> None:
        """Units go back, first those that were promised beyond stock; the record keeps the rest, if any is left."""
        for line in sorted(record.lines, key=lambda line: line.sku == last):
            if quantity := quantities.get(line.sku, 0):
                stock = self.skus[line.sku]
                stock.committed -= quantity if kind == "cancelled" else 0
                stock.reserved -= quantity if kind != "cancelled" else 0
                stock.promised[record.channel] -= quantity
                stock.set_uncovered(record, max(0, stock.uncovered.get(record, 0) - quantity))
                self._append(record, kind, line.sku, quantity)
        left = (Line(line.sku, line.quantity - quantities.get(line.sku, 0)) for line in record.lines)
        record.lines = tuple(line for line in left if line.quantity) or record.lines

    def _keep_allocated(self, record: Record, left: dict[Sku, int]) -> None:
        """Takes from the allocations what is left of the lines, in the order they were decided, and drops the rest."""
        decided, record.allocations = record.allocations, []
        for each in decided:
            units = min(each.quantity, left.get(each.sku, 0))
            self.skus[each.sku].places[each.location_id].allocated -= each.quantity - units
            if units < each.quantity:
                self._append_of(record, "stock.allocated", each.sku, units - each.quantity, each.location_id)
            if units:
                left[each.sku] -= units
                record.allocations.append(Allocation(each.sku, each.location_id, units))

    def _change(
        self, sku: Sku, location_id: str, change: int, kind: str, *, source: str = OPERATOR, is_count: bool = False
    ) -> None:
        """Units at a location. What is withheld is reckoned anew when they arrive there or are counted."""
        stock = self.skus[sku]
        place = stock.places[location_id]
        place.on_hand += change
        does_arrive = change > 0 and kind not in ("stock.transferred", "stock.corrected")
        if place.is_shared and (does_arrive or is_count):
            stock.withhold()
        self._append_stock(kind, sku, change, location_id, source=source)

    def _end(self, record: Record, status: str) -> None:
        """Nothing waits for it any more: it rests."""
        kept_us = self.limits.committed_retention_us if status == "committed" else self.limits.retention_us
        if record.is_of_order:
            kept_us = max(kept_us, ORDER_SALES_KEPT_US)
        record.status = status
        self._keep(record, kept_us)

    def _keep(self, record: Record, kept_us: int) -> None:
        """It is forgotten so much later than now."""
        record.kept_us, record.kept_until_us = kept_us, self.now_us + kept_us

    # Entries

    def _begin(self, data: Mapping[str, object], reason: str = "") -> None:
        """What all entries of a command have in common."""
        command = len(self.ledger) + 1
        self._common = {
            "partition": self._index, "command": command, "at_us": self.now_us, "data": data, "reason": reason,
        }  # fmt: skip

    def _go_on(self, reason: str) -> None:
        """What follows from the command in hand, as entries of it."""
        self._common |= {"data": {}, "reason": reason}

    def _append(self, record: Record, kind: str, sku: Sku, quantity: int) -> None:
        self._append_of(record, f"reservation.{kind}", sku, quantity)

    def _append_of(self, record: Record, kind: str, sku: Sku, quantity: int, location_id: str | None = None) -> None:
        record.sequence = len(self.ledger) + 1
        self._append_entry(
            kind, sku, quantity, token=record.token, agent_id=record.agent_id, channel=record.channel,
            expires_us=record.deadline_us, location_id=location_id,
        )  # fmt: skip

    def _append_stock(
        self, kind: str, sku: Sku, quantity: int = 0, location_id: str | None = None, *, source: str = OPERATOR
    ) -> None:
        location_kind = None
        if location_id is not None:
            location_kind = "shared" if self.skus[sku].places[location_id].is_shared else "dedicated"
        self._append_entry(
            kind, sku, quantity, location_id=location_id, location_kind=location_kind, source=source,
            safety_stock=self.skus.get(sku, Stock()).safety_stock,
        )  # fmt: skip

    def _append_entry(self, kind: str, sku: Sku, quantity: int, **shape: Any) -> None:
        stock = self.skus.get(sku, Stock())
        stock.cover()
        stock.sequence = len(self.ledger) + 1
        entry = Entry(
            **self._common, **shape, sequence=stock.sequence, type=kind, sku=sku, quantity=quantity,
            on_hand=stock.on_hand, reserved=stock.reserved, committed=stock.committed,
            backordered=stock.backordered, available=stock.available,
        )  # fmt: skip
        self.ledger.append(entry)
