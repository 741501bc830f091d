"""Those who should not be in, of every kind at once, beside a shop with a key: it sells, and they get nothing."""

import base64
import json
import random
import re
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults.conftest import Measure
from tests.faults.proof import prove
from tests.faults.shop import ANSWER_SECONDS_MAX, Shop
from tests.faults.test_hostile_clients import connected, memory_megabytes, said, watched_memory
from tests.gateway import Answer, Gateway, done, refused
from tests.keys import key_row, write_keys
from tests.service import Home, eventually
from tests.webhooks import SOURCES, deliver
from tests.webhooks import said as told

RATE, CROWD = 500, 1500
ROUNDS_MIN, PAUSE_SECONDS = 3, 0.005
VERBS = ("", "/commit", "/release", "/extend", "/payment", "/cancel")
BODIES_BYTES, HOG_BYTES = 64 << 20, 1 << 20
GROWTH_MEGABYTES_MAX = 130
KEYS = {name: f"lu_{secrets.token_urlsafe(32)}" for name in ("shop", "intruder", "reader")}


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def guess(gateway: Gateway, shop: Shop, chance: random.Random) -> Iterator[Answer]:
    """Keys that look like one, tokens signed by nobody, a good key spoilt."""
    claims = segment({"sub": "shop", "scope": "operator", "exp": 10**10, "iss": "i", "aud": "a"})
    for shown in (
        f"lu_{secrets.token_urlsafe(32)}",
        KEYS["shop"][:-1],
        KEYS["shop"] + "=",
        segment({"alg": "none"}) + f".{claims}.",
        segment({"alg": "HS256", "kid": "../../dev/null"}) + f".{claims}.{secrets.token_urlsafe(32)}",
        "\xff\x00" * 200,
    ):
        yield gateway.get("skus", authorization=f"Bearer {shown}")


def take_anothers(gateway: Gateway, shop: Shop, chance: random.Random) -> Iterator[Answer]:
    """An agent's key that is good, with the tokens of others."""
    held = [call.acknowledged for call in list(shop.calls) if call.verb == "reserve" and call.acknowledged]
    for attempt in chance.sample(held, min(5, len(held))):
        assert attempt.answer
        at = f"reservations/{attempt.answer.json['token']}"
        for verb in VERBS:
            method = "POST" if verb else chance.choice(["GET", "DELETE"])
            body = {"additional_seconds": 1} if verb == "/extend" else {}
            yield gateway(method, at + verb, body, authorization=f"Bearer {KEYS['intruder']}")


def go_beyond(gateway: Gateway, shop: Shop, chance: random.Random) -> Iterator[Answer]:
    """What a key has no scope for."""
    for name, method, path in (
        ("intruder", "POST", "skus/sku-1/adjustments"),
        ("intruder", "GET", "ledger"),
        ("intruder", "POST", "stock/import"),
        ("reader", "POST", "reservations"),
        ("reader", "GET", "admin/dead-letters"),
    ):
        yield gateway(method, path, {"delta": -1, "reason": "mine"}, authorization=f"Bearer {KEYS[name]}")


def replay(gateway: Gateway, shop: Shop, chance: random.Random) -> Iterator[Answer]:
    """A delivery that was overheard: later, with other lines, under another id, signed by nobody."""
    body = told("receive", ("sku-1", 1000))
    yield deliver(gateway, "wms", body, age_seconds=301)
    yield deliver(gateway, "wms", body, webhook_id="another")
    yield deliver(gateway, "wms", body, webhook_signature=None)
    yield deliver(gateway, "wms", body, secret="whsec_" + base64.b64encode(secrets.token_bytes(24)).decode())


def forge_lines(gateway: Gateway, shop: Shop, chance: random.Random) -> Iterator[Answer]:
    """Words that would begin a line of their own in a log."""
    forged = '%0a{"event":"forged"}\x85{"event":"forged"}'
    yield gateway.get(f"reservations/{forged.replace(chr(34), '')}", traceparent=forged, authorization="Bearer x")
    yield gateway.get("nothing", traceparent=forged, authorization=f"Bearer {KEYS['reader']}")


def crowd(gateway: Gateway, shop: Shop, chance: random.Random) -> Iterator[Answer]:
    """A good key that calls far too often, in one breath."""
    ask = f"GET /livez HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS['intruder']}\r\n".encode()
    wire = CROWD * (ask + b"\r\n") + ask + b"Connection: close\r\n\r\n"
    with connected(gateway.peer) as connection:
        sender = threading.Thread(target=connection.sendall, args=(wire,))
        sender.start()
        heard = said(connection)
        sender.join()
    for status in re.findall(rb"HTTP/1.1 (\d{3})", heard):
        yield Answer(int(status), {}, b"")


EXPECTED: dict[Callable[..., Iterator[Answer]], set[int]] = {
    guess: {400, 401},  # 400: bytes that no header has
    take_anothers: {404},
    go_beyond: {403},
    replay: {401},
    forge_lines: {400, 401, 404},  # 400: a path that none can be
    crowd: {200, 429},
}


