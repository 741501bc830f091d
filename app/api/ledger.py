"""The ledger as readers see it: every entry, in order, filtered by SKU or token."""

import base64
import binascii
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from app.api.answers import answer, entry_payload
from app.api.documentation import documented
from app.api.problems import invalid
from app.api.reservations import respond
from app.api.routing import StrictRoute, allow
from app.api.schemas import EntryListAnswer
from app.api.services import Services
from app.domain.callers import OPERATOR, READER
from app.domain.entries import Entry
from app.domain.ids import normalized_id
from app.domain.types import Sku, Token
from app.projections.history import Wanted, read_history_page
from app.store.keys import PartitionKeys

LIMIT_DEFAULT = 50
LIMIT_MAX = 1000
POSITION_MAX = 2**53 - 1
POSITION_CHARACTERS_MAX = 4096

IdQuery = Annotated[str | None, Query(min_length=1, max_length=512)]
PositionQuery = Annotated[str | None, Query(min_length=1, max_length=POSITION_CHARACTERS_MAX)]


def ledger_routes(services: Services) -> APIRouter:
    """GET /inventory/v1/ledger."""
    router = APIRouter(route_class=StrictRoute, tags=["ledger"])

    @router.get(
        "/inventory/v1/ledger",
        summary="Ledger entries in order",
        description="`after` is a sequence, or the next_cursor of the page before; `cursor` is another name for it. "
        "A page that is not the last may be empty: each call looks at 10,000 entries at most.",
        **documented(EntryListAnswer, 200, "validation_failed"),
    )
    @allow(READER, OPERATOR)
    async def entries(
        sku: IdQuery = None,
        token: IdQuery = None,
        after: PositionQuery = None,
        cursor: PositionQuery = None,
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT,
    ) -> Response:
        if after is not None and cursor is not None:
            raise invalid("cursor", "give either after or cursor")
        named_sku, named_token = _normalized("sku", sku), _normalized("token", token)
        wanted = Wanted(
            sku=None if named_sku is None else Sku(named_sku),
            token=None if named_token is None else Token(named_token),
        )
        partitions = _partitions(services, wanted)
        position = _decode_position(cursor if after is None else after, partitions)
        found: list[Entry] = []
        is_end = True
        for keys in partitions:
            page = await read_history_page(
                services.store.client,
                services.archive,
                keys,
                after=position[keys.index],
                limit=limit - len(found),
                wanted=wanted,
            )
            found += page.entries
            position[keys.index] = page.last
            if not page.is_end:
                is_end = False
                break
        payload = {
            "items": [entry_payload(entry) for entry in found],
            "next_cursor": None if is_end else _encode_position(position),
        }
        return respond(answer(200, payload))

    return router


def _normalized(name: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return normalized_id(text)
    except ValueError as error:
        raise invalid(name, str(error)) from None


def _partitions(services: Services, wanted: Wanted) -> tuple[PartitionKeys, ...]:
    """The partitions that entries like these may be in."""
    keyspace = services.store.keyspace
    if wanted.sku is not None:
        return (keyspace.of_sku(wanted.sku),)
    if wanted.token is not None:
        return keyspace.of_token(wanted.token)
    return keyspace.partitions


def _decode_position(text: str | None, partitions: tuple[PartitionKeys, ...]) -> dict[int, int]:
    """Partition -> sequence. One partition's position is its sequence; that of several is opaque."""
    position = dict.fromkeys((keys.index for keys in partitions), 0)
    if text is None or not partitions:
        return position
    if len(partitions) == 1:
        decoded = {partitions[0].index: int(text) if text.isascii() and text.isdigit() else -1}
    else:
        try:
            decoded = msgspec.json.decode(base64.urlsafe_b64decode(text), type=dict[int, int])
        except (ValueError, binascii.Error, msgspec.DecodeError):
            decoded = {-1: -1}
    if decoded.keys() - position.keys() or any(not 0 <= sequence <= POSITION_MAX for sequence in decoded.values()):
        raise invalid("after", "must be a sequence, or a next_cursor as it came")
    return position | decoded


def _encode_position(position: dict[int, int]) -> str:
    if len(position) == 1:
        return str(next(iter(position.values())))
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode()
