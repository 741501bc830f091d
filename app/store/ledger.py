"""Reads the ledger: the stream of a partition, in order."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.entries import Entry
from app.domain.errors import EngineUnavailable, LedgerBroken
from app.domain.types import Sku, Token
from app.store.keys import PartitionKeys

PAGE_SIZE = 1000

Fields = dict[bytes, bytes]


async def read_entries(
    client: Redis, keys: PartitionKeys, *, after: int = 0, until: int | None = None
) -> AsyncIterator[tuple[int, list[Entry]]]:
    """Pages of the stream's entries with after < sequence <= until, oldest first: (the last sequence, the entries).

    What was dropped from the stream is not among them: see `app.projections.history`. Raises EngineUnavailable.
    """
    while True:
        rows = await read_rows(client, keys, after=after, until=until, count=PAGE_SIZE)
        if rows:
            after = rows[-1][0]
            yield after, [decode_entry(keys.index, sequence, fields) for sequence, fields in rows]
        if len(rows) < PAGE_SIZE:
            return


async def read_rows(
    client: Redis, keys: PartitionKeys, *, after: int, until: int | None, count: int
) -> list[tuple[int, Fields]]:
    """The first `count` raw entries with after < sequence <= until. Raises EngineUnavailable."""
    end = "+" if until is None else str(until)
    try:
        page: Sequence[Any] = await client.xrange(keys.ledger, min=str(after + 1), max=end, count=count) or []
    except RedisError as error:
        raise EngineUnavailable(f"the ledger cannot be read ({type(error).__name__})") from None
    return [(sequence_of(entry_id), fields) for entry_id, fields in page]


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
            location_id=fields[b"location"].decode() if b"location" in fields else None,
        )
    return Entry(
        **common,
        location_id=fields[b"location"].decode() or None,
        source=fields[b"source"].decode(),
        safety_stock=int(fields[b"safety_stock"]),
        location_kind=fields[b"location_kind"].decode() or None,
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
            **({"location": entry.location_id} if entry.location_id is not None else {}),
        }
    else:
        assert entry.safety_stock is not None
        assert entry.source is not None
        shape = {
            "safety_stock": entry.safety_stock,
            "location": entry.location_id or "",
            "location_kind": entry.location_kind or "",
            "source": entry.source,
        }
    return {**fields, **shape, "reason": entry.reason, "data": msgspec.json.encode(entry.data) if entry.data else b""}