@contextmanager
def intruding(gateway: Gateway, shop: Shop, chance: random.Random) -> Iterator[Counter[str]]:
    """All kinds again and again, each in a thread of its own; how often each has come. They get what is expected."""
    rounds, wrong, is_over = Counter[str](), list[str](), threading.Event()

    def intrude(kind: Callable[..., Iterator[Answer]], own: random.Random) -> None:
        while not is_over.is_set():
            try:
                statuses = {answer.status for answer in kind(gateway, shop, own)}
            except Exception as error:  # noqa: BLE001 - is said in the end
                wrong.append(f"{kind.__name__}: {error!r}")
                return
            if not statuses <= EXPECTED[kind] | {429}:
                wrong.append(f"{kind.__name__}: {statuses}")
            rounds[kind.__name__] += not statuses.isdisjoint(EXPECTED[kind])
            is_over.wait(PAUSE_SECONDS)

    threads = [threading.Thread(target=intrude, args=(kind, random.Random(chance.random()))) for kind in EXPECTED]
    for thread in threads:
        thread.start()
    try:
        yield rounds
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:5]


def test_intruders_get_nothing(home: Home, measure: Measure, chance: random.Random, tmp_path: Path) -> None:
    rows = [key_row(KEYS["shop"], "shop", "operator"), key_row(KEYS["intruder"], "intruder", "agent")]
    write_keys(tmp_path / "keys.json", *rows, key_row(KEYS["reader"], "reader", "reader"))
    service = home.serve(
        api_keys_file=tmp_path / "keys.json", rate_limit=f"{RATE}/second", sources=SOURCES, log_requests=True
    )
    gateway = Gateway(service.gateway.address, bearer=KEYS["shop"])
    before = memory_megabytes(service.process.pid)
    with Shop(gateway, chance) as shop:
        with watched_memory(service.process.pid) as peak, intruding(service.gateway, shop, chance) as rounds:
            shop.advances(measure.commands, seconds_max=measure.seconds_max)
            eventually(lambda: min(rounds[kind.__name__] for kind in EXPECTED) >= ROUNDS_MIN)
        shop.advances(measure.commands // 10, seconds_max=measure.seconds_max)
    print(dict(rounds), f"{max(peak) - before:.0f} MB")
    assert max(peak) - before < GROWTH_MEGABYTES_MAX
    assert shop.answers(503) == shop.answers(500) == []
    assert shop.seconds_max < ANSWER_SECONDS_MAX
    refusals = gateway.get("/metrics").body
    for code in (b"unauthenticated", b"forbidden", b"rate_limited", b"webhook_signature_invalid"):
        assert re.search(rb'refusals_total{code="%b"} [1-9]' % code, refusals), code
    history = prove(home, shop, gateway)
    assert {entry.data.get("holder") for entry in history.entries} <= {"shop", None}
    assert all(isinstance(json.loads(line), dict) for line in home.stderr.splitlines()), "a line of a log is one"
    assert '"event": "forged"' not in home.stderr
    assert not [name for name, key in KEYS.items() if key[:-1] in home.stderr]


def test_bodies_fill_what_they_may(home: Home) -> None:
    """What has no body goes on; what has one is refused, until those who hold the room have left."""
    service = home.serve(sources=SOURCES)
    gateway, before = service.gateway, memory_megabytes(service.process.pid)
    sku = gateway.stock()
    held = gateway.reserve(sku)
    body = {"sku": sku, "agent_id": "agent", "rationale": "more bytes than there is room for".ljust(100)}
    head = b"POST /inventory/v1/webhooks/wms HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % HOG_BYTES
    with watched_memory(service.process.pid) as peak, ExitStack() as stack:
        for _ in range(BODIES_BYTES // HOG_BYTES):
            stack.enter_context(connected(gateway.peer)).sendall(head + b" " * (HOG_BYTES - 1))
        eventually(lambda: bodies_bytes(gateway) == BODIES_BYTES // HOG_BYTES * (HOG_BYTES - 1))
        for _ in range(10):
            refused(gateway.post("reservations", body), 503, "busy")
        assert gateway.availability(sku)["available_quantity"] == 9
        done(gateway("DELETE", f"reservations/{held['token']}"))
    eventually(lambda: gateway.post("reservations", body).status == 201)
    print(f"{max(peak) - before:.0f} MB")
    assert max(peak) - before < GROWTH_MEGABYTES_MAX
    assert len(gateway.entries(sku=sku)) == 4
    eventually(lambda: bodies_bytes(gateway) == 0)


def bodies_bytes(gateway: Gateway) -> float:
    (found,) = re.findall(rb"^lastunit_bodies_bytes (\S+)", gateway.get("/metrics").body, re.MULTILINE)
    return float(found)
