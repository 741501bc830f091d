"""Ledgers written by hand, as rows, and lies about them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from app.domain.entries import Entry
from app.domain.errors import LedgerBroken
from app.domain.types import Sku
from app.projections.replay import Replay
from app.store.keys import Keyspace

S = 1_000_000
KEYS = Keyspace(1).partitions[0]
RETENTION_MS = 24 * 3600 * 1000
COMMITTED_RETENTION_MS = 30 * RETENTION_MS

# Command, second, type, SKU, quantity; then on hand, reserved, committed, backordered, available; what else it says.
Row = tuple[Any, ...]
Lie = Callable[[list[Entry]], list[Entry]]


def entry_of(sequence: int, row: Row) -> Entry:
    command, second, kind, sku, quantity, on_hand, reserved, committed, backordered, available, more = row
    shape: dict[str, Any] = {"location_id": "main", "location_kind": "shared", "source": "operator", "safety_stock": 0}
    shape |= {"reason": "", "data": {}}
    if "token" in more:
        shape = {"agent_id": "agent", "channel": "direct", "reason": "", "data": {}}
        shape["expires_us"] = more["expires_s"] * S
    return Entry(
        partition=0, sequence=sequence, command=command, at_us=second * S, type=kind, sku=Sku(sku), quantity=quantity,
        on_hand=on_hand, reserved=reserved, committed=committed, backordered=backordered, available=available,
        **{**shape, **{name: value for name, value in more.items() if name != "expires_s"}},
    )  # fmt: skip


def replayed(entries: Sequence[Entry]) -> Replay:
    replay = Replay(KEYS, retention_ms=RETENTION_MS, committed_retention_ms=COMMITTED_RETENTION_MS)
    for entry in entries:
        replay.feed(entry)
    replay.finish()
    return replay


def said(sequence: int, /, **lies: Any) -> Lie:
    """The ledger with this entry saying something else."""
    return lambda entries: [replace(entry, **lies) if entry.sequence == sequence else entry for entry in entries]


def untold(*sequences: int) -> Lie:
    """The ledger without these entries, as if they never were: all later ones move up."""

    def change(entries: list[Entry]) -> list[Entry]:
        def moved(sequence: int) -> int:
            return sequence - sum(gone < sequence for gone in sequences)

        kept = (entry for entry in entries if entry.sequence not in sequences)
        return [replace(entry, sequence=moved(entry.sequence), command=moved(entry.command)) for entry in kept]

    return change


def both(*changes: Lie) -> Lie:
    """One lie after the other."""

    def change(entries: list[Entry]) -> list[Entry]:
        for each in changes:
            entries = each(entries)
        return entries

    return change


def told_instead(sequence: int, *rows: Row) -> Lie:
    """The ledger up to `sequence`, and then this."""
    return lambda entries: [*entries[:sequence], *(entry_of(sequence + n, row) for n, row in enumerate(rows, 1))]


def unnoticed(ledger: list[Entry], name: str) -> list[Entry]:
    """The entries of which this field may be anything else, and the replay believes it."""
    found = []
    for entry in ledger:
        value = getattr(entry, name)
        if value is None:
            continue
        lie: Any = value + 1 if isinstance(value, int) else f"{value}x"
        try:
            replayed(said(entry.sequence, **{name: lie})(ledger))
        except LedgerBroken:
            continue
        found.append(entry)
    return found
