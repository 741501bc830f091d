"""What leaves a connection, and when: one write an answer, and all else as the server has it. What ends one."""

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from app.api import protocol as bounds
from app.api.protocol import HEAD_BYTES_MAX, JoiningTransport, Protocol

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

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


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


# What comes too slowly


@pytest.fixture
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> float:
    """How long a part of a request may take."""
    for part in bounds.SECONDS_MAX:
        monkeypatch.setitem(bounds.SECONDS_MAX, part, 0.05)
    return 0.05


async def answer_body(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body."""
    body, has_more = b"", True
    while has_more:
        message = await receive()
        body += message.get("body", b"")
        has_more = message.get("more_body", False)
    await start(send, len(body))
    await go_on(send, body, more_body=False)


POST = b"POST / HTTP/1.1\r\nHost: lastunit\r\nContent-Length: 4\r\n\r\n"


@pytest.mark.parametrize("wire", [b"", b"P", POST[:-2], POST, POST + b"bod", b"\r\n", POST + b"body" + POST[:9]])
def test_what_does_not_come_whole_in_time_ends_the_connection(wire: bytes, in_no_time: float) -> None:
    async def scenario() -> None:
        async with connected(answer_body) as (reader, writer):
            writer.write(wire)
            heard = await reader.read()
            assert heard.endswith(b"\r\n\r\nbody") if b"body" in wire else heard == b""

    run(scenario())


@pytest.mark.parametrize("head", [POST.replace(b"4", b"1000000"), POST[:-2] + b"X-Endless: "])
def test_a_trickle_gains_no_time(head: bytes, in_no_time: float) -> None:
    async def scenario() -> None:
        async with connected(answer_body) as (reader, writer):
            writer.write(head)
            ended = asyncio.create_task(reader.read())
            while not ended.done():
                writer.write(b"x")
                await asyncio.wait([ended], timeout=in_no_time / 5)
            with suppress(ConnectionResetError):  # what came last met nobody
                assert await ended == b""

    run(scenario())


def test_a_body_that_stops_is_a_client_that_leaves(in_no_time: float) -> None:
    async def scenario() -> None:
        messages: asyncio.Queue[str] = asyncio.Queue()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            for _ in range(2):
                messages.put_nowait((await receive())["type"])

        async with connected(app) as (_, writer):
            writer.write(POST + b"b")
            assert [await messages.get() for _ in range(2)] == ["http.request", "http.disconnect"]

    run(scenario())


def test_an_answer_on_its_way_is_not_cut_by_what_follows(in_no_time: float) -> None:
    async def scenario() -> None:
        is_late = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await start(send, 4)
            await is_late.wait()
            await go_on(send, b"body", more_body=False)

        for follows in (REQUEST[:9], 2 * REQUEST + POST):
            is_late.clear()
            async with connected(app) as (reader, writer):
                writer.write(REQUEST + follows)
                asyncio.get_running_loop().call_later(3 * in_no_time, is_late.set)
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(4) == b"body"

    run(scenario())


async def test_a_connection_at_rest_is_the_servers_to_end(wire: Wire) -> None:
    protocol = await answered(wire, [POST + b"body"])
    assert protocol._timer is None
    assert protocol.timeout_keep_alive_task is not None
    protocol.connection_lost(None)


# What is too large


async def answered(wire: Wire, reads: list[bytes]) -> PausingProtocol:
    """A connection that has read this, and answered what there was to answer."""
    protocol = serve(answer_body)
    protocol.connection_made(wire)
    for data in reads:
        if not wire.is_closing():
            protocol.data_received(data)
        await asyncio.gather(*protocol.tasks)
    return protocol


def head_of(size: int, *, lines: int = 1) -> bytes:
    """A request whose target, names and values have so many bytes in all."""
    rest = size - len("/") - len("host" + "x")
    each = rest // lines
    values = [b"v" * (each - 1)] * (lines - 1) + [b"v" * (rest - each * (lines - 1) - 1)]
    return b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"h: %b\r\n" % value for value in values) + b"\r\n"


@pytest.mark.parametrize("lines", [1, 7000])
@pytest.mark.parametrize("read_bytes", [1 << 20, 4096])
async def test_a_head_over_its_bound_is_refused(wire: Wire, lines: int, read_bytes: int) -> None:
    for size, status in (
        (HEAD_BYTES_MAX // 2, b"200 OK"),
        (2 * HEAD_BYTES_MAX, b"431 Request Header Fields Too Large"),
    ):
        wire.__init__()  # type: ignore[misc] # another one
        head = head_of(size, lines=lines)
        await answered(wire, [head[at : at + read_bytes] for at in range(0, len(head), read_bytes)])
        assert b"".join(wire.writes).startswith(b"HTTP/1.1 " + status)
        assert wire.is_closing() == (status != b"200 OK")


async def test_the_bound_of_a_head_is_exact(wire: Wire) -> None:
    await answered(wire, [head_of(HEAD_BYTES_MAX), head_of(HEAD_BYTES_MAX + 1)])
    good, refused = b"".join(wire.writes).split(b"HTTP/1.1 ")[1:]
    assert (good[:3], refused[:3]) == (b"200", b"431")
    assert b'"code":"head_too_large"' in refused
    assert b"connection: close" in refused


@pytest.mark.parametrize("endless", [b"GET /" + b"p" * 200_000, b"GET / HTTP/1.1\r\nh: " + b"v" * 200_000])
async def test_a_head_without_end_is_refused(wire: Wire, endless: bytes) -> None:
    await answered(wire, [endless[at : at + 1000] for at in range(0, len(endless), 1000)])
    assert b"".join(wire.writes).startswith(b"HTTP/1.1 431 ")


async def test_heads_that_come_at_once_are_not_added_up(wire: Wire) -> None:
    many = 4000 * REQUEST
    assert len(many) > 2 * HEAD_BYTES_MAX
    protocol = await answered(wire, [many + REQUEST[:9], REQUEST[9:]])
    while len(protocol.tasks):
        await asyncio.gather(*protocol.tasks)
    assert b"".join(wire.writes).count(b"HTTP/1.1 200") == 4001
    protocol.connection_lost(None)


async def test_a_body_that_nobody_reads_is_not_kept(wire: Wire) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, 0)
        await go_on(send, b"", more_body=False)

    protocol = serve(app)
    protocol.connection_made(wire)
    protocol.data_received(POST.replace(b"4", b"200000") + b"x" * 100_000)
    await asyncio.gather(*protocol.tasks)
    protocol.data_received(b"x" * 100_000)
    assert protocol.cycle.response_complete
    assert not protocol.cycle.body
    protocol.connection_lost(None)
