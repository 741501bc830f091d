"""From what came to what became of it: parse, translate, apply; what cannot be used is kept as a dead letter."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from app.connectors.connector import Headers, Unreadable, VendorLine
from app.connectors.registry import Connector, make_connector
from app.connectors.source_settings import SourceSettings
from app.domain.updates import Delivery, StockUpdate, UpdateResult, UpdateStatus
from app.ingest.translation import Dictionary, Untranslatable, clock_kind_of
from app.settings import Settings
from app.store import dead_letters
from app.store.store import Store
from app.store.updates import KindOf, apply_delivery

REASON_CHARACTERS_MAX = 500
LINES_AT_ONCE = 500


class ReceiptStatus(StrEnum):
    """What became of a delivery, or of a line of it."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    STALE = "stale"
    IGNORED = "ignored"
    DEAD_LETTERED = "dead_lettered"


LINE_STATUSES = {
    UpdateStatus.APPLIED: ReceiptStatus.APPLIED,
    UpdateStatus.DUPLICATE: ReceiptStatus.DUPLICATE,
    UpdateStatus.STALE: ReceiptStatus.STALE,
}
# A delivery is called by the first of these that some of its lines are.
PRECEDENCE = (ReceiptStatus.APPLIED, ReceiptStatus.DEAD_LETTERED, ReceiptStatus.DUPLICATE, ReceiptStatus.STALE)


