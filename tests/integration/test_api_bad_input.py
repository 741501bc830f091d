"""Bad input of every kind: the documented problem, no word of it in the answer, and nothing moved."""

import itertools
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.store.keys import Keyspace
from tests.gateway import JSON, Answer, Gateway, receive, refused
from tests.service import Service, eventually

SKU = "BAD-INPUT"
TOKEN = "0-AAAAAAAAAAAAAAAAAAAAAA"
CANARY = "c4n4ry"
BODY_BYTES_MAX = 65_536
RESERVE = {"sku": SKU, "agent_id": "agent"}
ADJUST = {"delta": 1, "reason": "test"}
ALLOCATION = {"sku": SKU, "location_id": "A", "quantity": 1}
TRANSFER = {"from_location_id": "A", "to_location_id": "B", "quantity": 1, "reason": "test"}
# Every call with a body: one that it takes, and whether it may come without.
CALLS: dict[tuple[str, str], tuple[dict[str, Any], bool]] = {
    ("POST", "reservations"): (RESERVE, False),
    ("POST", f"reservations/{TOKEN}/commit"): ({}, True),
    ("POST", f"reservations/{TOKEN}/release"): ({}, True),
    ("POST", f"reservations/{TOKEN}/extend"): ({"ttl_seconds": 5}, True),
    ("POST", f"reservations/{TOKEN}/payment"): ({}, True),
    ("POST", f"reservations/{TOKEN}/cancel"): ({}, True),
    ("POST", f"reservations/{TOKEN}/allocations"): ({"strategy": "priority"}, False),
    ("POST", "availability"): ({"skus": [SKU]}, False),
    ("POST", f"skus/{SKU}/adjustments"): (ADJUST, False),
    ("POST", f"skus/{SKU}/transfers"): (TRANSFER, False),
    ("PUT", f"categories/{SKU}"): ({}, False),
    ("PUT", f"skus/{SKU}"): ({}, False),
    ("PATCH", f"skus/{SKU}"): ({}, False),
    ("PUT", "admin/breakers/engine"): ({"forced": None}, False),
}
# What is not one JSON value, as strictly read.
MALFORMED = {
    "space": b" \r\n\t",
    "text": b"c4n4ry",
    "single quotes": b"{'sku': 'c4n4ry'}",
    "NaN": b'{"ttl_seconds": NaN, "sku": "c4n4ry"}',
    "Infinity": b'{"ttl_seconds": -Infinity}',
    "duplicate key": b'{"sku": "c4n4ry", "sku": "c4n4ry"}',
    "duplicate key within": b'{"metadata": {"c4n4ry": "1", "c4n4ry": "2"}}',
    "lone surrogate": b'{"sku": "c4n4ry\\ud800"}',
    "lone surrogate as key": b'{"\\udfff": 1}',
    "surrogate in UTF-8": b'{"sku": "\xed\xa0\x80"}',
    "invalid UTF-8": b'{"sku": "c4n4ry\xff"}',
    "overlong UTF-8": b'{"sku": "\xc0\xaf"}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"sku": "c4n4ry"}'.encode("utf-16"),
    "control character": b'{"sku": "a\x01"}',
    "two values": b"{} {}",
    "cut off": b'{"sku": "c4n4ry',
    "trailing comma": b'{"sku": "c4n4ry",}',
    "comment": b"{/* c4n4ry */}",
    "leading zero": b'{"quantity": 01}',
    "bare fraction": b'{"quantity": .5}',
    "hexadecimal": b'{"quantity": 0x10}',
    "trailing NUL": b"{}\0",
    "deep array": b"[" * 5000 + b"]" * 5000,
    "deep object": b'{"a":' * 5000 + b"1" + b"}" * 5000,
}
# What is JSON, but no body of any call.
NO_OBJECT = {
    "null": b"null",
    "array": b'["c4n4ry"]',
    "text": b'"c4n4ry"',
    "number": b"5",
    "true": b"true",
    "unknown field": b'{"no name: c4n4ry": "c4n4ry"}',
    "empty name": b'{"": "c4n4ry"}',
    "number too large": b'{"number": 1e400}',
    "number too long": b'{"number": ' + b"9" * 5000 + b"}",
    "nested": b'{"number": ' + b"[" * 100 + b"]" * 100 + b"}",
}
BAD_IDS = ["", " A", "A ", "\u00a0A", "A\n", "\0", "A\x7f", "A\u0085", "x" * 129, 5, ["A"], {"A": 1}, True]
BAD_QUANTITIES = [0, -1, 1_000_001, 1.0, 1.5, "5", True, None, 2**63, 10**30, []]
BAD_SECONDS = [0, -1, 0.999_999, 1800.000_001, 86_401, 1e308, "5", True, None, []]
BAD_REFERENCES = ["", "x" * 256, "a\0", 5, True]
BAD_REASONS = ["", "x" * 501, "a\0", 5, None]
BAD_UNITS = [-1, 10**12 + 1, 1.0, "5", True, None]


