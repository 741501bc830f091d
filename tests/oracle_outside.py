"""What the model makes of what the outside says: the lines of a delivery, and an authority's word.

Written for histories of some days: no delivery is forgotten, and no location hears of more than 64 that came or went.
"""

import re
from collections.abc import Mapping
from typing import Any

from app.domain.types import Sku, Token
from app.domain.updates import Delivery, UpdateKind, UpdateResult, UpdateStatus
from app.store.updates import Drift, KindOf, Reconciled
from tests.oracle_facts import ARRIVALS, OF_ORDERS, Said
from tests.oracle_ledger import Limits
from tests.oracle_orders import News
from tests.oracle_partition import Partition
from tests.oracle_stock import Place, Stock

TOKEN = re.compile(r"\d+-[\w-]{22}", re.ASCII)
ENTRIES = {
    UpdateKind.RECEIVE: "stock.received", UpdateKind.RETURN: "stock.returned", UpdateKind.ADJUST: "stock.adjusted",
    UpdateKind.COUNT: "stock.counted", UpdateKind.TRANSFER: "stock.transferred", UpdateKind.SALE: "stock.sale",
    UpdateKind.PICK: "stock.picked", UpdateKind.PACK: "stock.packed", UpdateKind.SHIP: "stock.shipped",
    UpdateKind.CANCEL: "stock.cancelled", UpdateKind.OBSERVE: "stock.observed",
}  # fmt: skip


