"""Webhooks before anything is asked of the engine."""

import secrets
from pathlib import Path

import httpx
import pytest

from app.api import webhooks
from app.api.services import Services
from app.connectors import registry
from app.connectors.connector import Authentic, Headers, Parsed
from app.ingest.intake import Receipt, ReceiptStatus
from app.main import create_app
from app.settings import load_settings
from tests.keys import key_row, write_keys
from tests.webhooks import SECRET, signed_headers

SOURCES = {
    "wms": {"secrets": [SECRET]},
    "partner": {"connector": "rest", "poll": {"url": "http://127.0.0.1:9/stock", "token": "t"}},
}
BODY = b"{}"


async def test_a_source_that_is_asked_sends_nothing() -> None:
    """Nothing here is started: what gets as far as the engine would fail otherwise than so."""
    transport = httpx.ASGITransport(create_app(load_settings({"sources": SOURCES})))
    async with httpx.AsyncClient(transport=transport, base_url="http://lastunit/inventory/v1/webhooks/") as client:
        for source, headers, status in (
            ("partner", signed_headers(BODY), 404),
            ("nobody", signed_headers(BODY), 404),
            ("wms", {}, 401),
            ("wms", signed_headers(BODY) | {"content-type": "text/plain"}, 415),
        ):
            answer = await client.post(source, content=BODY, headers=headers)
            assert answer.status_code == status, (source, answer.text)


class Unsigned:
    """A system that cannot sign: what it sends is believed."""

    is_signed = False

    def verify(self, headers: Headers, body: bytes, *, now_us: int) -> Authentic:
        return Authentic("id")

    def parse(self, headers: Headers, body: bytes) -> Parsed:
        return []


@pytest.fixture
def unsigned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tills are such a system. What is let in is ignored, without an engine."""

    async def receive(*_: object, **__: object) -> Receipt:
        return Receipt(ReceiptStatus.IGNORED, [])

    monkeypatch.setattr(webhooks, "receive", receive)
    monkeypatch.setattr(Services, "store", None)
    monkeypatch.setitem(registry.MAKERS, "pos", lambda *_: Unsigned())


@pytest.mark.usefixtures("unsigned")
@pytest.mark.parametrize(
    ("scope", "status"),
    [("webhook:pos", 200), ("operator", 200), ("webhook:wms", 403), ("webhook:po", 403), ("agent", 403), (None, 401)],
)
async def test_what_is_not_signed_takes_a_key_of_its_source(scope: str | None, status: int, tmp_path: Path) -> None:
    key, path = secrets.token_urlsafe(32), tmp_path / "keys.json"
    write_keys(path, key_row(key, "till", scope or "agent"))
    sources = {"pos": {"secrets": [SECRET]}, "wms": {"secrets": [SECRET]}}
    transport = httpx.ASGITransport(create_app(load_settings({"sources": sources, "api_keys_file": path})))
    shown = {"authorization": f"Bearer {key}"} if scope else {}
    async with httpx.AsyncClient(transport=transport, base_url="http://lastunit/inventory/v1/webhooks/") as client:
        answer = await client.post("pos", content=BODY, headers=shown)
        assert answer.status_code == status
        assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
        signed = await client.post("wms", content=BODY, headers=shown)
        assert (signed.status_code, signed.json()["code"]) == (401, "webhook_signature_invalid"), (
            "a key is no signature"
        )


@pytest.mark.usefixtures("unsigned")
async def test_without_keys_what_is_not_signed_is_anybodys() -> None:
    transport = httpx.ASGITransport(create_app(load_settings({"sources": {"pos": {"secrets": [SECRET]}}})))
    async with httpx.AsyncClient(transport=transport, base_url="http://lastunit/inventory/v1/webhooks/") as client:
        assert (await client.post("pos", content=BODY)).status_code == 200
