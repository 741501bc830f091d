"""What persons ordered breakers to be: in the engine for every gateway, and in a file for when the engine is away.

Both have the newest word of each breaker, also the word that lifts an order: so an old one never comes back.
"""

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from redis.asyncio import Redis

from app.domain.breakers import Order
from app.store.embedded import write_json
from app.store.faults import translated
from app.store.keys import SourceKeys

FILE_BYTES_MAX = 1024 * 1024

Orders = dict[str, Order]

_decode = msgspec.json.Decoder(Order).decode
_decode_file = msgspec.json.Decoder(Orders).decode


def newest(*found: Mapping[str, Order]) -> Orders:
    """Of each breaker the newest word."""
    orders: Orders = {}
    for each in found:
        for name, order in each.items():
            if name not in orders or order.at_us > orders[name].at_us:
                orders[name] = order
    return orders


async def read_orders(client: Redis, keys: SourceKeys) -> Orders:
    """What the engine has. Raises EngineError."""
    with translated():
        rows: Any = await client.hgetall(keys.breakers)
    orders: Orders = {}
    for name, text in rows.items():
        with suppress(msgspec.MsgspecError):  # of a version that knows more
            orders[name.decode()] = _decode(text)
    return orders


async def write_orders(client: Redis, keys: SourceKeys, orders: Mapping[str, Order]) -> None:
    """Gives the engine these. Raises EngineError."""
    with translated():
        await client.hset(keys.breakers, mapping={name: msgspec.json.encode(each) for name, each in orders.items()})


def read_orders_file(path: Path) -> Orders:
    """What the file has; nothing where there is none, or nobody can read it."""
    with suppress(OSError, msgspec.MsgspecError), path.open("rb") as file:
        return _decode_file(file.read(FILE_BYTES_MAX))
    return {}


def write_orders_file(path: Path, orders: Mapping[str, Order]) -> None:
    """Adds these to what the file has, whoever else does so at the same time. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        write_json(path, msgspec.to_builtins(newest(read_orders_file(path), orders)))
    finally:
        os.close(folder)
