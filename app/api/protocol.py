"""HTTP/1.1 as uvicorn speaks it, where what is no HTTP is refused like everything else: with a problem."""

import secrets

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.problems import CONTENT_TYPE, Problem


class Protocol(HttpToolsProtocol):
    """One connection."""

    def send_400_response(self, msg: str) -> None:
        """Answers what the parser refuses, which no route ever sees, and ends the connection."""
        request_id = secrets.token_hex(12)
        body = Problem("malformed_request", "What came is no HTTP/1.1 request.").body(request_id)
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: {CONTENT_TYPE.decode()}\r\ncontent-length: {len(body)}\r\n"
            f"request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
