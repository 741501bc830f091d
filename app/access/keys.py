"""API keys: a file of their hashes, which service and `lastunit keys` read by the same rules.

    {"keys": [{"id": "shop", "sha256": "<64 hex digits>", "scopes": ["agent"], "agent_id": "...", "expires_at": "..."}]}

An id may stand there twice, while its key is renewed: both keys are good then, and their holder is one.
"""

import hashlib
import hmac
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import jiter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from app.access.files import Unusable
from app.domain.callers import NOBODY, Caller
from app.domain.ids import normalized_id
from app.domain.times import parse_time

KEYS_MAX = 10_000
KEY_BYTES_MAX = 512
MICROSECONDS = 1_000_000
TOKEN_HOLDER = "jwt:"  # noqa: S105 - before the holder of a token, which no key's id may look like

Keys = Mapping[bytes, "Key"]


@dataclass(frozen=True, slots=True)
class Key:
    """A key that was given out: its SHA-256, whose it is, and until when (seconds since 1970) it is good."""

    digest: bytes
    caller: Caller
    expires_at: float


def _key_id(text: str) -> str:
    if text.startswith(TOKEN_HOLDER):
        raise ValueError(f"must not begin with {TOKEN_HOLDER}")
    return normalized_id(text)


def _time(text: str) -> str:
    parse_time(text)
    return text


Scope = Annotated[str, Field(pattern=r"^(agent|reader|operator|webhook:[^\x00-\x20]{1,128})$")]


class KeyRow(BaseModel):
    """A key as the file has it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: Annotated[str, AfterValidator(_key_id)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=100)]
    agent_id: Annotated[str, AfterValidator(normalized_id)] | None = None
    expires_at: Annotated[str, AfterValidator(_time)] | None = None

    @property
    def key(self) -> Key:
        """The same, as callers are looked up by."""
        expires_at = math.inf if self.expires_at is None else parse_time(self.expires_at) / MICROSECONDS
        return Key(bytes.fromhex(self.sha256), Caller(self.id, frozenset(self.scopes), self.agent_id), expires_at)


class KeyFile(BaseModel):
    """All of the file."""

    model_config = ConfigDict(strict=True, extra="forbid")

    keys: Annotated[list[KeyRow], Field(max_length=KEYS_MAX)]


def parse_key_file(raw: bytes) -> KeyFile:
    """What the file says; raises Unusable."""
    try:
        file = KeyFile.model_validate(jiter.from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True))
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the file"
        raise Unusable(f"{where}: {problem['msg'].removeprefix('Value error, ').rstrip('.')}") from None
    except ValueError:  # whose words may quote the file
        raise Unusable("is not one JSON value, or has a name twice in an object") from None
    seen: set[str] = set()
    for number, row in enumerate(file.keys):
        if row.sha256 in seen:
            raise Unusable(f"keys.{number}.sha256: stands there twice")
        seen.add(row.sha256)
    return file


def parse_keys(raw: bytes) -> Keys:
    """The keys by digest; raises Unusable."""
    return {key.digest: key for key in (row.key for row in parse_key_file(raw).keys)}


def digest_of(key: bytes) -> bytes:
    """What of a key is kept. It is long and random, so that a plain hash gives nothing away."""
    return hashlib.sha256(key).digest()


def caller_of(keys: Keys, shown: bytes) -> Caller:
    """Whose key was shown; NOBODY's where there is none like it, or no longer.

    It is looked up by its digest: how long that takes tells at most of digests, from which no key follows.
    """
    if len(shown) > KEY_BYTES_MAX:
        return NOBODY
    digest = digest_of(shown)
    key = keys.get(digest)
    if key is None or not hmac.compare_digest(key.digest, digest) or key.expires_at <= time.time():
        return NOBODY
    return key.caller
