"""Standard Webhooks and the format of wms, erp and pos: who is believed, and what is understood."""

import json
import random
import time
from typing import Any

import pytest

from app.connectors.connector import Authentic, Fault, Refusal, Unreadable, VendorLine
from app.connectors.standard import LINES_MAX, Standard
from app.domain.updates import COUNTER_MAX, UpdateKind
from tests.webhooks import OLD_SECRET, SECRET, TIME, said, signature, signed_headers

CONNECTOR = Standard([SECRET, OLD_SECRET])
BODY = b'{"test": 2432232314}'
TIME_US = 1_795_255_200_000_000
CANARY = "c4n4ry"


def verdict(headers: dict[str, str], body: bytes = BODY) -> Authentic | Refusal:
    return CONNECTOR.verify(headers, body, now_us=time.time_ns() // 1000)


# Who sent it


def test_the_specifications_example() -> None:
    """What the tests sign with is what the specification says, and so what our library must take."""
    signed = signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", BODY)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
@pytest.mark.parametrize("body", [BODY, b"", b"not JSON", "Größe".encode(), b"\0" * 100_000])
def test_any_secret_verifies_any_text(secret: str, body: bytes) -> None:
    headers = signed_headers(body, delivery_id="msg_1", secret=secret)
    assert verdict(headers, body) == Authentic("msg_1")


def test_one_of_several_signatures_is_enough() -> None:
    headers = signed_headers(BODY, delivery_id="d")
    headers["webhook-signature"] = f"v1a,{'A' * 86}== v1,{'A' * 43}= {headers['webhook-signature']}"
    assert verdict(headers) == Authentic("d")


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_that_is_missing(name: str) -> None:
    headers = signed_headers(BODY)
    del headers[name]
    assert verdict(headers) is Refusal.SIGNATURE_INVALID
    assert verdict(headers | {name: ""}) is Refusal.SIGNATURE_INVALID


@pytest.mark.parametrize(
    "text", ["v1", "v1,", ",", "v1,AAAA", "v1,%%%", "v1,A", "v1,é", "v1,\xff\xfe", "v1,a,b", "v2,{}", "v1a,{}", "{}"]
)
def test_a_signature_that_is_none(text: str) -> None:
    headers = signed_headers(BODY)
    headers["webhook-signature"] = text.format(headers["webhook-signature"].removeprefix("v1,"))
    assert verdict(headers) is Refusal.SIGNATURE_INVALID


def test_a_signature_of_something_else() -> None:
    headers = signed_headers(BODY)
    assert verdict(headers, BODY + b" ") is Refusal.SIGNATURE_INVALID
    assert verdict(headers | {"webhook-id": "other"}) is Refusal.SIGNATURE_INVALID
    later = str(int(headers["webhook-timestamp"]) + 1)
    assert verdict(headers | {"webhook-timestamp": later}) is Refusal.SIGNATURE_INVALID
    stranger = signed_headers(BODY, secret="whsec_c3RyYW5nZXI=")
    assert verdict(stranger) is Refusal.SIGNATURE_INVALID


def test_bytes_that_are_no_text_are_signed_by_nobody() -> None:
    assert verdict(signed_headers(b"\xff"), b"\xff") is Refusal.SIGNATURE_INVALID


@pytest.mark.parametrize("delivery_id", ["", "a b", "a\tb", "é", "x" * 256])
def test_an_id_that_cannot_be_kept(delivery_id: str) -> None:
    headers = signed_headers(BODY)
    timestamp = headers["webhook-timestamp"]
    headers |= {"webhook-id": delivery_id, "webhook-signature": signature(SECRET, delivery_id, timestamp, BODY)}
    assert verdict(headers) is Refusal.SIGNATURE_INVALID


@pytest.mark.parametrize("timestamp", ["now", "1e9", "-1", "1.5", "٣", "9" * 13, " 1", TIME])
def test_a_time_that_is_none(timestamp: str) -> None:
    headers = signed_headers(BODY)
    headers |= {"webhook-timestamp": timestamp, "webhook-signature": signature(SECRET, "d", timestamp, BODY)}
    assert verdict(headers) is Refusal.SIGNATURE_INVALID


@pytest.mark.parametrize(("age_seconds", "is_fresh"), [(290, True), (-290, True), (310, False), (-310, False)])
def test_five_minutes(age_seconds: int, *, is_fresh: bool) -> None:
    found = verdict(signed_headers(BODY, delivery_id="d", age_seconds=age_seconds))
    assert found == (Authentic("d") if is_fresh else Refusal.TIMESTAMP_OUT_OF_TOLERANCE)


# What it says


def parse(body: object) -> list[VendorLine] | Unreadable:
    found = CONNECTOR.parse({}, body if isinstance(body, bytes) else json.dumps(body).encode())
    return found if isinstance(found, Unreadable) else list(found)


def test_a_delivery_in_full() -> None:
    body = said(
        "transfer", ("A", 2), ("Cafe\u0301", 3),
        to_location_id="WH2", channel="shop", reference="order-1", clock={"wms": 7, "erp": COUNTER_MAX},
    )  # fmt: skip
    first, second = parse(body)  # type: ignore[misc] # lines
    assert first == VendorLine(
        kind=UpdateKind.TRANSFER, quantity=2, occurred_at_us=TIME_US, item_id="A", sku="A", location_id="WH1",
        to_location_id="WH2", channel="shop", reference="order-1", clock={"wms": 7, "erp": COUNTER_MAX},
    )  # fmt: skip
    assert (second.item_id, second.sku, second.quantity) == ("Café", "Café", 3)


NEEDED = {
    "transfer": {"to_location_id": "WH2"}, "pick": {"reference": "o"}, "pack": {"reference": "o"},
    "cancel": {"reference": "o"},
}  # fmt: skip
TYPES = ["receive", "pick", "pack", "ship", "return", "adjust", "count", "sale", "cancel", "transfer"]


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_with_as_little_as_it_needs(kind: str) -> None:
    body = said(kind, ("A", 1), **NEEDED.get(kind, {}))
    del body["location_id"]
    (line,) = parse(body)  # type: ignore[misc] # lines
    assert (line.kind, line.location_id, line.channel, line.clock) == (kind, None, None, None)
    for name in NEEDED.get(kind, {}):
        assert errors_of({key: value for key, value in body.items() if key != name}) == [name]


@pytest.mark.parametrize(
    ("text", "time_us"),
    [
        ("2026-11-21T10:00:00.000001Z", TIME_US + 1),
        ("2026-11-21T10:00:00.123456789Z", TIME_US + 123_456),
        ("2026-11-21t11:30:00+01:30", TIME_US),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_times(text: str, time_us: int) -> None:
    (line,) = parse(said("count", ("A", 0), occurred_at=text))  # type: ignore[misc] # lines
    assert line.occurred_at_us == time_us


def errors_of(body: object) -> list[str]:
    """The fields that are wrong with a delivery that is JSON; nothing of it is repeated."""
    found = parse(body)
    assert isinstance(found, Unreadable)
    assert found.fault is Fault.INVALID
    assert CANARY not in str(found)
    return [field for field, _ in found.errors]


BAD_IDS: list[Any] = ["", " A", "A\n", "x" * 129, 5, True, None, [], f" {CANARY}"]
BAD_TYPES: list[Any] = ["RECEIVE", CANARY, "", "observe", 5, None, ["receive"]]
BAD_TIMES: list[Any] = ["", "now", 0, 1_795_255_200, None, "2026-11-21", "2026-11-21T10:00:00", "2026-13-21T10:00:00Z",
             "1969-12-31T23:59:59Z", "2300-01-01T00:00:00Z", f"2026-11-21T10:00:00{CANARY}"]  # fmt: skip
BAD_QUANTITIES: list[Any] = [0, -1, "5", CANARY, 1.0, 1.5, True, None, 10**12 + 1, 2**63, 10**30]
BAD_CLOCKS: list[Any] = [
    {}, None, 7, [], {CANARY: -1}, {CANARY: "7"}, {CANARY: 1.0}, {"wms": COUNTER_MAX + 1}, {"": 1},
    {f"s{n}": 1 for n in range(17)},
]  # fmt: skip
BAD_LINES: list[Any] = [[], {}, None, CANARY]
INVALID: list[tuple[dict[str, Any], str]] = [
    *(({"type": value}, "type") for value in BAD_TYPES),
    *(({"occurred_at": value}, "occurred_at") for value in BAD_TIMES),
    *(({name: value}, name) for value in BAD_IDS for name in ("location_id", "channel", "reference")),
    ({"to_location_id": "WH2"}, "to_location_id"),
    ({"type": "transfer", "to_location_id": "WH1"}, "to_location_id"),
    *(({"clock": value}, "clock") for value in BAD_CLOCKS),
    *(({"lines": value}, "lines") for value in BAD_LINES),
    *(({"lines": [{"sku": "A", "quantity": 1}, {"sku": value, "quantity": 1}]}, "lines.1.sku") for value in BAD_IDS),
    *(({"lines": [{"sku": "A", "quantity": value}]}, "lines.0.quantity") for value in BAD_QUANTITIES),
    ({"type": "count", "lines": [{"sku": "A", "quantity": -1}]}, "lines.0.quantity"),
    ({"type": "adjust", "lines": [{"sku": "A", "quantity": -(10**12) - 1}]}, "lines.0.quantity"),
    ({"lines": [{"sku": "A"}]}, "lines.0.quantity"),
    ({"lines": [{"sku": "A", "quantity": 1, "price": CANARY}]}, "lines.0.price"),
    ({"lines": [CANARY]}, "lines.0"),
    ({"warehouse": CANARY}, "warehouse"),
    ({f"{CANARY} with spaces": 1}, "(not shown)"),
]


@pytest.mark.parametrize(("fields", "wrong"), INVALID)
def test_what_is_no_delivery(fields: dict[str, Any], wrong: str) -> None:
    assert errors_of(said("receive", ("A", 1)) | fields) == [wrong]


@pytest.mark.parametrize("body", [b"null", b"[]", b"5", b'"c4n4ry"', b'{"a": 1e400}', b'{"a": ' + b"9" * 5000 + b"}"])
def test_json_that_is_no_delivery(body: bytes) -> None:
    assert errors_of(body)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"type": "receive", "occ', b"{} {}", b'{"a": NaN}', b'{"a": 1, "a": 2}', b'{"a": "\\ud800"}',
     b"\xef\xbb\xbf{}", b'{"a": "\xff"}', b"<html>", b"[" * 5000 + b"]" * 5000],
)  # fmt: skip
def test_what_is_no_json(body: bytes) -> None:
    assert parse(body) == Unreadable(Fault.MALFORMED)


def test_as_many_lines_as_there_may_be() -> None:
    rows = [("A", number + 1) for number in range(LINES_MAX)]
    lines = parse(said("receive", *rows))
    assert [line.quantity for line in lines] == [quantity for _, quantity in rows]  # type: ignore[union-attr] # lines
    assert errors_of(said("receive", *rows, ("A", 1))) == ["lines"]
    assert len(errors_of(said("receive", *((CANARY, 0) for _ in rows)))) == 20


def test_a_body_that_was_cut_off_anywhere() -> None:
    whole = json.dumps(said("receive", ("A", 1), clock={"wms": 1})).encode()
    at = random.randrange(1, len(whole))
    assert parse(whole[:at]) == Unreadable(Fault.MALFORMED), at
