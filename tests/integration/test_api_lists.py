"""Lists over HTTP: reservations and SKUs from the archive, the feed, and the published schema that all answers keep."""

import base64
import json
import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema_rs
import msgspec
import pytest

from tests.gateway import Gateway, done, refused, shaped
from tests.service import Home, Service, eventually
from tests.webhooks import deliver, said

pytestmark = pytest.mark.archived

LISTS = ("reservations", "skus", "admin/backorders", "admin/reviews")
Archived = Callable[[], None]


@pytest.fixture
def way() -> str:
    """None of these routes is in the table."""
    return "table"


def new_name(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex[:12]}"


def tokens(items: list[dict[str, Any]]) -> list[str]:
    return [item["token"] for item in items]


# Reservations


def test_reservations_are_found_by_all_that_is_known_of_them(gateway: Gateway, archived: Archived) -> None:
    agent, reference, order = new_name("Grün"), new_name("cart 7&"), new_name("order")
    a, b = gateway.stock(9), gateway.stock(9)
    first = gateway.reserve(a, 2, agent_id=agent, reference=reference, metadata={"a": "1"})
    second = gateway.reserve(b, 1, agent_id=agent)
    both = [{"sku": a, "quantity": 1}, {"sku": b, "quantity": 2}]
    third = done(gateway.post("reservations", {"lines": both, "agent_id": new_name("agent"), "ttl_seconds": 60}), 201)
    done(gateway.verb(second, "commit", {"order_id": order}))
    archived()
    for query, expected in (
        ({"agent_id": agent}, [second, first]),
        ({"sku": a}, [third, first]),
        ({"sku": b}, [third, second]),
        ({"reference": reference}, [first]),
        ({"order_id": order}, [second]),
        ({"agent_id": agent, "sku": a}, [first]),
        ({"agent_id": agent, "status": "committed"}, [second]),
        ({"agent_id": agent, "sku": b, "status": "held"}, []),
    ):
        encoded = {name: quote(text, safe="") for name, text in query.items()}
        found = gateway.items("reservations", **encoded)
        assert found == [gateway.read(each) for each in expected], query
    assert tokens(gateway.items("reservations"))[:3] == tokens([third, second, first])


def test_ids_in_a_filter_are_normalized(gateway: Gateway, archived: Archived) -> None:
    tail = uuid.uuid4().hex
    held = gateway.reserve(gateway.stock(), agent_id=f"Grün{tail}")
    archived()
    assert tokens(gateway.items("reservations", agent_id=quote(f"Gru\u0308n{tail}"))) == [held["token"]]


def test_every_end_is_listed(gateway: Gateway, archived: Archived) -> None:
    agent, sku = new_name("agent"), gateway.stock(9)
    held, paying, sold, released, cancelled, partly, shipped = (gateway.reserve(sku, agent_id=agent) for _ in range(7))
    done(gateway.verb(paying, "payment"))
    for each in (sold, cancelled, partly, shipped):
        done(gateway.verb(each, "commit"))
    done(deliver(gateway, "wms", said("ship", (sku, 1), location_id="main", reference=shipped["token"])))
    done(gateway.verb(released, "release"))
    done(gateway.verb(cancelled, "cancel"))
    voided = gateway.reserve(sku, 2, agent_id=agent)
    done(gateway.post(f"skus/{sku}/adjustments", {"on_hand_quantity": 5, "reason": "counted"}))
    archived()
    for status, expected in (
        ("held", [held]),
        ("payment_pending", [paying]),
        ("committed", [partly, sold]),
        ("released", [released]),
        ("cancelled", [cancelled]),
        ("voided", [voided]),
        ("expired", []),
        ("fulfilled", [shipped]),
        ("pending_reconciliation", []),
    ):
        found = gateway.items("reservations", agent_id=agent, status=status)
        assert tokens(found) == tokens(expected), status
        assert {item["status"] for item in found} <= {status}


def test_a_hold_that_is_due_is_listed_as_expired_before_anybody_takes_it_back(
    gateway: Gateway, archived: Archived
) -> None:
    agent = new_name("agent")
    held = gateway.reserve(gateway.stock(), ttl_seconds=1, agent_id=agent)
    archived()
    (found,) = eventually(lambda: gateway.items("reservations", agent_id=agent, status="expired"))
    assert (found["token"], found["status"]) == (held["token"], "expired")
    assert gateway.items("reservations", agent_id=agent, status="held") == []
    assert [entry["type"] for entry in gateway.entries(token=held["token"])] == ["reservation.held"]


