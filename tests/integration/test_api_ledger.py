"""The ledger over HTTP: every field of an entry, in order and without a gap, page by page."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from app.domain.types import Sku
from app.store.keys import Keyspace
from tests.gateway import TIME, Gateway, done, refused, shaped
from tests.service import Home, open_home

ENTRY: dict[str, Any] = {
    "sequence": int,
    "partition": int,
    "command_id": str,
    "at": TIME,
    "type": str,
    "sku": str,
    "location_id": str | None,
    "quantity": int,
    "on_hand_quantity": int,
    "reserved_quantity": int,
    "committed_quantity": int,
    "backordered_quantity": int,
    "available_quantity": int,
    "token": str | None,
    "agent_id": str | None,
    "channel": str | None,
    "source": str | None,
    "delivery_id": str | None,
    "occurred_at": str | None,
    "clock": dict | None,
    "reason": str | None,
    "data": dict,
}


@pytest.fixture
def way() -> str:
    """None of these routes is in the table."""
    return "table"


def pages(gateway: Gateway, query: str, limit: int) -> list[list[dict[str, Any]]]:
    """Every page, each found by the cursor of the one before."""
    found: list[list[dict[str, Any]]] = []
    cursor = ""
    while True:
        page = done(gateway.get(f"ledger?limit={limit}&{query}{cursor}"))
        shaped(page, {"items": list, "next_cursor": str | None})
        found.append(page["items"])
        if page["next_cursor"] is None:
            return found
        cursor = f"&after={page['next_cursor']}"


def test_every_kind_of_entry_is_whole(gateway: Gateway) -> None:
    sku = gateway.stock(10, safety_stock=1)
    held = gateway.reserve(sku, 3, channel="web")
    for verb, body in (
        ("extend", {"additional_seconds": 1}),
        ("payment", {}),
        ("commit", {"lines": [{"sku": sku, "quantity": 2}], "order_id": "order-1"}),
        ("cancel", {}),
    ):
        done(gateway.verb(held, verb, body))
    entries = gateway.entries(sku=sku)
    for entry in entries:
        shaped(entry, {**ENTRY, "sku": sku})
    balance = ("on_hand", "reserved", "committed", "backordered", "available")
    assert [(e["type"], e["quantity"], *(e[f"{name}_quantity"] for name in balance)) for e in entries] == [
        ("sku.updated", 0, 0, 0, 0, 0, 0),
        ("stock.adjusted", 10, 10, 0, 0, 0, 9),
        ("reservation.held", 3, 10, 3, 0, 0, 6),
        ("reservation.extended", 3, 10, 3, 0, 0, 6),
        ("reservation.payment_pending", 3, 10, 3, 0, 0, 6),
        ("reservation.committed", 2, 10, 1, 2, 0, 6),
        ("reservation.released", 1, 10, 0, 2, 0, 7),
        ("reservation.cancelled", 2, 10, 0, 0, 0, 9),
    ]
    for entry in entries[2:]:
        assert (entry["token"], entry["agent_id"], entry["channel"]) == (held["token"], "agent", "web")
        assert (entry["location_id"], entry["source"]) == (None, None)
    for entry in entries[:2]:
        assert (entry["token"], entry["agent_id"], entry["channel"], entry["source"]) == (None, None, None, "operator")
    assert entries[5]["data"]["order_id"] == "order-1"
    assert gateway.entries(token=held["token"]) == entries[2:]
    assert gateway.entries(token=held["token"], sku=sku) == entries[2:]


def test_no_gap_and_no_entry_twice(gateway: Gateway) -> None:
    skus = [gateway.stock() for _ in range(3)]
    for sku in skus:
        done(gateway.verb(gateway.reserve(sku, 2), "release"))
    entries = gateway.entries()
    assert [entry["sequence"] for entry in entries] == list(range(1, len(entries) + 1))
    assert sum(entry["sku"] in skus for entry in entries) == 9
    assert all(earlier["at"] <= later["at"] for earlier, later in itertools.pairwise(entries))


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_pages_are_the_whole_in_order(gateway: Gateway, limit: int) -> None:
    sku = gateway.stock(10)
    for _ in range(2):
        gateway.reserve(sku)
        gateway.reserve(gateway.stock())
    whole = gateway.entries(sku=sku)
    found = pages(gateway, f"sku={sku}", limit)
    assert [entry for page in found for entry in page] == whole
    assert all(len(page) <= limit for page in found)
    assert gateway.entries(sku=sku, after=whole[0]["sequence"]) == whole[1:]
    assert gateway.entries(sku=sku, cursor=whole[0]["sequence"]) == whole[1:]


def test_a_limit_of_its_own(gateway: Gateway) -> None:
    sku = gateway.stock(60)
    held, *_ = [gateway.reserve(sku) for _ in range(51)]
    after = held["sequence"] - 1
    page = done(gateway.get(f"ledger?sku={sku}&after={after}"))
    assert len(page["items"]) == 50
    assert page["next_cursor"] is not None


@pytest.mark.parametrize(
    "query", ["sku=nobody-told", "token=0-AAAAAAAAAAAAAAAAAAAAAA", "token=none", "after=9007199254740991"]
)
def test_nothing_found_is_an_empty_page(gateway: Gateway, query: str) -> None:
    """Which may take several: a page looks at so many entries and no more."""
    page = done(gateway.get(f"ledger?{query}"))
    while page["next_cursor"]:
        assert page["items"] == []
        page = done(gateway.get(f"ledger?{query}&after={page['next_cursor']}"))
    assert page == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *((f"limit={text}", "limit") for text in ("0", "1001", "-1", "many", "1.5", "", "9" * 30)),
        *((f"after={text}", "after") for text in ("-1", "x", "1.5", "9007199254740992", "%D9%A1", "0x1", "")),
        ("after=1&cursor=1", "cursor"),
        *((f"{name}={text}", name) for name in ("sku", "token") for text in ("", "%00", "%20A", "x" * 129)),
    ],
)  # fmt: skip
def test_a_query_that_cannot_be(gateway: Gateway, query: str, field: str) -> None:
    (error,) = refused(gateway.get(f"ledger?{query}"), 422, "validation_failed")["errors"]
    assert error["field"] == field


PARTITIONS, ENTRIES = 3, 10


@pytest.fixture(scope="module")
def partitioned() -> Iterator[Gateway]:
    """A service of several partitions with as many entries in each, to be read only."""
    with open_home() as home:
        gateway = home.serve(partitions=PARTITIONS).gateway
        for partition in range(PARTITIONS):
            sku = sku_of(partition)
            for _ in range(ENTRIES):
                done(gateway.post(f"skus/{sku}/adjustments", {"delta": 1, "reason": "test"}))
        yield gateway


def sku_of(partition: int) -> str:
    names = (f"SKU-{number}" for number in itertools.count())
    return next(name for name in names if Keyspace(PARTITIONS).of_sku(Sku(name)).index == partition)


@pytest.mark.parametrize("limit", [1, 7, 10, 20, 29, 30, 31])
def test_pages_of_several_partitions(partitioned: Gateway, limit: int) -> None:
    """Sequences are of a partition each; the position of all of them is opaque."""
    found = pages(partitioned, "", limit)
    assert all(len(page) <= limit for page in found)
    places = [(entry["partition"], entry["sequence"]) for page in found for entry in page]
    assert sorted(places) == [
        (partition, sequence) for partition in range(PARTITIONS) for sequence in range(1, ENTRIES + 1)
    ]


def test_a_sku_and_a_token_name_their_partition(home: Home) -> None:
    gateway = home.serve(partitions=PARTITIONS).gateway
    lines = []
    for partition in range(PARTITIONS):
        sku = sku_of(partition)
        done(gateway.post(f"skus/{sku}/adjustments", {"delta": 1, "reason": "test"}))
        held = gateway.reserve(sku)
        assert held["token"].startswith(f"{partition}-")
        (entry,) = gateway.entries(token=held["token"])
        assert (entry["partition"], entry["sequence"], entry["command_id"]) == (partition, 2, f"{partition}-2")
        assert gateway.entries(sku=sku, after=1) == [entry]
        done(gateway.verb(held, "release"))
        lines.append({"sku": sku, "quantity": 1})
    answer = gateway.post("reservations", {"lines": lines, "agent_id": "agent"})
    (error,) = refused(answer, 422, "validation_failed")["errors"]
    assert error["field"] == "lines"


@pytest.mark.parametrize("cursor", ["1", "x", "e30", "eyI5IjogMX0=", "eyIwIjogLTF9", "bnVsbA==", "%00", "A" * 16_385])
def test_a_position_that_is_none_of_ours(partitioned: Gateway, cursor: str) -> None:
    refused(partitioned.get(f"ledger?after={cursor}"), 422, "validation_failed")
