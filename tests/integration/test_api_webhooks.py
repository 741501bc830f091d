"""Webhooks over HTTP: what a source says is in the ledger before it is answered, once; what is no use is kept."""

import json
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.api.webhooks import BODY_BYTES_MAX
from app.store.keys import Keyspace
from tests.gateway import Answer, Gateway, done, receive, refused
from tests.service import Service
from tests.webhooks import OLD_SECRET, deliver, said, signed_headers

CANARY = "c4n4ry"
SOURCES = Keyspace(1).sources


def new_sku() -> str:
    return f"SKU-{uuid.uuid4().hex[:12]}"


def results(answer: Answer, status: str) -> list[dict[str, Any]]:
    found = done(answer)
    assert found["status"] == status
    assert ("dead_letter_id" in found) == any("reason" in row for row in found["results"])
    rows: list[dict[str, Any]] = found["results"]
    return rows


def dead_letter(service: Service, letter_id: str) -> dict[bytes, bytes]:
    """The letter as it stands in the engine."""
    with service.home.client() as client:
        found: dict[bytes, bytes] = client.hgetall(SOURCES.dead_letter(letter_id))
    return found


def dead_letters(service: Service) -> int:
    with service.home.client() as client:
        return int(client.zcard(SOURCES.dead_letters("open")))


def places(gateway: Gateway, sku: str) -> dict[str, int]:
    """What is on hand where."""
    return {each["location_id"]: each["on_hand_quantity"] for each in gateway.availability(sku)["locations"]}


# What is applied


def test_what_each_type_does_to_stock(gateway: Gateway) -> None:
    sku = new_sku()
    for kind, quantity, on_hand, fields in (
        ("receive", 10, 10, {}),
        ("return", 2, 12, {}),
        ("adjust", -3, 9, {}),
        ("count", 8, 8, {"occurred_at": "2026-11-21T11:00:00.000001Z"}),
        ("transfer", 5, 8, {"occurred_at": "2026-11-21T12:00:00+00:00", "to_location_id": "WH2"}),
        ("ship", 1, 7, {"occurred_at": "2026-11-21T13:00:00Z"}),
    ):
        (row,) = results(deliver(gateway, "pos", said(kind, (sku, quantity), **fields)), "applied")
        found = gateway.availability(sku)
        assert (row["sku"], row["status"]) == (sku, "applied")
        assert (found["on_hand_quantity"], found["sequence"]) == (on_hand, row["sequence"]), kind
    assert places(gateway, sku) == {"WH1": 2, "WH2": 5}


def test_the_ledger_has_who_said_it_and_when(gateway: Gateway) -> None:
    sku = gateway.stock(0)
    deliver(gateway, "wms", said("receive", (sku, 2)), delivery_id=f"of-{sku}")
    (entry,) = gateway.entries(sku=sku)[1:]
    assert (entry["type"], entry["source"], entry["delivery_id"]) == ("stock.received", "wms", f"of-{sku}")
    assert (entry["occurred_at"], entry["quantity"]) == ("2026-11-21T10:00:00.000000Z", 2)
    assert entry["clock"] == {"wms": 1_795_255_200_000_000}


def test_a_delivery_that_comes_twice_is_applied_once(gateway: Gateway) -> None:
    sku = gateway.stock(0)
    body = json.dumps(said("receive", (sku, 2), (sku, 3))).encode()
    first = results(deliver(gateway, "wms", body, delivery_id=sku), "applied")
    again = results(deliver(gateway, "wms", body, delivery_id=sku, secret=OLD_SECRET, age_seconds=-60), "duplicate")
    assert again == [{**row, "status": "duplicate"} for row in first]
    assert gateway.availability(sku)["on_hand_quantity"] == 5
    results(deliver(gateway, "wms", body), "applied")
    assert gateway.availability(sku)["on_hand_quantity"] == 10


