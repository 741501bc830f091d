"""Sources for operators: how it goes with each, what they call our SKUs and locations, what of theirs was no use."""

import base64
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from app.api.admin import ADMIN
from app.api.answers import answer, rfc3339
from app.api.cursors import Number, PageQuestion, Text
from app.api.documentation import documented
from app.api.problems import Problem, invalid
from app.api.requests import id_in_path
from app.api.reservations import respond
from app.api.routing import StrictRoute, allow
from app.api.services import Services
from app.api.source_schemas import (
    ConnectorListAnswer,
    DeadLetterAnswer,
    DeadLetterContentAnswer,
    DeadLetterListAnswer,
    EmptyBody,
    LocationMappingAnswer,
    LocationMappingBody,
    SkuMappingAnswer,
    SkuMappingBody,
)
from app.api.webhooks import ReceiptAnswer, receipt_answer
from app.domain.callers import OPERATOR
from app.domain.dead_letters import Content, DeadLetter, LetterStatus
from app.domain.errors import MappingsFull
from app.ingest.dead_letters import replay_letter
from app.ingest.source_watch import condition_of
from app.store.dead_letters import close, list_places, read_letter, read_letters
from app.store.mappings import Mapped

BODY_PROBLEMS = ("malformed_request", "body_too_large", "unsupported_media_type", "validation_failed")
NO_BODY = EmptyBody()


class DeadLettersQuestion(PageQuestion):
    """Which dead letters."""

    status: LetterStatus = LetterStatus.OPEN


def connector_routes(services: Services) -> APIRouter:
    """What stands under /inventory/v1/admin/connectors and dead-letters."""
    router = APIRouter(route_class=StrictRoute, tags=["admin"])

    @router.get(
        f"{ADMIN}/connectors",
        summary="How it goes with each source, by name",
        **documented(ConnectorListAnswer, 200, "validation_failed"),
    )
    @allow(OPERATOR)
    async def connectors(question: Annotated[PageQuestion, Query()]) -> Response:
        after = question.after(tuple[Text])
        names = [name for name in sorted(services.settings.sources) if after is None or name > after[0]]
        payload = {
            "items": await _connector_payloads(services, names[: question.limit]),
            "next_cursor": question.next_cursor(names, lambda name: (name,)),
        }
        return respond(answer(200, payload))

    _declare_mappings(router, services)
    _declare_dead_letters(router, services)
    _declare_decisions(router, services)
    return router


def _declare_mappings(router: APIRouter, services: Services) -> None:
    @router.put(
        f"{ADMIN}/connectors/{{name}}/skus/{{id}}",
        summary="Say which SKU a source means by an id; before what lastunit.toml says, and within a second everywhere",
        **documented(SkuMappingAnswer, 200, *BODY_PROBLEMS, "source_not_found"),
    )
    @allow(OPERATOR)
    async def put_sku(name: str, id: str, body: SkuMappingBody) -> Response:  # noqa: A002 - as the path has it
        told = await _put(name, Mapped.SKU, id, body.sku)
        return respond(answer(200, {"name": name, "id": told, "sku": body.sku}))

    @router.put(
        f"{ADMIN}/connectors/{{name}}/locations/{{id}}",
        summary="Say which location a source means by an id; as of SKUs",
        **documented(LocationMappingAnswer, 200, *BODY_PROBLEMS, "source_not_found"),
    )
    @allow(OPERATOR)
    async def put_location(name: str, id: str, body: LocationMappingBody) -> Response:  # noqa: A002 - likewise
        told = await _put(name, Mapped.LOCATION, id, body.location_id)
        return respond(answer(200, {"name": name, "id": told, "location_id": body.location_id}))

    async def _put(name: str, what: Mapped, raw_id: str, ours: str) -> str:
        if name not in services.settings.sources:
            raise Problem("source_not_found", "No source has this name.")
        told = id_in_path(raw_id, "id")
        try:
            await services.store.mappings.put(name, what, told, ours)
        except MappingsFull as error:
            raise invalid("id", str(error)) from None
        return told


