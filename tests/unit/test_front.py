"""What the front does before anything is routed or read: rates, headers, the address that may be served, the log."""

import io
import json
import logging
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog

from app.api.front import Front
from app.domain.errors import StartupError
from app.main import create_app
from app.observability.logging import configure_logging
from app.settings import load_settings
from app.workflows import serving
from tests.keys import key_row, write_keys

KEYS = {name: secrets.token_urlsafe(32) for name in ("shop", "bots")}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    write_keys(path, *(key_row(key, name) for name, key in KEYS.items()))
    return path


def client(front: Front) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://lastunit")


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name]}"}


async def test_a_key_that_calls_too_often_waits(keys_file: Path) -> None:
    async with client(create_app(load_settings({"api_keys_file": keys_file, "rate_limit": "3/minute"}))) as ask:
        for remaining in (2, 1, 0):
            answer = await ask.get("/livez", headers=bearer("shop"))
            assert answer.status_code == 200
            assert answer.headers["ratelimit-policy"] == '"default";q=3;w=60'
            assert answer.headers["ratelimit"].startswith(f'"default";r={remaining};t=')
        answer = await ask.post("/inventory/v1/reservations", content=b"{" * 100_000, headers=bearer("shop"))
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited"), "before anything is read"
        assert answer.headers["retry-after"] == "20"
        assert answer.headers["ratelimit"] == '"default";r=0;t=20'
        assert (await ask.get("/livez", headers=bearer("bots"))).status_code == 200
        for _ in range(9):
            assert "ratelimit" not in (await ask.get("/livez")).headers, "who shows no key has no rate"


async def test_without_keys_there_is_no_rate() -> None:
    async with client(create_app(load_settings({"rate_limit": "1/minute"}))) as ask:
        assert [(await ask.get("/livez")).status_code for _ in range(5)] == [200] * 5


@pytest.mark.parametrize("rate", ["0/second", "1/hour", "-1/second", "1.5/second", "1 / second", "99999999/second"])
def test_rates_that_are_none(rate: str) -> None:
    with pytest.raises(StartupError, match="rate-limit"):
        load_settings({"rate_limit": rate})


@pytest.mark.parametrize(
    "given",
    [
        {"jwt_jwks": "keys.json"},
        {"jwt_jwks": "keys.json", "jwt_issuer": "i"},
        {"jwt_issuer": "i", "jwt_audience": "a"},
        {"jwt_jwks": "http://id.example", "jwt_issuer": "i", "jwt_audience": "a"},
        {"jwt_jwks": "file:///keys.json", "jwt_issuer": "i", "jwt_audience": "a"},
    ],
)
def test_settings_of_tokens_that_cannot_be(given: dict[str, str]) -> None:
    with pytest.raises(StartupError, match="jwt_"):
        load_settings(given)


class Listened(Exception):
    """It went as far as to listen."""


@pytest.mark.parametrize(
    ("host", "has_keys", "expected"),
    [
        ("127.0.0.1", False, Listened),
        ("::1", False, Listened),
        ("localhost", False, Listened),
        ("192.0.2.1", True, Listened),
        ("0.0.0.0", True, Listened),  # noqa: S104 - nothing listens there
        ("192.0.2.1", False, StartupError),
        ("0.0.0.0", False, StartupError),  # noqa: S104 - likewise
        ("example.org", False, StartupError),
    ],
)
def test_without_keys_it_serves_this_machine_alone(
    host: str, *, has_keys: bool, expected: type[Exception], keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listen(_: object) -> None:
        raise Listened

    monkeypatch.setattr(serving, "_listen", listen)
    for ours in ("configure_logging", "signal.signal", "os.umask"):  # this process is not the service's
        monkeypatch.setattr(f"app.workflows.serving.{ours}", lambda *_: None)
    with pytest.raises(expected):
        serving.serve(load_settings({"host": host, **({"api_keys_file": keys_file} if has_keys else {})}))


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is logged, as the service has it."""
    written, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", written)
    configure_logging("info")
    yield written
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


HOSTILE = 'a\nb\r\u2028\u2029\x85\x1b[2J{"event": "forged"}'


def test_a_newline_makes_no_second_line_of_a_log(logged: io.StringIO) -> None:
    structlog.get_logger().info("request", traceparent=HOSTILE)
    logging.getLogger("uvicorn.error").warning(HOSTILE)
    first, second = logged.getvalue().splitlines()
    assert json.loads(first)["traceparent"] == json.loads(second)["event"] == HOSTILE
    assert "\x1b" not in logged.getvalue()


async def test_a_fault_is_logged_without_the_key_that_met_it(keys_file: Path, logged: io.StringIO) -> None:
    async with client(create_app(load_settings({"api_keys_file": keys_file}))) as ask:  # without an engine
        body = {"sku": "A", "agent_id": "agent", "rationale": "s3cr3t"}
        headers = bearer("shop")
        answer = await ask.post("/inventory/v1/reservations", json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    fault, request = map(json.loads, logged.getvalue().splitlines())
    assert fault["exception"][0]["frames"]
    assert request["holder"] == "shop"
    for secret in (KEYS["shop"], "Bearer", "s3cr3t"):
        assert secret not in logged.getvalue()
