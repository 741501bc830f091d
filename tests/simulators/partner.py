"""A fulfilment partner that misbehaves when told to, in every way that partners do.

Tests serve it in their own loop; as a process, `python -m tests.simulators.partner`, it prints its address, and is told
over HTTP what it has (`PUT /stock`) and what to do next (`POST /faults`). How it behaves is the demo's: see
app/workflows/partner.py.
"""

import argparse
import asyncio
import json
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from app.workflows.partner import LOCATION, Exchange, listen, serving
from app.workflows.partner import Partner as WellBehaved

__all__ = ["Partner", "serving"]

HTML = b"text/html; charset=utf-8"

Fault = Callable[["Partner", Exchange], Coroutine[Any, Any, None]]


@dataclass
class Partner(WellBehaved):
    """Also what it was asked, and how it answers instead: the next requests by `faults`, then by `fault`."""

    faults: deque[Fault] = field(default_factory=deque)
    fault: Fault | None = None
    asked: list[Exchange] = field(default_factory=list)
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, exchange: Exchange) -> None:
        if exchange.method != "GET":
            await self._obey(exchange)
            return
        self.asked.append(exchange)
        self.was_asked.set()
        fault = self.faults.popleft() if self.faults else self.fault
        await (fault(self, exchange) if fault else super().answer(exchange))

    async def _obey(self, exchange: Exchange) -> None:
        """What the partner is told where it is a process of its own."""
        body, has_more = b"", True
        while has_more:
            message = await exchange.receive()
            body += message["body"]
            has_more = message.get("more_body", False)
        told = json.loads(body)
        if exchange.path == "/stock":
            for row in told["items"]:
                self.set_stock(row["sku"], row["on_hand"], location_id=row.get("location_id", LOCATION))
        else:
            self.faults += [FAULTS[told["fault"]](**told.get("with", {}))] * told.get("times", 1)
        await exchange.answer_json({})


# What a partner does instead of an answer. Each is made with its own values, then takes one exchange.


def status(code: int = 500, body: str = "<h1>Internal Server Error</h1>") -> Fault:
    """A status, and a body that is no JSON."""
    return lambda _, exchange: exchange.answer(code, body.encode(), content_type=HTML)


def throttled(retry_after: str | None = "1") -> Fault:
    """429; `retry_after` in seconds or as an HTTP date, None for a partner that does not say."""
    headers = [(b"retry-after", retry_after.encode())] if retry_after is not None else []
    return lambda _, exchange: exchange.answer(429, b"{}", headers=headers)


def html() -> Fault:
    """A login page where JSON was asked for, with the status of success."""
    return status(200, "<!doctype html><title>Sign in</title>")


def redirect(location: str) -> Fault:
    """Leads elsewhere."""
    return lambda _, exchange: exchange.answer(302, b"", headers=[(b"location", location.encode())])


def raw(body: str, content_type: str = "application/json") -> Fault:
    """These bytes for a page."""
    return lambda _, exchange: exchange.answer(200, body.encode(), content_type=content_type.encode())


def squeezed() -> Fault:
    """A compressed page that nobody asked for."""
    return lambda _, exchange: exchange.answer(200, b"\x1f\x8b", headers=[(b"content-encoding", b"gzip")])


def hang() -> Fault:
    """Takes the request and never says a word."""

    async def answer(partner: Partner, exchange: Exchange) -> None:
        while (await exchange.receive())["type"] != "http.disconnect":
            pass

    return answer


def drip(pause_seconds: float = 0.01) -> Fault:
    """One byte, a pause, and another, without end: each comes in time, the whole never does."""

    async def answer(partner: Partner, exchange: Exchange) -> None:
        await exchange.begin(200)
        hung_up = asyncio.create_task(hang()(partner, exchange))
        while not hung_up.done():
            await exchange.send({"type": "http.response.body", "body": b" ", "more_body": True})
            await asyncio.wait([hung_up], timeout=pause_seconds)

    return answer


def huge(size_bytes: int = 64 * 1024 * 1024) -> Fault:
    """A body of so many bytes, or as many of them as are taken."""

    async def answer(partner: Partner, exchange: Exchange) -> None:
        await exchange.begin(200)
        chunk = b" " * 65_536
        for _ in range(size_bytes // len(chunk)):
            await exchange.send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(0)
        await exchange.send({"type": "http.response.body", "body": b""})

    return answer


def endless() -> Fault:
    """The first page over and over, each time with a cursor never seen before."""

    async def answer(partner: Partner, exchange: Exchange) -> None:
        page = partner.page({**exchange.query, "cursor": "0"})
        await exchange.answer_json({**page, "next_cursor": f"again-{len(partner.asked)}"})

    return answer


def repeated_cursor() -> Fault:
    """The first page over and over, always with the same cursor."""

    async def answer(partner: Partner, exchange: Exchange) -> None:
        page = partner.page({**exchange.query, "cursor": "0"})
        await exchange.answer_json({**page, "next_cursor": "again"})

    return answer


FAULTS: Mapping[str, Callable[..., Fault]] = {
    made.__name__: made
    for made in (status, throttled, html, redirect, raw, squeezed, hang, drip, huge, endless, repeated_cursor)
}


def http_date(seconds_ahead: float) -> str:
    """A moment as Retry-After may name it, in whole seconds."""
    return (datetime.now(UTC) + timedelta(seconds=seconds_ahead)).strftime("%a, %d %b %Y %H:%M:%S GMT")


async def serve_alone(partner: Partner, *, port: int) -> None:
    async with serving(partner, listen(port)) as url:
        print(f"Partner answers on {url}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default="partner-token")
    given = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve_alone(Partner(token=given.token), port=given.port))


if __name__ == "__main__":
    main()