def test_a_delivery_that_comes_many_times_at_once_is_applied_once(gateway: Gateway) -> None:
    sku = gateway.stock(0)
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: deliver(gateway, "wms", said("receive", (sku, 2)), delivery_id=sku), range(16))
        )
    assert sorted(done(answer)["status"] for answer in answers) == ["applied", *["duplicate"] * 15]
    assert len({done(answer)["results"][0]["sequence"] for answer in answers}) == 1
    assert gateway.availability(sku)["on_hand_quantity"] == 2


def test_a_count_that_was_overtaken_is_stale(gateway: Gateway) -> None:
    sku = gateway.stock(0)
    results(deliver(gateway, "robot", said("count", (sku, 5), clock={"robot": 9})), "applied")
    results(deliver(gateway, "robot", said("count", (sku, 7), clock={"robot": 8})), "stale")
    assert gateway.availability(sku)["on_hand_quantity"] == 5


def test_ten_thousand_lines(gateway: Gateway) -> None:
    skus = [new_sku() for _ in range(2000)]
    lines = [(skus[number % 2000], number + 1) for number in range(10_000)]
    rows = results(deliver(gateway, "pos", said("receive", *lines)), "applied")
    assert [row["sku"] for row in rows] == [sku for sku, _ in lines]
    assert len({row["sequence"] for row in rows}) == 10_000
    for index in (0, 1999):
        assert gateway.availability(skus[index])["on_hand_quantity"] == sum(range(index + 1, 10_001, 2000))


# What a source's words mean


def test_ids_are_said_in_our_words(gateway: Gateway) -> None:
    sku = new_sku()
    results(deliver(gateway, "erp", said("receive", (sku, 2), location_id="E1")), "applied")
    body = said("receive", (sku, 3))
    del body["location_id"]
    results(deliver(gateway, "erp", body), "applied")
    assert places(gateway, sku) == {"EAST": 2, "WEST": 3}
    (row,) = results(deliver(gateway, "erp", said("receive", ("271878346596884015", 1), location_id="E1")), "applied")
    assert row["sku"] == "OUR-OWN"


def test_a_location_that_the_table_does_not_have(gateway: Gateway, service: Service) -> None:
    sku = new_sku()
    for fields in ({}, {"type": "transfer", "location_id": "E1", "to_location_id": "E2"}):
        body = said("receive", (sku, 2)) | fields
        problem = refused(deliver(gateway, "erp", body), 422, "validation_failed", dead_letter_id=str)
        assert problem["errors"] == [{"field": "lines.0", "message": "unknown_location"}]
        assert dead_letter(service, problem["dead_letter_id"])[b"reason"] == b"unknown_location"


def test_a_source_never_mixes_its_clocks(gateway: Gateway, service: Service) -> None:
    sku = gateway.stock(0)
    results(deliver(gateway, "robot", said("receive", (sku, 2), clock={"robot": 1})), "applied")
    results(deliver(gateway, "wms", said("receive", (sku, 2))), "applied")
    for source, fields in (("robot", {}), ("wms", {"clock": {"wms": 1}})):
        answer = deliver(gateway, source, said("receive", (sku, 3), **fields))
        problem = refused(answer, 422, "validation_failed", dead_letter_id=str)
        assert dead_letter(service, problem["dead_letter_id"])[b"reason"] == b"clock_mixed"
    two_systems = said("receive", (sku, 3), clock={"arm": 1, "belt": 1})
    problem = refused(deliver(gateway, "robot", two_systems), 422, "validation_failed", dead_letter_id=str)
    assert problem["errors"] == [{"field": "lines.0", "message": "clock_ambiguous"}]
    results(deliver(gateway, "robot", two_systems | {"type": "count"}), "applied")
    results(deliver(gateway, "robot", said("receive", (sku, 3), clock={"arm": 2})), "applied")


# What is no use


