"""Sources for operators: how it goes with each, what they call our SKUs and locations, dead letters and their end."""

import asyncio
import base64
import itertools
import json
from typing import Any

import pytest
from redis.asyncio import Redis

from app.store.dead_letters import LETTERS_MAX, keep
from app.store.keys import Keyspace
from tests.gateway import JSON, TIME, Answer, Gateway, done, refused, shaped
from tests.service import Home, Service, eventually
from tests.webhooks import SECRET, SOURCES, deliver, said

LETTER = {
    "id": str, "source": str, "delivery_id": str, "received_at": TIME, "reason": str, "attempts": int, "status": str,
}  # fmt: skip
CONNECTOR = {
    "name": str, "connector": str, "state": str, "last_success_at": TIME, "last_delivery_at": TIME,
    "last_error": str | None, "consecutive_failures": int, "missing_numbers": list,
}  # fmt: skip
KEYS = Keyspace(1).sources
# Two, the second of which is soon called silent.
FEW_SOURCES = {"wms": {"secrets": [SECRET]}, "erp": {"secrets": [SECRET], "silent_after_seconds": 0.1}}
numbers = itertools.count(1)


@pytest.fixture
def way() -> str:
    """None of these routes is in the table."""
    return "table"


def unknown() -> str:
    """What a source calls a SKU that nobody has made."""
    return f"V-{next(numbers)}"


def dead_letter(gateway: Gateway, body: dict[str, Any] | bytes, *, source: str = "wms", delivery_id: str = "") -> str:
    """A delivery that cannot be used at all; the letter that it is kept as."""
    answer = deliver(gateway, source, body, delivery_id=delivery_id or None)
    assert answer.status in (400, 422), answer.body
    letter_id = answer.json["dead_letter_id"]
    assert isinstance(letter_id, str)
    return letter_id


def read(gateway: Gateway, letter_id: str) -> dict[str, Any]:
    found = done(gateway.get(f"admin/dead-letters/{letter_id}"))
    shaped(found, {**LETTER, "headers": dict, "body": str | None, "body_base64": str})
    return found


def replay(gateway: Gateway, letter_id: str) -> Answer:
    return gateway.post(f"admin/dead-letters/{letter_id}/replay")


def ids(gateway: Gateway, status: str, **query: object) -> list[str]:
    items = gateway.items("admin/dead-letters", status=status, **query)
    assert [item["received_at"] for item in items] == sorted((item["received_at"] for item in items), reverse=True)
    for item in items:
        shaped(item, {**LETTER, "status": status})
    return [item["id"] for item in items]


def connector(gateway: Gateway, name: str) -> dict[str, Any]:
    (found,) = [item for item in done(gateway.get("admin/connectors"))["items"] if item["name"] == name]
    assert isinstance(found, dict)
    return found


def test_what_could_not_be_used_is_applied_once_its_sku_is_said(gateway: Gateway) -> None:
    sku, told = gateway.stock(3), unknown() + "/ü"
    body = said("receive", (told, 4))
    letter_id = dead_letter(gateway, body, delivery_id=f"of-{sku}")
    assert ids(gateway, "open")[0] == letter_id
    letter = read(gateway, letter_id)
    about = (letter["source"], letter["delivery_id"], letter["reason"], letter["attempts"], letter["status"])
    assert about == ("wms", f"of-{sku}", "unknown_sku", 1, "open")
    assert json.loads(letter["body"]) == body
    assert base64.b64decode(letter["body_base64"]).decode() == letter["body"]
    assert letter["headers"]["webhook-id"] == f"of-{sku}"
    assert "signature" not in json.dumps(letter["headers"])

    refused(replay(gateway, letter_id), 422, "validation_failed", dead_letter_id=str)
    assert read(gateway, letter_id)["attempts"] == 2
    path = f"admin/connectors/wms/skus/{told.replace('/', '%2F').replace('ü', '%C3%BC')}"
    assert done(gateway("PUT", path, {"sku": sku})) == {"name": "wms", "id": told, "sku": sku}
    for status in ("applied", "duplicate"):
        found = done(replay(gateway, letter_id))
        assert (found["status"], found["results"][0]["sku"]) == (status, sku)
        assert gateway.availability(sku)["on_hand_quantity"] == 7
    letter = read(gateway, letter_id)
    assert (letter["status"], letter["attempts"]) == ("replayed", 2)
    assert letter_id in ids(gateway, "replayed")
    assert letter_id not in ids(gateway, "open")
    assert done(deliver(gateway, "wms", body, delivery_id=f"of-{sku}"))["status"] == "duplicate"


