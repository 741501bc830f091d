"""HTTP/1.1 as uvicorn speaks it, where what is no HTTP is refused with a problem, and an answer is one system call."""

import asyncio
import secrets
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.problems import CONTENT_TYPE, Problem


class Protocol(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Takes the connection over."""
        super().connection_made(JoiningTransport(transport, self.loop))

    def send_400_response(self, msg: str) -> None:
        """Answers what the parser refuses, which no route ever sees, and ends the connection."""
        request_id = secrets.token_hex(12)
        body = Problem("malformed_request", "What came is no HTTP/1.1 request.").body(request_id)
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: {CONTENT_TYPE.decode()}\r\ncontent-length: {len(body)}\r\n"
            f"request-id: {request_id}\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class JoiningTransport(asyncio.Transport):
    """What uvicorn asks of a transport, where a write waits for the next one, and both leave as one.

    uvicorn writes an answer's head and its body one by one, and uvloop makes a system call of each. No write waits
    longer than to the loop's next turn, and never more than one: flow control stays the transport's own.
    """

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
