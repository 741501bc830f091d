"""What a process holds of bodies is bounded, and comes back however a request ends."""

import asyncio
import json
from collections.abc import Sequence

import pytest
from starlette.types import Message, Scope

from app.api.bodies import Bodies
from app.api.front import Front
from app.main import create_app
from app.settings import load_settings

BYTES_MAX = 100
CALLS = [("POST", "/inventory/v1/availability"), ("PUT", "/inventory/v1/categories/toys")]  # a hot route, a strict one


@pytest.fixture
def bodies() -> Bodies:
    return Bodies(BYTES_MAX)


@pytest.fixture
def front(bodies: Bodies) -> Front:
    made = create_app(load_settings({}))
    made._bodies = bodies
    return made


class Call:
    """A request whose body comes in pieces, as they are sent; None is a client that leaves."""

    def __init__(self, front: Front, call: tuple[str, str]) -> None:
        method, path = call
        headers = [(b"content-type", b"application/json")]
        scope: Scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
        self._pieces: asyncio.Queue[tuple[bytes, bool] | None] = asyncio.Queue()
        self._said: list[Message] = []
        self._task = asyncio.create_task(front({**scope, "headers": headers}, self._receive, self._send))

    async def _receive(self) -> Message:
        piece = await self._pieces.get()
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece[0], "more_body": piece[1]}

    async def _send(self, message: Message) -> None:
        self._said.append(message)

    async def send(self, *pieces: bytes | None) -> None:
        """More is to come, or the client is gone."""
        for piece in pieces:
            self._pieces.put_nowait(None if piece is None else (piece, True))
        while not (self._pieces.empty() or self._task.done()):  # noqa: ASYNC110 - what is got is taken at once
            await asyncio.sleep(0)

    async def end(self, last: bytes | None = b"") -> tuple[int, str, Sequence[tuple[bytes, bytes]]]:
        """Status, code and headers of the answer; `last` is of the body, None where all of it was sent."""
        if last is not None:
            self._pieces.put_nowait((last, False))
        await self._task
        start, body = self._said
        return start["status"], json.loads(body["body"])["code"], start["headers"]


@pytest.mark.parametrize("call", CALLS)
async def test_what_there_is_no_room_for_is_refused(front: Front, bodies: Bodies, call: tuple[str, str]) -> None:
    slow, other = Call(front, call), Call(front, call)
    await slow.send(b"[" * 60, b"[" * 30)
    await other.send(b"[" * 10)
    assert bodies.held_bytes == BYTES_MAX
    for refused in (Call(front, call), other):
        status, code, headers = await refused.end(b"[")
        assert (status, code) == (503, "busy")
        assert (b"connection", b"close") in headers
        assert (b"retry-after", b"1") in headers
    assert bodies.held_bytes == 90
    assert (await slow.end())[:2] == (400, "malformed_request")
    assert bodies.held_bytes == 0
    assert (await Call(front, call).end(b"[" * BYTES_MAX))[:2] == (400, "malformed_request")
    assert bodies.held_bytes == 0


@pytest.mark.parametrize("call", CALLS)
async def test_who_leaves_takes_no_room(front: Front, bodies: Bodies, call: tuple[str, str]) -> None:
    gone = Call(front, call)
    await gone.send(b"[" * 60)
    assert bodies.held_bytes == 60
    await gone.send(None)
    await gone._task
    assert bodies.held_bytes == 0