def each(name: str, values: list[Any], **others: object) -> list[tuple[dict[str, Any], str]]:
    return [({**others, name: value}, name) for value in values]


def in_line(name: str, values: list[Any]) -> list[tuple[dict[str, Any], str]]:
    line = {"sku": SKU, "quantity": 1}
    return [({"lines": [line, {**line, name: value}]}, f"lines.1.{name}") for value in values]


BAD_LINES = [
    *each("lines", [[], [{"sku": SKU, "quantity": 1}] * 101, {}, "A", None]),
    *in_line("sku", [*BAD_IDS, None]),
    *in_line("quantity", BAD_QUANTITIES),
    *in_line("price", [1]),
    ({"lines": [{"sku": SKU}]}, "lines.0.quantity"),
    ({"lines": [None]}, "lines.0"),
]
# The fields that make a call's body invalid, and the field that the problem names.
INVALID: dict[tuple[str, str], list[tuple[dict[str, Any], str]]] = {
    ("POST", "reservations"): [
        *each("sku", [*BAD_IDS, None], agent_id="agent"),
        *each("agent_id", [*BAD_IDS, None], sku=SKU),
        *each("channel", [*BAD_IDS, None], **RESERVE),
        *each("quantity", BAD_QUANTITIES, **RESERVE),
        *each("ttl_seconds", BAD_SECONDS, **RESERVE),
        *each("reference", BAD_REFERENCES, **RESERVE),
        *each("rationale", ["x" * 501, 5, None], **RESERVE),
        *each("allow_backorder", [1, "true", None], **RESERVE),
        *each("metadata", [{str(n): "" for n in range(21)}, [], "a", None], **RESERVE),
        *each("metadata", [{"": CANARY}, {CANARY * 11: ""}, {CANARY: 5}, {CANARY: None}, {"a": "x" * 501}], **RESERVE),
        *(({"agent_id": "agent", **fields}, field) for fields, field in BAD_LINES),
        ({"sku": SKU}, "agent_id"),
        ({"agent_id": "agent"}, ""),
        ({**RESERVE, "lines": [{"sku": SKU, "quantity": 1}]}, ""),
        ({"agent_id": "agent", "lines": [{"sku": SKU, "quantity": 1}], "quantity": 1}, ""),
    ],
    ("POST", f"reservations/{TOKEN}/commit"): [
        *BAD_LINES,
        *each("order_id", BAD_IDS),
        *each("expected_sequence", [-1, 1.0, "1", True, None, 2**53]),
    ],
    ("POST", f"reservations/{TOKEN}/release"): each("order_id", ["A"]),
    ("POST", f"reservations/{TOKEN}/extend"): [
        *each("ttl_seconds", BAD_SECONDS),
        *each("additional_seconds", BAD_SECONDS),
        ({}, ""),
        ({"ttl_seconds": 5, "additional_seconds": 5}, ""),
    ],
    ("POST", f"reservations/{TOKEN}/payment"): each("ttl_seconds", BAD_SECONDS),
    ("POST", f"reservations/{TOKEN}/cancel"): BAD_LINES,
    ("POST", "availability"): [
        *each("skus", [[], ["A"] * 101, "A", None, {}]),
        *(({"skus": ["A", value]}, "skus.1") for value in [*BAD_IDS, None]),
        ({}, "skus"),
    ],
    ("POST", f"skus/{SKU}/adjustments"): [
        *each("delta", [1.0, "5", True, None, 10**12 + 1, -(10**12) - 1, 2**63], reason="test"),
        *each("on_hand_quantity", BAD_UNITS, reason="test"),
        *each("reason", BAD_REASONS, delta=1),
        *each("location_id", [*BAD_IDS, None], **ADJUST),
        *each("reference", BAD_REFERENCES, **ADJUST),
        ({"delta": 1}, "reason"),
        ({"reason": "test"}, ""),
        ({"reason": "test", "delta": 1, "on_hand_quantity": 1}, ""),
    ],
    ("PUT", f"skus/{SKU}"): [
        *each("safety_stock", BAD_UNITS),
        *each("backorder_limit", BAD_UNITS),
        *each("low_stock_threshold", BAD_UNITS),
        *each("incoming_quantity", BAD_UNITS),
        *each("safety_stock_percent", [-0.01, 100.01, 0.005, "5", True, None]),
        *each("max_quantity_per_reservation", [0, 1_000_001, 1.0, "5", True]),
        *each("lead_time_days", [-1, 3651, 1.0, "5", True]),
        *each("next_restock_date", ["2026-13-01", "2026-02-30", "0000-01-01", "2026-1-1", "20260101", 5, ""]),
        *each("next_restock_date", ["\N{FULLWIDTH DIGIT TWO}026-01-01", "2026-01-01\n", "2026-01-01T00:00:00Z"]),
        *each("substitutes", [["A"] * 21, "A", None]),
        *(({"substitutes": ["A", value]}, "substitutes.1") for value in [*BAD_IDS, None]),
        *each("variant_group", BAD_IDS),
        *each("reconciliation_hold_seconds", [-1, 60.1, "5", True, None]),
        *each("degraded_policy", ["guess", "", 5, None]),
        *each("channel_limits", [{str(n): 1 for n in range(101)}, [], "a", None]),
        *each("channel_limits", [{CANARY: units} for units in BAD_UNITS]),
        *each("channel_limits", [{name: 1} for name in BAD_IDS if isinstance(name, str)]),
    ],
    ("POST", f"skus/{SKU}/transfers"): [
        *each("quantity", [0, 10**12 + 1, 1.0, "5", True, None], **TRANSFER),
        *each("from_location_id", [*BAD_IDS, None], **TRANSFER),
        *each("to_location_id", [*BAD_IDS, None], **TRANSFER),
        *each("reason", BAD_REASONS, **TRANSFER),
        *each("reference", BAD_REFERENCES, **TRANSFER),
        ({**TRANSFER, "to_location_id": "A"}, ""),
        ({name: value for name, value in TRANSFER.items() if name != "quantity"}, "quantity"),
    ],
    ("POST", f"reservations/{TOKEN}/allocations"): [
        *each("strategy", ["nearest", "", 5, None]),
        *each("lines", [[], [ALLOCATION] * 201, {}, "A", None]),
        *each("rationale", ["x" * 501, 5, None], strategy="priority"),
        *(({"lines": [{**ALLOCATION, "sku": value}]}, "lines.0.sku") for value in [*BAD_IDS, None]),
        *(({"lines": [{**ALLOCATION, "location_id": value}]}, "lines.0.location_id") for value in [*BAD_IDS, None]),
        *(({"lines": [{**ALLOCATION, "quantity": value}]}, "lines.0.quantity") for value in BAD_QUANTITIES),
        ({"lines": [ALLOCATION, {**ALLOCATION, "quantity": 2}]}, ""),
        ({"lines": [ALLOCATION], "strategy": "priority"}, ""),
        ({}, ""),
    ],
    ("PUT", "admin/breakers/engine"): [
        *each("forced", ["ajar", "half_open", "", 5, True]),
        *each("reason", [reason for reason in BAD_REASONS if reason is not None], forced=None),
        ({}, "forced"),
    ],
}  # fmt: skip
INVALID["PUT", f"categories/{SKU}"] = [*INVALID["PUT", f"skus/{SKU}"], ({"category": "A"}, "category")]
INVALID["PATCH", f"skus/{SKU}"] = [*INVALID["PUT", f"skus/{SKU}"], *each("category", BAD_IDS)]
INVALID["PUT", f"skus/{SKU}"] = INVALID["PATCH", f"skus/{SKU}"]
BAD_SEGMENTS = [
    "%00", "%1F", "%7F", "%C2%85", "%20A", "A%20", "%C2%A0A", "x" * 129, "%FF", "%C3", "%ED%A0%80", "%", "%zz", "A%2",
]  # fmt: skip
CONTENT_TYPES = {
    "application/json": True,
    "Application/JSON": True,
    "application/json; charset=utf-8": True,
    'application/json;charset="UTF-8"': True,
    "application/json ; charset=utf-8": True,
    "": False,
    "text/plain": False,
    "text/json": False,
    "application/jsonp": False,
    "application/problem+json": False,
    "application/json; charset=latin-1": False,
    "application/json, text/plain": False,
    "application/x-www-form-urlencoded": False,
    "multipart/form-data; boundary=c4n4ry": False,
}
# What is no HTTP/1.1 request.
NO_HTTP = {
    "noise": b"\0\1\2c4n4ry\r\n\r\n",
    "unknown method": b"C4N4RY /livez HTTP/1.1\r\n\r\n",
    "method in lower case": b"get /livez HTTP/1.1\r\n\r\n",
    "space in path": b"GET /c4n4ry x HTTP/1.1\r\n\r\n",
    "UTF-8 in path": b"GET /inventory/v1/skus/\xc3\xbc HTTP/1.1\r\n\r\n",
    "NUL in header": b"GET /livez HTTP/1.1\r\nX: c4n4ry\0\r\n\r\n",
    "length that is none": b"POST /inventory/v1/reservations HTTP/1.1\r\nContent-Length: c4n4ry\r\n\r\n{}",
    "length below zero": b"POST /inventory/v1/reservations HTTP/1.1\r\nContent-Length: -1\r\n\r\n{}",
    "two lengths": b"POST /inventory/v1/reservations HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and chunks": (
        b"POST /inventory/v1/reservations HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\n{}\r\n0\r\n\r\n"
    ),
}
VARYING_HEADERS = ("date", "request-id", "server")