def _declare_dead_letters(router: APIRouter, services: Services) -> None:
    @router.get(
        f"{ADMIN}/dead-letters",
        summary="Deliveries that could not be used, newest first",
        **documented(DeadLetterListAnswer, 200, "validation_failed"),
    )
    @allow(OPERATOR)
    async def dead_letters(question: Annotated[DeadLettersQuestion, Query()]) -> Response:
        store = services.store
        places = await list_places(
            store.client,
            store.keyspace.sources,
            question.status,
            after=question.after(tuple[Number, Text]),
            limit=question.rows_wanted,
        )
        shown = [letter_id for _, letter_id in places[: question.limit]]
        payload = {
            "items": [_payload(each) for each in await read_letters(store.client, store.keyspace.sources, shown)],
            "next_cursor": question.next_cursor(places, lambda place: place),
        }
        return respond(answer(200, payload))

    @router.get(
        f"{ADMIN}/dead-letters/{{id}}",
        summary="A delivery that could not be used, and what was in it",
        **documented(DeadLetterContentAnswer, 200, "not_found"),
    )
    @allow(OPERATOR)
    async def dead_letter(id: str) -> Response:  # noqa: A002 - as the path has it
        found = await read_letter(services.store.client, services.store.keyspace.sources, id)
        if found is None:
            raise _not_found()
        letter, content = found
        return respond(answer(200, _payload(letter) | _content_payload(content)))


def _declare_decisions(router: APIRouter, services: Services) -> None:
    @router.post(
        f"{ADMIN}/dead-letters/{{id}}/replay",
        summary="Take in once more what could not be used, as if it came now; no line is applied twice",
        **documented(ReceiptAnswer, 200, *BODY_PROBLEMS, "not_found", "source_not_found"),
    )
    @allow(OPERATOR)
    async def replay(id: str, body: EmptyBody = NO_BODY) -> Response:  # noqa: A002, ARG001 - as the path has it; empty
        found = await read_letter(services.store.client, services.store.keyspace.sources, id)
        if found is None:
            raise _not_found()
        letter, content = found
        source = services.sources.get(letter.source)
        if source is None:
            raise Problem("source_not_found", "The letter's source is not in lastunit.toml any more.")
        outcome = await replay_letter(services.store, source, letter, content, kind_of=services.settings.kind_of)
        return respond(receipt_answer(outcome))

    @router.post(
        f"{ADMIN}/dead-letters/{{id}}/discard",
        summary="Say that nothing is to be done about it; what was replayed stays so",
        **documented(DeadLetterAnswer, 200, *BODY_PROBLEMS, "not_found"),
    )
    @allow(OPERATOR)
    async def discard(id: str, body: EmptyBody = NO_BODY) -> Response:  # noqa: A002, ARG001 - likewise
        store = services.store
        letter = await close(store.client, store.keyspace.sources, id, LetterStatus.DISCARDED, at_us=store.now_us())
        if letter is None:
            raise _not_found()
        return respond(answer(200, _payload(letter)))


def _not_found() -> Problem:
    return Problem("not_found", "No dead letter has this id: it is forgotten 30 days after it was done.")


async def _connector_payloads(services: Services, names: Sequence[str]) -> list[dict[str, Any]]:
    states, now_us = services.store.source_states, services.now_us()
    await states.write_notes()
    payloads = []
    for name, state in zip(names, await states.read(names), strict=True):
        source = services.settings.sources[name]
        payload = {
            "name": name,
            "connector": source.connector,
            "state": condition_of(source, state, now_us=now_us, is_disabled=_is_disabled(services, name)),
            "last_success_at": None if state.last_success_us is None else rfc3339(state.last_success_us),
            "last_delivery_at": None if state.last_delivery_us is None else rfc3339(state.last_delivery_us),
            "last_error": state.last_error,
            "consecutive_failures": state.consecutive_failures,
            "missing_numbers": await states.missing_numbers(name),
        }
        payloads.append(payload)
    return payloads


def _is_disabled(services: Services, name: str) -> bool:
    return name in services.breakers and services.breakers[name].forced == "open"


def _payload(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "source": letter.source,
        "delivery_id": letter.delivery_id,
        "received_at": rfc3339(letter.received_at_us),
        "reason": letter.reason,
        "attempts": letter.attempts,
        "status": letter.status,
    }


def _content_payload(content: Content) -> dict[str, Any]:
    try:
        body = content.body.decode()
    except UnicodeDecodeError:
        body = None
    return {
        "headers": content.headers,
        "body": body,
        "body_base64": base64.b64encode(content.body).decode(),
    }
