"""A ledger entry: an immutable change of one SKU, with its balances after it."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.domain.types import Sku, Token


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. Times in us of engine time; `quantity` is positive for reservation.*, the signed change for stock.*.

    `command` is the sequence of the first entry of the command it belongs to. Of the last nine fields an entry has
    those of its shape: token to expires_us for reservation.*, location_id to location_kind for stock.*, sku.updated
    and category.updated, whose SKU is empty; stock.allocated has token to location_id. `expires_us` is the deadline
    after the entry; `data` what a rebuild needs besides.
    """

    partition: int
    sequence: int
    command: int
    at_us: int
    type: str
    sku: Sku
    quantity: int
    on_hand: int
    reserved: int
    committed: int
    backordered: int
    available: int
    reason: str
    data: Mapping[str, object]
    token: Token | None = None
    agent_id: str | None = None
    channel: str | None = None
    expires_us: int | None = None
    location_id: str | None = None
    source: str | None = None
    safety_stock: int | None = None
    location_kind: str | None = None

    @property
    def command_id(self) -> str:
        """Names the command across partitions."""
        return f"{self.partition}-{self.command}"
