"""The file of keys: what is refused, what changes while it is watched, and whom the gate takes a caller for."""

import asyncio
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from app.access import files
from app.access.files import WatchedFile
from app.access.gate import Gate, make_gate
from app.access.keys import parse_keys
from app.domain.callers import AGENT, NOBODY, Caller, Claim
from app.domain.errors import StartupError
from tests.keys import key_row, write_keys

KEY = secrets.token_urlsafe(32)
HASH = hashlib.sha256(KEY.encode()).hexdigest()
GOOD: dict[str, Any] = {"id": "shop", "sha256": HASH, "scopes": ["agent"]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def gate_of(path: Path) -> Gate:
    gate = make_gate(keys_file=path, jwks=None, issuer=None, audience=None)
    assert gate is not None
    return gate


def ask(gate: Gate, *authorizations: bytes) -> Caller:
    headers = [(b"host", b"lastunit"), *((b"authorization", each) for each in authorizations), (b"accept", b"*/*")]
    return asyncio.run(gate.caller_of(headers))


def bearer(key: str) -> bytes:
    return b"Bearer " + key.encode()


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[]", "the file"),
        (b'{"keys": []}\xff', "JSON"),
        (b'{"keys": [], "keys": []}', "JSON"),
        (b'{"key": []}', "keys"),
        ({"keys": {}}, "keys"),
        ({"keys": [], "more": 1}, "more"),
        ({"keys": [{**GOOD, "key": KEY}]}, "keys.0.key"),
        ({"keys": [GOOD, {**GOOD, "sha256": KEY}]}, "keys.1.sha256"),
        ({"keys": [GOOD, GOOD]}, "keys.1.sha256"),
        ({"keys": [{**GOOD, "sha256": HASH.upper() + KEY}]}, "keys.0.sha256"),
        ({"keys": [{**GOOD, "id": ""}]}, "keys.0.id"),
        ({"keys": [{**GOOD, "id": "a\nb"}]}, "keys.0.id"),
        ({"keys": [{**GOOD, "id": "jwt:shop"}]}, "keys.0.id"),
        ({"keys": [{**GOOD, "id": 5}]}, "keys.0.id"),
        ({"keys": [{**GOOD, "scopes": []}]}, "keys.0.scopes"),
        ({"keys": [{**GOOD, "scopes": "agent"}]}, "keys.0.scopes"),
        ({"keys": [{**GOOD, "scopes": ["agent", "admin"]}]}, "keys.0.scopes.1"),
        ({"keys": [{**GOOD, "scopes": ["webhook:"]}]}, "keys.0.scopes.0"),
        ({"keys": [{**GOOD, "agent_id": " a"}]}, "keys.0.agent_id"),
        ({"keys": [{**GOOD, "expires_at": "tomorrow"}]}, "keys.0.expires_at"),
        ({"keys": [{**GOOD, "expires_at": 1}]}, "keys.0.expires_at"),
        ({"keys": [{name: GOOD[name] for name in ("id", "scopes")}]}, "keys.0.sha256"),
    ],
)
def test_a_bad_file_stops_the_start_and_names_the_field_but_no_key(path: Path, content: Any, field: str) -> None:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(StartupError) as refused:
        gate_of(path)
    said = str(refused.value)
    assert said.startswith(f"{path}: ")
    assert field in said
    assert KEY not in said
    assert HASH[:12] not in said


def test_a_file_that_is_missing_stops_the_start(path: Path) -> None:
    with pytest.raises(StartupError, match="cannot be read"):
        gate_of(path)


def test_a_key_is_its_holders(path: Path) -> None:
    second = secrets.token_urlsafe(32)
    write_keys(path, key_row(KEY, "shop"), key_row(second, "shop"), key_row("k" * 32, "bot", agent_id="re\u0301"))
    gate = gate_of(path)
    assert ask(gate, bearer(KEY)) == ask(gate, bearer(second)) == Caller("shop", frozenset({AGENT}))
    bot = ask(gate, bearer("k" * 32))
    assert bot.claim == Claim("agent", "ré"), "as agent ids are in requests: normalized"


