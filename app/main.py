"""create_app(settings): the only wiring."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

import app
from app.access.limits import RateLimit
from app.api.admin import admin_routes
from app.api.breakers import breaker_routes
from app.api.connectors import connector_routes
from app.api.documentation import PROBLEM_SCHEMA, document_access
from app.api.front import Front
from app.api.ledger import ledger_routes
from app.api.lists import list_routes
from app.api.operations import operation_routes
from app.api.problems import Problem, of_fault
from app.api.reconciliations import reconciliation_routes
from app.api.requests import validation_problem
from app.api.reservations import hot_reservation_routes, reservation_routes
from app.api.routing import HotTable
from app.api.services import Services
from app.api.stock import hot_stock_routes, stock_routes
from app.api.stock_files import stock_file_routes
from app.api.webhooks import webhook_routes
from app.domain.errors import ArchiveUnavailable, EngineError, StartupError
from app.ingest.poller import poll_sources
from app.ingest.source_watch import watched_sources
from app.observability import metrics
from app.observability.logging import configure_logging
from app.projections.archive.rollback import refuse_rollback, remember_archived, watch_rollback
from app.settings import Settings
from app.store.store import Store, make_store
from app.store.tasks import end_tasks
from app.workflows.archive_watch import watch_archive
from app.workflows.breaker_watch import follow_orders, watch_engine, watch_orders
from app.workflows.parentage import end_with_parent
from app.workflows.reconciliation import authorities_of, reconcile_regularly
from app.workflows.sweeper import sweep

GAUGES_SECONDS = 1


def create_app(settings: Settings) -> Front:
    """The gateway as an ASGI application. `settings.redis_url` names an engine that is there already."""
    services = Services(settings)
    fastapi = FastAPI(
        title="Lastunit",
        version=app.__version__,
        summary="Sells the last unit exactly once.",
        lifespan=lambda _: _lifespan(services),
        redirect_slashes=False,
        exception_handlers={
            Problem: _answer_problem,
            EngineError: _answer_problem,
            ArchiveUnavailable: _answer_problem,
            RequestValidationError: _answer_invalid,
        },
    )
    hot_routers = (hot_reservation_routes(services), hot_stock_routes(services), webhook_routes(services))
    other_routers = (
        reservation_routes(services),
        stock_routes(services),
        stock_file_routes(services),
        list_routes(services),
        ledger_routes(services),
        admin_routes(services),
        breaker_routes(services),
        connector_routes(services),
        reconciliation_routes(services),
        operation_routes(services),
    )
    for router in (*hot_routers, *other_routers):
        fastapi.include_router(router)
    declared = [route for router in (*hot_routers, *other_routers) for route in router.routes]
    fastapi.add_exception_handler(HTTPException, partial(_answer_http, declared))
    guarded = declared if settings.has_keys else []
    fastapi.openapi = lambda: _openapi(fastapi, guarded)  # type: ignore[method-assign] # FastAPI's way to extend it
    return Front(
        fastapi,
        HotTable(route for router in hot_routers for route in router.routes),
        gate=services.gate,
        rate_limit=RateLimit(settings.rate_limit) if settings.rate_limit else None,
        bodies=services.bodies,
        body_bytes_max=settings.body_bytes_max,
        log_requests=settings.log_requests,
    )


def worker(settings: Settings) -> Front:
    """The gateway of a worker process."""
    end_with_parent()
    metrics.forget_the_dead()
    configure_logging(settings.log_level)
    return create_app(settings)


@contextlib.asynccontextmanager
async def _lifespan(services: Services) -> AsyncIterator[None]:
    """Opens the store inside the loop that uses it, and sweeps while it is open."""
    settings = services.settings
    if settings.redis_url is None:
        raise StartupError(
            "The gateway needs the URL of an engine: set redis_url (LASTUNIT_REDIS_URL), or run lastunit serve."
        )
    # The engine was there when the service started. A worker that takes another's place must not end for its absence.
    opening = make_store(settings, settings.redis_url, sets_caps=True, may_be_away=True)
    async with opening as store, contextlib.AsyncExitStack() as stack:
        services.opened_store = store
        # What start-up made stays: the collector need not look at it again in the middle of a sale.
        gc.collect()
        gc.freeze()
        await stack.enter_async_context(watched_sources(store, settings.sources))
        stack.push_async_callback(services.archive.close)
        if settings.archive_address is not None:
            await remember_archived(store, services.archive)
            await refuse_rollback(settings, store)
        await follow_orders(store, services.breakers, settings.breakers_path)
        stack.push_async_callback(end_tasks, [asyncio.create_task(work) for work in _work_beside(services, store)])
        yield
        services.opened_store = None


def _work_beside(services: Services, store: Store) -> Iterator[Coroutine[Any, Any, None]]:
    """What a gateway does of its own accord while it serves."""
    settings = services.settings
    yield _keep_gauges(services, store)
    yield watch_engine(store, services.engine_breaker, open_after_seconds=settings.breaker_open_after_seconds)
    yield watch_orders(store, services.breakers, settings.breakers_path)
    if services.gate is not None:
        yield from services.gate.watch()
    if settings.archive_address is not None:
        yield watch_rollback(store, services.archive)
        yield watch_archive(store, services.archive_watch)
    if settings.sweep_enabled:
        yield sweep(store, interval_seconds_max=settings.sweep_interval_seconds_max)
    yield poll_sources(store, services.sources, kind_of=settings.kind_of, breakers=services.breakers)
    authorities, interval_seconds = authorities_of(settings.locations), settings.reconciliation_interval_seconds
    if authorities and interval_seconds:
        yield reconcile_regularly(store, authorities, interval_seconds=interval_seconds)


async def _keep_gauges(services: Services, store: Store) -> None:
    """Keeps this process's gauges true, whichever process is asked for the metrics."""
    while True:
        metrics.engine_up.set(int(store.pipeline.is_open))
        metrics.engine_in_flight.set(store.pipeline.in_flight)
        metrics.engine_waiting.set(store.pipeline.waiting)
        metrics.bodies_bytes.set(services.bodies.held_bytes)
        offsets = (clock.offset_seconds() for clock in store.partitions.clocks)
        metrics.clock_offset_seconds.set(max(offsets, key=abs))
        await asyncio.sleep(GAUGES_SECONDS)


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem | EngineError | ArchiveUnavailable)
    problem = error if isinstance(error, Problem) else of_fault(error)
    metrics.refusals_total.labels(problem.code).inc()
    response = Response(problem.body(request.scope["request_id"]), status_code=problem.kind.status)
    response.raw_headers.extend(problem.all_headers())
    return response


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _answer_problem(request, validation_problem(list(error.errors())))


