"""What operators and machines look at: liveness, readiness, metrics, the pages of problems."""

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from app.api.answers import answer
from app.api.documentation import ENGINE_PROBLEMS, refusals
from app.api.problems import KINDS, Problem, page
from app.api.reservations import respond
from app.api.routing import StrictRoute, allow
from app.api.services import Services
from app.domain.callers import OPERATOR, READER
from app.observability import metrics


def operation_routes(services: Services) -> APIRouter:
    """/livez, /readyz, /metrics, /problems/<slug>."""
    router = APIRouter(route_class=StrictRoute, tags=["operations"])

    @router.get("/livez", summary="The process runs")
    @allow()
    async def livez() -> Response:
        return respond(answer(200, {"status": "alive"}))

    @router.get(
        "/readyz", summary="The engine can be reached and the scripts are loaded", responses=refusals(*ENGINE_PROBLEMS)
    )
    @allow()
    async def readyz() -> Response:
        if services.store.pipeline.held_back is not None:
            raise Problem("ledger_unavailable", f"The engine's breaker is open: {services.store.pipeline.held_back}.")
        if not services.store.pipeline.is_open:
            raise Problem("ledger_unavailable", services.store.pipeline.refusal or "The engine cannot be reached.")
        await services.commands.ping()
        return respond(answer(200, {"status": "ready"}))

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    @allow(READER, OPERATOR)
    async def exposition() -> Response:
        text, content_type = metrics.render()
        return Response(text, headers={"content-type": content_type})

    @router.get(
        "/problems/{slug}",
        summary="What a problem means and what to do",
        response_class=HTMLResponse,
        responses=refusals("not_found"),
    )
    @allow()
    async def problem_page(slug: str) -> Response:
        for kind in KINDS.values():
            if kind.slug == slug:
                return HTMLResponse(page(kind))
        raise Problem("not_found", "There is no problem of that name.")

    return router
