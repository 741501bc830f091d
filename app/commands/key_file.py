"""Changes the file of keys: one at a time under a lock, whole or not at all, and with all else in it as it stood."""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.access.files import Unusable
from app.access.keys import parse_key_file
from app.domain.errors import CommandRefused
from app.domain.times import EPOCH, MICROSECOND, parse_time
from app.settings import Settings

KEY_PREFIX = "lu_"  # by which searches for leaked secrets know it
KEY_BYTES = 32
SHOWN_DIGITS = 8

Rows = list[dict[str, Any]]


def create_key(
    settings: Settings,
    key_id: str,
    scopes: list[str],
    *,
    agent_id: str | None,
    expires_at: str | None,
    may_renew: bool,
) -> str:
    """A new key, whose hash the file has now. One that renews another is as that one is, where nothing else is said.

    Raises CommandRefused.
    """
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    with _changing(_path_of(settings)) as rows:
        earlier = next((row for row in rows if row["id"] == key_id), None)
        if earlier is not None and not may_renew:
            raise CommandRefused(f"{key_id} has a key: add --renew for a second one, or revoke it first")
        if earlier is not None:
            scopes, agent_id = scopes or earlier["scopes"], agent_id or earlier.get("agent_id")
        if not scopes:
            raise CommandRefused("the key needs a scope: add --scope agent, reader or operator")
        said = {"id": key_id, "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": scopes}
        said |= {name: text for name, text in (("agent_id", agent_id), ("expires_at", expires_at)) if text}
        rows.append(said)
    return key


def list_keys(settings: Settings) -> Iterator[str]:
    """A line for each key, in the file's order."""
    now_us = (datetime.now(UTC) - EPOCH) // MICROSECOND
    for row in _read(_path_of(settings)):
        words = [row["id"], row["sha256"][:SHOWN_DIGITS], ",".join(row["scopes"])]
        if row.get("agent_id"):
            words.append(f"agent {row['agent_id']}")
        if until := row.get("expires_at"):
            words.append(f"{'until' if parse_time(until) > now_us else 'expired'} {until}")
        yield "  ".join(words)


def revoke_keys(settings: Settings, key_id: str, digits: str) -> str:
    """Takes out the keys of an id whose hashes begin so; returns a sentence. Raises CommandRefused."""
    with _changing(_path_of(settings)) as rows:
        kept = [row for row in rows if row["id"] != key_id or not row["sha256"].startswith(digits.lower())]
        count = len(rows) - len(kept)
        if not count:
            raise CommandRefused(f"there is no such key of {key_id}: lastunit keys list names them")
        rows[:] = kept
    return f"Revoked {count} key{'s' if count > 1 else ''} of {key_id}."


def _path_of(settings: Settings) -> Path:
    if settings.api_keys_file is None:
        raise CommandRefused("there is no file of keys: set api_keys_file, or give --file")
    return settings.api_keys_file.resolve()  # a link is not replaced by what it points at


def _read(path: Path) -> Rows:
    """The rows as they stand there, which are as they must be; none where there is no file."""
    if not path.exists():
        return []
    try:
        raw = path.read_bytes()
        parse_key_file(raw)
    except (OSError, Unusable) as error:
        raise CommandRefused(f"{path}: {error}") from None
    rows: Rows = json.loads(raw)["keys"]
    return rows


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[Rows]:
    """The rows, to be changed; then written. Nothing is where it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = _read(path)
        yield rows
        content = (json.dumps({"keys": rows}, indent=2, ensure_ascii=False) + "\n").encode()
        try:
            parse_key_file(content)
        except Unusable as error:
            raise CommandRefused(str(error)) from None
        _replace(path, content)


def _replace(path: Path, content: bytes) -> None:
    """Puts content in place of the file, for its owner's eyes only; a crash leaves the one or the other."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
