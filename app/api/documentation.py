"""What /openapi.json says of a route: its answer and each problem it may be refused with."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from starlette.routing import BaseRoute

from app.api.problems import KINDS
from app.api.routing import ANYBODY, GuardedRoute
from app.api.schemas import ProblemAnswer

# What any call may meet, whatever it does.
ENGINE_PROBLEMS = ("backpressure", "ledger_unavailable", "outcome_unknown", "busy")


def documented(model: type[BaseModel], status: int, *codes: str, created: bool = False) -> dict[str, Any]:
    """Options of a route declaration: the answer's model, also under 201 where it may be created, and its problems."""
    responses = refusals(*codes, *ENGINE_PROBLEMS)
    for number in (status, 201) if created else (status,):
        responses[number] = {"model": model}
    return {"responses": responses, "response_model": None}


def query_parameters(model: type[BaseModel]) -> dict[str, Any]:
    """What a hot route's query may have: FastAPI sees no parameters of an endpoint that it does not call."""
    properties = model.model_json_schema()["properties"]
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": _present(schema)}
            for name, schema in properties.items()
        ]
    }


def _present(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without null, which no query can say."""
    schema = {name: value for name, value in schema.items() if name not in ("default", "title")}
    return next((each for each in schema.pop("anyOf", []) if each.get("type") != "null"), schema)


def document_access(document: dict[str, Any], routes: Sequence[BaseRoute]) -> None:
    """Adds what a call needs where callers must show a key: the scopes, and how it is refused without."""
    for route in routes:
        if isinstance(route, GuardedRoute) and route.scopes is not ANYBODY:
            for method in route.methods or ():
                operation = document["paths"][route.path][method.lower()]
                operation["security"] = [{"bearer": sorted(route.scopes)}]
                operation["responses"] |= {
                    str(status): response
                    for status, response in refusals("unauthenticated", "forbidden", "agent_mismatch").items()
                }
                operation["responses"].setdefault("429", refusals("rate_limited")[429])
    if routes:
        document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}


def refusals(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The problems with these codes, grouped by status."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(KINDS[code].status, []).append(code)
    return {
        number: {
            "description": ", ".join(f"`{code}`" for code in names),
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}},
        }
        for number, names in sorted(by_status.items())
    }


PROBLEM_SCHEMA = {"ProblemAnswer": ProblemAnswer.model_json_schema(ref_template="#/components/schemas/{model}")}