def test_lines_that_were_applied_are_not_applied_again(gateway: Gateway) -> None:
    sku, other, told = gateway.stock(0), gateway.stock(0), unknown()
    first = done(deliver(gateway, "wms", said("receive", (sku, 5), (told, 2))))
    assert [line["status"] for line in first["results"]] == ["applied", "dead_lettered"]
    done(gateway("PUT", f"admin/connectors/wms/skus/{told}", {"sku": other}))
    again = done(replay(gateway, first["dead_letter_id"]))
    assert [line["status"] for line in again["results"]] == ["duplicate", "applied"]
    assert [gateway.availability(each)["on_hand_quantity"] for each in (sku, other)] == [5, 2]


def test_a_location_is_said_likewise_and_wins_over_the_table(gateway: Gateway) -> None:
    sku, told = gateway.stock(0), unknown()
    body = said("receive", (sku, 1), location_id=told)
    letter_id = dead_letter(gateway, body, source="erp")
    assert read(gateway, letter_id)["reason"] == "unknown_location"
    done(deliver(gateway, "erp", body | {"location_id": "E1"}))
    for ours in ("NORTH", "SOUTH"):
        answer = done(gateway("PUT", f"admin/connectors/erp/locations/{told}", {"location_id": ours}))
        assert answer == {"name": "erp", "id": told, "location_id": ours}
        done(deliver(gateway, "erp", body))
    done(replay(gateway, letter_id))
    done(deliver(gateway, "wms", body))
    places = {each["location_id"]: each["on_hand_quantity"] for each in gateway.availability(sku)["locations"]}
    assert places == {"main": 0, "EAST": 1, "NORTH": 1, "SOUTH": 2, told: 1}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"type": ', 400, "malformed_request"),
        (b'{"type": 1, "type": 1}', 400, "malformed_request"),
        ({"type": "eaten"}, 422, "validation_failed"),
        (said("receive", ("A", -1)), 422, "validation_failed"),
    ],
)
def test_what_is_of_no_use_still_says_so_and_counts(
    gateway: Gateway, body: dict[str, Any] | bytes, status: int, code: str
) -> None:
    letter_id = dead_letter(gateway, body)
    for attempts in (2, 3):
        refused(replay(gateway, letter_id), status, code, dead_letter_id=str)
        letter = read(gateway, letter_id)
        assert (letter["attempts"], letter["status"]) == (attempts, "open")


def test_what_is_discarded_stays_so(gateway: Gateway) -> None:
    told = unknown()
    body = said("receive", (told, 1))
    letter_id = dead_letter(gateway, body, delivery_id=f"of-{told}")
    for _ in range(2):
        found = done(gateway.post(f"admin/dead-letters/{letter_id}/discard", {}))
        shaped(found, {**LETTER, "id": letter_id, "status": "discarded"})
    assert letter_id in ids(gateway, "discarded")
    assert dead_letter(gateway, body, delivery_id=f"of-{told}") == letter_id
    letter = read(gateway, letter_id)
    assert (letter["status"], letter["attempts"]) == ("discarded", 2)


def test_what_was_replayed_is_not_discarded(gateway: Gateway) -> None:
    sku, told = gateway.stock(0), unknown()
    letter_id = dead_letter(gateway, said("receive", (told, 1)))
    done(gateway("PUT", f"admin/connectors/wms/skus/{told}", {"sku": sku}))
    done(replay(gateway, letter_id))
    assert done(gateway.post(f"admin/dead-letters/{letter_id}/discard"))["status"] == "replayed"


