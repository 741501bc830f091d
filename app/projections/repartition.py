"""Deals a ledger out to another number of partitions: what the same commands would have left there. Pure.

All commands of all partitions are put in one order (engine time, partition, sequence), and each entry to where its SKU
belongs now, under a new sequence. A command whose lines part ways becomes one in each partition; what is about a
category goes to every one.
"""

import heapq
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace

import msgspec

from app.domain.entries import Entry
from app.domain.errors import CommandRefused
from app.domain.types import Sku, Token
from app.store.keys import Keyspace

STAYS_LIVE = frozenset(
    {"reservation.held", "reservation.extended", "reservation.payment_pending", "reservation.reconciling"}
)

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
        self._parted: dict[Token, set[Sku]] = {}  # live reservations whose lines are no longer together

    def deal(self, command: Sequence[Entry]) -> Iterator[Entry]:
        """The entries of a command as their new partitions have them."""
        firsts: dict[int, int] = {}
        for entry in command:
            for index in self._indexes_of(entry):
                self._sequences[index] += 1
                sequence = self._sequences[index]
                yield replace(
                    entry,
                    partition=index,
                    sequence=sequence,
                    command=firsts.setdefault(index, sequence),
                    data=self._data_of(entry, index),
                )
        for token in {entry.token for entry in command if entry.token is not None}:
            skus = {entry.sku for entry in command if entry.token == token and entry.type in STAYS_LIVE}
            if len({self._keyspace.of_sku(sku).index for sku in skus}) > 1:
                self._parted[token] = skus
            else:
                self._parted.pop(token, None)

    def refuse_parted(self) -> None:
        """Raises CommandRefused where a live reservation could not be ended at once in all of its lines."""
        for token, skus in self._parted.items():
            raise CommandRefused(
                f"Reservation {token} is live, and its SKUs ({', '.join(sorted(skus))}) would lie in different "
                "partitions: release it, or wait until it has ended, and rebuild then."
            )

    def _data_of(self, entry: Entry, index: int) -> Mapping[str, object]:
        """An allocation names the rows of all its lines; in each partition, of those that are there."""
        if entry.type != "stock.allocated":
            return entry.data
        rows = msgspec.convert(entry.data["allocations"], list[tuple[Sku, str, int]])
        return {**entry.data, "allocations": [row for row in rows if self._keyspace.of_sku(row[0]).index == index]}

    def _indexes_of(self, entry: Entry) -> Sequence[int]:
        if entry.sku == "":
            return range(len(self._sequences))
        return (self._keyspace.of_sku(entry.sku).index,)


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