def test_pages_have_no_gap_and_nothing_twice(gateway: Gateway, archived: Archived) -> None:
    agent, sku = new_name("agent"), gateway.stock(20)
    made = [gateway.reserve(sku, agent_id=agent) for _ in range(7)]
    archived()
    path = f"reservations?agent_id={agent}"
    first = done(gateway.get(f"{path}&limit=3"))
    shaped(first, {"items": list, "next_cursor": str})
    made.append(gateway.reserve(sku, agent_id=agent))
    archived()
    second = done(gateway.get(f"{path}&limit=3&cursor={first['next_cursor']}"))
    third = done(gateway.get(f"{path}&limit=3&cursor={second['next_cursor']}"))
    assert third["next_cursor"] is None
    shown = first["items"] + second["items"] + third["items"]
    assert tokens(shown) == tokens(made[6::-1])
    for limit in (1, 2, 8, 9, 1000):
        assert tokens(gateway.items("reservations", agent_id=agent, limit=limit)) == tokens(made[::-1])


# What is no page


def cursor_of(value: object) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).rstrip(b"=").decode()


BAD_CURSORS = [
    "x", "%00", "%F0%9F%98%80", "!!!!", "AAAA", "A" * 3000, "====", "W10.", "",
    *map(cursor_of, (
        [], {}, None, 1, "x", [1], [1, 2, 3], [1, None], [None, "x"], [1.5, "x"], [-1, "x"], [2**53, "x"],
        [10**30, "x"], [1, "x" * 600], [1, "a\0b"], ["a\0b", 1], ["a\0b"], [True, "x"],
    )),
    base64.urlsafe_b64encode(b'[1,"\\ud800"]').decode(),
    base64.urlsafe_b64encode(b'[1,"\xff"]').decode(),
    base64.urlsafe_b64encode(b'[1,"x"').decode(),
]  # fmt: skip


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("cursor", BAD_CURSORS, ids=lambda cursor: cursor[:20])
def test_a_cursor_that_is_none(gateway: Gateway, path: str, cursor: str) -> None:
    (error,) = refused(gateway.get(f"{path}?cursor={cursor}"), 422, "validation_failed")["errors"]
    assert error["field"] == "cursor"


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=1.5", "limit=", "limt=5"])
def test_a_page_that_is_none(gateway: Gateway, path: str, query: str) -> None:
    (error,) = refused(gateway.get(f"{path}?{query}"), 422, "validation_failed")["errors"]
    assert error["field"] == query.partition("=")[0]


@pytest.mark.parametrize(
    "query",
    ["status=gone", "status=", "agent_id=", "agent_id=%20a", "sku=" + "x" * 129, "sku=a%0Ab", "order_id=%00",
     "reference=", "reference=" + "x" * 256, "reference=a%00b", "agent=a"],
)  # fmt: skip
def test_a_filter_that_is_none(gateway: Gateway, query: str) -> None:
    (error,) = refused(gateway.get(f"reservations?{query}"), 422, "validation_failed")["errors"]
    assert error["field"] == query.partition("=")[0]


# SKUs


def test_skus_are_listed_by_name_with_live_quantities(gateway: Gateway, archived: Archived) -> None:
    made = sorted(gateway.stock(units) for units in (3, 200, 9))
    archived()
    done(gateway.post(f"skus/{made[0]}/adjustments", {"on_hand_quantity": 77, "reason": "counted"}))
    listed = gateway.items("skus")
    names = [item["sku"] for item in listed]
    assert names == sorted(set(names))
    for sku in made:
        found = listed[names.index(sku)]
        assert found | {"as_of": ""} == gateway.availability(sku) | {"as_of": ""}
    assert [item["sku"] for item in gateway.items("skus", limit=101)] == names


@pytest.fixture(scope="module")
def many(service: Service) -> set[str]:
    """More SKUs than the feed has in memory at once."""
    skus = {new_name("FEED") for _ in range(1200)}
    rows = "".join(f"{sku},main,7\n" for sku in skus)
    content = f"sku,location_id,on_hand\n{rows}".encode()
    done(service.gateway.send("POST", "stock/import", content, [("Content-Type", "text/csv")]))
    return skus


def test_the_feed_has_every_sku(gateway: Gateway, archived: Archived, many: set[str]) -> None:
    archived()
    answer = gateway.get("feed")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    lines = answer.body.splitlines(keepends=True)
    assert all(line.endswith(b"}\n") for line in lines)
    items = [json.loads(line) for line in lines]
    assert [item["sku"] for item in items] == [item["sku"] for item in gateway.items("skus")]
    assert many <= {item["sku"] for item in items if item["available_quantity"] == 7}


