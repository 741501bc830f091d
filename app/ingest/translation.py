"""A vendor's line in our words: its SKU, its locations, its clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.connectors.connector import VendorLine
from app.connectors.source_settings import SourceSettings
from app.domain.types import Sku
from app.domain.updates import StockUpdate, UpdateKind
from app.store.mappings import SourceMapping
from app.store.source_states import ClockKind


class Untranslatable(StrEnum):
    """Why a line has no meaning here."""

    UNKNOWN_SKU = "unknown_sku"
    UNKNOWN_LOCATION = "unknown_location"
    CLOCK_AMBIGUOUS = "clock_ambiguous"
    CLOCK_MIXED = "clock_mixed"


@dataclass(frozen=True, slots=True)
class Dictionary:
    """What a source's words mean: as its table in lastunit.toml says, and before that what operators said since."""

    source: str
    settings: SourceSettings
    mapping: SourceMapping
    clock_kind: ClockKind

    def translate(self, number: int, line: VendorLine) -> StockUpdate | Untranslatable:
        """The line as ours, the one with this number in its delivery."""
        sku = self._sku(line)
        if sku is None:
            return Untranslatable.UNKNOWN_SKU
        location_id = self._location(line.location_id) if line.location_id else self.settings.default_location
        to_location_id = self._location(line.to_location_id) if line.to_location_id else None
        if location_id is None or (line.to_location_id and to_location_id is None):
            return Untranslatable.UNKNOWN_LOCATION
        if clock_kind_of(line) is not self.clock_kind:
            return Untranslatable.CLOCK_MIXED
        clock = line.clock or {self.source: line.occurred_at_us}
        system = self._system(clock, line.kind)
        if system is None:
            return Untranslatable.CLOCK_AMBIGUOUS
        return StockUpdate(
            number=number,
            kind=line.kind,
            sku=sku,
            location_id=location_id,
            quantity=line.quantity,
            occurred_at_us=line.occurred_at_us,
            clock=clock,
            system=system,
            channel=line.channel or self.settings.channel,
            to_location_id=to_location_id,
            reference=line.reference,
        )

    def own_numbers(self, line: VendorLine) -> list[int]:
        """What the source counts its deliveries by, also of a line that has no meaning here: it came."""
        clock = line.clock or {}
        system = self._system(clock, line.kind) if clock else None
        return [] if system is None else [clock[system]]

    def _sku(self, line: VendorLine) -> Sku | None:
        found = self.mapping.skus.get(line.item_id) or (self.settings.skus or {}).get(line.item_id) or line.sku
        return None if found is None else Sku(found)

    def _location(self, name: str) -> str | None:
        """Ours; where lastunit.toml has a table for them, nothing is taken as it is."""
        table = self.settings.locations
        return self.mapping.locations.get(name) or (name if table is None else table.get(name))

    def _system(self, clock: Mapping[str, int], kind: UpdateKind) -> str | None:
        """Whose number in the clock is the line's own. A count needs none: it says what was seen of each."""
        if self.source in clock:
            return self.source
        return min(clock) if len(clock) == 1 or kind is UpdateKind.COUNT else None


def clock_kind_of(line: VendorLine) -> ClockKind:
    """How the line says when it was."""
    return ClockKind.TIME if line.clock is None else ClockKind.COUNTER
