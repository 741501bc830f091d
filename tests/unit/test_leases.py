"""Whose turn it is, and how far it has come: what two gateways do at once."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from fakeredis import FakeAsyncRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as EngineConnectionError

from app.store.leases import Lease, Position, move_position, read_position
from tests.virtual_loop import run_virtually

KEY = "lease:poll:partner"
SECONDS = 10.0


class Worker:
    """Work without end that knows whether it is running."""

    def __init__(self) -> None:
        self.is_running = False
        self.began = asyncio.Event()

    async def __call__(self) -> None:
        self.is_running = True
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.is_running = False
            self.began.clear()


def lease(client: Redis) -> Lease:
    return Lease(client, KEY, seconds=SECONDS)


async def test_one_of_many_has_the_turn() -> None:
    client = FakeAsyncRedis()
    one, other = lease(client), lease(client)
    assert await one.take()
    assert not await other.take()
    assert await one.take()  # and goes on with it
    await other.release()  # of another's nothing is let go
    assert not await other.take()
    await one.release()
    assert await other.take()


async def test_a_turn_ends_where_nobody_renews_it() -> None:
    client = FakeAsyncRedis()
    assert await lease(client).take()
    assert SECONDS * 1000 - 1000 < await client.pttl(KEY) <= SECONDS * 1000
    await client.pexpire(KEY, 500)
    holder = lease(client)
    assert not await holder.take()
    assert await client.pttl(KEY) <= 500  # asking prolongs nobody's turn


async def test_renewing_prolongs_it() -> None:
    client = FakeAsyncRedis()
    mine = lease(client)
    assert await mine.take()
    await client.pexpire(KEY, 500)
    assert await mine.take()
    assert await client.pttl(KEY) > 500


def test_work_runs_in_one_place_and_moves_when_that_ends() -> None:
    async def scenario() -> None:
        client, one, other = FakeAsyncRedis(), Worker(), Worker()
        first = asyncio.create_task(lease(client).run(one))
        await one.began.wait()
        second = asyncio.create_task(lease(client).run(other))
        await asyncio.sleep(100 * SECONDS)
        assert (one.is_running, other.is_running) == (True, False)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert not one.is_running
        began = asyncio.get_running_loop().time()
        await other.began.wait()  # let go of, not run out
        assert asyncio.get_running_loop().time() - began <= SECONDS / 4
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert await client.get(KEY) is None

    run_virtually(scenario())


async def _forget(client: Redis) -> None:
    await client.set(KEY, "another's")


async def _fail(client: Redis) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise EngineConnectionError("gone")

    client.set = refuse  # type: ignore[method-assign] # the engine is gone


@pytest.mark.parametrize("lose", [_forget, _fail])
def test_work_ends_where_the_turn_may_be_anothers(lose: Callable[[Redis], Awaitable[None]]) -> None:
    async def scenario() -> None:
        client, worker = FakeAsyncRedis(), Worker()
        running = asyncio.create_task(lease(client).run(worker))
        await worker.began.wait()
        await lose(client)
        await asyncio.sleep(SECONDS)
        assert not worker.is_running
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run_virtually(scenario())


def test_what_goes_wrong_in_the_work_is_not_hidden() -> None:
    async def work() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run_virtually(lease(FakeAsyncRedis()).run(work))


async def test_a_position_moves_from_where_it_was() -> None:
    client = FakeAsyncRedis()
    nowhere, first, second = Position(), Position(newest_us=7, cursor="a"), Position(since_us=7)
    assert await read_position(client, "position") == nowhere
    assert await move_position(client, "position", before=nowhere, after=first)
    assert await read_position(client, "position") == first
    assert not await move_position(client, "position", before=nowhere, after=second)
    assert not await move_position(client, "position", before=second, after=nowhere)
    assert await read_position(client, "position") == first
    assert await move_position(client, "position", before=first, after=second)
    assert await move_position(client, "position", before=second, after=nowhere)
    assert await move_position(client, "position", before=nowhere, after=first)


async def test_of_two_that_move_it_at_once_one_does() -> None:
    client = FakeAsyncRedis()
    moves = (
        move_position(client, "position", before=Position(), after=Position(since_us=each)) for each in range(1, 20)
    )
    assert sum(await asyncio.gather(*moves)) == 1