def test_the_scheme_may_be_written_in_any_case(path: Path) -> None:
    write_keys(path, key_row(KEY, "shop"))
    for scheme in (b"bearer", b"BEARER", b"BeArEr"):
        assert ask(gate_of(path), scheme + b"  " + KEY.encode() + b" ").holder == "shop"


@pytest.mark.parametrize(
    "shown",
    [
        (),
        (b"",),
        (b"Bearer",),
        (b"Bearer ",),
        (KEY.encode(),),
        (b"Basic " + KEY.encode(),),
        (b"Bearer\t" + KEY.encode(),),
        (bearer(KEY), bearer(KEY)),
        (bearer(KEY[:-1]),),
        (bearer(KEY + "x"),),
        (bearer(KEY.swapcase()),),
        (bearer(HASH),),
        ("Bearer ключ-ключ-ключ-ключ-ключ-ключ-ключ".encode(),),
        (b"Bearer \xff\xfe\x00",),
        (b"Bearer " + b"x" * 60_000,),
        (b"Bearer a.b.c",),
    ],
)
def test_whoever_shows_no_good_key_is_nobody(path: Path, shown: tuple[bytes, ...]) -> None:
    write_keys(path, key_row(KEY, "shop"))
    assert ask(gate_of(path), *shown) is NOBODY


def test_an_expired_key_is_nobodys(path: Path) -> None:
    write_keys(path, key_row(KEY, "shop", expires_at="2020-01-01T00:00:00Z"))
    assert ask(gate_of(path), bearer(KEY)) is NOBODY
    write_keys(path, key_row(KEY, "shop", expires_at="2220-01-01T00:00:00Z"))
    assert ask(gate_of(path), bearer(KEY)).holder == "shop"


def look(watched: WatchedFile[Any]) -> Any:
    """What it says after a look."""
    asyncio.run(watched.look())
    return watched.content


def test_a_change_is_taken_and_a_bad_one_is_not(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_keys(path, key_row(KEY, "shop"))
    watched = WatchedFile(path, parse_keys)
    first = watched.content
    assert look(watched) is first, "it has not changed"
    path.write_bytes(b'{"keys": [{"id": "' + KEY.encode())
    assert look(watched) is first
    path.unlink()
    assert look(watched) is first
    write_keys(path)
    assert look(watched) == {}
    assert KEY not in "".join(capsys.readouterr())


def test_two_changes_with_one_time_on_them_are_two(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_keys(path, key_row("a" * 32, "shop"))
    watched = WatchedFile(path, parse_keys)
    at = path.stat()
    path.write_bytes(path.read_bytes().replace(b"shop", b"shed"))
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
    monkeypatch.setattr("app.access.files.time.time", lambda: at.st_mtime + files.FRESH_SECONDS + 1)
    assert {key.caller.holder for key in look(watched).values()} == {"shed"}


async def test_it_is_looked_at_again_and_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_keys(path)
    watched, seen = WatchedFile(path, parse_keys), asyncio.Event()
    monkeypatch.setattr(files, "POLL_SECONDS", 0.001)
    monkeypatch.setattr("app.access.files.metrics.access_file_valid.labels", lambda _: Mock(set=lambda _: seen.set()))
    watching = asyncio.create_task(watched.watch())
    write_keys(path, key_row(KEY, "shop"))
    await asyncio.wait_for(seen.wait(), 10)
    watching.cancel()
    assert watched.content


def test_claims() -> None:
    assert Caller("k", frozenset({"agent"})).claim == Claim("holder", "k")
    assert Caller("k", frozenset({"agent"}), "a").claim == Claim("agent", "a")
    assert Caller("k", frozenset({"agent", "reader"})).claim == Claim("holder", "k")
    assert Caller("k", frozenset({"agent", "reader"})).claim_to_read is None
    assert Caller("k", frozenset({"operator"}), "a").claim is None
