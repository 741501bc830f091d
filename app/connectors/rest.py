"""`rest`: a partner that tells its stock over HTTP, a page of counts at a time.

    GET url?limit=&cursor=&updated_since=      Authorization: Bearer <token>
    {"items": [{"sku", "location_id", "on_hand", "version"?, "updated_at"}, ...], "next_cursor": null | "..."}

A row is a count, its clock `version`, else `updated_at`. What an answer does not mention is not zero.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.connectors.connector import Fault, Headers, Page, Parsed, Row, Unreadable, VendorLine
from app.connectors.requests import PollFailed, fetch_json
from app.connectors.source_settings import PollSettings
from app.connectors.strict_json import Id, Time, faults_of, read_json
from app.domain.updates import COUNTER_MAX, UpdateKind

ON_HAND_MAX = 10**12
ROWS_MAX = 10_000  # of an answer, whatever was asked for
ROWS_AT_ONCE = 100  # about a millisecond, and then others have their turn
CURSOR_CHARACTERS_MAX = 2048
EPOCH = datetime.fromtimestamp(0, UTC)


class _Model(BaseModel):
    """No conversions; what else a partner says is its own affair."""

    model_config = ConfigDict(strict=True)


class _Count(_Model):
    """What is there of one SKU at one location."""

    sku: Id
    location_id: Id
    on_hand: Annotated[int, Field(ge=0, le=ON_HAND_MAX)]
    version: Annotated[int, Field(ge=0, le=COUNTER_MAX)] | None = None
    updated_at: Time


class _Answer(_Model):
    """A page as it came, its rows not looked at yet."""

    items: Annotated[list[Any], Field(max_length=ROWS_MAX)]
    next_cursor: Annotated[str, Field(max_length=CURSOR_CHARACTERS_MAX)] | None = None


COUNT, ANSWER, ANY = TypeAdapter(_Count), TypeAdapter(_Answer), TypeAdapter(Any)


@dataclass(frozen=True, slots=True)
class Rest:
    """A partner of this kind; `source` names it in clocks."""

    source: str
    settings: PollSettings

    async def pages(
        self, client: httpx.AsyncClient, *, updated_since_us: int | None, cursor: str | None
    ) -> AsyncGenerator[Page, None]:
        """See app.connectors.connector."""
        while True:
            answer = await self._ask(client, updated_since_us=updated_since_us, cursor=cursor)
            cursor = answer.next_cursor or None
            yield Page(await self._read_all(answer.items), cursor)
            if cursor is None:
                return

    def parse(self, headers: Headers, body: bytes) -> Parsed:
        """See app.connectors.connector."""
        item = read_json(body, ANY)
        return item if isinstance(item, Unreadable) else self._read(item)

    async def _ask(self, client: httpx.AsyncClient, *, updated_since_us: int | None, cursor: str | None) -> _Answer:
        query = {"limit": str(self.settings.page_size)}
        if cursor is not None:
            query["cursor"] = cursor
        if updated_since_us is not None:
            since = EPOCH + timedelta(microseconds=updated_since_us)
            query["updated_since"] = since.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        token = self.settings.token.get_secret_value()
        request = client.build_request(
            "GET",
            httpx.URL(self.settings.url).copy_merge_params(query),
            headers={"authorization": f"Bearer {token}"},
        )
        try:
            value = await fetch_json(client, request, timeout_seconds=self.settings.timeout_seconds)
            return ANSWER.validate_python(value)
        except ValidationError:
            raise PollFailed("the answer is no page of items") from None

    async def _read_all(self, items: Sequence[object]) -> list[Row]:
        rows = []
        for number, item in enumerate(items, 1):
            rows.append(Row(item, self._read(item)))
            if number % ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return rows

    def _read(self, item: object) -> Parsed:
        try:
            count = COUNT.validate_python(item)
        except ValidationError as error:
            return Unreadable(Fault.INVALID, faults_of(error))
        clock = None if count.version is None else {self.source: count.version}
        return [
            VendorLine(
                kind=UpdateKind.COUNT,
                quantity=count.on_hand,
                occurred_at_us=count.updated_at,
                item_id=count.sku,
                sku=count.sku,
                location_id=count.location_id,
                clock=clock,
            )
        ]
