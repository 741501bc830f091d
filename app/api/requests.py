"""Reads requests strictly: bounded bodies, one way to write JSON, ids as the contract has them."""

import hashlib
import re
from typing import Annotated, Any, Self, TypeVar
from urllib.parse import unquote_to_bytes

import jiter
import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator
from starlette.requests import ClientDisconnect, Request

from app.api.bodies import Bodies
from app.api.problems import Problem, invalid
from app.domain.ids import ID_CHARACTERS_MAX, normalized_id
from app.domain.types import Sku, Token
from app.store.commands import Idempotency

KEY_CHARACTERS_MAX = 255
ERRORS_MAX = 20
JSON_TYPE = re.compile(r'^application/json(?:\s*;\s*charset="?utf-8"?)?\s*$', re.IGNORECASE)
QUOTED_KEY = re.compile(r'^"((?:[^"\\]|\\["\\])*)"$')
ETAG = re.compile(r'^"([1-9][0-9]{0,15})"$')
BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
SAFE_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,63}$")


class StrictModel(BaseModel):
    """What every request body is: no unknown fields, no conversions."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


Model = TypeVar("Model", bound=BaseModel)


Id = Annotated[
    str,
    AfterValidator(normalized_id),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": ID_CHARACTERS_MAX}),
]


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The body; ends reading, with a problem, as soon as it is larger than allowed, or there is no room for it.

    Read from the server's own messages: Starlette's stream costs as much again.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > bytes_max:
        raise body_too_large(bytes_max)
    bodies: Bodies = request.scope["bodies"]
    chunks: list[bytes] = []
    size, has_more = 0, True
    while has_more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > bytes_max:
            raise body_too_large(bytes_max)
        bodies.take(request.scope, len(chunk))
        chunks.append(chunk)
        has_more = message.get("more_body", False)
    return b"".join(chunks)


def body_too_large(bytes_max: int) -> Problem:
    """The problem of a body over its bound; the rest of it is not read."""
    return Problem("body_too_large", f"The body is over {bytes_max} bytes.", headers=((b"connection", b"close"),))


def parse_json(request: Request, raw: bytes, *, is_optional: bool) -> Any:
    """The JSON value in the body; {} for an empty body where one is optional."""
    if not raw:
        if is_optional:
            return {}
        raise Problem("malformed_request", "The body is empty; this call needs one.")
    if not JSON_TYPE.match(request.headers.get("content-type", "")):
        raise Problem("unsupported_media_type", "The body must be JSON: send Content-Type: application/json.")
    try:
        return jiter.from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        # jiter's words may quote the body; what is said is ours.
        if "number out of range" in str(error):
            raise invalid("", "a number has too many digits") from None
        raise Problem(
            "malformed_request",
            "The body is not one JSON value in UTF-8, or has NaN, duplicate keys, lone surrogates or deep nesting.",
        ) from None


def validate(model: type[Model], value: Any) -> Model:
    """The body as this model; raises a validation problem that echoes no value."""
    try:
        validated: Model = model.__pydantic_validator__.validate_python(value)
    except ValidationError as error:
        raise validation_problem(error.errors(include_input=False, include_url=False)) from None
    return validated


def validation_problem(errors: list[Any]) -> Problem:
    """A problem that names each field that is wrong, and what is wrong with it, but never what was sent."""
    return Problem(
        "validation_failed",
        "The request is not as this call takes it; see errors.",
        {"errors": [_field_error(error) for error in errors[:ERRORS_MAX]]},
    )


def _field_error(error: Any) -> dict[str, str]:
    path = [str(part) for part in error["loc"] if part not in ("body", "query", "path", "header")]
    if path[:1] in (["metadata"], ["channel_limits"]):
        path = path[:1]  # what follows is a key of the caller's
    if error["type"] == "extra_forbidden":
        name = path[-1] if path and SAFE_NAME.fullmatch(path[-1]) else "(not shown)"
        return {"field": ".".join([*path[:-1], name]), "message": "unknown field"}
    message = str(error["msg"]).removeprefix("Value error, ")
    return {"field": ".".join(path), "message": message[:1].lower() + message[1:]}


def sku_in_path(raw: str, *, is_writing: bool) -> Sku:
    """The SKU that a path segment encodes."""
    return Sku(_id_in_path(raw, "sku_not_found", "sku", is_writing=is_writing))


def token_in_path(raw: str, *, is_writing: bool) -> Token:
    """The token that a path segment holds."""
    return Token(_id_in_path(raw, "reservation_not_found", "token", is_writing=is_writing))


def id_in_path(raw: str, name: str) -> str:
    """The id of something else that a path segment encodes, where it is written."""
    return _id_in_path(raw, "not_found", name, is_writing=True)


class AvailabilityQuestion(StrictModel):
    """What a question about a SKU narrows it to."""

    location_id: Id | None = None
    channel: Id | None = None
    as_of: Annotated[str, Field(min_length=1, max_length=64)] | None = None

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if self.channel is not None and self.as_of is not None:
            raise ValueError("what a channel could have had is not known of the past")
        return self


def availability_question(request: Request) -> AvailabilityQuestion:
    """The query of a question about a SKU."""
    return validate(AvailabilityQuestion, dict(request.query_params))


def _id_in_path(raw: str, missing: str, name: str, *, is_writing: bool) -> str:
    if "%" not in raw and raw.isascii() and raw.isprintable() and 1 <= len(raw) <= ID_CHARACTERS_MAX:
        return raw
    try:
        if BROKEN_ESCAPE.search(raw):
            raise ValueError("must be percent-encoded")  # noqa: TRY301 - one way out for all that a path can have wrong
        return normalized_id(unquote_to_bytes(raw).decode())
    except UnicodeDecodeError:
        message = "must be UTF-8"
    except ValueError as error:
        message = str(error)
    if is_writing:
        raise invalid(name, message)
    raise Problem(missing, f"The {name} in the path cannot exist: it {message}.")


def idempotency_of(request: Request, agent_id: str, body: BaseModel | bytes) -> Idempotency | None:
    """The request's Idempotency-Key with its scope and fingerprint, None without one.

    `body` is the body as validated, or bytes that stand for it: of a file, its digest.
    """
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    key = given[0].strip()
    if quoted := QUOTED_KEY.match(key):
        key = re.sub(r'\\(["\\])', r"\1", quoted[1])
    if len(given) > 1 or not 1 <= len(key) <= KEY_CHARACTERS_MAX or not (key.isascii() and key.isprintable()):
        raise invalid("Idempotency-Key", f"must come once and have 1 to {KEY_CHARACTERS_MAX} visible ASCII characters")
    canonical = (
        body if isinstance(body, bytes) else msgspec.json.encode(body.model_dump(mode="json"), order="deterministic")
    )
    fingerprint = hashlib.blake2b(canonical, digest_size=16).hexdigest()
    scope = (request.scope["caller"].holder, agent_id, request.method, request.scope["path"], key)
    return Idempotency(scope=scope, fingerprint=fingerprint)


def expected_sequence_of(request: Request) -> str:
    """What If-Match asks for: a sequence, `*` for any that exists, empty without the header."""
    given = request.headers.get("if-match")
    if given is None or given == "*":
        return given or ""
    match = ETAG.match(given)
    return match[1] if match else "never"  # an ETag that was never given out, or a weak one, matches nothing