def test_a_client_may_leave_the_feed(service: Service, archived: Archived, many: set[str]) -> None:
    gateway = service.gateway
    archived()
    errors = service.home.stderr.count('"level": "error"')
    for _ in range(20):
        with socket.create_connection(gateway.peer, 15) as connection:
            connection.sendall(b"GET /inventory/v1/feed HTTP/1.1\r\nHost: lastunit\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
    assert len(gateway.get("feed").body.splitlines()) == len(gateway.items("skus"))
    assert service.home.stderr.count('"level": "error"') == errors


def test_lists_of_nothing_are_empty_from_the_first_moment(home: Home) -> None:
    """Before the first archiver has come so far."""
    service = home.serve()
    assert service.gateway.get("feed").body == b""
    assert [service.gateway.items(path) for path in LISTS] == [[]] * len(LISTS)
    assert home.archive.stat().st_mode & 0o077 == 0
    assert service.terminate() == 0


# The published schema


@pytest.fixture(scope="module")
def schema(service: Service) -> jsonschema_rs.Draft202012Validator:
    answer = service.gateway.get("/schemas/inventory/1.0.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/schema+json")
    assert answer.json["$id"] == "/schemas/inventory/1.0.json"
    return jsonschema_rs.Draft202012Validator(answer.json, validate_formats=True)


def test_every_availability_keeps_the_schema(
    gateway: Gateway, archived: Archived, schema: jsonschema_rs.Draft202012Validator
) -> None:
    policy = {"safety_stock": 1, "backorder_limit": 2, "lead_time_days": 3, "channel_limits": {"web": 1}}
    held = gateway.stock(2, **policy, incoming_quantity=5)
    gateway.reserve(held, 1, channel="web")
    substituted = gateway.stock(0, substitutes=[held])
    announced = gateway.stock(0, next_restock_date="2030-05-01")
    short = gateway.stock(5)
    done(gateway.verb(gateway.reserve(short, 5), "commit"))
    done(gateway.post(f"skus/{short}/adjustments", {"on_hand_quantity": 1, "reason": "counted"}))
    skus = [held, substituted, announced, short]
    archived()
    answers = [
        *map(gateway.availability, skus),
        done(gateway.get(f"skus/{held}/availability?channel=web&location_id=main")),
        done(gateway.get(f"skus/{held}/availability?as_of={gateway.availability(held)['sequence']}")),
        *done(gateway.post("availability", {"skus": skus}))["items"],
        done(gateway.get(f"skus/{held}")),
        *gateway.items("skus"),
        *map(json.loads, gateway.get("feed").body.splitlines()),
    ]
    assert {answer["advice"]["action"] for answer in answers} >= {"proceed", "substitute", "preorder", "retry_after"}
    for answer in answers:
        schema.validate(answer)


SPOILT = [
    ("available_quantity", -1), ("available_quantity", "1"), ("reserved_quantity", 1.5), ("as_of", "yesterday"),
    ("pressure", "high"), ("schema_version", "1.1"), ("next_restock_date", "soon"), ("advice", {"action": "run"}),
    ("locations", [{}]), ("source", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), SPOILT, ids=str)
def test_the_schema_can_be_broken(
    service: Service, schema: jsonschema_rs.Draft202012Validator, name: str, value: object
) -> None:
    found = service.gateway.availability(service.gateway.stock(1))
    assert schema.is_valid(found | {"more": "fields may be added"})
    assert not schema.is_valid(found | {name: value})
    del found[name]
    assert not schema.is_valid(found)


# Over several partitions


def test_lists_are_of_all_partitions(home: Home) -> None:
    gateway = home.serve(partitions=3).gateway
    skus = sorted(gateway.stock(5) for _ in range(12))
    made = [gateway.reserve(sku) for sku in skus]
    assert {token.partition("-")[0] for token in tokens(made)} == {"0", "1", "2"}
    home.await_archive()
    for limit in (1, 5, 1000):
        assert [item["sku"] for item in gateway.items("skus", limit=limit)] == skus
        found = gateway.items("reservations", limit=limit)
        assert sorted(tokens(found)) == sorted(tokens(made))
        created = [item["created_at"] for item in found]
        assert created == sorted(created, reverse=True)


# Without an archive


def test_what_the_archive_would_know_is_not_said_while_it_is_away(home: Home, tmp_path: Path) -> None:
    gateway = home.serve(archive_url=f"sqlite:///{tmp_path}").gateway  # a folder is no database
    held = gateway.reserve(gateway.stock())
    for path in (*LISTS, "feed"):
        refused(gateway.get(path), 503, "ledger_unavailable")
    assert gateway.read(held) == held
    unknown = {"token": f"0-{'A' * 22}"}
    refused(gateway.get(f"reservations/{unknown['token']}"), 503, "ledger_unavailable")
    refused(gateway.verb(unknown, "commit"), 503, "ledger_unavailable")
    done(gateway.verb(held, "commit"))


def test_a_service_may_have_no_archive(home: Home) -> None:
    gateway = home.serve(archive_url="").gateway
    held = gateway.reserve(gateway.stock())
    for path in (*LISTS, "feed"):
        refused(gateway.get(path), 503, "ledger_unavailable")
    assert gateway.read(held) == held
    unknown = {"token": f"0-{'A' * 22}"}
    refused(gateway.get(f"reservations/{unknown['token']}"), 404, "reservation_not_found")
    refused(gateway.verb(unknown, "commit"), 404, "reservation_not_found")
