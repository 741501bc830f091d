"""Breakers for operators: how the engine's and each source's stand, and what they are ordered to be."""

from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from app.api.admin import ADMIN
from app.api.answers import answer, rfc3339
from app.api.connectors import BODY_PROBLEMS
from app.api.documentation import documented
from app.api.problems import Problem
from app.api.requests import StrictModel, id_in_path
from app.api.reservations import respond
from app.api.routing import StrictRoute, allow
from app.api.schemas import Reason, Time
from app.api.services import Services
from app.domain.breakers import ENGINE, BreakerState, Order
from app.domain.callers import OPERATOR
from app.domain.errors import EngineError
from app.workflows.breaker_watch import give_order
from app.workflows.breakers import Breaker, wall_us


class BreakerBody(StrictModel):
    """What a breaker is to be; null lets it judge for itself again."""

    forced: Literal["open", "closed"] | None
    reason: Reason | None = None


class BreakerAnswer(BaseModel):
    """A breaker: how it stands, since when and why. It tries again at `retry_at`, where it says when."""

    name: str
    state: Literal["closed", "open", "half_open"]
    forced: Literal["open", "closed"] | None
    since: Time
    reason: str | None
    retry_at: Time | None


class BreakerListAnswer(BaseModel):
    """All of them: the engine's, then those of sources by name."""

    items: list[BreakerAnswer]


def breaker_routes(services: Services) -> APIRouter:
    """What stands under /inventory/v1/admin/breakers."""
    router = APIRouter(route_class=StrictRoute, tags=["admin"])

    @router.get(
        f"{ADMIN}/breakers",
        summary="How the breakers of the engine and of polled sources stand",
        **documented(BreakerListAnswer, 200),
    )
    @allow(OPERATOR)
    async def breakers() -> Response:
        states = await _states(services)
        items = [_payload(breaker, states[name]) for name, breaker in services.breakers.items()]
        return respond(answer(200, {"items": items}))

    @router.put(
        f"{ADMIN}/breakers/{{name}}",
        summary="Order a breaker to be open or closed, or to judge for itself; within a second everywhere",
        **documented(BreakerAnswer, 200, *BODY_PROBLEMS, "not_found"),
    )
    @allow(OPERATOR)
    async def force(name: str, body: BreakerBody) -> Response:
        breaker = services.breakers.get(id_in_path(name, "name"))
        if breaker is None:
            raise Problem("not_found", "No breaker has this name: GET lists them.")
        last_us = breaker.order.at_us if breaker.order else 0
        order = Order(body.forced, body.reason, max(wall_us(), last_us + 1))
        await give_order(services.store, services.breakers, services.settings.breakers_path, breaker.name, order)
        return respond(answer(200, _payload(breaker, (await _states(services))[breaker.name])))

    return router


async def _states(services: Services) -> dict[str, BreakerState]:
    """By their own judgement: a source's as the gateway that polls it has it, where the engine can be asked."""
    states = {name: breaker.state for name, breaker in services.breakers.items()}
    if services.store.pipeline.is_open:
        try:
            states |= await services.store.source_states.read_breakers(name for name in states if name != ENGINE)
        except EngineError:
            return states
    return states


def _payload(breaker: Breaker, state: BreakerState) -> dict[str, Any]:
    order = breaker.order
    if order is not None and order.forced is not None:
        state = BreakerState(order.forced, order.at_us, order.reason)
    retry_at_us = state.retry_at_us
    is_due = state.standing == "open" and retry_at_us is not None and retry_at_us <= wall_us()
    return {
        "name": breaker.name,
        "state": "half_open" if is_due else state.standing,
        "forced": None if order is None else order.forced,
        "since": rfc3339(state.since_us),
        "reason": state.reason,
        "retry_at": None if retry_at_us is None else rfc3339(retry_at_us),
    }
