"""The first to see a request: names it, asks who calls, routes it on the path as sent, measures it, lets no fault out.

Routing on the raw path keeps `%2F` inside a SKU apart from `/` between segments.
"""

import secrets
import time
from collections.abc import Sequence

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access.gate import Gate
from app.access.limits import RateLimit, Taken
from app.api.bodies import Bodies
from app.api.problems import Problem
from app.api.routing import HotTable, send_problem
from app.domain.callers import NOBODY, OPEN
from app.observability import metrics

log = structlog.get_logger()

UNMATCHED = "(none)"
CLIENT_GONE = 499  # nginx's number for a request whose client left: nobody waits for the answer
API_PREFIX = "/inventory/"
# No browser guesses what an answer is. What the API says is for its caller and for now: nobody keeps it.
API_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
# The pages are in nobody's frame, where a click on them could be somebody else's.
PAGE_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"content-security-policy", b"frame-ancestors 'none'"))
RATE_LIMITED = "The key has called too often. Nothing happened; wait as Retry-After says."


class Front:
    """The ASGI application that the server runs. Without a gate everybody may do everything, at any rate."""

    def __init__(
        self,
        app: ASGIApp,
        table: HotTable,
        *,
        gate: Gate | None,
        rate_limit: RateLimit | None,
        bodies: Bodies,
        body_bytes_max: int,
        log_requests: bool,
    ) -> None:
        self._app = app
        self._table = table
        self._gate = gate
        self._rate_limit = rate_limit
        self._bodies = bodies
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
        scope["bodies"] = self._bodies
        scope["body_bytes_max"] = self._body_bytes_max
        scope["path"] = path = scope["raw_path"].decode("latin-1")
        scope["caller"] = OPEN if self._gate is None else NOBODY
        status = 0
        more_headers = [(b"request-id", request_id.encode())]
        more_headers += API_HEADERS if path.startswith(API_PREFIX) else PAGE_HEADERS

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *more_headers]
            await send(message)

        try:
            if self._gate is not None:
                scope["caller"] = await self._gate.caller_of(scope["headers"])
            caller = scope["caller"]
            taken = self._rate_limit.take(caller.holder) if self._rate_limit and caller.holder else None
            if taken:
                more_headers += self._rate_headers(taken)
            if taken and not taken.is_allowed:
                wait = (b"retry-after", str(taken.wait_seconds).encode())
                await send_problem(scope, send_with_id, Problem("rate_limited", RATE_LIMITED, headers=(wait,)))
            else:
                hot = self._table.find(scope)
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
        finally:
            self._bodies.give_back(scope)
        self._note(scope, status, time.perf_counter() - started)

    def _rate_headers(self, taken: Taken) -> Sequence[tuple[bytes, bytes]]:
        assert self._rate_limit
        left = f'"default";r={taken.remaining};t={taken.wait_seconds}'.encode()
        return (b"ratelimit-policy", self._rate_limit.policy), (b"ratelimit", left)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", UNMATCHED)
        metrics.observe_request(route, scope["method"], status, seconds)
        if self._log_requests or status >= 500:  # noqa: PLR2004 - server errors
            log.info(
                "request",
                request_id=scope["request_id"],
                traceparent=_header(scope, b"traceparent"),
                holder=scope["caller"].holder or None,
                method=scope["method"],
                route=route,
                status=status,
                seconds=round(seconds, 6),
            )


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1")[:128] for key, value in scope["headers"] if key == name), None)
