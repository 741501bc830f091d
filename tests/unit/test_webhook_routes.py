"""Webhooks before anything is asked of the engine."""

import httpx

from app.main import create_app
from app.settings import load_settings
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
