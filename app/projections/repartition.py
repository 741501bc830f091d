"""Deals a ledger out to another number of partitions: what the same commands would have left there. Pure.

All commands of all partitions are put in one order (engine time, partition, sequence), and each entry to where its SKU
belongs now, under a new sequence. A command whose lines part ways becomes one in each partition; what is about a
category goes to every one.
"""

import heapq
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace

import msgspec

from app.domain.entries import Entry
from app.domain.errors import CommandRefused
from app.domain.types import Sku, Token
from app.store.keys import Keyspace

STAYS_LIVE = frozenset(
    {"reservation.held", "reservation.extended", "reservation.payment_pending", "reservation.reconciling"}
)

OF_SALE = frozenset({"reservation.committed", "reservation.released"})

Pages = AsyncIterator[tuple[int, Sequence[Entry]]]


async def merge(partitions: Sequence[Pages]) -> AsyncIterator[list[Entry]]:
    """The commands of all partitions in one order, each whole."""
    commands = [_commands(pages) for pages in partitions]
    heads: list[tuple[int, int, list[Entry]]] = []  # engine time and partition decide: no two are the same
    for index, source in enumerate(commands):
        if first := await anext(source, None):
            heads.append((first[0].at_us, index, first))
    heapq.heapify(heads)
    while heads:
        _, index, command = heads[0]
        yield command
        if following := await anext(commands[index], None):
            heapq.heapreplace(heads, (following[0].at_us, index, following))
        else:
            heapq.heappop(heads)


class Deal:
    """Deals commands out to the partitions of a keyspace."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._sequences = [0] * len(keyspace.partitions)
        self._parted: dict[Token, list[Entry]] = {}  # live reservations whose lines are no longer together, as they are
        # By partition, of what it was and of what it is to be: the last entry about each category.
        self._categories_before: defaultdict[int, dict[str, Entry]] = defaultdict(dict)
        self._categories: list[dict[str, Entry]] = [{} for _ in keyspace.partitions]

    def deal(self, command: Sequence[Entry]) -> Iterator[Entry]:
        """The entries of a command as their new partitions have them."""
        first = command[0]
        if first.type == "category.updated":
            self._categories_before[first.partition][str(first.data["category"])] = first
            for index in range(len(self._sequences)):
                yield from self._categories_for(first, index)
            return
        short = {entry.token: entry.sku for entry in command if entry.type == "reservation.voided"}  # the last of each
        firsts: dict[tuple[int, Token | None], int] = {}
        for entry in command:
            index = self._keyspace.of_sku(entry.sku).index
            if entry.type == "sku.updated":
                yield from self._categories_for(entry, index)
            whose, part = None, self._part_of(entry, index, command)
            if entry.token in short and self._keyspace.of_sku(short[entry.token]).index != index:
                # What it is voided for is elsewhere now: a command of its own, which says so to whoever replays it.
                whose, part = entry.token, replace(part, data={**part.data, "parted": True})
            yield self._numbered(part, index, command=firsts.setdefault((index, whose), self._sequences[index] + 1))
        self._note_parted(command)

    def _part_of(self, entry: Entry, index: int, command: Sequence[Entry]) -> Entry:
        """What an entry says besides its own line, of the lines that are in its partition."""
        if entry.type in OF_SALE and any(
            (other.type, other.token) == ("reservation.committed", entry.token) for other in command
        ):  # its order may lie otherwise now: whoever replays it is told what became of the sale
            return replace(entry, data={**entry.data, "parted": True})
        if "allocations" in entry.data:
            rows = msgspec.convert(entry.data["allocations"], list[tuple[Sku, str, int]])
            here = [row for row in rows if self._keyspace.of_sku(row[0]).index == index]
            return replace(entry, data={**entry.data, "allocations": here})
        if entry.type == "reservation.released" and entry.token in self._parted:
            kept = {self._keyspace.of_sku(other.sku).index for other in command if other.type in STAYS_LIVE}
            if kept and index not in kept:  # a window was opened for the other lines; these end as they were
                return replace(entry, expires_us=self._parted[entry.token][0].expires_us)
        return entry

    def _numbered(self, entry: Entry, index: int, *, command: int) -> Entry:
        self._sequences[index] += 1
        return replace(entry, partition=index, sequence=self._sequences[index], command=command)

    def _categories_for(self, entry: Entry, index: int) -> Iterator[Entry]:
        """Categories as they were in the partition that the entry comes from, where they are not so here already.

        A category is written to one partition after another, and a SKU of the last may have been written meanwhile.
        """
        before, here = self._categories_before[entry.partition], self._categories[index]
        for category in sorted(before.keys() | here.keys()):
            update = before.get(category) or replace(here[category], data={"category": category, "policy": {}})
            if category not in here or here[category].data["policy"] != update.data["policy"]:
                here[category] = update
                moved = replace(update, at_us=entry.at_us)
                yield self._numbered(moved, index, command=self._sequences[index] + 1)

    def _note_parted(self, command: Sequence[Entry]) -> None:
        for token in {entry.token for entry in command if entry.token is not None}:
            live = [entry for entry in command if entry.token == token and entry.type in STAYS_LIVE]
            if len({self._keyspace.of_sku(entry.sku).index for entry in live}) > 1:
                self._parted[token] = live
            else:
                self._parted.pop(token, None)

    def refuse_parted(self) -> None:
        """Raises CommandRefused where a live reservation could not be ended at once in all of its lines."""
        for token, live in self._parted.items():
            raise CommandRefused(
                f"Reservation {token} is live, and its SKUs ({', '.join(entry.sku for entry in live)}) would lie in "
                "different partitions: release it, or wait until it has ended, and rebuild then."
            )


async def _commands(pages: Pages) -> AsyncIterator[list[Entry]]:
    command: list[Entry] = []
    async for _, page in pages:
        for entry in page:
            if entry.command == entry.sequence and command:
                yield command
                command = []
            command.append(entry)
    if command:
        yield command
