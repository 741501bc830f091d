"""The gate: from what a request's head shows to who calls."""

from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from app.access.files import WatchedFile
from app.access.keys import Keys, caller_of, parse_keys
from app.domain.callers import NOBODY, Caller
from app.domain.errors import StartupError

BEARER = b"bearer"

Headers = Iterable[tuple[bytes, bytes]]


class TokenReader(Protocol):
    """Tells whose a token is."""

    async def caller_of(self, shown: bytes) -> Caller: ...


class Gate:
    """Keys of a file, tokens of an identity provider, or both. `watchers` keep them as they are outside."""

    def __init__(
        self,
        keys: WatchedFile[Keys] | None,
        tokens: TokenReader | None,
        watchers: Iterable[Callable[[], Coroutine[Any, Any, None]]],
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._watchers = tuple(watchers)

    def watch(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What is to run while the gate is used."""
        for watch in self._watchers:
            yield watch()

    async def caller_of(self, headers: Headers) -> Caller:
        """Who calls; NOBODY where nothing good is shown, or several things are."""
        shown = [value for name, value in headers if name == b"authorization"]
        if len(shown) != 1:
            return NOBODY
        scheme, _, credential = shown[0].partition(b" ")
        if scheme.lower() != BEARER:
            return NOBODY
        credential = credential.strip(b" ")
        caller = NOBODY if self._keys is None else caller_of(self._keys.content, credential)
        if caller is NOBODY and self._tokens is not None and credential.count(b".") == 2:  # noqa: PLR2004 - three parts
            caller = await self._tokens.caller_of(credential)
        return caller


def make_gate(*, keys_file: Path | None, jwks: str | None, issuer: str | None, audience: str | None) -> Gate | None:
    """None where nothing is set, and so everybody may come in; raises StartupError."""
    if keys_file is None and jwks is None:
        return None
    keys = None if keys_file is None else WatchedFile(keys_file, parse_keys)
    watchers = [] if keys is None else [keys.watch]
    tokens = None
    if jwks is not None:
        assert issuer is not None
        assert audience is not None
        try:
            from app.access import jwt  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            raise StartupError("jwt_jwks needs a library for tokens: install lastunit[jwt].") from None
        is_url = jwks.startswith("https://")
        source = jwt.PublishedKeys(jwt.fetch_from(jwks)) if is_url else WatchedFile(Path(jwks), jwt.parse_key_set)
        tokens = jwt.Tokens(source, issuer=issuer, audience=audience)
        watchers.append(source.watch)
    return Gate(keys, tokens, watchers)
