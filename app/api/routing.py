"""Two kinds of routes in place of FastAPI's own, and the table that finds the hot ones.

Every endpoint states who may call it (`allow`); one that does not takes nobody.

`StrictRoute` is a FastAPI route whose body has passed `app.api.requests` first. `HotRoute` is one that FastAPI
describes but does not run: one parse, one script, one write. It is declared like any other, so it stands in
/openapi.json, and works through FastAPI's router too; `HotTable` finds it before that, by its exact path.
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import structlog
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.answers import Answer
from app.api.problems import Problem, of_fault
from app.api.requests import parse_json, read_body, validate
from app.domain.callers import NOBODY, Caller
from app.domain.errors import ArchiveUnavailable, EngineCorrupt, EngineError, EngineUnavailable
from app.observability import metrics

log = structlog.get_logger()

HotKey = tuple[str, str, str]


Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

ANYBODY = frozenset({"anybody"})
NO_KEY = "This needs a key that is good: send Authorization: Bearer <key>."


def allow(*scopes: str) -> Callable[[Endpoint], Endpoint]:
    """States the scopes of which a caller must have one to call the endpoint; without any, that everybody may."""

    def stated(endpoint: Endpoint) -> Endpoint:
        endpoint.scopes = frozenset(scopes) or ANYBODY  # type: ignore[attr-defined] # any function takes attributes
        return endpoint

    return stated


def caller_of(request: Request) -> Caller:
    """Who calls; the front puts it into the scope."""
    caller: Caller = request.scope["caller"]
    return caller


def admit(caller: Caller, scopes: frozenset[str]) -> None:
    """Raises a Problem where the caller has none of the scopes."""
    if scopes.isdisjoint(caller.scopes) and scopes is not ANYBODY:
        if caller is NOBODY:
            raise Problem("unauthenticated", NO_KEY, headers=((b"www-authenticate", b"Bearer"),))
        raise Problem("forbidden", "The key has no scope that this call takes.")


class GuardedRoute(APIRoute):
    """A route that knows whom it takes."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.scopes: frozenset[str] = getattr(endpoint, "scopes", frozenset())

    def admit(self, scope: Scope) -> None:
        """Raises a Problem where the caller may not call."""
        admit(scope["caller"], self.scopes)


def body_limit(request: Request) -> int:
    """How large a body may be, in bytes; the front puts it into the scope."""
    limit: int = request.scope["body_bytes_max"]
    return limit


class StrictRoute(GuardedRoute):
    """A FastAPI route that reads its body within bounds and as strict JSON before FastAPI does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind the strict reading."""
        handle = super().get_route_handler()
        body_field = self.body_field
        is_optional = body_field is not None and not body_field.field_info.is_required()

        async def strict(request: Request) -> Response:
            self.admit(request.scope)
            if body_field is None:
                return await handle(request)
            raw = await read_body(request, body_limit(request))
            parse_json(request, raw, is_optional=is_optional)
            return await handle(Request(request.scope, _replay(raw)))

        return strict


class HotRoute(GuardedRoute):
    """A route that answers without FastAPI's machinery.

    Its endpoint takes `request`, what its path names, and at most one model, `body`; it returns an Answer or raises a
    Problem. A body is optional where the endpoint gives it a default.
    """

    def __init__(self, path: str, endpoint: Callable[..., Awaitable[Answer]], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        parameters = inspect.signature(endpoint).parameters
        body = parameters.get("body")
        self.hot_endpoint = endpoint
        self.hot_model: type[BaseModel] | None = body.annotation if body else None
        self.is_body_optional = body is not None and body.default is not inspect.Parameter.empty
        self.parameter_name = path.partition("{")[2].partition("}")[0]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Any]]:
        """What FastAPI's router runs: the same answer, which is an ASGI application as its responses are."""

        async def hot(_: Request) -> ASGIApp:
            return self.answer

        return hot

    @property
    def hot_key(self) -> HotKey:
        """Method, path before the parameter, path after it."""
        (method,) = self.methods or {""}
        head, _, rest = self.path.partition("/{")
        return method, head, rest.partition("}")[2].removeprefix("/")

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; the ASGI application of this route."""
        scope["route"] = self
        request = Request(scope, receive)
        try:
            self.admit(scope)
            if self.hot_model is None:
                result = await self.hot_endpoint(request=request, **scope["path_params"])
            else:
                raw = await read_body(request, body_limit(request))
                value = parse_json(request, raw, is_optional=self.is_body_optional)
                body = validate(self.hot_model, value)
                result = await self.hot_endpoint(request=request, body=body, **scope["path_params"])
        except (Problem, EngineError, ArchiveUnavailable) as error:
            await send_problem(scope, send, error)
            return
        await send_bytes(send, result.status, result.headers, result.body)


class HotTable:
    """Finds hot routes by method and path, where a parameter is one path segment."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._routes = {route.hot_key: route for route in routes if isinstance(route, HotRoute)}

    def find(self, scope: Scope) -> HotRoute | None:
        """The hot route of this request, its parameter put into the scope; None where FastAPI must look."""
        method, path = scope["method"], scope["path"]
        route = self._routes.get((method, path, ""))
        if route is not None:
            if "{" in route.path:
                return None  # the path without its parameter
            scope["path_params"] = {}
            return route
        head, _, tail = path.rpartition("/")
        outer, _, parameter = head.rpartition("/")
        route = self._routes.get((method, outer, tail)) if tail else None
        if route is None:
            route, parameter = self._routes.get((method, head, "")), tail
        if route is None or not parameter or "{" not in route.path:
            return None
        scope["path_params"] = {route.parameter_name: parameter}
        return route


async def send_problem(scope: Scope, send: Send, error: Problem | EngineError | ArchiveUnavailable) -> None:
    """Answers with a problem, counts it, and logs it where it is our fault."""
    problem = error if isinstance(error, Problem) else of_fault(error)
    if isinstance(error, EngineCorrupt):
        log.error("engine_corrupt", error=str(error), request_id=scope["request_id"])
    elif isinstance(error, EngineUnavailable):
        log.warning("engine_unavailable", error=str(error), request_id=scope["request_id"])
    metrics.refusals_total.labels(problem.code).inc()
    await send_bytes(send, problem.kind.status, problem.all_headers(), problem.body(scope["request_id"]))


async def send_bytes(send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
    """A whole answer in two messages."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


def _replay(raw: bytes) -> Receive:
    """A body that was read, to be read again."""
    messages: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive
