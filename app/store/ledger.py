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

# The fields of each shape in their order; see lua/includes/append_entry.lua.
_COMMON = [
    b"type", b"at_us", b"command", b"sku", b"quantity",
    b"on_hand", b"reserved", b"committed", b"backordered", b"available",
]  # fmt: skip
_OF_TOKEN = [b"token", b"agent", b"channel", b"expires_us"]
OF_RESERVATION = [*_COMMON, *_OF_TOKEN, b"reason", b"data"]
OF_ALLOCATION = [*_COMMON, *_OF_TOKEN, b"location", b"reason", b"data"]
OF_STOCK = [*_COMMON, b"safety_stock", b"location", b"location_kind", b"source", b"reason", b"data"]

_decode_data = msgspec.json.Decoder(dict[str, Any]).decode


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
    """An entry from the fields that the scripts write. Raises LedgerBroken."""
    return decode_values(partition, sequence, list(fields), list(fields.values()))


def decode_values(partition: int, sequence: int, names: list[bytes], values: list[bytes]) -> Entry:
    """The same of names and values apart. Raises LedgerBroken."""
    try:
        return _decode(partition, sequence, names, values)
    except (ValueError, msgspec.MsgspecError):
        raise LedgerBroken(sequence, "is not as the scripts write one") from None


def _decode(partition: int, sequence: int, names: list[bytes], values: list[bytes]) -> Entry:
    """By position, because an archiver decodes thousands a second."""
    (
        kind, at_us, command, sku, quantity, on_hand, reserved, committed, backordered, available,
        *shape, reason, data,
    ) = values  # fmt: skip
    common = (
        partition, sequence, int(command), int(at_us), kind.decode(), Sku(sku.decode()), int(quantity), int(on_hand),
        int(reserved), int(committed), int(backordered), int(available), reason.decode(),
        _decode_data(data) if data else {},
    )  # fmt: skip
    if names == OF_RESERVATION:
        token, agent, channel, expires_us = shape
        return Entry(*common, Token(token.decode()), agent.decode(), channel.decode(), int(expires_us))
    if names == OF_STOCK:
        safety_stock, location, location_kind, source = shape
        return Entry(
            *common,
            location_id=location.decode() or None,
            source=source.decode(),
            safety_stock=int(safety_stock),
            location_kind=location_kind.decode() or None,
        )
    if names == OF_ALLOCATION:
        token, agent, channel, expires_us, location = shape
        return Entry(
            *common, Token(token.decode()), agent.decode(), channel.decode(), int(expires_us), location.decode()
        )
    raise ValueError(names)


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
