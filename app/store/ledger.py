"""Reads the ledger: the stream of a partition, in order."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.entries import Entry
from app.domain.errors import EngineUnavailable, LedgerBroken
from app.domain.types import Sku, Token
from app.store.keys import PartitionKeys

PAGE_SIZE = 1000
LOOKED_AT_MAX = 10_000

Fields = dict[bytes, bytes]


async def read_entries(
    client: Redis,
    keys: PartitionKeys,
    *,
    after: int = 0,
    until: int | None = None,
    is_wanted: Callable[[Fields], bool] | None = None,
) -> AsyncIterator[tuple[int, list[Entry]]]:
    """Pages of entries with after < sequence <= until, oldest first: (the last sequence looked at, the wanted entries).

    A page looks at 1,000 entries at most. Raises EngineUnavailable.
    """
    end = "+" if until is None else str(until)
    while True:
        try:
            page: Sequence[Any] = await client.xrange(keys.ledger, min=str(after + 1), max=end, count=PAGE_SIZE) or []
        except RedisError as error:
            raise EngineUnavailable(f"the ledger cannot be read ({type(error).__name__})") from None
        if page:
            after = sequence_of(page[-1][0])
            wanted = ((entry_id, fields) for entry_id, fields in page if is_wanted is None or is_wanted(fields))
            yield after, [decode_entry(keys.index, sequence_of(entry_id), fields) for entry_id, fields in wanted]
        if len(page) < PAGE_SIZE:
            return


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, the last sequence looked at for them, and if the ledger ends there."""

    entries: list[Entry]
    last: int
    is_end: bool


async def read_page(
    client: Redis, keys: PartitionKeys, *, after: int, limit: int, is_wanted: Callable[[Fields], bool] | None
) -> Page:
    """Up to `limit` wanted entries after a sequence, looking at LOOKED_AT_MAX entries at most."""
    entries: list[Entry] = []
    last = after
    async for looked_to, wanted in read_entries(client, keys, after=after, is_wanted=is_wanted):
        if len(entries) + len(wanted) > limit:
            entries += wanted[: limit - len(entries)]
            return Page(entries, entries[-1].sequence if entries else last, is_end=False)
        entries += wanted
        last = looked_to
        if last - after >= LOOKED_AT_MAX:
            return Page(entries, last, is_end=False)
    return Page(entries, last, is_end=True)


def decode_entry(partition: int, sequence: int, fields: Fields) -> Entry:
    """An entry from the fields that the scripts write; see lua/includes/append_entry.lua. Raises LedgerBroken."""
    try:
        return _decode(partition, sequence, fields)
    except (KeyError, ValueError, msgspec.MsgspecError):
        raise LedgerBroken(sequence, "is not as the scripts write one") from None


def _decode(partition: int, sequence: int, fields: Fields) -> Entry:
    common: dict[str, Any] = {
        "partition": partition,
        "sequence": sequence,
        "command": int(fields[b"command"]),
        "at_us": int(fields[b"at_us"]),
        "type": fields[b"type"].decode(),
        "sku": Sku(fields[b"sku"].decode()),
        "quantity": int(fields[b"quantity"]),
        "on_hand": int(fields[b"on_hand"]),
        "reserved": int(fields[b"reserved"]),
        "committed": int(fields[b"committed"]),
        "backordered": int(fields[b"backordered"]),
        "available": int(fields[b"available"]),
        "reason": fields[b"reason"].decode(),
        "data": msgspec.json.decode(fields[b"data"], type=dict[str, Any]) if fields[b"data"] else {},
    }
    if b"token" in fields:
        return Entry(
            **common,
            token=Token(fields[b"token"].decode()),
            agent_id=fields[b"agent"].decode(),
            channel=fields[b"channel"].decode(),
            expires_us=int(fields[b"expires_us"]),
        )
    return Entry(
        **common,
        location_id=fields[b"location"].decode() or None,
        source=fields[b"source"].decode(),
        safety_stock=int(fields[b"safety_stock"]),
    )


def sequence_of(entry_id: bytes) -> int:
    """The sequence that a stream ID is."""
    return int(entry_id.partition(b"-")[0])


def encode_entry(entry: Entry) -> dict[Any, Any]:
    """The fields of an entry as the scripts write them, in their order: the inverse of `decode_entry`."""
    fields: dict[str, object] = {
        "type": entry.type,
        "at_us": entry.at_us,
        "command": entry.command,
        "sku": entry.sku,
        "quantity": entry.quantity,
        "on_hand": entry.on_hand,
        "reserved": entry.reserved,
        "committed": entry.committed,
        "backordered": entry.backordered,
        "available": entry.available,
    }
    if entry.token is not None:
        assert entry.agent_id is not None
        assert entry.channel is not None
        assert entry.expires_us is not None
        shape: dict[str, object] = {
            "token": entry.token,
            "agent": entry.agent_id,
            "channel": entry.channel,
            "expires_us": entry.expires_us,
        }
    else:
        assert entry.safety_stock is not None
        assert entry.source is not None
        shape = {"safety_stock": entry.safety_stock, "location": entry.location_id or "", "source": entry.source}
    return {**fields, **shape, "reason": entry.reason, "data": msgspec.json.encode(entry.data) if entry.data else b""}