class Outside(Partition):
    """Facts from outside are not refused. Each line is a command, and applied once where its delivery has an id."""

    def __init__(self, limits: Limits, *, index: int = 0) -> None:
        super().__init__(limits, index=index)
        self._applied: dict[tuple[str, str, int], int] = {}

    # Deliveries

    def deliver(self, delivery: Delivery, *, kind_of: KindOf) -> list[UpdateResult]:
        while not self._settle(line.sku for line in delivery.updates):
            pass
        return [self._apply(Said(delivery, line), kind_of) for line in delivery.updates]

    def _apply(self, said: Said, kind_of: KindOf) -> UpdateResult:
        number, sku = said.line.number, said.line.sku
        if said.name in self._applied:
            return UpdateResult(number, sku, UpdateStatus.DUPLICATE, self._applied[said.name])
        status = self._hear(said, kind_of)
        if status is not UpdateStatus.APPLIED:
            return UpdateResult(number, sku, status, 0)
        self._close_shortfall(sku)
        if said.by.delivery_id:
            self._applied[said.name] = len(self.ledger)
        return UpdateResult(number, sku, status, len(self.ledger))

    def _hear(self, said: Said, kind_of: KindOf) -> UpdateStatus:
        line = said.line
        creates = said.by.may_create_skus and line.kind in (UpdateKind.COUNT, UpdateKind.RECEIVE)
        if line.sku not in self.skus and not creates:
            return UpdateStatus.UNKNOWN_SKU
        self._begin(_told(said))
        if line.kind in OF_ORDERS and not _left_without_order(said):
            return self._hear_of_order(said, kind_of)
        return self._hear_of_place(said, kind_of)

    def _hear_of_place(self, said: Said, kind_of: KindOf) -> UpdateStatus:
        line, stock = said.line, self.skus.get(said.line.sku) or Stock()
        if line.kind is UpdateKind.OBSERVE:
            self._append_stock("stock.observed", line.sku, line.quantity, source=said.by.source)
            return UpdateStatus.APPLIED
        ends = {line.location_id: line.quantity if line.kind in ARRIVALS else -line.quantity}
        if line.to_location_id is not None:
            ends[line.to_location_id] = line.quantity
        changes: dict[str, int] = {}
        for location_id, quantity in ends.items():
            place = stock.places.get(location_id) or Place(kind_of(location_id) == "shared")
            is_count = line.kind is UpdateKind.COUNT
            change = place.hear_count(said.count()) if is_count else place.hear(said.delta(quantity))
            if change is None:
                return UpdateStatus.STALE
            stock.places[location_id] = place
            changes[location_id] = change
        self.skus[line.sku] = stock
        for location_id, change in changes.items():
            self._change(
                line.sku, location_id, change, ENTRIES[line.kind], source=said.by.source,
                is_count=line.kind is UpdateKind.COUNT,
            )  # fmt: skip
        return UpdateStatus.APPLIED

    def _hear_of_order(self, said: Said, kind_of: KindOf) -> UpdateStatus:
        line = said.line
        news = self._open_order_told(said)
        if news is None:
            return UpdateStatus.UNKNOWN_REFERENCE
        told = news.order.line(line.sku)
        told.said.append(said)
        if said.is_departure:
            self.skus[line.sku].places.setdefault(line.location_id, Place(kind_of(line.location_id) == "shared"))
        moves = self._tell(news, line.sku)
        own = sum(units for each, units in moves if each is said)
        news.moves.extend(move for move in moves if move[0] is not said)
        self._common["reason"] = told.review
        kind, source = ENTRIES[line.kind], said.by.source
        if said.is_departure:
            place = self.skus[line.sku].places[line.location_id]
            change = place.hear(said.delta(-own)) if own else 0
            self._change(line.sku, line.location_id, change, kind, source=source)
        else:
            self._append_stock(kind, line.sku, line.quantity, source=source)
        self._close(news)
        return UpdateStatus.APPLIED

    def _open_order_told(self, said: Said) -> News | None:
        """By the token of a reservation of this SKU, or by the order's id; a sale without either is an order itself."""
        line = said.line
        if line.reference is None:
            own = f"\t{said.by.source}:{said.by.delivery_id}#{line.number}"
            return self._open_order(line.channel, own) if line.kind is UpdateKind.SALE else None
        if not TOKEN.fullmatch(line.reference):
            return self._open_order(line.channel, line.reference)
        record = self.records.get(Token(line.reference))
        is_its = record is not None and any(each.sku == line.sku for each in record.first_lines)
        return self._open_order_of(record) if record and is_its else None

    # Reconciliation

    def reconcile(self, sku: Sku, authorities: Mapping[str, str]) -> Reconciled:
        """Each location is brought to what its authority last said; by the same word of it only once."""
        self._settle_whole(sku)
        checked, drifts = 0, list[Drift]()
        for location_id, place in sorted(self.skus[sku].places.items()) if sku in self.skus else ():
            source = authorities.get(location_id, "")
            words = [count for count in place.facts.standing if count.source == source]
            if not words:
                continue
            word = max(words, key=lambda count: count.rank)
            ledger, authority = place.on_hand, place.facts.by(word)
            checked += 1
            if ledger != authority:
                is_new = word != place.enforced
                if is_new:
                    place.enforced = word
                    quantities = {"ledger_quantity": ledger, "authority_quantity": authority}
                    self._begin(quantities, "reconciliation")
                    self._change(sku, location_id, authority - ledger, "stock.corrected", source=source)
                    self._close_shortfall(sku)
                outcome = "corrected" if is_new else "overridden"
                drifts.append(Drift(sku, location_id, source, ledger, authority, outcome, len(self.ledger)))
        return Reconciled(checked, drifts)


def _left_without_order(said: Said) -> bool:
    """Units that left, and nobody says for which order."""
    return said.line.reference is None and said.is_departure and said.line.kind in (UpdateKind.SALE, UpdateKind.SHIP)


def _told(said: Said) -> dict[str, Any]:
    """What the ledger keeps of a line: all of it."""
    line = said.line
    told: dict[str, Any] = {
        "delivery_id": said.by.delivery_id, "line": line.number, "kind": line.kind, "told": line.quantity,
        "location_id": line.location_id, "occurred_at_us": line.occurred_at_us, "clock": line.clock,
        "system": line.system, "priority": said.by.priority,
    }  # fmt: skip
    if line.reference is not None or line.kind is UpdateKind.SALE:
        told |= {"reference": line.reference, "channel": line.channel, "deduct_on": said.by.deduct_on}
    if line.to_location_id is not None:
        told["to_location_id"] = line.to_location_id
    return told
