"""Every SKU of an engine: which there are, and what an operator said of each."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.errors import EngineUnavailable
from app.domain.types import Sku
from app.store.decoding import POLICY_FIELDS
from app.store.keys import Keyspace, PartitionKeys

SCANNED_KEYS = 1000
ON_HAND = "on_hand\t"  # before the location's name


@dataclass(frozen=True, slots=True)
class SkuRecord:
    """A SKU's own policy, field by field as the engine's text, and the units on hand by location."""

    sku: Sku
    policy: Mapping[str, str]
    locations: Mapping[str, int]


async def scan_skus(client: Redis, keys: PartitionKeys) -> AsyncIterator[list[Sku]]:
    """The SKUs of a partition, some at a time, in no order; one may come twice. Raises EngineUnavailable."""
    prefix, cursor = keys.sku(Sku("")), 0
    while True:
        with _translated():
            cursor, found = await client.scan(cursor, match=f"{prefix}*", count=SCANNED_KEYS)
        yield [Sku(_text(key).removeprefix(prefix)) for key in found]
        if cursor == 0:
            return


async def read_skus(client: Redis, keyspace: Keyspace, skus: Sequence[Sku]) -> list[SkuRecord]:
    """What is said of these SKUs, in their order. Raises EngineUnavailable."""
    fields = [*POLICY_FIELDS, "inherited"]
    with _translated():
        async with client.pipeline(transaction=False) as pipeline:
            for sku in skus:
                keys = keyspace.of_sku(sku)
                pipeline.hmget(keys.sku(sku), fields)
                pipeline.hgetall(keys.locations(sku))
            answers = await pipeline.execute()
    return [_decode(*row) for row in zip(skus, answers[::2], answers[1::2], strict=True)]


def _decode(sku: Sku, texts: Sequence[bytes | None], locations: Mapping[bytes, bytes]) -> SkuRecord:
    """See lua/includes/change_policy.lua and locations.lua: what comes from the category is not the SKU's own."""
    *values, inherited = [None if text is None else text.decode() for text in texts]
    of_category = set((inherited or "").split(","))
    policy = {
        field: value
        for field, value in zip(POLICY_FIELDS, values, strict=True)
        if value is not None and field not in of_category
    }
    on_hand = {
        name.decode().removeprefix(ON_HAND): int(units)
        for name, units in locations.items()
        if name.startswith(ON_HAND.encode())
    }
    return SkuRecord(sku, policy, on_hand)


def _text(key: bytes | str) -> str:
    assert isinstance(key, bytes)
    return key.decode()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise EngineUnavailable(f"the engine's SKUs cannot be read ({type(error).__name__})") from None
