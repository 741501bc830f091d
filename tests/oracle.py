"""The contract as a model: what every command must answer, and what the ledger must say after it.

Written from the documents and not from the scripts: integers, dictionaries and sums, no index, no encoding. Nothing
here is random or reads a clock: engine time is set from outside, and a new reservation is given its token.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from app.domain.callers import Claim
from app.domain.outcomes import (
    AboveLimit,
    AdjustOutcome,
    AgentQuotaExceeded,
    AvailabilityOutcome,
    ChannelLimitExceeded,
    Held,
    IdempotencyConflict,
    LifetimeExceeded,
    LocationShort,
    OutOfStock,
    PutSkuOutcome,
    QuantityAboveLimit,
    QuantityExceeds,
    ReservationEnded,
    ReserveOutcome,
    Shortfall,
    ShortLine,
    SkuAnswered,
    SkuNotFound,
    StockBelowZero,
    TransferOutcome,
    VerbOutcome,
)
from app.domain.types import Allocation, Line, Sku, Token
from app.store.decoding import encode_policy
from tests.oracle_outside import Outside
from tests.oracle_partition import Expiries, Request
from tests.oracle_stock import LIVE, OPEN, SOLD, Place, Record, Stock, spoken

QUANTITY_MAX = 10**12
SWEPT_LINES_MAX = 100
NO_SKU = Sku("")  # what an entry about a category is about


class Oracle(Outside):
    """One partition. A command is named as in app.store.commands, takes what it takes, answers what it must answer."""

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
        """Each SKU comes once; `token` is what the units are held under, if they are held now."""
        account = request.account if self.limits.caps.is_any else ""
        is_clear = self._settle((line.sku for line in lines), account)
        if request.scope in self._answers:
            fingerprint, first = self._answers[request.scope]
            if fingerprint != request.fingerprint:
                return IdempotencyConflict()
            return Held(self._as_at_first(first, self.records[first.token]), is_replayed=True)
        refusal = self._refusal(lines, channel, account)
        if refusal is None and (short := tuple(self._short_lines(lines, token, allow_backorder=allow_backorder))):
            refusal = OutOfStock(short, self.now_us)
        if isinstance(refusal, AgentQuotaExceeded | ChannelLimitExceeded | OutOfStock) and not is_clear:
            how: dict[str, Any] = {"channel": channel, "ttl_us": ttl_us, "allow_backorder": allow_backorder}
            return self.reserve(lines, agent_id=agent_id, token=token, request=request, **how)
        if refusal:
            return refusal

        details = msgspec.json.encode(request.data) if request.data else b""
        held = tuple(lines)
        deadline_us, who = self.now_us + ttl_us, _named(holder=request.holder, account=account)
        record = Record(token, agent_id, channel, details, self.now_us, deadline_us, held, held, **who)
        self.records[token] = record
        self._begin({**request.data, **who})
        for line in held:
            stock = self.skus[line.sku]
            stock.set_uncovered(record, max(0, line.quantity - stock.available))
            stock.reserved += line.quantity
            stock.promised[channel] += line.quantity
            self._append(record, "held", line.sku, line.quantity)
        return Held(self._done(record, request).reservation, is_replayed=False)

    def _refusal(
        self, lines: Sequence[Line], channel: str, account: str
    ) -> SkuNotFound | QuantityAboveLimit | AgentQuotaExceeded | ChannelLimitExceeded | OutOfStock | None:
        """The first line that may not be asked for, however much there is."""
        for line in lines:
            if line.sku not in self.skus:
                return SkuNotFound(line.sku)
        for line in lines:
            quantity_max = self.skus[line.sku].policy.max_quantity_per_reservation
            if quantity_max is not None and line.quantity > quantity_max:
                return QuantityAboveLimit(line.sku, quantity_max)
        if account and (quota := self._broken_cap(lines, account)):
            return quota
        for line in lines:
            promised = self.skus[line.sku].promised[channel]
            limit = self.skus[line.sku].policy.channel_limits.get(channel)
            if limit is not None and promised + line.quantity > limit:
                return ChannelLimitExceeded(line.sku, limit, promised)
        return None

    def _broken_cap(self, lines: Sequence[Line], account: str) -> AgentQuotaExceeded | None:
        """The first cap that these lines would break."""
        caps, expiries = self.limits.caps, self._expiries.get(account, Expiries())
        if caps.expired_holds is not None and expiries.cooling_until_us > self.now_us:
            limit, until_us = caps.expired_holds, expiries.cooling_until_us
            return AgentQuotaExceeded("expired_holds", limit, limit, until_us, self.now_us)
        own = self._open_in(account)
        retry_at_us = min((record.deadline_us for record in own), default=None)
        if caps.open_holds is not None and len(own) >= caps.open_holds:
            return AgentQuotaExceeded("open_holds", caps.open_holds, len(own), retry_at_us, self.now_us)
        held = Counter[Sku]()
        for record in own:
            held.update(record.quantities)
        if caps.held_units is not None and held.total() + sum(line.quantity for line in lines) > caps.held_units:
            return AgentQuotaExceeded("held_units", caps.held_units, held.total(), retry_at_us, self.now_us)
        for line in lines if caps.sku_share_basis_points is not None else ():
            stock = self.skus[line.sku]
            there = stock.on_hand + stock.backordered - stock.committed - stock.safety_stock
            share = max(1, -(-there * (caps.sku_share_basis_points or 0) // 10_000))
            if held[line.sku] + line.quantity > share:
                return AgentQuotaExceeded("sku_share", share, held[line.sku], retry_at_us, self.now_us, line.sku)
        return None

    def _open_in(self, account: str) -> list[Record]:
        return [record for record in self.records.values() if record.account == account and record.status in OPEN]

    def _short_lines(self, lines: Sequence[Line], token: Token, *, allow_backorder: bool) -> Iterator[ShortLine]:
        for line in lines:
            stock = self.skus[line.sku]
            backorder_left = stock.backorder_left(token)
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
        if record.status not in OPEN:
            asked = {line.sku: line.quantity for line in lines or record.first_lines}
            is_same = record.status in (*SOLD, "pending_reconciliation") and asked == record.sold
            return self._unchanged(record) if is_same else ReservationEnded(self._answer(record))
        wanted = record.wanted(lines)
        if wanted is None:
            return QuantityExceeds()
        refusal = self._unsaleable(record, wanted)
        if isinstance(refusal, Shortfall) and not self._is_clear:
            return self.commit(token, order_id=order_id, lines=lines, request=request)
        if refusal:
            return refusal
        self._begin({**request.data, "order_id": order_id} if order_id else request.data)
        record.order_id = order_id
        self._sell_lines(record, wanted)
        return self._done(record, request)

    def _unsaleable(self, record: Record, wanted: Mapping[Sku, int]) -> ReservationEnded | Shortfall | None:
        """What a fact from outside took away is voided first; a payment that runs is for a person to decide."""
        for sku in [sku for sku in record.skus if sku in wanted and self.skus[sku].shortfall]:
            self._begin({})
            self._close_shortfall(sku)
        if record.status not in OPEN:
            return ReservationEnded(self._answer(record))
        return Shortfall() if any(self.skus[sku].shortfall for sku in wanted) else None

    def _sell_lines(self, record: Record, wanted: Mapping[Sku, int]) -> None:
        """At once, or after a window if one of the SKUs has one. What is not wanted goes back.

        What was said of the token is said of the order as soon as it has a name.
        """
        window_us = max(self.skus[sku].policy.reconciliation_hold_us for sku in wanted)
        if window_us:
            record.deadline_us = self.now_us + window_us
        is_renamed = record.has_order and record.order_id
        news = self._open_order_of(record) if is_renamed or (record.is_of_order and not window_us) else None
        unsold = {sku: quantity - wanted.get(sku, 0) for sku, quantity in record.quantities.items()}
        for sku in record.skus:
            sold = 0 if window_us else wanted.get(sku, 0)
            if news:
                self._sell_to(news, record, sku, sold)
            else:
                self._sell(sku, sold)
            if sku in wanted:
                self._append(record, "reconciling" if window_us else "committed", sku, wanted[sku])
        self._give_back(record, "released", unsold)
        record.sold = wanted
        if window_us:
            record.status = "pending_reconciliation"
        else:
            self._end(record, "committed")
        if news:
            self._close(news)

    def release(self, token: Token, *, request: Request) -> VerbOutcome:
        record = self._opened(token, request)
        if not isinstance(record, Record):
            return record
        if record.status in ("released", "expired", "voided"):
            return self._unchanged(record)
        if record.status not in OPEN:
            return ReservationEnded(self._answer(record))
        self._begin(request.data)
        self._give_back(record, "released", record.quantities)
        self._end(record, "released")
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
        news = self._open_order_of(record) if record.is_of_order else None
        if news:  # units that have left are not in the order any more
            there = {sku: min(units, news.order.line(sku).booked) for sku, units in record.quantities.items()}
            wanted = wanted if lines else {sku: units for sku, units in there.items() if units}
            if not wanted or any(units > there[sku] for sku, units in wanted.items()):
                return QuantityExceeds()
        self._begin(request.data)
        if news:
            self._take_back(news, wanted)
        is_all = wanted == record.quantities
        self._give_back(record, "cancelled", wanted)
        self._keep_allocated(record, {} if is_all else record.quantities)
        if is_all:
            self._end(record, "cancelled")
        if news:
            self._close(news)
        return self._done(record, request)

    def allocate(self, token: Token, allocations: Sequence[Allocation], *, request: Request) -> VerbOutcome:
        """Each pair of SKU and location comes once."""
        record = self._opened(token, request)
        if not isinstance(record, Record):
            return record
        if record.status != "committed":
            return ReservationEnded(self._answer(record))
        named = Counter[Sku]()
        for each in allocations:
            named[each.sku] += each.quantity
        if any(units > record.quantities.get(sku, 0) for sku, units in named.items()):
            return QuantityExceeds()
        kept = [each for each in record.allocations if each.sku not in named]
        change = _difference([each for each in record.allocations if each.sku in named], allocations)
        if any(self._is_short(*where, units) for where, units in change.items()):
            return LocationShort()
        if not any(change.values()):
            return self._unchanged(record)

        rows = [[each.sku, each.location_id, each.quantity] for each in allocations]
        self._begin({**request.data, "allocations": rows})
        for (sku, location_id), units in change.items():
            if units:
                self.skus[sku].places[location_id].allocated += units
                self._append_of(record, "stock.allocated", sku, units, location_id)
        record.allocations = [*kept, *allocations]
        return self._done(record, request)

    def _is_short(self, sku: Sku, location_id: str, units: int) -> bool:
        """Would a location have to give more than nobody has decided about? A dedicated one gives nothing."""
        place = self.skus[sku].places.get(location_id, Place(is_shared=False))
        return units > 0 and (not place.is_shared or place.allocated + units > place.on_hand)

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
        if deadline_us > record.created_us + self.limits.max_lifetime_us:
            return LifetimeExceeded()
        record.deadline_us, record.status = deadline_us, status or record.status
        self._begin(request.data)
        for line in record.lines:
            self._append(record, status or "extended", line.sku, line.quantity)
        return self._done(record, request)

    def read(self, token: Token, *, claim: Claim | None = None) -> VerbOutcome:
        record = self._opened(token, Request(claim=claim))
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
        location_kind: str,
        mode: Literal["delta", "count"],
        amount: int,
        reason: str,
        expected_sequence: str = "",
        request: Request,
    ) -> AdjustOutcome:
        self._settle_whole(sku)
        if replayed := self._stock_replayed(sku, request):
            return replayed
        stock = self.skus.get(sku) or Stock()
        if mismatch := stock.mismatch(expected_sequence):
            return mismatch
        place = stock.places.get(location_id) or Place(location_kind == "shared")
        change = amount if mode == "delta" else amount - place.on_hand
        if place.on_hand + change < 0 and change < 0:
            return StockBelowZero()
        on_hand = stock.on_hand if place.is_shared else place.on_hand
        if max(place.on_hand, on_hand) + change > QUANTITY_MAX:
            return AboveLimit()

        self.skus[sku] = stock
        stock.places[location_id] = place
        self._begin(request.data, reason)
        self._change(sku, location_id, change, "stock.adjusted", is_count=mode == "count")
        return self._stock_done(sku, self._close_shortfall(sku), request)

    def transfer(
        self,
        sku: Sku,
        *,
        from_location_id: str,
        to_location_id: str,
        to_location_kind: str,
        quantity: int,
        reason: str,
        expected_sequence: str = "",
        request: Request,
    ) -> TransferOutcome:
        """Units that leave the shared locations are a loss like any other; nothing arrives, so nothing is withheld."""
        self._settle_whole(sku)
        if replayed := self._stock_replayed(sku, request):
            return replayed
        stock = self.skus.get(sku) or Stock()
        if mismatch := stock.mismatch(expected_sequence):
            return mismatch
        if sku not in self.skus:
            return SkuNotFound(sku)
        source = stock.places.get(from_location_id)
        if source is None or source.on_hand < quantity:
            return StockBelowZero()
        target = stock.places.get(to_location_id) or Place(to_location_kind == "shared")
        gained = quantity if target.is_shared and not source.is_shared else 0
        if target.on_hand + quantity > QUANTITY_MAX or stock.on_hand + gained > QUANTITY_MAX:
            return AboveLimit()

        self._begin(request.data, reason)
        self._change(sku, from_location_id, -quantity, "stock.transferred")
        stock.places[to_location_id] = target
        self._change(sku, to_location_id, quantity, "stock.transferred")
        return self._stock_done(sku, self._close_shortfall(sku), request)

    def put_sku(
        self, sku: Sku, policy: Mapping[str, Any], *, may_create: bool, expected_sequence: str = "", request: Request
    ) -> PutSkuOutcome:
        """`policy` holds the attributes of a Policy that change."""
        self._settle_whole(sku)
        is_new = sku not in self.skus
        if mismatch := self.skus.get(sku, Stock()).mismatch(expected_sequence):
            return mismatch
        if is_new and not may_create:
            return SkuNotFound(sku)
        stock = self.skus.setdefault(sku, Stock())
        stock.say(policy, self.categories)
        inherited = {"inherited": encode_policy(stock.inherited)} if stock.inherited else {}
        self._begin({**request.data, **inherited})
        self._append_stock("sku.updated", sku)
        return SkuAnswered(self._state(sku), is_created=is_new)

    def put_category(self, category: str, policy: Mapping[str, Any], *, request: Request) -> int:
        """Its SKUs take it when they are next written; `policy` holds all the attributes that it says something of."""
        self.categories[category] = spoken(policy)
        self._begin(request.data)
        self._append_stock("category.updated", NO_SKU)
        return len(self.ledger)

    def availability(self, sku: Sku, *, channel: str) -> AvailabilityOutcome:
        self._settle_whole(sku)
        return SkuAnswered(self._state(sku, channel)) if sku in self.skus else SkuNotFound(sku)


def _named(**texts: str) -> dict[str, Any]:
    return {name: text for name, text in texts.items() if text}


def _difference(before: Sequence[Allocation], after: Sequence[Allocation]) -> Counter[tuple[Sku, str]]:
    """What was decided before is undone, then what is decided now is done."""
    change = Counter[tuple[Sku, str]]()
    for each in before:
        change[each.sku, each.location_id] -= each.quantity
    for each in after:
        change[each.sku, each.location_id] += each.quantity
    return change
