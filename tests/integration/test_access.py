"""A service with keys: who is let in, where, and to whose reservations."""

import re
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.domain.types import Token
from app.store.keys import Keyspace
from tests.gateway import NOTHING, TIMEOUT_SECONDS, Answer, Gateway, done, receive, refused
from tests.keys import key_row, write_keys
from tests.service import Home, eventually, open_home
from tests.webhooks import SOURCES, deliver, said

pytestmark = pytest.mark.archived

# name -> scope, and the agent that it is bound to
CALLERS = {
    "operator": ("operator", None),
    "reader": ("reader", None),
    "agent": ("agent", None),
    "rival": ("agent", None),
    "bound": ("agent", "agent-7"),
    "bound rival": ("agent", "agent-8"),
    "webhook": ("webhook:amazon", None),
}
KEYS = {name: f"lu_{secrets.token_urlsafe(32)}" for name in CALLERS}
SCOPES = ("nobody", "agent", "reader", "operator", "webhook")
VERBS: dict[str, Any] = {
    "commit": {},
    "release": {},
    "extend": {"additional_seconds": 1},
    "payment": {},
    "cancel": {},
    "allocations": {"strategy": "most_stock"},
}
SECURITY = {"x-content-type-options": "nosniff"}


@dataclass(frozen=True, slots=True)
class Guarded:
    """The service, and its file of keys."""

    home: Home
    gateway: Gateway
    path: Path
    rows: tuple[dict[str, Any], ...]

    def by(self, name: str, method: str, path: str, value: object = NOTHING, **headers: str) -> Answer:
        """A call with this caller's key; with none, for nobody."""
        if name in KEYS:
            headers["authorization"] = f"Bearer {KEYS[name]}"
        answer = self.gateway(method, path, value, **headers)
        assert answer.headers.items() >= SECURITY.items()
        return answer

    def reserve(self, name: str, sku: str, agent_id: str = "agent-7", **headers: str) -> dict[str, Any]:
        body = {"sku": sku, "agent_id": agent_id, "ttl_seconds": 60}
        return done(self.by(name, "POST", "reservations", body, **headers), 201)

    def stock(self) -> str:
        sku = f"SKU-{secrets.token_hex(6)}"
        counted = {"on_hand_quantity": 50, "reason": "test"}
        done(self.by("operator", "POST", f"skus/{sku}/adjustments", counted))
        return sku

    def entries(self, sku: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = done(self.by("reader", "GET", f"ledger?sku={sku}&limit=1000"))["items"]
        return found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """In the end its log must not have a key, nor a token that is good for anything."""
    path = tmp_path_factory.mktemp("access") / "keys.json"
    rows = tuple(
        key_row(KEYS[name], name, scope, **({"agent_id": agent_id} if agent_id else {}))
        for name, (scope, agent_id) in CALLERS.items()
    )
    write_keys(path, *rows)
    with open_home(is_archived=True) as home:
        service = home.serve(api_keys_file=path, log_requests=True, log_level="debug", sources=SOURCES)
        home.await_archive()
        yield Guarded(home, service.gateway.hold_to_its_word(), path, rows)
        service.terminate()
        log = home.stderr
        assert '"holder": "agent"' in log
        assert not [name for name, key in KEYS.items() if key in log]
        assert not re.search(r"\b0-[\w-]{22}\b", log), "a whole token"
        assert "request_failed" not in log


def operations(guarded: Guarded) -> list[tuple[str, str, set[str]]]:
    """Every operation of the document, its path filled in with what is not there, and who may call it."""
    found = []
    for path, methods in done(guarded.gateway.get("/openapi.json"))["paths"].items():
        for method, operation in methods.items():
            scopes = {scope for need in operation.get("security", ()) for scope in need["bearer"]}
            found.append((method.upper(), re.sub(r"{\w+}", "none", path), scopes or set(SCOPES)))
    return found


def test_each_scope_against_each_route(guarded: Guarded) -> None:
    """What each route takes is proved by tests/unit/test_scopes.py; here that it is so, and said in the document."""
    tried = operations(guarded)
    assert len(tried) > 35
    for method, path, scopes in tried:
        for scope in SCOPES:
            answer = guarded.by(scope, method, path)
            call = (method, path, scope, answer.status, answer.body[:200])
            if path.startswith("/inventory/v1/webhooks"):
                assert answer.status == 404, call
            elif scope in scopes:
                assert answer.status not in (401, 403, 500), call
            elif scope == "nobody":
                refused(answer, 401, "unauthenticated")
                assert answer.headers["www-authenticate"] == "Bearer", call
            else:
                refused(answer, 403, "forbidden")


def test_what_is_anothers_looks_missing_on_every_verb(guarded: Guarded) -> None:
    sku = guarded.stock()
    held = {owner: guarded.reserve(owner, sku) for owner in ("agent", "bound")}
    sold = {owner: guarded.reserve(owner, sku) for owner in ("agent", "bound")}
    for owner, reservation in sold.items():
        done(guarded.by(owner, "POST", f"reservations/{reservation['token']}/commit"))
    before = guarded.entries(sku)
    missing = Token(f"0-{'A' * 22}")
    for intruders, owned in ((("rival", "bound rival", "webhook", "nobody"), (held, sold)),):
        for intruder in intruders:
            for reservation in [each for group in owned for each in group.values()]:
                for method, verb in [("GET", ""), ("DELETE", ""), *(("POST", f"/{verb}") for verb in VERBS)]:
                    body = VERBS.get(verb[1:], NOTHING)
                    found = guarded.by(intruder, method, f"reservations/{reservation['token']}{verb}", body)
                    nothing = guarded.by(intruder, method, f"reservations/{missing}{verb}", body)
                    says = (found.status, {**found.json, "instance": ""})
                    assert says == (nothing.status, {**nothing.json, "instance": ""})
                    assert found.status in ((404,) if "rival" in intruder else (401, 403))
    assert guarded.entries(sku) == before
    # The bound key's hold came in the name of its agent, the unbound one's too: who is bound to the agent owns both.
    for method, verb, value in (("POST", "/extend", VERBS["extend"]), ("GET", "", NOTHING), ("DELETE", "", NOTHING)):
        for owner in ("agent", "bound"):
            done(guarded.by(owner, method, f"reservations/{held[owner]['token']}{verb}", value))
    done(guarded.by("operator", "POST", f"reservations/{sold['agent']['token']}/cancel"))
    done(guarded.by("reader", "GET", f"reservations/{sold['agent']['token']}"))
    refused(guarded.by("reader", "DELETE", f"reservations/{sold['bound']['token']}"), 403, "forbidden")


def test_a_bound_key_names_its_agent(guarded: Guarded) -> None:
    sku = guarded.stock()
    body = {"sku": sku, "agent_id": "agent-8"}
    refused(guarded.by("bound", "POST", "reservations", body), 403, "agent_mismatch")
    refused(guarded.by("bound", "GET", "reservations?agent_id=agent-8"), 403, "agent_mismatch")
    assert done(guarded.by("bound", "GET", "reservations?agent_id=agent-7&limit=1"))
    assert guarded.entries(sku)[1:] == []


def test_lists_have_what_is_the_callers(guarded: Guarded) -> None:
    sku = guarded.stock()
    of_agent = guarded.reserve("agent", sku, "agent-8")["token"]
    of_rival = guarded.reserve("rival", sku, "agent-8")["token"]
    of_bound = guarded.reserve("bound", sku)["token"]
    guarded.home.await_archive()
    expected = {
        "agent": [of_agent],
        "rival": [of_rival],
        "bound": [of_bound],
        "bound rival": [of_rival, of_agent],
        "reader": [of_bound, of_rival, of_agent],
        "operator": [of_bound, of_rival, of_agent],
    }
    for name, tokens in expected.items():
        found = done(guarded.by(name, "GET", f"reservations?sku={sku}"))["items"]
        assert [each["token"] for each in found] == tokens, name
    assert [entry["data"].get("holder") for entry in guarded.entries(sku)] == [None, "agent", "rival", "bound"]


def test_what_the_archive_remembers_is_the_callers_too(guarded: Guarded) -> None:
    reservation = guarded.reserve("agent", guarded.stock())
    at = f"reservations/{reservation['token']}"
    done(guarded.by("agent", "DELETE", at))
    guarded.home.await_archive()
    guarded.home.is_damaged_on_purpose = True
    with guarded.home.client() as client:
        client.delete(Keyspace(1).partitions[0].reservation(Token(reservation["token"])))
    for name in ("rival", "bound rival"):
        refused(guarded.by(name, "GET", at), 404, "reservation_not_found")
        refused(guarded.by(name, "DELETE", at), 404, "reservation_not_found")
        refused(guarded.by(name, "POST", f"{at}/commit"), 404, "reservation_not_found")
    for name in ("agent", "bound", "operator"):
        assert done(guarded.by(name, "GET", at))["status"] == "released"
        assert done(guarded.by(name, "POST", f"{at}/release"))["status"] == "released"


def test_an_idempotency_key_counts_for_its_holder(guarded: Guarded) -> None:
    sku, key = guarded.stock(), secrets.token_hex(8)
    tokens = {guarded.reserve(name, sku, idempotency_key=key)["token"] for name in ("agent", "rival", "agent", "bound")}
    assert len(tokens) == 3


def test_webhooks_need_a_signature_and_no_key(guarded: Guarded) -> None:
    sku = guarded.stock()
    assert done(deliver(guarded.gateway, "wms", said("receive", (sku, 1))))["status"] == "applied"
    answer = guarded.by("operator", "POST", "webhooks/wms", {"type": "receive"})
    refused(answer, 401, "webhook_signature_invalid")


BAD_HEADS = {
    "several": lambda key: b"Authorization: Bearer " + key + b"\r\nAuthorization: Bearer " + key + b"\r\n",
    "non-ASCII": lambda key: b"Authorization: Bearer \xc3\xa9\xff" + key + b"\r\n",
    "huge": lambda key: b"Authorization: Bearer " + key + b"x" * 60_000 + b"\r\n",
    "another scheme": lambda key: b"Authorization: Basic " + key + b"\r\n",
    "newline escape": lambda key: b"Authorization: Bearer %0d%0a" + key + b"\r\n",
    "in the query": lambda key: b"X-Api-Key: " + key + b"\r\n",
}


@pytest.mark.parametrize("head", BAD_HEADS.values(), ids=BAD_HEADS)
def test_heads_that_show_no_good_key(guarded: Guarded, head: Any) -> None:
    wire = b"GET /inventory/v1/skus?%b HTTP/1.1\r\nHost: lastunit\r\n" % KEYS["reader"].encode()
    with socket.create_connection(guarded.gateway.peer, TIMEOUT_SECONDS) as connection:
        connection.sendall(wire + head(KEYS["reader"].encode()) + b"\r\n")
        refused(receive(connection), 401, "unauthenticated")


def test_the_scheme_is_read_in_any_case(guarded: Guarded) -> None:
    assert done(guarded.gateway.get("skus", authorization=f"bEARER {KEYS['reader']}"))


def test_guessing_finds_nothing_and_leaves_nothing(guarded: Guarded) -> None:
    for _ in range(200):
        refused(
            guarded.gateway.get("skus", authorization=f"Bearer lu_{secrets.token_urlsafe(32)}"), 401, "unauthenticated"
        )
    counted = guarded.by("reader", "GET", "/metrics").body.decode()
    assert int(float(re.findall(r'lastunit_refusals_total{code="unauthenticated"} (\S+)', counted)[0])) >= 200


def test_headers_of_every_answer(guarded: Guarded) -> None:
    for path in ("skus", "nothing/here", "reservations/none"):
        assert guarded.by("operator", "GET", path).headers["cache-control"] == "no-store"
    for path in ("/docs", "/problems/forbidden", "/nothing"):
        answer = guarded.by("nobody", "GET", path)
        assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"
    no_http = guarded.gateway.write(b"GET / NONSENSE\r\n\r\n")
    assert (no_http.status, no_http.headers["x-content-type-options"]) == (400, "nosniff")


def test_keys_change_while_it_serves(guarded: Guarded) -> None:
    key = secrets.token_urlsafe(32)

    def status() -> int:
        return guarded.gateway.get("skus", authorization=f"Bearer {key}").status

    assert status() == 401
    write_keys(guarded.path, *guarded.rows, key_row(key, "late", "reader"))
    eventually(lambda: status() == 200, seconds_max=5)
    guarded.path.write_text('{"keys": [')
    eventually(lambda: b'lastunit_access_file_valid{file="keys.json"} 0' in _metrics(guarded), seconds_max=5)
    assert status() == 200, "what was good stays good"
    write_keys(guarded.path, *guarded.rows)
    eventually(lambda: status() == 401, seconds_max=5)
    assert done(guarded.by("reader", "GET", "skus"))


def _metrics(guarded: Guarded) -> bytes:
    text = guarded.by("reader", "GET", "/metrics").body
    return re.sub(rb" 0\.0\n", b" 0\n", text)