def test_letters_are_paged(gateway: Gateway) -> None:
    made = [dead_letter(gateway, said("receive", (unknown(), 1))) for _ in range(5)]
    whole = ids(gateway, "open")
    assert whole[:5] == made[::-1]
    for limit in (1, 2, 1000):
        assert ids(gateway, "open", limit=limit) == whole
    assert [item["id"] for item in gateway.items("admin/dead-letters")] == whole


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "cursor=x", "cursor=e30", "state=open"])
def test_lists_take_no_nonsense(gateway: Gateway, query: str) -> None:
    refused(gateway.get(f"admin/dead-letters?{query}"), 422, "validation_failed")
    refused(gateway.get(f"admin/connectors?{query}"), 422, "validation_failed")


@pytest.mark.parametrize("letter_id", ["0" * 32, "x", "%FF", "open", "wms%0Amsg-life"])
def test_a_letter_that_there_is_not(gateway: Gateway, letter_id: str) -> None:
    path = f"admin/dead-letters/{letter_id}"
    for answer in (gateway.get(path), gateway.post(f"{path}/replay"), gateway.post(f"{path}/discard")):
        refused(answer, 404, "not_found")


@pytest.mark.parametrize("verb", ["replay", "discard"])
def test_decisions_take_nothing_but_nothing(gateway: Gateway, verb: str) -> None:
    letter_id = dead_letter(gateway, said("receive", (unknown(), 1)))
    path = f"admin/dead-letters/{letter_id}/{verb}"
    refused(gateway.post(path, {"why": "so"}), 422, "validation_failed")
    refused(gateway.post(path, []), 422, "validation_failed")
    refused(gateway.send("POST", path, b"{", [("content-type", JSON)]), 400, "malformed_request")
    refused(gateway.send("POST", path, b"{}", [("content-type", "text/plain")]), 415, "unsupported_media_type")
    refused(gateway.send("POST", path, b" " * 70_000, [("content-type", JSON)]), 413, "body_too_large")
    letter = read(gateway, letter_id)
    assert (letter["status"], letter["attempts"]) == ("open", 1)


@pytest.mark.parametrize(("kind", "field"), [("skus", "sku"), ("locations", "location_id")])
def test_mappings_take_no_nonsense(gateway: Gateway, kind: str, field: str) -> None:
    wrong: list[Any] = [{}, [], *({field: text} for text in ("", " a", "a\n", 1, None)), {field: "A", "more": 1}]
    for value in wrong:
        refused(gateway("PUT", f"admin/connectors/wms/{kind}/V", value), 422, "validation_failed")
    for raw_id in ("%20V", "%FF", "%00", "%2", "V" * 129):
        refused(gateway("PUT", f"admin/connectors/wms/{kind}/{raw_id}", {field: "A"}), 422, "validation_failed")
    for name in ("nobody", "WMS", "wms%20", "%77ms"):
        refused(gateway("PUT", f"admin/connectors/{name}/{kind}/V", {field: "A"}), 404, "source_not_found")
    refused(gateway("PUT", f"admin/connectors/wms/{kind}/V"), 400, "malformed_request")


def test_what_is_no_text_and_whose_source_is_gone(service: Service, gateway: Gateway) -> None:
    """As a source could send it that is no longer in lastunit.toml."""
    letter_id = kept(service, source="gone", body=b"\xff\x00")
    letter = read(gateway, letter_id)
    assert (letter["body"], base64.b64decode(letter["body_base64"])) == (None, b"\xff\x00")
    assert letter["headers"] == {"x-topic": "t"}
    refused(replay(gateway, letter_id), 404, "source_not_found")
    assert read(gateway, letter_id)["attempts"] == 1
    assert done(gateway.post(f"admin/dead-letters/{letter_id}/discard"))["status"] == "discarded"


def kept(service: Service, *, source: str, body: bytes) -> str:
    async def run() -> str:
        async with Redis.from_url(service.home.engine["url"], protocol=2) as client:
            headers = {"x-topic": "t", "authorization": "Bearer s"}
            return await keep(
                client, KEYS, source=source, delivery_id=f"msg_{next(numbers)}", received_at_us=1,
                reason="no\x1b[2Juse", headers=headers, body=body,
            )  # fmt: skip

    return asyncio.run(run())


