"""The first to see a request: names it, routes it on the path as sent, measures it, and lets no fault out.

Routing on the raw path keeps `%2F` inside a SKU apart from `/` between segments.
"""

import secrets
import time

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import Problem
from app.api.routing import HotTable, send_problem
from app.observability import metrics

log = structlog.get_logger()

UNMATCHED = "(none)"
CLIENT_GONE = 499  # nginx's number for a request whose client left: nobody waits for the answer


class Front:
    """The ASGI application that the server runs."""

    def __init__(self, app: ASGIApp, table: HotTable, *, body_bytes_max: int, log_requests: bool) -> None:
        self._app = app
        self._table = table
        self._body_bytes_max = body_bytes_max
        self._log_requests = log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = secrets.token_hex(12)
        scope["request_id"] = request_id
        scope["body_bytes_max"] = self._body_bytes_max
        scope["path"] = scope["raw_path"].decode("latin-1")
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"request-id", request_id.encode())]
            await send(message)

        hot = self._table.find(scope)
        try:
            await (hot.answer if hot else self._app)(scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception:
            log.exception("request_failed", request_id=request_id)
            if status == 0:
                fault = Problem(
                    "internal_error", "Something broke here. What the call did is unknown: look before repeating."
                )
                await send_problem(scope, send_with_id, fault)
        seconds = time.perf_counter() - started
        route = getattr(scope.get("route"), "path", UNMATCHED)
        metrics.observe_request(route, scope["method"], status, seconds)
        if self._log_requests or status >= 500:  # noqa: PLR2004 - server errors
            log.info(
                "request",
                request_id=request_id,
                traceparent=_header(scope, b"traceparent"),
                method=scope["method"],
                route=route,
                status=status,
                seconds=round(seconds, 6),
            )


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1")[:128] for key, value in scope["headers"] if key == name), None)
