"""A client that writes HTTP byte for byte, well-formed or not, and judges what every answer must have."""

import asyncio
import http.client
import json
import re
import socket
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

TIMEOUT_SECONDS = 15
CALLS_MAX, PAUSE_SECONDS = 50, 0.1
TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z")
REQUEST_ID = re.compile(r"[0-9a-f]{24}")
PROBLEM = {
    "type": str,
    "title": str,
    "status": int,
    "detail": str,
    "instance": str,
    "code": str,
    "retryable": bool,
}
JSON = "application/json"
NOTHING = object()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Gateway:
    """One address. Paths are sent as written, percent signs and all; relative ones begin at /inventory/v1/."""

    def __init__(self, address: str, *, bearer: str = "") -> None:
        """`bearer` is the key that calls show, if they show none of their own."""
        self.address = address
        self.bearer = bearer
        host, _, port = address.removeprefix("http://").rpartition(":")
        self.peer = host, int(port)
        self._documented: list[tuple[re.Pattern[str], dict[str, Any]]] = []

    def hold_to_its_word(self) -> "Gateway":
        """From now on no answer may have a status that /openapi.json does not name."""
        for path, operations in self.get("/openapi.json").json["paths"].items():
            self._documented.append((re.compile(re.sub(r"{\w+}", "[^/]+", path)), operations))
        return self

    def __call__(self, method: str, path: str, value: object = NOTHING, **headers: str) -> Answer:
        """Sends a value as JSON; `idempotency_key="k"` is the header Idempotency-Key."""
        rows = [(name.replace("_", "-").title(), text) for name, text in headers.items()]
        content = b""
        if value is not NOTHING:
            content = json.dumps(value).encode()
            rows.append(("Content-Type", JSON))
        return self.send(method, path, content, rows)

    def get(self, path: str, **headers: str) -> Answer:
        return self("GET", path, **headers)

    def post(self, path: str, value: object = NOTHING, **headers: str) -> Answer:
        return self("POST", path, value, **headers)

    def send(self, method: str, path: str, content: bytes = b"", headers: Iterable[tuple[str, str]] = ()) -> Answer:
        """Sends these bytes with these headers and the length."""
        target = path if path.startswith("/") else f"/inventory/v1/{path}"
        rows = [("Host", "lastunit"), *headers]
        if self.bearer and not any(name == "Authorization" for name, _ in rows):
            rows.append(("Authorization", f"Bearer {self.bearer}"))
        if content or method in ("POST", "PUT", "PATCH"):
            rows.append(("Content-Length", str(len(content))))
        head = "".join(f"{name}: {text}\r\n" for name, text in rows)
        answer = self.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + content, method=method)
        for pattern, operations in self._documented:
            if (operation := operations.get(method.lower())) and pattern.fullmatch(target.partition("?")[0]):
                assert str(answer.status) in operation["responses"], f"{method} {target} is not said to do this"
        return answer

    def write(self, wire: bytes, *, method: str = "GET") -> Answer:
        """Sends these bytes; the server may answer, and close, before it has read them all."""
        with socket.create_connection(self.peer, TIMEOUT_SECONDS) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(wire)
            return receive(connection, method=method)

    def reserve(self, sku: str, quantity: int = 1, *, ttl_seconds: float = 60, **fields: object) -> dict[str, Any]:
        """A new reservation of one line."""
        body = {"sku": sku, "quantity": quantity, "agent_id": "agent", "ttl_seconds": ttl_seconds, **fields}
        return done(self.post("reservations", body), 201)

    def verb(self, reservation: Mapping[str, Any], verb: str, value: object = NOTHING, **headers: str) -> Answer:
        return self.post(f"reservations/{reservation['token']}/{verb}", value, **headers)

    def read(self, reservation: Mapping[str, Any]) -> dict[str, Any]:
        return done(self.get(f"reservations/{reservation['token']}"))

    def stock(self, units: int = 10, **policy: object) -> str:
        """A new SKU with so many units on hand, sold under this policy."""
        sku = f"SKU-{uuid.uuid4().hex[:12]}"
        if policy:
            done(self("PUT", f"skus/{sku}", policy), 201)
        done(self.post(f"skus/{sku}/adjustments", {"on_hand_quantity": units, "reason": "test"}))
        return sku

    def availability(self, sku: str) -> dict[str, Any]:
        return done(self.get(f"skus/{sku}/availability"))

    def entries(self, **query: object) -> list[dict[str, Any]]:
        """The ledger's entries, all pages of it."""
        return self.items("ledger", **query)

    def items(self, path: str, **query: object) -> list[dict[str, Any]]:
        """All pages of a list."""
        found: list[dict[str, Any]] = []
        query = {"limit": 1000, **query}
        while True:
            page = done(self.get(f"{path}?" + "&".join(f"{name}={value}" for name, value in query.items())))
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            assert len(page["items"]) <= int(str(query["limit"]))
            query.pop("after", None)
            query["cursor"] = page["next_cursor"]


