"""`lastunit keys`: what stands in the file afterwards, and what is printed."""

import hashlib
import json
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from app.commands.key_file import create_key
from app.domain.errors import CommandRefused
from app.settings import load_settings
from tests.keys import key_row

KEY = re.compile(r"lu_[\w-]{43}\n")
FOREIGN = [
    key_row("z" * 32, "zebra", "reader"),
    key_row("a" * 32, "ape", "webhook:amazon", expires_at="2020-01-01T00:00:00Z"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "keys.json"


def keys(path: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["keys", *words, "--file", str(path)])


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["keys"]
    return found


def test_a_key_is_printed_once_and_kept_as_a_hash(path: Path) -> None:
    said = keys(path, "create", "shop", "--scope", "agent", "--scope", "reader", "--agent-id", "a 7", "--days", "30")
    assert KEY.fullmatch(said.stdout), said.output
    key = said.stdout.strip()
    (row,) = rows(path)
    assert {**row, "expires_at": ""} == {**key_row(key, "shop", "agent", "reader", agent_id="a 7"), "expires_at": ""}
    assert key not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listed = keys(path, "list").stdout
    assert listed == f"shop  {row['sha256'][:8]}  agent,reader  agent a 7  until {row['expires_at']}\n"


def test_what_others_wrote_stays_as_it_stands(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({"keys": FOREIGN}))
    keys(path, "create", "monkey", "--scope", "agent")
    assert rows(path)[:2] == FOREIGN
    assert [list(row) for row in rows(path)[:2]] == [list(row) for row in FOREIGN], "field by field in order"
    keys(path, "revoke", "monkey")
    assert rows(path) == FOREIGN
    assert "expired 2020" in keys(path, "list").stdout


def test_a_key_is_renewed_while_the_old_one_is_good(path: Path) -> None:
    old = keys(path, "create", "shop", "--scope", "agent", "--agent-id", "a").stdout.strip()
    assert isinstance(keys(path, "create", "shop", "--scope", "agent").exception, CommandRefused)
    new = keys(path, "create", "shop", "--renew").stdout.strip()
    assert rows(path) == [key_row(old, "shop", "agent", agent_id="a"), key_row(new, "shop", "agent", agent_id="a")]
    digits = hashlib.sha256(old.encode()).hexdigest()[:8]
    assert keys(path, "revoke", "shop", "--sha256", digits).stdout == "Revoked 1 key of shop.\n"
    assert rows(path) == [key_row(new, "shop", "agent", agent_id="a")]
    assert isinstance(keys(path, "revoke", "shop", "--sha256", digits).exception, CommandRefused)


@pytest.mark.parametrize(
    "words",
    [
        ("create", "shop"),
        ("create", "shop", "--scope", "admin"),
        ("create", "a\nb", "--scope", "agent"),
        ("create", "jwt:shop", "--scope", "agent"),
        ("create", "shop", "--scope", "agent", "--agent-id", " a"),
        ("revoke", "nobody"),
    ],
)
def test_what_is_refused_leaves_the_file_alone(path: Path, words: tuple[str, ...]) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({"keys": FOREIGN}))
    before = path.read_bytes()
    assert isinstance(keys(path, *words).exception, CommandRefused)
    assert path.read_bytes() == before
    assert {each.name for each in path.parent.iterdir()} == {path.name, f"{path.name}.lock"}


def test_a_bad_file_is_not_written_over(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("{}")
    for words in (("create", "shop", "--scope", "agent"), ("list",), ("revoke", "shop")):
        assert isinstance(keys(path, *words).exception, CommandRefused)
    assert path.read_text() == "{}"


def test_a_link_goes_on_pointing_at_the_file(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(path)
    keys(link, "create", "shop", "--scope", "agent")
    assert link.is_symlink()
    assert len(rows(path)) == 1


def test_many_at_once_lose_nothing(path: Path) -> None:
    settings = load_settings({"api_keys_file": path})

    def create(number: int) -> None:
        create_key(settings, f"k{number}", ["agent"], agent_id=None, expires_at=None, may_renew=False)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(24)))
    assert {row["id"] for row in rows(path)} == {f"k{number}" for number in range(24)}
