"""Bearer JWTs of an identity provider, verified by the keys that it publishes (JWKS, RFC 7517).

What a token says of its algorithm decides nothing: a key has one algorithm, RS256 or ES256, and verifies by that.
`iss`, `aud`, `exp` and `sub` are required. Of the scopes those count that mean something here.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import jwt
import msgspec
import structlog

from app.access.files import BYTES_MAX, Unusable, WatchedFile
from app.access.keys import TOKEN_HOLDER
from app.domain.callers import AGENT, NOBODY, OPERATOR, READER, WEBHOOK, Caller
from app.domain.ids import normalized_id
from app.observability import metrics

TOKEN_BYTES_MAX = 8 * 1024
TOKENS_KEPT_MAX = 1000
FETCH_SECONDS_MAX = 5.0
# How often the keys are asked for: of their own accord; and at most, for tokens signed with a key that is not known.
REFRESH_SECONDS = 300.0
REFRESH_SECONDS_MIN = 10.0
# What the library lets through of a token that is none: numbers beyond all bounds, JSON without end.
GARBAGE = (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError)
OPTIONS: Any = {
    "require": ["iss", "aud", "exp", "sub"],
    "verify_iat": False,  # when it was issued decides nothing, and the clocks may differ
    "enforce_minimum_key_length": True,
}

log = structlog.get_logger()
KeySet = Mapping[str | None, jwt.PyJWK]  # by kid; where there is one key only, under None too
Fetch = Callable[[], Awaitable[bytes]]


class PublishedKeys:
    """The keys at an https URL. While they cannot be had those had before go on, at the very start none."""

    def __init__(self, fetch: Fetch) -> None:
        self.content: KeySet = {}
        self._fetch = fetch
        self._asked_at = -REFRESH_SECONDS
        self._is_asking = asyncio.Lock()

    async def watch(self) -> None:
        """Asks now and then, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(REFRESH_SECONDS if self.content else REFRESH_SECONDS_MIN)

    async def look(self) -> None:
        """Asks, unless somebody has just done so."""
        async with self._is_asking:
            if time.monotonic() - self._asked_at < REFRESH_SECONDS_MIN:
                return
            try:
                self.content = parse_key_set(await self._fetch())
                metrics.access_file_valid.labels("jwks").set(1)
            except (Unusable, httpx.HTTPError, TimeoutError) as error:
                metrics.access_file_valid.labels("jwks").set(0)
                log.error("jwks_unavailable", reason=str(error) or type(error).__name__)  # noqa: TRY400 - says all
            self._asked_at = time.monotonic()


class Tokens:
    """Tells whose a token is; one that was found good is so until it ends, or the keys change."""

    def __init__(self, keys: PublishedKeys | WatchedFile[KeySet], *, issuer: str, audience: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._good: dict[bytes, tuple[float, Caller]] = {}
        self._good_by: KeySet = {}

    async def caller_of(self, shown: bytes) -> Caller:
        """NOBODY's where the token is not good."""
        if self._good_by is not self._keys.content:
            self._good, self._good_by = {}, self._keys.content
        if found := self._good.get(shown):
            expires_at, caller = found
            return caller if time.time() < expires_at else NOBODY
        if len(shown) > TOKEN_BYTES_MAX:
            return NOBODY
        try:
            kid = jwt.get_unverified_header(shown).get("kid")
            if kid not in self._keys.content and isinstance(self._keys, PublishedKeys):
                await self._keys.look()
            key = self._keys.content[kid]
            claims = jwt.decode(shown, key, issuer=self._issuer, audience=self._audience, options=OPTIONS)
            caller = _caller(claims)
        except (*GARBAGE, KeyError):
            return NOBODY
        if self._good_by is self._keys.content:
            if len(self._good) >= TOKENS_KEPT_MAX:
                self._good.clear()
            self._good[shown] = float(claims["exp"]), caller
        return caller


def parse_key_set(raw: bytes) -> KeySet:
    """The keys that verify RS256 or ES256; raises Unusable where there is none."""
    try:
        rows = msgspec.json.decode(raw, type=dict[str, Any])["keys"]
        keys = {row.get("kid"): key for row in rows if (key := _key_of(row))}
    except (ValueError, KeyError, AttributeError, TypeError):  # whose words may quote it
        raise Unusable("is no JSON Web Key Set") from None
    if not keys:
        raise Unusable("keys: has no public key for RS256 or ES256")
    return keys | {None: next(iter(keys.values()))} if len(keys) == 1 else keys


def _key_of(row: Mapping[str, Any]) -> jwt.PyJWK | None:
    algorithm = {"RSA": "RS256", "EC": "ES256"}.get(row["kty"])
    is_other = row.get("alg", algorithm) != algorithm or row.get("use", "sig") != "sig"
    if algorithm is None or is_other or "d" in row or row.get("crv", "P-256") != "P-256":
        return None
    with contextlib.suppress(jwt.PyJWTError):
        return jwt.PyJWK(dict(row), algorithm)
    return None


def _caller(claims: Mapping[str, Any]) -> Caller:
    """Raises ValueError or TypeError where a claim is not as it must be."""
    holder, named, agent_id = (_text(claims.get(name)) for name in ("sub", "scope", "agent_id"))
    scopes = frozenset(scope for scope in (named or "").split(" ") if _is_known(scope))
    agent_id = None if agent_id is None else normalized_id(agent_id)
    return Caller(TOKEN_HOLDER + normalized_id(holder or ""), scopes, agent_id)


def _text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError("a claim is no text")
    return value


def _is_known(scope: str) -> bool:
    return scope in (AGENT, READER, OPERATOR) or scope.startswith(WEBHOOK)


def fetch_from(url: str, transport: httpx.AsyncBaseTransport | None = None) -> Fetch:
    """Gets what stands at a URL, within FETCH_SECONDS_MAX and BYTES_MAX; no redirect is followed."""

    async def fetch() -> bytes:
        body = b""
        async with (
            asyncio.timeout(FETCH_SECONDS_MAX),
            httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False) as client,
            client.stream("GET", url, headers={"accept": "application/json", "accept-encoding": "identity"}) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise Unusable(f"is answered with {answer.status_code}")
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > BYTES_MAX:
                    raise Unusable(f"has over {BYTES_MAX} bytes")
        return body

    return fetch