class Agent:
    """One caller of many at once: its own connection, kept open, one call after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def __call__(self, method: str, path: str, value: object = NOTHING) -> Answer:
        """The answer, however often it takes: what is unknown or came to nothing is asked again with the same key."""
        wire = wire_of(method, path, value, key=uuid.uuid4().hex)
        for _ in range(CALLS_MAX):
            answer = await self.send(wire)
            if answer.status not in (429, 503):
                return answer
            await asyncio.sleep(PAUSE_SECONDS)
        raise AssertionError(f"only 429 and 503 in {CALLS_MAX} calls of {path}")

    async def send(self, wire: bytes) -> Answer:
        """The answer to these bytes, whatever it is."""
        self._writer.write(wire)
        status, *rows = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): text for name, _, text in (row.partition(": ") for row in rows if row)}
        body = await self._reader.readexactly(int(headers["content-length"]))
        return Answer(int(status.split()[1]), headers, body)


def wire_of(method: str, path: str, value: object = NOTHING, *, key: str = "", bearer: str = "") -> bytes:
    """A call as it is sent, with an Idempotency-Key and the caller's own key if it has them."""
    content = b"" if value is NOTHING else json.dumps(value).encode()
    head = f"{method} /inventory/v1/{path} HTTP/1.1\r\nHost: lastunit\r\nContent-Length: {len(content)}\r\n"
    typed = f"Content-Type: {JSON}\r\n" if content else ""
    named = f"Idempotency-Key: {key}\r\n" if key else ""
    shown = f"Authorization: Bearer {bearer}\r\n" if bearer else ""
    return f"{head}{typed}{named}{shown}\r\n".encode() + content


@asynccontextmanager
async def open_agents(gateway: Gateway, count: int) -> AsyncIterator[list[Agent]]:
    """So many agents, connected."""
    async with AsyncExitStack() as stack:
        agents = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection(*gateway.peer)
            stack.push_async_callback(writer.wait_closed)
            stack.callback(writer.close)
            agents.append(Agent(reader, writer))
        yield agents


def receive(connection: socket.socket, *, method: str = "GET") -> Answer:
    """The next answer on a connection."""
    with http.client.HTTPResponse(connection, method=method) as response:
        response.begin()
        headers = {name.lower(): text for name, text in response.getheaders()}
        answer = Answer(response.status, headers, response.read())
    assert REQUEST_ID.fullmatch(headers["request-id"]), "every answer carries Request-Id"
    return answer


def done(answer: Answer, status: int = 200) -> dict[str, Any]:
    """What a successful answer says."""
    assert answer.status == status, (answer.status, answer.body)
    assert answer.headers["content-type"] == JSON
    found: dict[str, Any] = answer.json
    return found


def refused(answer: Answer, status: int, code: str, **members: type) -> dict[str, Any]:
    """What a problem says; besides the members that every problem has it has `errors`, or `members`, and no others."""
    problem: dict[str, Any] = answer.json
    assert (answer.status, problem["code"]) == (status, code), (answer.status, answer.body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    if code == "validation_failed":
        members = {"errors": list, **members}
        for error in problem["errors"]:
            shaped(error, {"field": str, "message": str})
    shaped(problem, {**PROBLEM, **members})
    assert problem["status"] == status
    assert problem["type"] == "/problems/" + code.replace("_", "-")
    assert problem["instance"] == answer.headers["request-id"]
    assert problem["retryable"] or status != 503
    return problem


def shaped(value: Mapping[str, Any], shape: Mapping[str, Any]) -> None:
    """The object has exactly these members: of a type or union, a time, or the very text."""
    assert value.keys() == shape.keys()
    for name, expected in shape.items():
        found = value[name]
        if isinstance(expected, re.Pattern):
            assert expected.fullmatch(found), (name, found)
        elif isinstance(expected, str):
            assert found == expected, name
        else:
            assert isinstance(found, expected), (name, found)
            assert isinstance(found, bool) == (expected is bool), (name, found)