def test_a_line_that_is_no_use_leaves_the_others_alone(gateway: Gateway, service: Service) -> None:
    known, unknown = gateway.stock(0), new_sku()
    body = json.dumps(said("receive", (unknown, 1), (known, 2))).encode()
    answer = deliver(gateway, "wms", body, delivery_id=known)
    lost, applied = results(answer, "applied")
    assert lost == {"sku": unknown, "status": "dead_lettered", "sequence": 0, "reason": "unknown_sku"}
    assert (applied["sku"], applied["status"]) == (known, "applied")
    letter = dead_letter(service, done(answer)["dead_letter_id"])
    assert (letter[b"source"], letter[b"delivery_id"], letter[b"body"]) == (b"wms", known.encode(), body)
    assert b"webhook-signature" not in letter[b"headers"]
    assert b"webhook-id" in letter[b"headers"]

    problem = refused(deliver(gateway, "wms", body, delivery_id=known), 422, "validation_failed", dead_letter_id=str)
    assert problem["errors"] == [{"field": "lines.0", "message": "unknown_sku"}]
    assert problem["dead_letter_id"] == done(answer)["dead_letter_id"], "one a delivery"
    done(gateway("PUT", f"skus/{unknown}", {}), 201)
    rows = results(deliver(gateway, "wms", body, delivery_id=known), "applied")
    assert [row["status"] for row in rows] == ["applied", "duplicate"]
    assert [gateway.availability(sku)["on_hand_quantity"] for sku in (unknown, known)] == [1, 2]


@pytest.mark.parametrize("body", [b"", b'{"type": "receive", "occ', b'{"type": "c4n4ry", "type": "count"}', b"<html/>"])
def test_what_is_no_json_is_kept(gateway: Gateway, service: Service, body: bytes) -> None:
    problem = refused(deliver(gateway, "wms", body), 400, "malformed_request", dead_letter_id=str)
    assert CANARY not in str(problem)
    assert dead_letter(service, problem["dead_letter_id"])[b"body"] == body


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"type": CANARY}, "type"),
        ({"lines": [{"sku": CANARY, "quantity": "2"}]}, "lines.0.quantity"),
        ({"type": "count", "lines": [{"sku": CANARY, "quantity": -1}]}, "lines.0.quantity"),
        ({"warehouse": CANARY}, "warehouse"),
        ({"type": "pick"}, "reference"),
        ({"lines": [{"sku": CANARY, "quantity": 1}] * 10_001}, "lines"),
    ],
)
def test_what_is_no_delivery_is_kept(gateway: Gateway, service: Service, fields: dict[str, Any], wrong: str) -> None:
    answer = deliver(gateway, "wms", said("receive", ("A", 1)) | fields)
    problem = refused(answer, 422, "validation_failed", dead_letter_id=str)
    assert [error["field"] for error in problem["errors"]] == [wrong]
    assert CANARY not in str(problem)
    assert dead_letter(service, problem["dead_letter_id"])[b"reason"].startswith(f"invalid: {wrong} ".encode())


# What is refused, and nothing of it kept


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"webhook_signature": None}, "webhook_signature_invalid"),
        ({"webhook_signature": "v1,AAAA"}, "webhook_signature_invalid"),
        ({"webhook_signature": "é"}, "webhook_signature_invalid"),
        ({"webhook_signature": "v1,\xff\xfe"}, "webhook_signature_invalid"),
        ({"webhook_id": "other"}, "webhook_signature_invalid"),
        ({"webhook_id": None}, "webhook_signature_invalid"),
        ({"webhook_timestamp": None}, "webhook_signature_invalid"),
        ({"webhook_timestamp": "1614265330"}, "webhook_timestamp_out_of_tolerance"),
        ({"secret": "whsec_c3RyYW5nZXI="}, "webhook_signature_invalid"),
        ({"age_seconds": 310}, "webhook_timestamp_out_of_tolerance"),
        ({"age_seconds": -310}, "webhook_timestamp_out_of_tolerance"),
    ],
)
def test_what_nobody_has_signed(gateway: Gateway, service: Service, changed: dict[str, Any], code: str) -> None:
    before, sku = dead_letters(service), gateway.stock(0)
    answer = deliver(gateway, "wms", said("receive", (sku, 1)), **changed)
    refused(answer, 401, code)
    assert answer.headers["www-authenticate"]
    assert (dead_letters(service), gateway.availability(sku)["on_hand_quantity"]) == (before, 0)


