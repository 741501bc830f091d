"""Reads what systems outside send: one JSON value, strictly, and exactly what their schema has."""

import re
from typing import Annotated, Any, TypeVar

import jiter
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from app.connectors.connector import Fault, Unreadable
from app.domain.ids import normalized_id
from app.domain.times import parse_time

ERRORS_MAX = 20
SAFE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")

Shape = TypeVar("Shape")
Id = Annotated[str, AfterValidator(normalized_id)]


def _read_time(value: Any) -> int:
    return parse_time(value if isinstance(value, str) else "")


# Written as RFC 3339, read as us since 1970; up to what the engine's scripts can reckon with, in the year 2255.
Time = Annotated[int, BeforeValidator(_read_time), Field(ge=0, le=2**53 - 1)]


class StrictModel(BaseModel):
    """No unknown fields, no conversions."""

    model_config = ConfigDict(strict=True, extra="forbid")


def read_json(body: bytes, shape: TypeAdapter[Shape]) -> Shape | Unreadable:
    """The body as this shape. Duplicate keys, NaN and lone surrogates are no JSON; what is too large is invalid."""
    try:
        value = jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        if "number out of range" in str(error):
            return Unreadable(Fault.INVALID, [("", "a number has too many digits")])
        return Unreadable(Fault.MALFORMED)
    try:
        return shape.validator.validate_python(value)  # type: ignore[no-any-return] # pydantic-core's own types
    except ValidationError as error:
        return Unreadable(Fault.INVALID, faults_of(error))


def faults_of(error: ValidationError) -> list[tuple[str, str]]:
    """Each field that is wrong, and what is wrong with it, without a word of what was sent."""
    errors = error.errors(include_input=False, include_url=False, include_context=False)
    return [_fault(each) for each in errors[:ERRORS_MAX]]


def _fault(error: Any) -> tuple[str, str]:
    path = [str(part) for part in error["loc"]]
    if path[:1] == ["clock"]:
        path = path[:1]  # what follows is a name of the sender's
    if error["type"] == "extra_forbidden":
        name = path[-1] if SAFE_NAME.fullmatch(path[-1]) else "(not shown)"
        return ".".join([*path[:-1], name]), "unknown field"
    message = str(error["msg"]).removeprefix("Value error, ")
    return ".".join(path), message[:1].lower() + message[1:]
