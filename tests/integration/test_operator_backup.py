"""`lastunit backup` and `restore`: what was sold when it began is in the file, whatever is sold meanwhile."""

import fcntl
import io
import json
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.domain.errors import CommandRefused
from app.domain.types import Sku
from app.projections.rebuild import verify
from app.settings import load_settings
from app.store import engine
from app.store.backups import restore_backup, write_backup
from app.store.engine import open_engine
from app.store.store import make_store
from tests import engines
from tests.commands import refusal, said, sell, selling
from tests.gateway import done
from tests.service import Home, open_home
from tests.webhooks import SOURCES, deliver
from tests.webhooks import said as said_of

pytestmark = pytest.mark.archived


@pytest.fixture
def other(home: Home) -> Path:
    """Where to restore to."""
    return home.data_dir.with_name("other")


def test_backup_under_load_kill_restore_verify(home: Home, other: Path) -> None:
    file = home.data_dir.with_name("backup.tar")
    service = home.serve(sources=SOURCES)
    sku = service.gateway.stock(1_000_000)
    sell(service.gateway, sku)
    received = said_of("receive", (sku, 2))
    done(deliver(service.gateway, "wms", received, delivery_id="of-before"))
    body = {"sku": sku, "agent_id": "agent", "ttl_seconds": 600}
    held = done(service.gateway.post("reservations", body, idempotency_key="key"), 201)
    with selling(service.gateway, sku) as answered:
        before = answered[-1]
        written = said(home.command("backup", str(file)))
        after = answered[-1]
    assert f"{file} has {home.data_dir} as of " in written
    service.kill()
    home.kill_engine()

    restored = said(home.command("restore", str(file), data_dir=other))
    assert "What happened later is not in it" in restored
    proved = said(home.command("ledger", "verify", data_dir=other))
    shutil.rmtree(home.data_dir)
    other.rename(home.data_dir)
    service = home.serve(sources=SOURCES)
    end = service.gateway.availability(sku)["sequence"]
    assert before <= end <= after + 2, "what was answered when it began is in it, and nothing of after its end"
    for said_so in (written, restored, proved):
        assert f"{end:,}" in said_so
    again = service.gateway.post("reservations", body, idempotency_key="key")
    assert (again.headers["idempotent-replayed"], done(again, 201)["token"]) == ("true", held["token"])
    heard = deliver(service.gateway, "wms", received, delivery_id="of-before")
    assert done(heard)["status"] == "duplicate"
    assert service.gateway.reserve(sku)["sequence"] == end + 1
    assert not list(home.data_dir.glob("*.rdb"))


def test_the_archive_is_in_the_backup(home: Home, other: Path) -> None:
    file = home.data_dir.with_name("backup.tar")
    service = home.serve(ledger_entries_kept=1)
    sku = service.gateway.stock()
    held = service.gateway.reserve(sku)
    sell(service.gateway, sku)
    assert service.terminate() == 0
    assert "its ledger ends at sequence 7" in said(home.command("backup", str(file)))
    said(home.command("restore", str(file), data_dir=other))
    assert said(home.command("ledger", "verify", data_dir=other)).startswith("All 7 entries")
    shutil.rmtree(home.data_dir)
    other.rename(home.data_dir)
    entries = home.serve().gateway.entries()
    assert [entry["sequence"] for entry in entries] == list(range(1, 8))
    assert entries[1]["token"] == held["token"]


