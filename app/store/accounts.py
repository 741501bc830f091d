"""What the engine keeps of callers that are capped: until when one may hold nothing new."""

from collections.abc import Iterable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.errors import EngineUnavailable
from app.store.keys import Keyspace


async def read_cooling(client: Redis, keyspace: Keyspace, names: Iterable[str]) -> dict[str, int]:
    """Account -> until when it may hold nothing new, in us of engine time, in whichever partition it is longest.

    Those that never had to pause are not in it. Raises EngineUnavailable.
    """
    asked = [(name, keys.account(name)) for name in names for keys in keyspace.partitions]
    cooling: dict[str, int] = {}
    try:
        async with client.pipeline(transaction=False) as pipeline:
            for _, key in asked:
                pipeline.hget(key, "cooling_until_us")
            for (name, _), until in zip(asked, await pipeline.execute(), strict=True):
                if until is not None:
                    cooling[name] = max(int(until), cooling.get(name, 0))
    except (RedisError, OSError) as error:
        raise EngineUnavailable(f"the engine's accounts cannot be reached ({type(error).__name__})") from None
    return cooling