@dataclass(frozen=True, slots=True)
class LineReceipt:
    """What became of a line; `reason` where it is dead-lettered. `sku` is the vendor's where there is none of ours."""

    sku: str
    status: ReceiptStatus
    sequence: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a delivery and of its lines, in order; the dead letter where some of them are one."""

    status: ReceiptStatus
    lines: Sequence[LineReceipt]
    dead_letter_id: str | None = None

    @property
    def reason(self) -> str | None:
        """Why lines of it could not be used, None where all could."""
        reasons = {line.reason for line in self.lines if line.reason}
        return ", ".join(sorted(reasons)) or None

    @property
    def lines_left(self) -> Sequence[int] | None:
        """Which lines could not be used; None where none could."""
        left = [number for number, line in enumerate(self.lines) if line.reason]
        return None if len(left) == len(self.lines) else left


@dataclass(frozen=True, slots=True)
class Unusable:
    """A delivery that could not be read at all."""

    unreadable: Unreadable
    dead_letter_id: str | None = None
    status = ReceiptStatus.DEAD_LETTERED
    lines_left = None

    @property
    def reason(self) -> str:
        """Why, with the first field that is wrong."""
        fault, errors = self.unreadable.fault, self.unreadable.errors
        return f"{fault}: {' '.join(errors[0])}" if errors else fault


@dataclass(frozen=True, slots=True)
class Source:
    """A source as this process knows it."""

    name: str
    settings: SourceSettings
    connector: Connector


def make_sources(settings: Settings) -> dict[str, Source]:
    """All that are configured, by name."""
    return {name: Source(name, each, make_connector(name, each)) for name, each in settings.sources.items()}


async def receive(
    store: Store, source: Source, delivery_id: str, headers: Headers, body: bytes, *,
    kind_of: KindOf, only: Collection[int] | None = None,
) -> Receipt | Unusable:  # fmt: skip
    """What became of an authentic delivery; what of it could not be used is kept as a dead letter.

    With `only`, the other lines were applied before, however long ago. Raises EngineError: what was applied stands, and
    the same delivery applies the rest.
    """
    outcome = await process(store, source, delivery_id, headers, body, kind_of=kind_of, only=only)
    if outcome.reason is None:
        return outcome
    letter_id = await dead_letters.keep(
        store.client, store.keyspace.sources, source=source.name, delivery_id=delivery_id,
        received_at_us=store.now_us(), reason=outcome.reason[:REASON_CHARACTERS_MAX], headers=headers, body=body,
        lines=outcome.lines_left,
    )  # fmt: skip
    return replace(outcome, dead_letter_id=letter_id)


async def process(
    store: Store, source: Source, delivery_id: str, headers: Headers, body: bytes, *,
    kind_of: KindOf, only: Collection[int] | None = None,
) -> Receipt | Unusable:  # fmt: skip
    """Reads a delivery and applies what can be used of it. Raises EngineError, as `receive`."""
    parsed = source.connector.parse(headers, body)
    outcome: Receipt | Unusable
    if isinstance(parsed, Unreadable):
        outcome = Unusable(parsed)
        store.source_states.note_delivery(source.name, at_us=store.now_us())
    else:
        outcome = await apply_lines(store, source, delivery_id, parsed, kind_of=kind_of, only=only)
    if outcome.reason is None:
        store.source_states.note_success(source.name, at_us=store.now_us())
    else:
        store.source_states.note_failure(source.name, f"delivery {delivery_id}: {outcome.reason}")
    return outcome


async def apply_lines(
    store: Store, source: Source, delivery_id: str, lines: Sequence[VendorLine], *,
    kind_of: KindOf, only: Collection[int] | None = None,
) -> Receipt:  # fmt: skip
    """Says lines in our words and applies them; without a delivery id as often as they come.

    Raises EngineError, as `receive`.
    """
    translated, counters = await _translate(store, source, lines)
    is_counted = source.settings.poll is None  # a polled source numbers the versions of each row, not what it says
    store.source_states.note_delivery(source.name, at_us=store.now_us(), counters=counters if is_counted else ())
    wanted = range(len(lines)) if only is None else frozenset(only)
    updates = [update for update in translated if isinstance(update, StockUpdate) and update.number in wanted]
    results: list[UpdateResult] = []
    if updates:
        delivery = Delivery(
            source=source.name,
            delivery_id=delivery_id,
            priority=source.settings.priority,
            deduct_on=source.settings.deduct_on,
            may_create_skus=source.settings.unknown_sku == "create",
            updates=updates,
        )
        results = await apply_delivery(store.commands, store.keyspace, delivery, kind_of=kind_of)
    by_number = {result.number: result for result in results}
    receipts = [
        _receipt(line, found, by_number.get(number), is_wanted=number in wanted)
        for number, (line, found) in enumerate(zip(lines, translated, strict=True))
    ]
    return Receipt(_summary(receipts), receipts)


async def _translate(
    store: Store, source: Source, lines: Sequence[VendorLine]
) -> tuple[list[StockUpdate | Untranslatable], list[int]]:
    """The lines as ours, and which of the source's own numbers they bear."""
    if not lines:
        return [], []
    clock_kind = await store.source_states.settle_clock_kind(source.name, clock_kind_of(lines[0]))
    mapping = await store.mappings.of(source.name)
    dictionary = Dictionary(source.name, source.settings, mapping, clock_kind)
    translated: list[StockUpdate | Untranslatable] = []
    for number, line in enumerate(lines):
        if number % LINES_AT_ONCE == LINES_AT_ONCE - 1:
            await asyncio.sleep(0)  # a sale comes first
        translated.append(dictionary.translate(number, line))
    return translated, [number for line in lines for number in dictionary.own_numbers(line)]


def _receipt(
    line: VendorLine, found: StockUpdate | Untranslatable, result: UpdateResult | None, *, is_wanted: bool
) -> LineReceipt:
    sku = found.sku if isinstance(found, StockUpdate) else line.sku or line.item_id
    if not is_wanted:
        return LineReceipt(sku, ReceiptStatus.DUPLICATE)
    if isinstance(found, Untranslatable):
        return LineReceipt(sku, ReceiptStatus.DEAD_LETTERED, reason=found)
    assert result is not None
    status = LINE_STATUSES.get(result.status)
    if status is None:
        return LineReceipt(sku, ReceiptStatus.DEAD_LETTERED, reason=result.status)
    return LineReceipt(sku, status, result.sequence)


def _summary(lines: Sequence[LineReceipt]) -> ReceiptStatus:
    """What a delivery with these lines is called; nothing said is nothing to do."""
    found = {line.status for line in lines}
    return next((status for status in PRECEDENCE if status in found), ReceiptStatus.IGNORED)
