"""Categories: said once in every partition, then taken by each of their SKUs."""

import asyncio
from collections.abc import Mapping

from app.store.state import read_members
from app.store.store import Store


async def put_category_everywhere(store: Store, category: str, fields: Mapping[str, str]) -> int:
    """Stores a category's fields and writes each of its SKUs anew, so that it takes them; returns how many did.

    Every SKU is a command of its own: a call that was interrupted is simply repeated. Raises EngineError.
    """
    count = 0
    for keys in store.keyspace.partitions:
        await store.commands.put_category(keys, category, fields)
        async for skus in read_members(store.client, keys.category_skus(category)):
            await asyncio.gather(*(store.commands.put_sku(sku, {}, may_create=False) for sku in skus))
            count += len(skus)
    return count
