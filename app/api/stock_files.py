"""Stock as a file, sent to the gateway."""

import hashlib
import re
import tempfile
from functools import partial
from typing import IO

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from app.api.answers import import_answer
from app.api.documentation import documented
from app.api.problems import Problem, invalid
from app.api.requests import body_too_large, idempotency_of
from app.api.reservations import respond
from app.api.routing import StrictRoute, allow
from app.api.services import Services
from app.domain.callers import OPERATOR
from app.workflows.stock_files.faults import StockFileError
from app.workflows.stock_files.importing import ImportInterrupted, import_once, import_stock

CSV_TYPE = re.compile(r'^text/csv(?:\s*;\s*(?:charset="?utf-8"?|header="?present"?))*\s*$', re.IGNORECASE)
MEMORY_BYTES_MAX = 256 * 1024
IN_FLIGHT_MAX = 1  # agents' calls stand in the same queue
BODY = {"requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}}}


class ImportAnswer(BaseModel):
    """How many rows the file has, and how many of them changed something."""

    rows: int
    changed: int


def stock_file_routes(services: Services) -> APIRouter:
    """The import of a CSV file."""
    router = APIRouter(route_class=StrictRoute, tags=["stock"])

    @router.post(
        "/inventory/v1/stock/import",
        summary="Count stock and set policies as a CSV file says: all rows or none",
        openapi_extra=BODY,
        **documented(
            ImportAnswer, 200, "body_too_large", "unsupported_media_type", "validation_failed", "idempotency_conflict"
        ),
    )
    @allow(OPERATOR)
    async def import_file(request: Request) -> Response:
        if not CSV_TYPE.match(request.headers.get("content-type", "")):
            raise Problem("unsupported_media_type", "The body must be CSV in UTF-8: send Content-Type: text/csv.")
        # A small file stays in memory; a larger one is on disk before it is looked at.
        with tempfile.SpooledTemporaryFile(MEMORY_BYTES_MAX) as file:
            digest = await _receive(request, file, services.settings.import_bytes_max)
            idempotency = idempotency_of(request, "", digest)
            run = partial(import_once, idempotency=idempotency) if idempotency else import_stock
            try:
                outcome = await run(
                    services.store, file, kind_of=services.settings.kind_of, in_flight_max=IN_FLIGHT_MAX
                )
            except StockFileError as error:
                raise invalid(error.where, error.message) from None
            except ImportInterrupted:
                raise Problem(
                    "outcome_unknown", "Some rows are applied and others are not: send the same file again."
                ) from None
        return respond(import_answer(outcome))

    return router


async def _receive(request: Request, file: IO[bytes], bytes_max: int) -> bytes:
    """Writes the body into the file and goes back to its start; a problem as soon as it is larger than allowed.

    Returns a digest of it.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > bytes_max:
        raise body_too_large(bytes_max)
    size, digest = 0, hashlib.blake2b(digest_size=16)
    async for chunk in request.stream():
        size += len(chunk)
        if size > bytes_max:
            raise body_too_large(bytes_max)
        file.write(chunk)
        digest.update(chunk)
    file.seek(0)
    return digest.digest()
