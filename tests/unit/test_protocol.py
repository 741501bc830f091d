"""What leaves a connection, and when: one write an answer, and all else as the server has it."""

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

import pytest
import uvicorn
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from app.api.protocol import JoiningTransport, Protocol

PATIENCE_SECONDS = 10
REQUEST = b"GET / HTTP/1.1\r\nHost: lastunit\r\n\r\n"
CHUNK = b"x" * 65_536
CHUNKS = 500  # more than the sockets of a connection take


class Wire(asyncio.Transport):
    """Keeps what is written, and ends when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self._is_closing = True

    def is_closing(self) -> bool:
        return self._is_closing


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def transport(wire: Wire) -> JoiningTransport:
    return JoiningTransport(wire, asyncio.get_running_loop())


async def test_head_and_body_leave_as_one(wire: Wire, transport: JoiningTransport) -> None:
    transport.write(b"head")
    assert wire.writes == []
    transport.write(b"body")
    assert wire.writes == [b"headbody"]
    await asyncio.sleep(0)
    assert wire.writes == [b"headbody"]


async def test_a_write_alone_leaves_in_the_next_turn(wire: Wire, transport: JoiningTransport) -> None:
    for number in range(3):
        transport.write(b"%d" % number)
        await asyncio.sleep(0)
        assert len(wire.writes) == number + 1
    assert wire.writes == [b"0", b"1", b"2"]


async def test_no_more_than_one_write_waits(wire: Wire, transport: JoiningTransport) -> None:
    for number in range(5):
        transport.write(b"%d" % number)
    assert wire.writes == [b"01", b"23"]
    await asyncio.sleep(0)
    assert wire.writes == [b"01", b"23", b"4"]


async def test_what_waits_leaves_before_the_end(wire: Wire, transport: JoiningTransport) -> None:
    transport.write(b"last")
    transport.close()
    assert wire.writes == [b"last"]
    assert transport.is_closing()
    await asyncio.sleep(0)
    assert wire.writes == [b"last"]


async def test_what_waits_for_a_connection_that_is_lost_is_dropped(wire: Wire, transport: JoiningTransport) -> None:
    transport.write(b"late")
    wire.close()
    await asyncio.sleep(0)
    transport.close()
    assert wire.writes == []


async def test_an_answer_of_the_server_is_one_write(wire: Wire) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, 4)
        await go_on(send, b"body", more_body=False)

    protocol = serve(app)
    protocol.connection_made(wire)
    protocol.data_received(REQUEST)
    await asyncio.gather(*protocol.tasks)
    (written,) = wire.writes
    assert re.fullmatch(rb"HTTP/1\.1 200 OK\r\n.+\r\n\r\nbody", written, re.DOTALL)
    protocol.connection_lost(None)


# On a socket, in the loop that serves


class PausingProtocol(Protocol):
    """Says when its writing is paused."""

    paused: asyncio.Event

    def pause_writing(self) -> None:
        super().pause_writing()
        self.paused.set()


def run(scenario: Coroutine[None, None, None]) -> None:
    uvloop.run(asyncio.wait_for(scenario, PATIENCE_SECONDS))


def serve(app: ASGIApp) -> PausingProtocol:
    """What serves a connection of its own with this application."""
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", lifespan="off")
    return PausingProtocol(config=config, server_state=ServerState(), app_state={})


@asynccontextmanager
async def connected(app: ASGIApp) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server of this application."""
    PausingProtocol.paused = asyncio.Event()
    server = await asyncio.get_running_loop().create_server(lambda: serve(app), "127.0.0.1")
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()


async def start(send: Send, length: int) -> None:
    headers = [(b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def go_on(send: Send, body: bytes, *, more_body: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more_body})


def test_a_head_does_not_wait_for_a_body_that_comes_later() -> None:
    async def scenario() -> None:
        head_is_read = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await start(send, 4)
            await head_is_read.wait()
            await go_on(send, b"body", more_body=False)

        async with connected(app) as (reader, writer):
            writer.write(REQUEST)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            head_is_read.set()
            assert await reader.readexactly(4) == b"body"

    run(scenario())


def test_answers_to_requests_that_came_at_once_leave_in_order() -> None:
    async def scenario() -> None:
        numbers = iter(range(10))

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await start(send, 1)
            await go_on(send, b"%d" % next(numbers), more_body=False)

        async with connected(app) as (reader, writer):
            writer.write(10 * REQUEST)
            for number in range(10):
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(1) == b"%d" % number

    run(scenario())


def test_a_slow_reader_pauses_who_answers_and_misses_nothing() -> None:
    async def scenario() -> None:
        sent = 0

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal sent
            await start(send, CHUNKS * len(CHUNK))
            for number in range(CHUNKS):
                await go_on(send, CHUNK, more_body=number < CHUNKS - 1)
                sent += 1

        async with connected(app) as (reader, writer):
            writer.write(REQUEST)
            await PausingProtocol.paused.wait()
            assert sent < CHUNKS
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(CHUNKS * len(CHUNK)) == CHUNKS * CHUNK

    run(scenario())


def test_an_answer_that_ends_the_connection_arrives_whole() -> None:
    async def scenario() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await start(send, CHUNKS * len(CHUNK))
            await go_on(send, CHUNKS * CHUNK, more_body=False)

        async with connected(app) as (reader, writer):
            writer.write(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            await PausingProtocol.paused.wait()
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"connection: close" in head
            assert await reader.read() == CHUNKS * CHUNK

    run(scenario())