def test_a_backup_that_fails_leaves_nothing(home: Home) -> None:
    service = home.serve()
    sell(service.gateway, service.gateway.stock())
    folder = home.data_dir.with_name("backups")
    folder.mkdir()
    kept = folder / "kept"
    kept.write_text("another's")
    assert f"{kept} is there already" in refusal(home.command("backup", str(kept)))
    assert kept.read_text() == "another's"
    (home.data_dir / "dump.rdb").mkdir()  # the engine cannot put its snapshot there
    assert "could not save its keys" in refusal(home.command("backup", str(folder / "new")))
    (home.data_dir / "dump.rdb").rmdir()
    with (home.data_dir / "backup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "Another backup" in refusal(home.command("backup", str(folder / "new")))
    assert "cannot be written" in refusal(home.command("backup", str(folder / "missing" / "new")))
    assert [path.name for path in folder.iterdir()] == ["kept"]
    sell(service.gateway, service.gateway.stock())
    said(home.command("backup", str(folder / "new")))


def test_an_engine_of_others_is_not_backed_up(home: Home) -> None:
    service = home.serve()
    url = home.engine["url"]
    assert "an engine of your own" in refusal(home.command("backup", "x", settings={"redis_url": url}))
    assert service.terminate() == 0


@pytest.mark.parametrize("name", engines.chosen())
async def test_every_engine_reads_what_it_saved(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_binary", lambda: engines.installed()[name])
    file, before, after = tmp_path / "backup.tar", tmp_path / "before", tmp_path / "after"
    settings = load_settings({"data_dir": before})
    with open_engine(settings) as opened:
        async with make_store(settings, opened.url) as store:
            for number in range(50):
                await store.commands.adjust(
                    Sku(f"SKU-{number}"), location_id="main", mode="delta", amount=5, reason="found"
                )
            partitions = store.keyspace.partitions
            label = write_backup(before, opened.url, partitions, file, on_progress=lambda *_: None)
    assert label == restore_backup(file, after, on_progress=lambda *_: None)
    assert label.sequences == (50,)
    settings = load_settings({"data_dir": after})
    for sequence in (50, 51):  # what is written after a restore is there after the next start
        with open_engine(settings) as opened:
            async with make_store(settings, opened.url) as store:
                verdict = await verify(store)
                assert (verdict.entries, verdict.difference) == (sequence, None)
                await store.commands.adjust(Sku("SKU-0"), location_id="main", mode="delta", amount=5, reason="found")


# What is no whole backup


@pytest.fixture(scope="module")
def backup() -> Iterator[Path]:
    """A good one."""
    with open_home(is_archived=True) as home:
        service = home.serve()
        sell(service.gateway, service.gateway.stock())
        home.await_archive()
        file = home.data_dir.with_name("backup.tar")
        said(home.command("backup", str(file)))
        assert service.terminate() == 0
        yield file


def cut(chance: random.Random, content: bytes) -> bytes:
    """Somewhere before the end of its last member, after which a tar has nothing but zeros."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        last = tar.getmembers()[-1]
    return content[: chance.randrange(last.offset_data + last.size)]


def change(chance: random.Random, content: bytes) -> bytes:
    """One bit of the snapshot or of the archive."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        member = tar.getmember(chance.choice(["engine.rdb", "archive.sqlite"]))
    at = member.offset_data + chance.randrange(member.size)
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


def relabel(_: random.Random, content: bytes) -> bytes:
    return content.replace(b'"format":1,"version":"', b'"format":2,"version":"')


def foreign(chance: random.Random, _: bytes) -> bytes:
    return chance.randbytes(10_000)


def another_tar(_: random.Random, __: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../engine.rdb"))
    return file.getvalue()


DAMAGES: list[tuple[Callable[[random.Random, bytes], bytes], str, int]] = [
    (cut, "is cut off or damaged|is no backup of Lastunit", 5),
    (change, "is cut off or damaged", 5),
    (relabel, r"is a backup of format 2, written by Lastunit \S+; this version reads format 1", 1),
    (foreign, "is no backup of Lastunit", 1),
    (another_tar, "is no backup of Lastunit", 1),
]


@pytest.mark.parametrize(("damage", "words", "times"), DAMAGES, ids=lambda value: getattr(value, "__name__", None))
def test_what_is_not_whole_is_refused(
    home: Home, backup: Path, damage: Callable[[random.Random, bytes], bytes], words: str, times: int
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    file = home.data_dir.with_name("damaged.tar")
    for _ in range(times):
        file.write_bytes(damage(chance, backup.read_bytes()))
        with pytest.raises(CommandRefused, match=words):
            restore_backup(file, home.data_dir, on_progress=lambda *_: None)
        assert not home.data_dir.exists() or not list(home.data_dir.iterdir())
    said(home.command("restore", str(backup)))
    assert said(home.command("ledger", "verify")).startswith("All ")


def test_what_is_there_is_not_written_over(home: Home, backup: Path) -> None:
    service = home.serve()
    sku = service.gateway.stock()
    assert "is not empty (it holds appendonlydir)" in refusal(home.command("restore", str(backup)))
    assert service.gateway.availability(sku)["on_hand_quantity"] == 10
    assert "is not there" in refusal(home.command("restore", str(backup.with_name("missing"))))


def test_a_rollback_is_refused_and_said(home: Home, other: Path) -> None:
    archive: dict[str, Any] = {"archive_url": f"sqlite:///{home.data_dir.with_name('elsewhere.sqlite')}"}
    file = home.data_dir.with_name("backup.tar")
    service = home.serve(**archive)
    sku = service.gateway.stock()
    said(home.command("backup", str(file), settings=archive))
    sell(service.gateway, sku)
    assert service.terminate() == 0
    sentence = refusal(home.command("restore", str(file), settings=archive, data_dir=other))
    assert "The archive has 5 entries more than this backup" in sentence
    assert "lastunit ledger rebuild" in sentence
    assert not other.exists()
    said(home.command("ledger", "rebuild", settings=archive, data_dir=other))
    assert said(home.command("ledger", "verify", settings=archive, data_dir=other)).startswith("All 6 entries")


def test_a_label_says_what_it_is(backup: Path) -> None:
    with tarfile.open(backup) as tar:
        names = tar.getnames()
        label = tar.extractfile("lastunit-backup.json")
        assert label
        assert json.load(label).keys() == {"format", "version", "engine", "taken_at", "sequences"}
    assert names == ["lastunit-backup.json", "archive.sqlite", "engine.rdb", "SHA256SUMS"]
    assert backup.stat().st_mode & 0o777 == 0o600