Call = tuple[str, str]
by_call = pytest.mark.parametrize("call", CALLS, ids="".join)


@pytest.fixture(scope="module")
def ledger_end(service: Service) -> Iterator[Any]:
    """Asks the engine itself for the last sequence."""
    meta = Keyspace(1).partitions[0].meta
    with service.home.client() as client:
        yield lambda: client.hget(meta, "sequence")


@pytest.fixture(autouse=True)
def nothing_moves(ledger_end: Any) -> Iterator[None]:
    before = ledger_end()
    yield
    assert ledger_end() == before


@contextmanager
def case(what: object) -> Iterator[None]:
    """Says which row of a table it was."""
    try:
        yield
    except AssertionError as error:
        error.add_note(f"case: {what!r}"[:200])
        raise


def send(gateway: Gateway, call: Call, content: bytes, content_type: str = JSON) -> Answer:
    """The answer to a body, which must not come back in it."""
    answer = gateway.send(*call, content, [("Content-Type", content_type)])
    assert CANARY.encode() not in answer.body
    return answer


@by_call
def test_what_is_no_json(gateway: Gateway, call: Call) -> None:
    for name, content in MALFORMED.items():
        with case(name):
            refused(send(gateway, call, content), 400, "malformed_request")


@by_call
def test_what_is_no_body(gateway: Gateway, call: Call) -> None:
    for name, content in NO_OBJECT.items():
        with case(name):
            refused(send(gateway, call, content), 422, "validation_failed")


