"""A fulfilment partner as the world has them: its stock over HTTP, a page at a time, as app/connectors/rest.py asks.

For the demo, and for tests, which teach it to misbehave.
"""

import hmac
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import uvicorn

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Row = dict[str, Any]
JSON = b"application/json"
LOCATION = "R-1"
PAGE_SIZE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and the way to answer it. Header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    receive: Receive
    send: Send

    async def answer(
        self, status: int, body: bytes, *, content_type: bytes = JSON, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """The whole answer at once."""
        await self.begin(status, content_type=content_type, headers=headers)
        await self.send({"type": "http.response.body", "body": body})

    async def begin(
        self, status: int, *, content_type: bytes = JSON, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """The head alone."""
        all_headers = [(b"content-type", content_type), *headers]
        await self.send({"type": "http.response.start", "status": status, "headers": all_headers})

    async def answer_json(self, value: object) -> None:
        await self.answer(200, json.dumps(value).encode())


@dataclass(slots=True)
class _Record:
    """A row, when it changed, and its place in the order of all changes."""

    row: Row
    changed_at: datetime
    number: int


@dataclass(slots=True)
class Partner:
    """What the partner has. An ASGI application."""

    token: str = "partner-token"  # noqa: S105 - what a poller shows, unless another is chosen
    has_versions: bool = True
    _records: dict[tuple[str, str], _Record] = field(default_factory=dict)
    _changes: int = 0

    def set_stock(self, sku: str, on_hand: object, *, location_id: str = LOCATION, at: datetime | None = None) -> Row:
        """Notes what is there now; the row has a version one higher than before. Whatever it is told, it says."""
        at = at or datetime.now(UTC)
        record = self._records.get((sku, location_id))
        version = record.row.get("version", 0) + 1 if record else 1
        row = {"sku": sku, "location_id": location_id, "on_hand": on_hand, "updated_at": _rfc3339(at)}
        if self.has_versions:
            row["version"] = version
        self.set_row(row, at=at)
        return row

    def set_row(self, row: Row, *, at: datetime | None = None) -> None:
        """Puts a row as it stands, in place of the one of the same SKU and location."""
        self._changes += 1
        key = (str(row.get("sku")), str(row.get("location_id")))
        self._records[key] = _Record(row, at or datetime.now(UTC), self._changes)

    def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """One page of what changed since, in the order of the changes; a cursor is the number of the last one."""
        since = datetime.fromisoformat(query.get("updated_since", "1970-01-01T00:00:00Z"))
        after, limit = int(query.get("cursor", 0)), min(int(query.get("limit", 50)), PAGE_SIZE_MAX)
        records = sorted(self._records.values(), key=lambda record: record.number)
        rest = [record for record in records if record.number > after and record.changed_at >= since]
        page = rest[:limit]
        return {
            "items": [record.row for record in page],
            "next_cursor": str(page[-1].number) if len(rest) > limit else None,
        }

    async def answer(self, exchange: Exchange) -> None:
        """A page to whoever has the token and asks for one that there is."""
        if not hmac.compare_digest(exchange.headers.get("authorization", ""), f"Bearer {self.token}"):
            await exchange.answer(401, b'{"error": "unauthorized"}')
        elif not exchange.query.get("cursor", "0").isdigit():
            await exchange.answer(400, b'{"error": "no such cursor"}')
        else:
            await exchange.answer_json(self.page(exchange.query))

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        query = dict(parse_qsl(scope["query_string"].decode()))
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        await self.answer(Exchange(scope["method"], scope["path"], query, headers, receive, send))


def listen(port: int = 0) -> socket.socket:
    """A port of loopback, if none is named a free one; who comes waits there until it is served."""
    return socket.create_server(("127.0.0.1", port))


def url_of(listener: socket.socket) -> str:
    """Where the stock of the partner is that is served there."""
    return f"http://127.0.0.1:{listener.getsockname()[1]}/stock"


@asynccontextmanager
async def serving(partner: Partner, listener: socket.socket | None = None) -> AsyncIterator[str]:
    """Serves a partner in this loop; its URL. Who still waits in the end is cut off."""
    config = uvicorn.Config(partner, lifespan="off", ws="none", log_config=None, access_log=False)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with listener or listen() as at:
        # Not server.serve(), which takes the process's signals.
        await server.startup(sockets=[at])
        try:
            yield url_of(at)
        finally:
            server.force_exit = True
            await server.shutdown(sockets=[at])


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
