"""Tokens of an identity provider: what proves who calls, and all that does not."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.access.files import Unusable, WatchedFile
from app.access.gate import make_gate
from app.access.jwt import PublishedKeys, Tokens, fetch_from, parse_key_set
from app.domain.callers import NOBODY, Caller
from app.domain.errors import StartupError

ISSUER, AUDIENCE = "https://id.example", "lastunit"
RSA, OTHER_RSA = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
SMALL_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - refused for that
EC = ec.generate_private_key(ec.SECP256R1())
PUBLIC_PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(key: Any, kid: str, **more: str) -> dict[str, Any]:
    kind = (
        jwt.algorithms.RSAAlgorithm
        if hasattr(key, "private_numbers") and not _is_ec(key)
        else jwt.algorithms.ECAlgorithm
    )
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid, **more}


def _is_ec(key: Any) -> bool:
    return isinstance(key, ec.EllipticCurvePrivateKey)


KEYS = json.dumps({"keys": [jwk(RSA, "r", alg="RS256"), jwk(EC, "e", use="sig")]}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    said = {"iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 60, "sub": "bots", "scope": "openid agent", **changes}
    return {name: value for name, value in said.items() if value is not None}


def token(
    said: dict[str, Any] | None = None, *, key: Any = RSA, algorithm: str = "RS256", kid: str | None = "r"
) -> str:
    return jwt.encode(claims() if said is None else said, key, algorithm, {} if kid is None else {"kid": kid})


def by_hand(header: dict[str, Any], said: Any, signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), said if isinstance(said, bytes) else json.dumps(said).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def hs256(said: dict[str, Any], secret: bytes) -> str:
    """As no library signs it any more: with a public key for a secret."""
    import hmac  # noqa: PLC0415 - here alone

    head = by_hand({"alg": "HS256", "typ": "JWT", "kid": "r"}, said).rpartition(".")[0]
    return head + "." + base64.urlsafe_b64encode(hmac.digest(secret, head.encode(), "sha256")).rstrip(b"=").decode()


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    path = tmp_path / "jwks.json"
    path.write_bytes(KEYS)
    return Tokens(WatchedFile(path, parse_key_set), issuer=ISSUER, audience=AUDIENCE)


async def test_good_tokens(tokens: Tokens) -> None:
    assert await tokens.caller_of(token().encode()) == Caller("jwt:bots", frozenset({"agent"}))
    bound = claims(agent_id="a7", scope="reader webhook:amazon", aud=["other", AUDIENCE])
    by_curve = token(bound, key=EC, algorithm="ES256", kid="e").encode()
    expected = Caller("jwt:bots", frozenset({"reader", "webhook:amazon"}), "a7")
    assert await tokens.caller_of(by_curve) == expected
    assert await tokens.caller_of(by_curve) == expected, "as it is remembered"
    assert (await tokens.caller_of(token(claims(scope=None)).encode())).scopes == frozenset()


BAD: dict[str, Callable[[], str]] = {
    "alg none": lambda: by_hand({"alg": "none", "kid": "r"}, claims()),
    "alg None, cased": lambda: by_hand({"alg": "nOnE", "kid": "r"}, claims()),
    "HS256 by the public key": lambda: hs256(claims(), PUBLIC_PEM),
    "HS256 by the key set": lambda: hs256(claims(), KEYS),
    "another key under its name": lambda: token(key=OTHER_RSA),
    "RS256 under the curve's name": lambda: token(kid="e"),
    "ES256 under the RSA key's name": lambda: token(key=EC, algorithm="ES256"),
    "RS512": lambda: token(algorithm="RS512"),
    "PS256": lambda: token(algorithm="PS256"),
    "unknown kid": lambda: token(kid="x"),
    "no kid, of two keys": lambda: token(kid=None),
    "expired": lambda: token(claims(exp=time.time() - 1)),
    "not yet": lambda: token(claims(nbf=time.time() + 60)),
    "another issuer": lambda: token(claims(iss=ISSUER + "/")),
    "another audience": lambda: token(claims(aud="lastunit2")),
    "no iss": lambda: token(claims(iss=None)),
    "no aud": lambda: token(claims(aud=None)),
    "no exp": lambda: token(claims(exp=None)),
    "no sub": lambda: token(claims(sub=None)),
    "exp is no number": lambda: token(claims(exp="soon")),
    "sub has a newline": lambda: token(claims(sub="a\nb")),
    "sub is empty": lambda: token(claims(sub="")),
    "scope is a list": lambda: token(claims(scope=["operator"])),
    "agent_id is a number": lambda: token(claims(agent_id=7)),
    "agent_id is empty": lambda: token(claims(agent_id="")),
    "swapped claims": lambda: ".".join(
        (token().split(".")[0], token(claims(scope="operator")).split(".")[1], token().split(".")[2])
    ),
    "no signature": lambda: token().rpartition(".")[0] + ".",
    "crit": lambda: jwt.encode(claims(), RSA, "RS256", {"kid": "r", "crit": ["b64"], "b64": False}),
    "kid is a list": lambda: by_hand({"alg": "RS256", "kid": ["r"]}, claims()),
    "own key in the head": lambda: jwt.encode(claims(), OTHER_RSA, "RS256", {"jwk": jwk(OTHER_RSA, "r"), "kid": "r"}),
    "deep head": lambda: ".".join((base64.urlsafe_b64encode(b"[" * 4000).decode().rstrip("="), "e30", "e30")),
    "dots": lambda: "..",
    "no base64": lambda: "ä.%.",
    "too long": lambda: token(claims(more="x" * 9000)),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_what_proves_nothing(tokens: Tokens, bad: Callable[[], str]) -> None:
    assert await tokens.caller_of(bad().encode()) is NOBODY


async def test_a_token_that_is_remembered_ends_all_the_same(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = token(claims(exp=int(time.time()) + 100)).encode()
    assert (await tokens.caller_of(shown)).holder == "jwt:bots"
    monkeypatch.setattr("app.access.jwt.time.time", lambda: 4e9)
    assert await tokens.caller_of(shown) is NOBODY


def test_of_a_key_set_counts_what_verifies() -> None:
    rows = [
        jwk(SMALL_RSA, "small"),
        jwk(RSA, "encrypts", use="enc"),
        jwk(RSA, "pss", alg="PS256"),
        jwk(ec.generate_private_key(ec.SECP384R1()), "p384"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "symmetric"},
        {"kty": "RSA", "n": "%", "e": "AQAB", "kid": "broken"},
        jwk(RSA, "good"),
    ]
    assert {"good"} <= {*parse_key_set(json.dumps({"keys": rows}).encode())} <= {"good", "small", None}
    for raw in (
        b"",
        b"[]",
        b"{}",
        b'{"keys": []}',
        b'{"keys": [1]}',
        b'{"keys": {}}',
        json.dumps({"keys": rows[1:-1]}).encode(),
    ):
        with pytest.raises(Unusable):
            parse_key_set(raw)


async def test_a_small_key_verifies_nothing(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [jwk(SMALL_RSA, "s")]}))
    tokens = Tokens(WatchedFile(path, parse_key_set), issuer=ISSUER, audience=AUDIENCE)
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        shown = token(key=SMALL_RSA, kid="s")
    assert await tokens.caller_of(shown.encode()) is NOBODY


class Provider:
    """An identity provider behind a transport; counts how often it is asked."""

    def __init__(self) -> None:
        self.status, self.content, self.asked = 200, KEYS, 0
        self.keys = PublishedKeys(fetch_from("https://id.example/jwks", httpx.MockTransport(self._respond)))
        self.tokens = Tokens(self.keys, issuer=ISSUER, audience=AUDIENCE)

    def _respond(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        assert str(request.url) == "https://id.example/jwks", "no redirect is followed"
        headers = {"location": "https://elsewhere.example"}
        return httpx.Response(self.status, stream=httpx.ByteStream(self.content), headers=headers)


async def test_keys_are_fetched_for_a_token_and_not_for_every_bad_one(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider()
    callers = await asyncio.gather(*(provider.tokens.caller_of(token().encode()) for _ in range(20)))
    assert {caller.holder for caller in callers} == {"jwt:bots"}
    for _ in range(20):
        assert await provider.tokens.caller_of(token(kid="unknown").encode()) is NOBODY
    assert provider.asked == 1
    provider.content = json.dumps({"keys": [jwk(OTHER_RSA, "new")]}).encode()
    monkeypatch.setattr("app.access.jwt.REFRESH_SECONDS_MIN", 0)
    assert (await provider.tokens.caller_of(token(key=OTHER_RSA, kid="new").encode())).holder == "jwt:bots"
    assert await provider.tokens.caller_of(token().encode()) is NOBODY, "the provider has taken its key back"


@pytest.mark.parametrize(
    ("status", "content"),
    [(302, b""), (500, KEYS), (200, b"<html>"), (200, KEYS + b" " * 2**20)],
    ids=["redirect", "error", "page", "large"],
)
async def test_an_answer_of_no_use_changes_nothing(
    status: int, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = Provider()
    assert await provider.tokens.caller_of(token().encode()) is not NOBODY
    monkeypatch.setattr("app.access.jwt.REFRESH_SECONDS_MIN", 0)
    provider.status, provider.content = status, content
    await provider.keys.look()
    assert provider.asked == 2
    assert await provider.tokens.caller_of(token().encode()) is not NOBODY


def test_a_bad_key_set_in_a_file_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text("{}")
    with pytest.raises(StartupError, match="is no JSON Web Key Set"):
        make_gate(keys_file=None, jwks=str(path), issuer=ISSUER, audience=AUDIENCE)