def test_without_room_nothing_is_kept_and_the_sender_is_told(service: Service, gateway: Gateway) -> None:
    told = unknown()
    body = said("receive", (told, 1))
    with service.home.client() as client:
        client.hincrby(KEYS.dead_letter_totals, "letters", LETTERS_MAX)
        refused(deliver(gateway, "wms", body, delivery_id=told), 503, "busy")
        client.hincrby(KEYS.dead_letter_totals, "letters", -LETTERS_MAX)
    assert told not in [item["delivery_id"] for item in gateway.items("admin/dead-letters")]
    dead_letter(gateway, body, delivery_id=told)


def test_how_it_goes_with_a_source(home: Home) -> None:
    gateway = home.serve(sources=FEW_SOURCES).gateway.hold_to_its_word()
    names = [item["name"] for item in gateway.items("admin/connectors", limit=1)]
    assert names == ["erp", "wms"]
    fresh = connector(gateway, "wms")
    never = {**CONNECTOR, "last_success_at": None, "last_delivery_at": None}
    shaped(fresh, {name: type(None) if kind is None else kind for name, kind in never.items()})
    assert (fresh["state"], fresh["consecutive_failures"], fresh["missing_numbers"]) == ("ok", 0, [])
    eventually(lambda: connector(gateway, "erp")["state"] == "silent")

    sku = gateway.stock(0)
    for number in (3, 5, 9):
        done(deliver(gateway, "wms", said("receive", (sku, 1), clock={"wms": number})))
    wms = connector(gateway, "wms")
    shaped(wms, {**CONNECTOR, "name": "wms", "connector": "wms", "state": "ok"})
    assert wms["missing_numbers"] == [4, 6, 7, 8]
    dead_letter(gateway, said("receive", (unknown(), 1), clock={"wms": 7}))
    dead_letter(gateway, b"{")
    wms = connector(gateway, "wms")
    assert (wms["state"], wms["consecutive_failures"]) == ("failing", 2)
    assert "malformed" in wms["last_error"]
    done(deliver(gateway, "wms", said("receive", (sku, 1), clock={"wms": 10})))
    wms = connector(gateway, "wms")
    assert (wms["state"], wms["consecutive_failures"]) == ("ok", 0)
    assert wms["last_success_at"] >= wms["last_delivery_at"]

    def told(line: str) -> bool:
        return line in gateway.get("/metrics").body.decode().splitlines()

    eventually(lambda: told("lastunit_dead_letters_open 2.0"))
    eventually(lambda: told('lastunit_source_silent{source="erp"} 1.0'))
    assert told('lastunit_source_silent{source="wms"} 0.0')
    assert '"event": "source_silent"' in home.stderr


def test_the_same_at_the_command_line(service: Service) -> None:
    gateway, home = service.gateway, service.home
    sku, told = gateway.stock(0), unknown()
    mended, hopeless = dead_letter(gateway, said("receive", (told, 3))), dead_letter(gateway, b'{"\x1b[2J\n')
    strange = kept(service, source="gone", body=b"a\x1b[2J\n\xff")
    done(gateway("PUT", f"admin/connectors/wms/skus/{told}", {"sku": sku}))

    listed = home.command("dead-letters", "list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ids(gateway, "open")
    assert listed[1].endswith(f"{read(gateway, mended)['delivery_id']} open, of no use once: unknown_sku")
    shown = home.command("dead-letters", "show", strange).stdout
    assert shown.endswith(r"no\x1b[2Juse" + "\nx-topic: t\n\na\\x1b[2J\n\\xff\n")

    replayed = home.command(
        "dead-letters", "replay", mended, hopeless, strange, settings={"sources": json.dumps(SOURCES)}
    )
    assert replayed.stdout.splitlines() == [f"{mended} applied (1 applied)", f"{hopeless} still of no use: malformed"]
    assert replayed.stderr == f"lastunit: {strange} is of gone, which is not in lastunit.toml: add it again.\n"
    assert replayed.returncode == 1
    assert gateway.availability(sku)["on_hand_quantity"] == 3
    assert (read(gateway, mended)["status"], read(gateway, hopeless)["attempts"]) == ("replayed", 2)

    discarded = home.command("dead-letters", "discard", hopeless, strange, "x")
    assert discarded.stdout.splitlines() == [f"{hopeless} discarded", f"{strange} discarded"]
    assert discarded.stderr == "lastunit: 'x' is no dead letter: name one as lastunit dead-letters list does.\n"
    assert discarded.returncode == 1
