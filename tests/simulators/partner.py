"""A fulfilment partner as the world has them: its stock over HTTP, a page at a time, and every way it can misbehave.

An ASGI application. Tests serve it in their own loop; as a process, `python -m tests.simulators.partner`, it prints its
address, and is told over HTTP what it has (`PUT /stock`) and what to do next (`POST /faults`).
"""

import argparse
import asyncio
import hmac
import json
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import uvicorn

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Row = dict[str, Any]
JSON, HTML = b"application/json", b"text/html; charset=utf-8"
PAGE_SIZE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for stock. Header names are in lower case."""

    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(slots=True)
class Exchange:
    """One request and the way to answer it."""

    partner: "Partner"
    asked: Asked
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


Fault = Callable[[Exchange], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class _Record:
    """A row, when it changed, and its place in the order of all changes."""

    row: Row
    changed_at: datetime
    number: int


@dataclass(slots=True)
class Partner:
    """What the partner has, what it was asked, and how it answers: the next requests by `faults`, then by `fault`."""

    token: str = "partner-token"
    faults: deque[Fault] = field(default_factory=deque)
    fault: Fault | None = None
    has_versions: bool = True
    asked: list[Asked] = field(default_factory=list)
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)
    _records: dict[tuple[str, str], _Record] = field(default_factory=dict)
    _changes: int = 0

    def set_stock(self, sku: str, on_hand: object, *, location_id: str = "R-1", at: datetime | None = None) -> Row:
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

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        asked = Asked(dict(parse_qsl(scope["query_string"].decode())), headers)
        exchange = Exchange(self, asked, receive, send)
        if scope["method"] != "GET":
            await self._obey(exchange, scope["path"])
            return
        self.asked.append(asked)
        self.was_asked.set()
        fault = self.faults.popleft() if self.faults else self.fault
        if fault:
            await fault(exchange)
        elif not hmac.compare_digest(headers.get("authorization", ""), f"Bearer {self.token}"):
            await exchange.answer(401, b'{"error": "unauthorized"}')
        elif not asked.query.get("cursor", "0").isdigit():
            await exchange.answer(400, b'{"error": "no such cursor"}')
        else:
            await exchange.answer_json(self.page(asked.query))

    async def _obey(self, exchange: Exchange, path: str) -> None:
        """What the partner is told where it is a process of its own."""
        body, has_more = b"", True
        while has_more:
            message = await exchange.receive()
            body += message["body"]
            has_more = message.get("more_body", False)
        told = json.loads(body)
        if path == "/stock":
            for row in told["items"]:
                self.set_stock(row["sku"], row["on_hand"], location_id=row.get("location_id", "R-1"))
        else:
            self.faults += [FAULTS[told["fault"]](**told.get("with", {}))] * told.get("times", 1)
        await exchange.answer_json({})


# What a partner does instead of an answer. Each is made with its own values, and then takes one exchange.


def status(code: int = 500, body: str = "<h1>Internal Server Error</h1>") -> Fault:
    """A status, and a body that is no JSON."""
    return lambda exchange: exchange.answer(code, body.encode(), content_type=HTML)


def throttled(retry_after: str | None = "1") -> Fault:
    """429; `retry_after` in seconds or as an HTTP date, None for a partner that does not say."""
    headers = [(b"retry-after", retry_after.encode())] if retry_after is not None else []
    return lambda exchange: exchange.answer(429, b"{}", headers=headers)


def html() -> Fault:
    """A login page where JSON was asked for, with the status of success."""
    return status(200, "<!doctype html><title>Sign in</title>")


def redirect(location: str) -> Fault:
    """Leads elsewhere."""
    return lambda exchange: exchange.answer(302, b"", headers=[(b"location", location.encode())])


def raw(body: str, content_type: str = "application/json") -> Fault:
    """These bytes for a page."""
    return lambda exchange: exchange.answer(200, body.encode(), content_type=content_type.encode())


def squeezed() -> Fault:
    """A compressed page that nobody asked for."""
    return lambda exchange: exchange.answer(200, b"\x1f\x8b", headers=[(b"content-encoding", b"gzip")])


def hang() -> Fault:
    """Takes the request and never says a word."""

    async def answer(exchange: Exchange) -> None:
        while (await exchange.receive())["type"] != "http.disconnect":
            pass

    return answer


def drip(pause_seconds: float = 0.01) -> Fault:
    """One byte, a pause, and another, without end: each comes in time, the whole never does."""

    async def answer(exchange: Exchange) -> None:
        await exchange.begin(200)
        hung_up = asyncio.create_task(hang()(exchange))
        while not hung_up.done():
            await exchange.send({"type": "http.response.body", "body": b" ", "more_body": True})
            await asyncio.wait([hung_up], timeout=pause_seconds)

    return answer


def huge(size_bytes: int = 64 * 1024 * 1024) -> Fault:
    """A body of so many bytes, or as many of them as are taken."""

    async def answer(exchange: Exchange) -> None:
        await exchange.begin(200)
        chunk = b" " * 65_536
        for _ in range(size_bytes // len(chunk)):
            await exchange.send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(0)
        await exchange.send({"type": "http.response.body", "body": b""})

    return answer


def endless() -> Fault:
    """The first page over and over, each time with a cursor never seen before."""

    async def answer(exchange: Exchange) -> None:
        page = exchange.partner.page({**exchange.asked.query, "cursor": "0"})
        await exchange.answer_json({**page, "next_cursor": f"again-{len(exchange.partner.asked)}"})

    return answer


def repeated_cursor() -> Fault:
    """The first page over and over, always with the same cursor."""

    async def answer(exchange: Exchange) -> None:
        page = exchange.partner.page({**exchange.asked.query, "cursor": "0"})
        await exchange.answer_json({**page, "next_cursor": "again"})

    return answer


FAULTS: Mapping[str, Callable[..., Fault]] = {
    made.__name__: made
    for made in (status, throttled, html, redirect, raw, squeezed, hang, drip, huge, endless, repeated_cursor)
}


def http_date(seconds_ahead: float) -> str:
    """A moment as Retry-After may name it, in whole seconds."""
    return (datetime.now(UTC) + timedelta(seconds=seconds_ahead)).strftime("%a, %d %b %Y %H:%M:%S GMT")


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@asynccontextmanager
async def serving(partner: Partner) -> AsyncIterator[str]:
    """The URL of the partner's stock, on a free port of loopback, until the end; who still waits then is cut off."""
    config = uvicorn.Config(partner, lifespan="off", ws="none", log_config=None, access_log=False)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Not server.serve(), which takes the process's signals.
        await server.startup(sockets=[listener])
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/stock"
        finally:
            server.force_exit = True
            await server.shutdown(sockets=[listener])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default="partner-token")
    given = parser.parse_args()
    with socket.create_server(("127.0.0.1", given.port)) as listener:
        print(f"Partner answers on http://127.0.0.1:{listener.getsockname()[1]}/stock", flush=True)
        config = uvicorn.Config(Partner(token=given.token), lifespan="off", ws="none", log_level="warning")
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