@pytest.mark.parametrize("call", INVALID, ids="".join)
def test_what_the_call_does_not_take(gateway: Gateway, call: Call) -> None:
    for body, field in INVALID[call]:
        with case(body):
            problem = refused(send(gateway, call, json.dumps(body).encode()), 422, "validation_failed")
            named = [error["field"] for error in problem["errors"]]
            assert len(named) == 1
            assert named[0] == field or named[0].startswith(f"{field}.")


@by_call
def test_an_empty_body(gateway: Gateway, call: Call) -> None:
    may_be_empty = CALLS[call][1]
    for headers in ([], [("Content-Type", JSON)], [("Content-Type", "text/plain")]):
        answer = gateway.send(*call, b"", headers)
        if not may_be_empty:
            refused(answer, 400, "malformed_request")
        elif call[1].endswith("extend"):
            refused(answer, 422, "validation_failed")
        else:
            refused(answer, 404, "reservation_not_found")


@by_call
def test_content_type(gateway: Gateway, call: Call) -> None:
    for content_type, is_json in CONTENT_TYPES.items():
        with case(content_type):
            answer = send(gateway, call, b"[]", content_type)
            if is_json:
                refused(answer, 422, "validation_failed")
            else:
                refused(answer, 415, "unsupported_media_type")


def test_no_content_type(gateway: Gateway) -> None:
    refused(gateway.send("POST", "reservations", b"{}"), 415, "unsupported_media_type")


