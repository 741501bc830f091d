"""Dead letters, on a store that takes plain commands alone."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis
from redis.asyncio import Redis

from app.domain.dead_letters import DeadLetter, LetterStatus
from app.domain.errors import DeadLettersFull
from app.store import dead_letters
from app.store.dead_letters import DONE_KEPT_US, Place
from app.store.keys import Keyspace

KEYS = Keyspace(1).sources
OPEN, REPLAYED, DISCARDED = LetterStatus
DAY_US = 24 * 3600 * 1_000_000


@pytest.fixture
async def client() -> AsyncIterator[Redis]:
    async with FakeAsyncRedis() as fake:
        yield fake


async def keep(client: Redis, delivery_id: str = "d", **changed: object) -> str:
    letter = {
        "source": "wms", "received_at_us": 1000, "reason": "unknown_sku", "headers": {"webhook-id": "d"}, "body": b"{}",
    } | changed  # fmt: skip
    return await dead_letters.keep(client, KEYS, delivery_id=delivery_id, **letter)  # type: ignore[arg-type] # as named


async def close(client: Redis, letter_id: str, status: LetterStatus, at_us: int = 2000) -> DeadLetter | None:
    return await dead_letters.close(client, KEYS, letter_id, status, at_us=at_us)


async def read(client: Redis, letter_id: str) -> DeadLetter:
    found = await dead_letters.read_letter(client, KEYS, letter_id)
    assert found
    assert await dead_letters.read_letters(client, KEYS, [letter_id]) == [found[0]]
    return found[0]


async def listed(client: Redis, status: LetterStatus, page_size: int = 1000) -> list[str]:
    """All pages of a list."""
    found: list[Place] = []
    after: Place | None = None
    while page := await dead_letters.list_places(client, KEYS, status, after=after, limit=page_size):
        found += page
        after = page[-1]
    assert found == sorted(found, reverse=True)
    return [letter_id for _, letter_id in found]


async def totals(client: Redis) -> tuple[int, int]:
    """How many letters of how many bytes are counted; as many as there are."""
    letters, size = (int(text or 0) for text in await client.hmget(KEYS.dead_letter_totals, "letters", "bytes"))
    kept = [key async for key in client.scan_iter(KEYS.dead_letter("*"))]
    rows: list[Any] = [await client.hmget(key, "headers", "body", "lines") for key in kept]
    assert (letters, size) == (len(kept), sum(len(part) for row in rows for part in row))
    opened, replayed, discarded = [await listed(client, status) for status in LetterStatus]
    assert sorted(opened + replayed + discarded) == sorted(key.decode().rpartition(":")[2] for key in kept)
    done: Any = await client.zrange(KEYS.dead_letters_done, 0, -1)
    assert sorted(each.decode() for each in done) == sorted(replayed + discarded)
    return letters, size


async def test_what_was_sent_is_kept_to_the_byte_and_no_secret_with_it(client: Redis) -> None:
    body = bytes(range(256))
    sent = {
        "Webhook-Id": "msg_1", "X-Shopify-Topic": "orders/create", "content-type": "text/plain", "x-monkey": "1",
        "Authorization": "s", "webhook-signature": "s", "X-Shopify-Hmac-Sha256": "s", "Cookie": "s", "X-Api-Key": "s",
        "X-Access-Token": "s", "Proxy-Authorization": "s", "X-Client-Secret": "s",
    }  # fmt: skip
    letter_id = await keep(client, "msg_1", headers=sent, body=body)
    found = await dead_letters.read_letter(client, KEYS, letter_id)
    assert found
    letter, content = found
    assert letter == DeadLetter(letter_id, "wms", "msg_1", 1000, "unknown_sku", 1, OPEN)
    assert content.body == body
    assert content.headers == {
        "webhook-id": "msg_1", "x-shopify-topic": "orders/create", "content-type": "text/plain", "x-monkey": "1",
    }  # fmt: skip


async def test_a_delivery_is_one_letter_however_often_it_comes(client: Redis) -> None:
    first = await keep(client, "1")
    others = {await keep(client, "2"), await keep(client, "1", source="erp"), await keep(client, "", source="wms\n1")}
    assert len({first, *others}) == 4
    assert (
        await keep(client, "1", received_at_us=5000, reason="unknown_location", body=b"mended, but not well") == first
    )
    letter = await read(client, first)
    assert (letter.attempts, letter.received_at_us, letter.reason) == (2, 1000, "unknown_location")
    assert (await totals(client))[0] == 4


async def test_a_letter_that_comes_again_is_open_again_unless_a_person_has_discarded_just_that(client: Redis) -> None:
    letter_id = await keep(client)
    assert await close(client, letter_id, DISCARDED) == await read(client, letter_id)
    await keep(client)
    letter = await read(client, letter_id)
    assert (letter.status, letter.attempts) == (DISCARDED, 2)
    await keep(client, body=b"another")
    letter = await read(client, letter_id)
    assert (letter.status, letter.attempts) == (OPEN, 3)
    await close(client, letter_id, REPLAYED)
    await keep(client, body=b"another")
    assert (await read(client, letter_id)).status is OPEN
    assert await listed(client, OPEN) == [letter_id]
    await totals(client)


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ([REPLAYED], REPLAYED),
        ([DISCARDED], DISCARDED),
        ([REPLAYED, DISCARDED], REPLAYED),
        ([DISCARDED, REPLAYED], REPLAYED),
        ([DISCARDED, DISCARDED], DISCARDED),
    ],
)
async def test_what_was_replayed_stays_replayed(client: Redis, steps: list[LetterStatus], status: LetterStatus) -> None:
    letter_id = await keep(client)
    for step in steps:
        await close(client, letter_id, step)
    assert (await read(client, letter_id)).status is status
    await totals(client)


async def test_a_letter_that_failed_meanwhile_is_not_done(client: Redis) -> None:
    letter_id = await keep(client)
    await keep(client)
    found = await dead_letters.close(client, KEYS, letter_id, REPLAYED, at_us=2000, attempts=1)
    assert found == await read(client, letter_id)
    assert found.status is OPEN
    found = await dead_letters.close(client, KEYS, letter_id, REPLAYED, at_us=2000, attempts=2)
    assert found
    assert found.status is REPLAYED


async def test_a_letter_that_there_is_not(client: Redis) -> None:
    assert await dead_letters.read_letter(client, KEYS, "0" * 32) is None
    assert await dead_letters.read_letters(client, KEYS, ["0" * 32]) == []
    assert await close(client, "0" * 32, DISCARDED) is None
    assert [key async for key in client.scan_iter()] == []


@pytest.mark.parametrize("page_size", [1, 3, 7, 100])
async def test_pages_have_every_letter_once_the_newest_first(client: Redis, page_size: int) -> None:
    """Also those of one microsecond, and while the last one of a page is done."""
    times = [1, 1, 1, 1, 1, 2, 3, 3, 3, 4, 4, 9]
    ids = [await keep(client, str(number), received_at_us=at_us) for number, at_us in enumerate(times)]
    assert await listed(client, OPEN, page_size) == await listed(client, OPEN)
    assert sorted(await listed(client, OPEN)) == sorted(ids)
    page = await dead_letters.list_places(client, KEYS, OPEN, after=None, limit=page_size)
    await close(client, page[-1][1], DISCARDED)
    rest = await dead_letters.list_places(client, KEYS, OPEN, after=page[-1], limit=100)
    assert sorted(letter_id for _, letter_id in page + rest) == sorted(ids)


async def test_what_is_done_is_forgotten_the_oldest_first(client: Redis) -> None:
    ids = [await keep(client, str(number)) for number in range(4)]
    for day, letter_id in enumerate(ids[:3]):
        await close(client, letter_id, (DISCARDED, REPLAYED)[day % 2], at_us=day * DAY_US)
    for day, left in ((0, 4), (1, 3), (2, 2), (3, 1)):
        before_us = day * DAY_US
        while await dead_letters.forget_done(client, KEYS, done_before_us=before_us):
            pass
        assert (await totals(client))[0] == left, day
    assert (await read(client, ids[3])).status is OPEN
    assert DONE_KEPT_US == 30 * DAY_US


async def test_letters_are_bounded_and_no_open_one_gives_way(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "LETTERS_MAX", 3)
    first, *_ = [await keep(client, str(number)) for number in range(3)]
    with pytest.raises(DeadLettersFull):
        await keep(client, "3")
    await keep(client, "2", body=b"of one that is there")
    assert (await totals(client))[0] == 3
    await close(client, first, DISCARDED)
    await keep(client, "3")
    assert (await totals(client))[0] == 3
    assert await dead_letters.read_letter(client, KEYS, first) is None


async def test_bytes_are_bounded(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "BYTES_MAX", 108)
    first = await keep(client, "1", headers={}, body=b"x" * 48)
    await keep(client, "2", headers={}, body=b"x" * 48)
    assert (await totals(client)) == (2, 108)
    for delivery_id, body in (("3", b""), ("2", b"x" * 49)):
        with pytest.raises(DeadLettersFull):
            await keep(client, delivery_id, headers={}, body=body)
    await keep(client, "2", headers={}, body=b"x" * 40)
    await keep(client, "3", headers={}, body=b"x" * 2)
    assert (await totals(client)) == (3, 108)
    await close(client, first, REPLAYED)
    await keep(client, "4", headers={}, body=b"x" * 20)
    assert (await totals(client))[0] == 3


async def test_whatever_happens_at_once_adds_up(client: Redis) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    ids = [dead_letters.letter_id_of("wms", str(number)) for number in range(4)]

    async def act() -> None:
        for _ in range(25):
            number = chance.randrange(4)
            match chance.randrange(4):
                case 0:
                    await close(client, ids[number], chance.choice([DISCARDED, REPLAYED]), at_us=chance.randrange(50))
                case 1:
                    await dead_letters.forget_done(client, KEYS, done_before_us=chance.randrange(50))
                case _:
                    await keep(client, str(number), body=b"x" * chance.randrange(3))

    await asyncio.gather(*(act() for _ in range(4)))
    assert (await totals(client))[0] <= 4


async def test_how_often_it_failed_is_counted_whoever_counts(client: Redis) -> None:
    (letter_id,) = set(await asyncio.gather(*(keep(client) for _ in range(8))))
    assert (await read(client, letter_id)).attempts == 8