async def _answer_http(declared: list[BaseRoute], request: Request, error: Exception) -> Response:
    """The router's own refusals: no such path, or not with this method."""
    assert isinstance(error, HTTPException)
    if error.status_code != 405:  # noqa: PLR2004 - method not allowed
        return await _answer_problem(request, Problem("not_found", "There is nothing at this path."))
    # The router names the methods of the first route it finds there; the path may have more.
    allowed = set((error.headers or {})["Allow"].split(", "))
    for route in declared:
        if isinstance(route, APIRoute) and route.path_regex.match(request.scope["path"]):
            allowed |= route.methods or set()
    headers = [(b"allow", ", ".join(sorted(allowed)).encode())]
    return await _answer_problem(
        request, Problem("method_not_allowed", "This path does not take that method.", headers=headers)
    )


def _openapi(fastapi: FastAPI, guarded: Sequence[BaseRoute]) -> dict[str, Any]:
    if not fastapi.openapi_schema:
        document = get_openapi(
            title=fastapi.title, version=fastapi.version, summary=fastapi.summary, routes=fastapi.routes
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for name, schema in PROBLEM_SCHEMA.items():
            schemas |= schema.pop("$defs", {})
            schemas[name] = schema
        document_access(document, guarded)
        fastapi.openapi_schema = document
    return fastapi.openapi_schema
