"""Writes rows of stock many at a time: see lua/import_stock.lua."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from app.domain.errors import EngineBusy, EngineCorrupt
from app.domain.types import Sku
from app.store import calls
from app.store.commands import Commands, LocationKind
from app.store.keys import PartitionKeys

Mode = Literal["check", "apply"]


class StockRow(NamedTuple):
    """What is said of a SKU: units counted at a location, both None where it is the policy alone.

    `policy` is empty or what the ledger keeps of a policy, {"policy": {field: text}} as JSON; `number` is where the row
    stands in its file.
    """

    number: int
    sku: Sku
    location_id: str | None
    on_hand: int | None
    policy: str


@dataclass(frozen=True, slots=True)
class RowsDone:
    """So many of the rows changed something; the others were so already."""

    changed: int


@dataclass(frozen=True, slots=True)
class RowRefused:
    """A row that cannot be, for `reason`: too_many_locations or above_limit. Those before it are done."""

    row: StockRow
    reason: str


async def write_rows(
    commands: Commands,
    keys: PartitionKeys,
    rows: Sequence[StockRow],
    *,
    mode: Mode,
    reason: str,
    kind_of: Callable[[str], LocationKind],
) -> RowsDone | RowRefused:
    """Applies rows of one partition, those of a SKU together, or only checks that they can be applied.

    At most 300. What is promised and no longer there is voided. `kind_of` decides where a location is new to a SKU.
    Raises EngineError: what was done stands, and doing all again is harmless.
    """
    changed, left = 0, list(rows)
    while left:
        script_keys, args = _wire(keys, left, kind_of)
        not_after_us = commands.not_after_us(keys)
        head = calls.ImportStockArgs(not_after_us, mode, reason)
        raw = await commands.call("import_stock", keys, script_keys, (*head, *args))
        reply = calls.ImportStockReply(*raw)
        done = int(reply.rows)
        changed += int(reply.changed)
        match reply.status:
            case b"done" if done:
                pass
            case b"voiding":
                await commands.close_shortfall(left[done - 1].sku)
            case b"too_many_locations" | b"above_limit":
                return RowRefused(left[done], reply.status.decode())
            case b"too_late":
                raise EngineBusy("the rows reached the engine too late and had no effect")
            case _:
                raise EngineCorrupt("import_stock answered with an unknown status")
        del left[:done]
    return RowsDone(changed)


def _wire(
    keys: PartitionKeys, rows: Sequence[StockRow], kind_of: Callable[[str], LocationKind]
) -> tuple[list[str], list[calls.Argument]]:
    """The keys and the arguments of rows."""
    script_keys = [keys.meta, keys.ledger, keys.deadlines]
    args: list[calls.Argument] = []
    for _, sku, location_id, on_hand, policy in rows:
        script_keys += (keys.sku(sku), keys.holds(sku), keys.locations(sku))
        location = location_id or ""
        args += (sku, location, kind_of(location), "" if on_hand is None else on_hand, policy)
    return script_keys, args