@by_call
def test_a_body_that_is_too_large(gateway: Gateway, call: Call) -> None:
    content = json.dumps(CALLS[call][0]).encode().ljust(BODY_BYTES_MAX + 1)
    refused(send(gateway, call, content), 413, "body_too_large")
    assert send(gateway, call, content[:-2] + b"]").status == 400, "as much as it may be"
    method, path = call
    head = f"{method} /inventory/v1/{path} HTTP/1.1\r\nHost: lastunit\r\nContent-Type: {JSON}\r\n"
    declared = gateway.write(f"{head}Content-Length: {10**15}\r\n\r\n".encode())
    refused(declared, 413, "body_too_large")
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    streamed = gateway.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + 17 * chunk)
    refused(streamed, 413, "body_too_large")
    assert streamed.headers["connection"] == declared.headers["connection"] == "close"


@pytest.mark.parametrize("segment", BAD_SEGMENTS)
def test_an_id_in_a_path_that_cannot_be(gateway: Gateway, segment: str) -> None:
    for path, code in (
        (f"skus/{segment}", "sku_not_found"),
        (f"skus/{segment}/availability", "sku_not_found"),
        (f"reservations/{segment}", "reservation_not_found"),
    ):
        refused(gateway.get(path), 404, code)
    for (method, path), (body, _) in CALLS.items():
        if SKU in path or TOKEN in path:
            answer = gateway(method, path.replace(SKU, segment).replace(TOKEN, segment), body)
            refused(answer, 422, "validation_failed")
    refused(gateway("DELETE", f"reservations/{segment}"), 422, "validation_failed")


@pytest.mark.parametrize(
    "token", ["A", "0-", "-" + "A" * 22, "1-" + "A" * 22, "99999-" + "A" * 22, "%D9%A0-" + "A" * 22]
)
def test_a_token_that_names_nothing(gateway: Gateway, token: str) -> None:
    refused(gateway.get(f"reservations/{token}"), 404, "reservation_not_found")
    for (method, path), (body, _) in CALLS.items():
        if TOKEN in path:
            refused(gateway(method, path.replace(TOKEN, token), body), 404, "reservation_not_found")


@pytest.mark.parametrize("name", NO_HTTP)
def test_what_is_no_http(gateway: Gateway, name: str) -> None:
    answer = gateway.write(NO_HTTP[name])
    refused(answer, 400, "malformed_request")
    assert CANARY.encode() not in answer.body.lower()
    assert answer.headers["connection"] == "close"


def test_a_client_that_leaves(gateway: Gateway, service: Service) -> None:
    """It is nobody's fault: no trace of it in the log, and the next one is served."""

    def left() -> float:
        counts = re.findall(rb'request_seconds_count\{.*status="499"\} (\S+)', gateway.get("/metrics").body)
        return sum(map(float, counts))

    before = left()
    for method, path in CALLS:
        with socket.create_connection(gateway.peer) as connection:
            head = f"{method} /inventory/v1/{path} HTTP/1.1\r\nContent-Type: {JSON}\r\nContent-Length: 20\r\n\r\n{{"
            connection.sendall(head.encode())
    eventually(lambda: left() == before + len(CALLS))
    assert "request_failed" not in service.home.stderr


def test_one_connection_serves_many(gateway: Gateway) -> None:
    """A refusal ends no connection: what follows it is answered, in order."""
    bodies = [b"[]", b"{", b"{}", b"\0"]
    head = f"POST /inventory/v1/reservations HTTP/1.1\r\nHost: lastunit\r\nContent-Type: {JSON}\r\n"
    with socket.create_connection(gateway.peer, timeout=5) as connection:
        statuses = []
        for content in bodies:
            connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            statuses.append(receive(connection).status)
    assert statuses == [422, 400, 422, 400]


def test_both_ways_say_the_same(service: Service, routed: Gateway) -> None:
    """Table or router: an answer is the same to the letter, but for the id of the request."""
    contents = [*MALFORMED.values(), *NO_OBJECT.values(), b"", b"{}"]
    for call, content in itertools.product(CALLS, contents):
        if call[0] in ("PUT", "PATCH") and content == b"{}":
            continue
        with case((call, content)):
            said = []
            for gateway in (service.gateway, routed):
                answer = send(gateway, call, content)
                headers = {name: text for name, text in answer.headers.items() if name not in VARYING_HEADERS}
                said.append((answer.status, headers, answer.json | {"instance": ""}))
            assert said[0] == said[1]
