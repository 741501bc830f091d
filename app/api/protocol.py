"""HTTP/1.1 as uvicorn speaks it, within bounds, where what is no HTTP is refused with a problem.

uvicorn waits for a request as long as it takes to come, and keeps of its head whatever comes. An answer here is one
system call.
"""

import asyncio
import secrets
from http import HTTPStatus
from itertools import chain
from typing import Any, Literal

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.problems import CONTENT_TYPE, Problem
from app.observability import metrics

HEAD_BYTES_MAX = 64 * 1024
SECONDS_MAX = {"head": 10.0, "body": 20.0}


class Protocol(HttpToolsProtocol):
    """One connection. A head that is not there 10 s after it began (the first: after the connection did) ends it."""

    # Instances share the keys of their dicts up to some thirty, which uvicorn's are: in the dict these would cost each
    # connection more than a KB.
    __slots__ = ("_awaited", "_head_bytes", "_is_head_too_large", "_read_bytes", "_timer")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Takes the connection over."""
        # What of a request has begun and has not come whole.
        self._awaited: Literal["head", "body"] | None = "head"
        self._read_bytes = 0  # in the last read
        self._head_bytes = 0  # in all reads that have something of the head which is awaited, but what came with others
        self._is_head_too_large = False
        self._timer: asyncio.TimerHandle | None = None
        super().connection_made(JoiningTransport(transport, self.loop))
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Lets go of it."""
        if self._timer is not None:
            self._end_wait()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads on. A request that comes at once, as nearly all do, needs no timer."""
        self._read_bytes = len(data)
        if self._awaited is None:
            self._awaited, self._head_bytes = "head", 0
        self._head_bytes += self._read_bytes
        super().data_received(data)
        if self._awaited is not None:
            self._bound_rest()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._awaited = "head"
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head is there; what is raised here the parser hands on, and so it comes to `send_400_response`."""
        if self._timer is not None:
            self._end_wait()
        self._awaited = "body"
        if self._head_bytes > HEAD_BYTES_MAX or self._read_bytes > HEAD_BYTES_MAX:  # it came with others, perhaps
            self._is_head_too_large = len(self.url) + sum(map(len, chain.from_iterable(self.headers))) > HEAD_BYTES_MAX
            if self._is_head_too_large:
                raise ValueError
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is there. A head that follows in the same bytes is counted from the next ones on."""
        if self._timer is not None:
            self._end_wait()
        self._awaited, self._head_bytes = None, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is sent. What nobody has read of its request's body is not kept until the next request."""
        if self.cycle.response_complete:
            self.cycle.body.clear()
        super().on_response_complete()

    def _bound_rest(self) -> None:
        """Bounds what of a request has not come yet."""
        if self._awaited == "head" and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._is_head_too_large = True
            self.send_400_response("")
        if self._timer is None and not self.transport.is_closing():
            self._wait()

    def _wait(self) -> None:
        assert self._awaited
        self._timer = self.loop.call_later(SECONDS_MAX[self._awaited], self._end_late)

    def _end_wait(self) -> None:
        assert self._timer
        self._timer.cancel()
        self._timer = None

    def _end_late(self) -> None:
        """Ends the connection, unless it is us who do not read, or the answer before is still on its way."""
        is_answering = self._awaited == "head" and not getattr(self.cycle, "response_complete", True)
        if self.flow.read_paused or is_answering:
            self._wait()
        else:
            self._timer = None
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answers what the parser refuses, which no route ever sees, and ends the connection."""
        problem = Problem("malformed_request", "What came is no HTTP/1.1 request.")
        if self._is_head_too_large:
            problem = Problem("head_too_large", f"The request's head is over {HEAD_BYTES_MAX} bytes.")
        metrics.refusals_total.labels(problem.code).inc()
        status = HTTPStatus(problem.kind.status)
        request_id = secrets.token_hex(12)
        body = problem.body(request_id)
        head = (
            f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: {CONTENT_TYPE.decode()}\r\n"
            f"content-length: {len(body)}\r\nrequest-id: {request_id}\r\nx-content-type-options: nosniff\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class JoiningTransport(asyncio.Transport):
    """What uvicorn asks of a transport, where a write waits for the next one, and both leave as one.

    uvicorn writes an answer's head and its body one by one, and uvloop makes a system call of each. No write waits
    longer than to the loop's next turn, and never more than one: flow control stays the transport's own.
    """

    __slots__ = ("_loop", "_transport", "_waiting")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._waiting = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends what waits with this; where nothing waits, this does."""
        if self._waiting:
            joined, self._waiting = self._waiting + data, b""
            self._transport.write(joined)
        else:
            self._waiting = bytes(data)
            self._loop.call_soon(self._send_waiting)

    def close(self) -> None:
        """Ends the connection once all that was written is sent."""
        self._send_waiting()
        self._transport.close()

    def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, b""
        if waiting and not self._transport.is_closing():
            self._transport.write(waiting)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()
