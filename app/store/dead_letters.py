"""Deliveries that are authentic and could not be used: kept as they came, until a person has mended why.

A letter is named by what it is of: a source and its delivery id make one, however often it comes. They are bounded, and
no open one is ever dropped: where there is no room, the delivery is refused and its sender keeps it. Done ones give
way, and are forgotten after 30 days. Each change is a transaction that watches the letter.
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import WatchError

from app.domain.dead_letters import Content, DeadLetter, LetterStatus
from app.domain.errors import DeadLettersFull, EngineBusy
from app.store.faults import translated
from app.store.keys import SourceKeys

LETTERS_MAX = 10_000
BYTES_MAX = 64 * 1024 * 1024
DONE_KEPT_US = 30 * 24 * 3600 * 1_000_000
BATCH_SIZE_MAX = 100
TRY_SECONDS = 0.001
TRIES_MAX = 20  # each a little later than the one before

# Headers that prove who sends, or let somebody in: what they say is not kept.
SECRET = re.compile(r"(?:^|-)(?:authorization|cookie|credential|hmac|key|password|secret|signature|token)s?(?:-|$)")

Place = tuple[int, str]  # of a letter in its list: when it was received, in us, and its id
SUMMARY = ("source", "delivery_id", "received_at_us", "reason", "attempts", "status")

Done = TypeVar("Done")


def letter_id_of(source: str, delivery_id: str) -> str:
    """The id of the one letter that this delivery can become."""
    return hashlib.blake2b(f"{source}\n{delivery_id}".encode(), digest_size=16).hexdigest()


async def keep(
    client: Redis, keys: SourceKeys, *,
    source: str, delivery_id: str, received_at_us: int, reason: str, headers: Mapping[str, str], body: bytes,
    lines: Sequence[int] | None = None,
) -> str:  # fmt: skip
    """Keeps a delivery of which these lines, or all, could not be used, as it came this time; returns its id.

    One that was done is open again, unless a person has discarded this very body. Raises DeadLettersFull, EngineError:
    the sender must be told, so that it delivers again.
    """
    letter_id = letter_id_of(source, delivery_id)
    key = keys.dead_letter(letter_id)
    encoded, encoded_lines = msgspec.json.encode(_without_secrets(headers)), msgspec.json.encode(lines)
    size = len(encoded) + len(encoded_lines) + len(body)
    said: Mapping[Any, Any] = {
        "source": source, "delivery_id": delivery_id, "reason": reason, "status": LetterStatus.OPEN,
        "headers": encoded, "body": body, "lines": encoded_lines, "bytes": size,
    }  # fmt: skip

    async def change(pipeline: Pipeline) -> bool:
        """Whether there was room for it."""
        before, first_us, kept, kept_body = await _ask(pipeline, key, "status", "received_at_us", "bytes", "body")
        if before == b"discarded" and kept_body == body:
            pipeline.multi()
            pipeline.hincrby(key, "attempts", 1)
            return True
        more, at_us = size - int(kept or 0), int(first_us or received_at_us)
        letters, total = await _ask(pipeline, keys.dead_letter_totals, "letters", "bytes")
        if (before is None and int(letters or 0) >= LETTERS_MAX) or (more > 0 and int(total or 0) + more > BYTES_MAX):
            return False
        pipeline.multi()
        pipeline.hset(key, mapping={**said, "received_at_us": at_us})
        pipeline.hincrby(key, "attempts", 1)
        pipeline.hincrby(keys.dead_letter_totals, "letters", int(before is None))
        pipeline.hincrby(keys.dead_letter_totals, "bytes", more)
        _unlist(pipeline, keys, letter_id, before)
        pipeline.zadd(keys.dead_letters(LetterStatus.OPEN), {letter_id: at_us})
        return True

    for _ in range(TRIES_MAX):
        if await _transact(client, [key], change):
            return letter_id
        if not await forget_done(client, keys):
            raise DeadLettersFull(f"{LETTERS_MAX} dead letters or {BYTES_MAX} bytes of them wait already")
    raise EngineBusy("the dead letters changed all the time")


async def close(
    client: Redis, keys: SourceKeys, letter_id: str, status: LetterStatus, *, at_us: int, attempts: int | None = None
) -> DeadLetter | None:
    """Says that a letter is done; returns it as it is then, None where there is none.

    What was replayed stays so. With `attempts`, it is done only if it has not failed again since. Raises EngineError.
    """
    key = keys.dead_letter(letter_id)

    async def change(pipeline: Pipeline) -> DeadLetter | None:
        letter = _decode(letter_id, await _ask(pipeline, key, *SUMMARY))
        if (
            letter is None
            or letter.status in (status, LetterStatus.REPLAYED)
            or attempts not in (None, letter.attempts)
        ):
            return letter
        pipeline.multi()
        pipeline.hset(key, "status", status)
        _unlist(pipeline, keys, letter_id, letter.status.encode())
        pipeline.zadd(keys.dead_letters(status), {letter_id: letter.received_at_us})
        pipeline.zadd(keys.dead_letters_done, {letter_id: at_us})
        return replace(letter, status=status)

    return await _transact(client, [key], change)


async def forget_done(client: Redis, keys: SourceKeys, *, done_before_us: float = float("inf")) -> int:
    """Forgets letters that were done before then, the oldest first; returns how many, 0 when none is left.

    Raises EngineError.
    """
    with translated():
        found: list[bytes] = await client.zrange(
            keys.dead_letters_done, "-inf", f"({done_before_us}", byscore=True, offset=0, num=BATCH_SIZE_MAX
        )  # type: ignore[assignment] # bytes: no scores asked
    letter_ids = [letter_id.decode() for letter_id in found]

    async def change(pipeline: Pipeline) -> None:
        rows = [await _ask(pipeline, keys.dead_letter(each), "status", "bytes") for each in letter_ids]
        pipeline.multi()
        for letter_id, (status, size) in zip(letter_ids, rows, strict=True):
            if status in (b"replayed", b"discarded"):
                pipeline.delete(keys.dead_letter(letter_id))
                _unlist(pipeline, keys, letter_id, status)
                pipeline.hincrby(keys.dead_letter_totals, "letters", -1)
                pipeline.hincrby(keys.dead_letter_totals, "bytes", -int(size))

    if letter_ids:
        await _transact(client, [keys.dead_letter(letter_id) for letter_id in letter_ids], change)
    return len(letter_ids)


async def count_open(client: Redis, keys: SourceKeys) -> int:
    """How many wait for a person. Raises EngineError."""
    with translated():
        return int(await client.zcard(keys.dead_letters(LetterStatus.OPEN)))


async def list_places(
    client: Redis, keys: SourceKeys, status: LetterStatus, *, after: Place | None, limit: int
) -> list[Place]:
    """Letters with this status, those received last first, from the one after this place on. Raises EngineError."""
    key = keys.dead_letters(status)
    end_us, end_id = after or (float("inf"), "")
    with translated():
        async with client.pipeline(transaction=True) as pipeline:
            pipeline.zrange(key, end_us, end_us, desc=True, byscore=True, withscores=True)
            pipeline.zrange(key, f"({end_us}", "-inf", desc=True, byscore=True, withscores=True, offset=0, num=limit)
            same_time, earlier = await pipeline.execute()
    places = [(int(score), letter_id.decode()) for letter_id, score in (*same_time, *earlier)]
    return [place for place in places if after is None or place < (end_us, end_id)][:limit]


async def read_letters(client: Redis, keys: SourceKeys, letter_ids: Sequence[str]) -> list[DeadLetter]:
    """These letters, without what is in them; not those that are forgotten by now. Raises EngineError."""
    with translated():
        async with client.pipeline(transaction=False) as pipeline:
            for letter_id in letter_ids:
                pipeline.hmget(keys.dead_letter(letter_id), *SUMMARY)
            rows = await pipeline.execute()
    letters = (_decode(letter_id, row) for letter_id, row in zip(letter_ids, rows, strict=True))
    return [letter for letter in letters if letter]


async def read_letter(client: Redis, keys: SourceKeys, letter_id: str) -> tuple[DeadLetter, Content] | None:
    """A letter and what is in it; None where there is none. Raises EngineError."""
    with translated():
        found = await _ask(client, keys.dead_letter(letter_id), *SUMMARY, "headers", "body", "lines")
    *row, headers, body, lines = found
    letter = _decode(letter_id, row)
    if letter is None:
        return None
    return letter, Content(
        msgspec.json.decode(headers, type=dict[str, str]), body, msgspec.json.decode(lines, type=list[int] | None)
    )


async def _ask(client: Redis, key: str, *names: str) -> list[Any]:
    """These fields of a hash, as bytes."""
    return await client.hmget(key, *names)


def _unlist(pipeline: Pipeline, keys: SourceKeys, letter_id: str, status: bytes | None) -> None:
    if status is not None:
        pipeline.zrem(keys.dead_letters(status.decode()), letter_id)
        pipeline.zrem(keys.dead_letters_done, letter_id)


async def _transact(client: Redis, watched: Sequence[str], change: Callable[[Pipeline], Awaitable[Done]]) -> Done:
    """Runs a change, which reads, then queues what it writes; anew where what is watched was changed meanwhile."""
    with translated():
        for number in range(TRIES_MAX):
            async with client.pipeline(transaction=True) as pipeline:
                await pipeline.watch(*watched)
                done = await change(pipeline)
                try:
                    await pipeline.execute()
                except WatchError:
                    await asyncio.sleep(number * TRY_SECONDS)
                    continue
                return done
    raise EngineBusy("a dead letter changed all the time")


def _without_secrets(headers: Mapping[str, str]) -> dict[str, str]:
    named = {name.lower(): text for name, text in headers.items()}
    return {name: text for name, text in named.items() if not SECRET.search(name)}


def _decode(letter_id: str, row: Sequence[Any]) -> DeadLetter | None:
    source, delivery_id, received_at_us, reason, attempts, status = row
    if status is None:
        return None
    return DeadLetter(
        id=letter_id,
        source=source.decode(),
        delivery_id=delivery_id.decode(),
        received_at_us=int(received_at_us),
        reason=reason.decode(),
        attempts=int(attempts),
        status=LetterStatus(status.decode()),
    )
