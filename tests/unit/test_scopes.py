"""Every route states whom it takes, and it is what docs/security.md says."""

from typing import Any

import pytest
from fastapi.routing import APIRoute

from app.api.problems import Problem
from app.api.routing import ANYBODY, GuardedRoute, StrictRoute, allow
from app.domain.callers import AGENT, NOBODY, OPEN, OPERATOR, READER, Caller
from app.main import create_app
from app.settings import load_settings

API = "/inventory/v1"
ROUTES: list[Any] = create_app(load_settings())._app.routes  # type: ignore[attr-defined] # behind the front
PAGES = {"/docs", "/docs/oauth2-redirect", "/openapi.json", "/redoc"}
PUBLIC = {"/livez", "/readyz", "/problems/{slug}", "/schemas/inventory/1.0.json", f"{API}/webhooks/{{source}}"}
OF_AGENTS = {
    ("POST", f"{API}/reservations"),
    ("DELETE", f"{API}/reservations/{{token}}"),
    *(
        ("POST", f"{API}/reservations/{{token}}/{verb}")
        for verb in ("commit", "release", "extend", "payment", "cancel", "allocations")
    ),
}
TO_LOOK_AT = {
    ("GET", f"{API}/reservations"),
    ("GET", f"{API}/reservations/{{token}}"),
    ("GET", f"{API}/skus"),
    ("GET", f"{API}/feed"),
    ("GET", f"{API}/skus/{{sku}}/availability"),
    ("POST", f"{API}/availability"),
}
OF_READERS = {("GET", f"{API}/ledger"), ("GET", f"{API}/skus/{{sku}}"), ("GET", "/metrics")}


def flat(routes: list[Any]) -> list[Any]:
    """Those of the routers that are included, too."""
    found = []
    for route in routes:
        router = getattr(route, "original_router", None)
        found += [route] if router is None else flat(router.routes)
    return found


def test_every_route_states_whom_it_takes() -> None:
    found = flat(ROUTES)
    assert {route.path for route in found if not isinstance(route, APIRoute)} <= PAGES
    guarded = [route for route in found if isinstance(route, APIRoute)]
    assert len(guarded) > 30
    for route in guarded:
        assert isinstance(route, GuardedRoute), route.path
        (method,) = route.methods or {""}
        call = (method, route.path)
        expected = {OPERATOR}
        if route.path in PUBLIC:
            expected = set(ANYBODY)
        elif call in OF_AGENTS:
            expected = {AGENT, OPERATOR}
        elif call in TO_LOOK_AT:
            expected = {AGENT, READER, OPERATOR}
        elif call in OF_READERS:
            expected = {READER, OPERATOR}
        assert route.scopes == expected, call


async def _endpoint() -> None: ...


@allow(AGENT)
async def _of_agents() -> None: ...


@allow()
async def _of_all() -> None: ...


def code(endpoint: Any, caller: Caller) -> str:
    try:
        StrictRoute("/", endpoint).admit({"type": "http", "caller": caller})
    except Problem as problem:
        return problem.code
    return "admitted"


@pytest.mark.parametrize(
    ("endpoint", "caller", "expected"),
    [
        (_endpoint, NOBODY, "unauthenticated"),
        (_endpoint, OPEN, "forbidden"),
        (_endpoint, Caller("k", frozenset({OPERATOR})), "forbidden"),
        (_of_agents, OPEN, "admitted"),
        (_of_agents, Caller("k", frozenset({AGENT})), "admitted"),
        (_of_agents, Caller("k", frozenset({READER, "webhook:wms", "anybody"})), "forbidden"),
        (_of_agents, Caller("k", frozenset()), "forbidden"),
        (_of_agents, NOBODY, "unauthenticated"),
        (_of_all, NOBODY, "admitted"),
        (_of_all, Caller("k", frozenset()), "admitted"),
    ],
)
def test_who_is_admitted(endpoint: Any, caller: Caller, expected: str) -> None:
    assert code(endpoint, caller) == expected
