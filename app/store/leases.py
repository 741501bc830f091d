"""What one of many gateways does at a time: whose turn it is, and how far it has come.

Neither keeps anybody out for certain: a gateway that stood still may wake up when its turn is over. What is done in
turn must do no harm if two do it; that one of them then stops is what the compare-and-set of a position is for.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import WatchError

from app.domain.errors import EngineError
from app.store.faults import translated
from app.store.tasks import AGAIN_SECONDS, end_tasks

LEASE_SECONDS = 5.0
RENEWALS = 4  # in the time of a lease
RELEASE_SECONDS_MAX = AGAIN_SECONDS  # who ends us is as patient

Result = TypeVar("Result")


class Lease:
    """One process's claim on a turn. It ends by itself where it is not renewed."""

    def __init__(self, client: Redis, key: str, *, seconds: float = LEASE_SECONDS) -> None:
        self._client = client
        self._key = key
        self._owner = secrets.token_hex(16)
        self._seconds = seconds
        self._renew_seconds = seconds / RENEWALS
        self._ends_at_seconds = 0.0

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Until cancelled: runs `work`, which has no end, whenever the turn is ours; ends it when it may not be."""
        while True:
            with suppress(EngineError):
                await self.run_once(work)
            await asyncio.sleep(self._renew_seconds)

    async def run_once(self, work: Callable[[], Awaitable[Result]]) -> Result | None:
        """What `work` comes to; None where the turn is another's, or was lost meanwhile. Raises EngineError."""
        if not await self.take():
            return None
        running, loop = asyncio.ensure_future(work()), asyncio.get_running_loop()
        try:
            while not running.done() and loop.time() + self._renew_seconds < self._ends_at_seconds:
                await asyncio.wait([running], timeout=self._renew_seconds)
                with suppress(EngineError, TimeoutError):
                    async with asyncio.timeout(self._renew_seconds):
                        if not await self.take():
                            return None
            return await running if running.done() else None
        finally:
            await end_tasks([running])
            with suppress(EngineError, TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS_MAX):
                    await self.release()

    async def take(self) -> bool:
        """Takes the turn or goes on with it; false where it is another's. Raises EngineError."""
        asked_seconds = asyncio.get_running_loop().time()
        ttl_ms = int(self._seconds * 1000)
        with translated():
            is_ours = bool(await self._client.set(self._key, self._owner, nx=True, px=ttl_ms))
        is_ours = is_ours or await _change_if(
            self._client, self._key, self._owner, lambda pipeline: pipeline.pexpire(self._key, ttl_ms)
        )
        if is_ours:
            self._ends_at_seconds = asked_seconds + self._seconds
        return is_ours

    async def release(self) -> None:
        """Lets go of the turn if it is ours. Raises EngineError."""
        await _change_if(self._client, self._key, self._owner, lambda pipeline: pipeline.delete(self._key))


@dataclass(frozen=True, slots=True)
class Position:
    """How far a source has been read. All up to `since_us` is known; nothing where that is None.

    Where a poll did not come to its end, `cursor` is the page it goes on with, and `newest_us` the latest it has seen.
    """

    since_us: int | None = None
    newest_us: int | None = None
    cursor: str | None = None


async def read_position(client: Redis, key: str) -> Position:
    """How far it has come; nowhere where nobody has said so. Raises EngineError."""
    with translated():
        text = await client.get(key)
    return msgspec.json.decode(text, type=Position) if text else Position()


async def move_position(client: Redis, key: str, *, before: Position, after: Position) -> bool:
    """Says how far it has come now; false where it is no longer where it was before. Raises EngineError."""
    text = _encode(after)
    return await _change_if(
        client, key, _encode(before), lambda pipeline: pipeline.set(key, text) if text else pipeline.delete(key)
    )


def _encode(position: Position) -> str:
    return "" if position == Position() else msgspec.json.encode(position).decode()


async def _change_if(client: Redis, key: str, expected: str, change: Callable[[Pipeline], object]) -> bool:
    """Changes something while this string is what is expected, none being empty; false where it is not."""
    with translated():
        async with client.pipeline(transaction=True) as pipeline:
            await pipeline.watch(key)
            if (await pipeline.get(key) or b"") != expected.encode():
                return False
            pipeline.multi()
            change(pipeline)
            try:
                await pipeline.execute()
            except WatchError:
                return False
    return True