def test_a_source_that_there_is_not(gateway: Gateway) -> None:
    for name in ("nobody", "WMS", "%77ms", "w" * 1000, "..%2Fwms"):
        refused(deliver(gateway, name, said("receive", ("A", 1))), 404, "source_not_found")
    for path in ("webhooks", "webhooks/", "webhooks/wms/", "webhooks/wms/x"):
        refused(gateway.post(path, {}), 404, "not_found")
    answer = gateway.get("webhooks/wms")
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_a_source_that_there_is_not_is_not_listened_to(gateway: Gateway) -> None:
    head = "POST /inventory/v1/webhooks/nobody HTTP/1.1\r\nHost: lastunit\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(gateway.peer, 5) as connection:
        connection.sendall(head.encode())
        refused(receive(connection), 404, "source_not_found")


@pytest.mark.parametrize("size", [BODY_BYTES_MAX + 1, 2 * 1024 * 1024])
def test_a_body_that_is_too_large(gateway: Gateway, service: Service, size: int) -> None:
    before = dead_letters(service)
    refused(deliver(gateway, "wms", b" " * size), 413, "body_too_large")
    head = "POST /inventory/v1/webhooks/wms HTTP/1.1\r\nHost: lastunit\r\nTransfer-Encoding: chunked\r\n\r\n"
    refused(gateway.write(head.encode() + b"%x\r\n" % size + b" " * size + b"\r\n0\r\n\r\n"), 413, "body_too_large")
    assert dead_letters(service) == before


def test_a_body_as_large_as_it_may_be(gateway: Gateway) -> None:
    sku = gateway.stock(0)
    body = json.dumps(said("receive", (sku, 1))).encode()
    results(deliver(gateway, "wms", body + b" " * (BODY_BYTES_MAX - len(body))), "applied")


def test_a_content_type(gateway: Gateway) -> None:
    sku = gateway.stock(0)
    body = json.dumps(said("receive", (sku, 1))).encode()
    refused(deliver(gateway, "wms", body, content_type="text/plain"), 415, "unsupported_media_type")
    for given in (None, "application/json; charset=utf-8"):
        results(deliver(gateway, "wms", body, content_type=given), "applied")


# What is seen of it


def test_metrics_and_logs(service: Service) -> None:
    gateway = service.gateway
    sku, name = gateway.stock(0), 'lastunit_deliveries_total{source="wms",status="%s"}'

    def counted(status: str) -> float:
        text = gateway.get("/metrics").body.decode()
        row = next((row for row in text.splitlines() if row.startswith(name % status)), "x 0")
        return float(row.rpartition(" ")[2])

    before = {status: counted(status) for status in ("applied", "dead_lettered", "webhook_signature_invalid")}
    deliver(gateway, "wms", said("receive", (sku, 1)))
    deliver(gateway, "wms", said("receive", (sku, 0)), delivery_id=f"log-{sku}")
    deliver(gateway, "wms", said("receive", (sku, 1)), webhook_signature=f"v1,{CANARY}{sku}")
    for status, count in before.items():
        assert counted(status) == count + 1, status
    assert 'lastunit_delivery_seconds_count{source="wms"}' in gateway.get("/metrics").body.decode()
    logged = [json.loads(line) for line in service.home.stderr.splitlines() if line.startswith("{")]
    (line,) = (line for line in logged if line.get("delivery_id") == f"log-{sku}")
    assert (line["event"], line["source"], line["status"]) == ("delivery", "wms", "dead_lettered")
    assert f"{CANARY}{sku}" not in service.home.stderr
    for secret in (signed_headers(b"")["webhook-signature"], OLD_SECRET):
        assert secret not in service.home.stderr
