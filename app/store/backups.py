"""Backups of an embedded engine's data: a tar file that carries the checksums of all that is in it.

    lastunit-backup.json   what it is: Label
    archive.sqlite         the archive, where it is a file of the data directory
    engine.rdb             the engine's keys at one moment: a snapshot by a fork of its own, while it serves on
    SHA256SUMS             of these; it comes last, so a file that was cut off has none

The archive is copied first. So it is never ahead of the engine, whose ledger still has what it had not read by then.
"""

import hashlib
import io
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

import msgspec
from redis.exceptions import RedisError

import app
from app.domain.errors import CommandRefused
from app.store.embedded import FORMAT, MARKER, connect, engine_of, hold_lock, strangers_in, write_json
from app.store.keys import PartitionKeys

BACKUP_FORMAT = 1
LABEL = "lastunit-backup.json"
ARCHIVE = "archive.sqlite"
SNAPSHOT = "engine.rdb"
SUMS = "SHA256SUMS"
MEMBERS = (LABEL, ARCHIVE, SNAPSHOT, SUMS)
SMALL_BYTES_MAX = 1_000_000

LOCK = "backup.lock"
LOOK_SECONDS = 0.05
ANSWER_SECONDS_MAX = 10.0
PAUSE_MS_MAX = 1000
SNAPSHOT_SECONDS_MAX = 3600.0

RESTORING = "restoring"
AOF_DIRECTORY = "appendonlydir"
AOF_BASE = "appendonly.aof.1.base.rdb"
AOF_MANIFEST = "appendonly.aof.manifest"

Progress = Callable[[str, float], None]  # what it is at, and how much of that is done, 0 to 1


@dataclass(frozen=True, slots=True)
class Label:
    """What a backup says of itself. `sequences` has the last entry of each partition: later ones are not in it."""

    format: int
    version: str
    engine: str  # the server's name: another one may not read its files
    taken_at: str
    sequences: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The engine's keys at one moment: in a file, and what the ledgers were then, the first and the last sequence."""

    path: Path
    firsts: tuple[int, ...]
    sequences: tuple[int, ...]


def write_backup(
    data_dir: Path, url: str, partitions: Sequence[PartitionKeys], file: Path, *, on_progress: Progress
) -> Label:
    """Writes all that the data directory and its engine hold into a new file. Raises CommandRefused."""
    try:
        with (
            hold_lock(data_dir / LOCK) as is_held,
            tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder,
        ):
            if not is_held:
                raise CommandRefused(f"Another backup of {data_dir} is running: wait until it has ended.")
            whole, archive = Path(folder, file.name), Path(folder, ARCHIVE)
            if (data_dir / ARCHIVE).exists():
                on_progress(ARCHIVE, 0)
                _copy_archive(data_dir / ARCHIVE, archive)
            with _snapshot(url, partitions, on_progress) as snapshot:
                _refuse_gap(archive, snapshot)
                taken_at = datetime.now(UTC).isoformat(timespec="seconds")
                label = Label(BACKUP_FORMAT, app.__version__, engine_of(data_dir), taken_at, snapshot.sequences)
                _pack(whole, label, {ARCHIVE: archive, SNAPSHOT: snapshot.path}, on_progress)
            file.hardlink_to(whole)  # all at once, and over no other file
            _sync(file.parent)
    except FileExistsError:
        raise CommandRefused(f"{file} is there already: name another file.") from None
    except (OSError, sqlite3.Error) as error:
        raise CommandRefused(f"{file} cannot be written ({error}): make room, or name another place.") from None
    return label


def restore_backup(file: Path, data_dir: Path, *, on_progress: Progress) -> Label:
    """Makes a directory that is new or empty the data directory that was backed up. Raises CommandRefused.

    Until all of it was read and found whole, it is no data directory: a service refuses to start there.
    """
    label = read_label(file)
    staging = data_dir / RESTORING
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if strangers := strangers_in(data_dir):
            raise CommandRefused(
                f"{data_dir} is not empty (it holds {min(strangers)}): restore into another --data-dir, or empty it."
            )
        staging.mkdir(mode=0o700)
        try:
            _unpack(file, staging, on_progress)
            _make_log(staging)
        except BaseException:
            shutil.rmtree(staging)
            raise
        for path in list(staging.iterdir()):
            path.rename(data_dir / path.name)
        staging.rmdir()
        write_json(data_dir / MARKER, {"format": FORMAT, "engine": label.engine})
        _sync(data_dir)
    except OSError as error:
        raise CommandRefused(f"{data_dir} cannot be restored ({error}): empty it, make room, and try again.") from None
    return label


def _make_log(directory: Path) -> None:
    """Makes the snapshot the base of the append-only file that the engine will find and go on with."""
    log = directory / AOF_DIRECTORY
    log.mkdir(mode=0o700)
    (directory / SNAPSHOT).rename(log / AOF_BASE)
    (log / AOF_MANIFEST).write_text(f"file {AOF_BASE} seq 1 type b\n", "ascii")
    for path in (log / AOF_MANIFEST, log, directory):
        _sync(path)


def read_label(file: Path) -> Label:
    """What the file says of itself. Raises CommandRefused where it is no backup, or one of another format."""
    try:
        with tarfile.open(file, "r:") as tar:
            found = tar.next()
            content = tar.extractfile(found) if found and found.name == LABEL else None
            said = msgspec.json.decode(content.read(SMALL_BYTES_MAX), type=dict[str, Any]) if content else {}
    except FileNotFoundError:
        raise CommandRefused(f"{file} is not there: name a file that lastunit backup wrote.") from None
    except (tarfile.TarError, msgspec.MsgspecError, OSError):
        said = {}
    if "format" not in said:
        raise CommandRefused(f"{file} is no backup of Lastunit: name a file that lastunit backup wrote.")
    if said["format"] != BACKUP_FORMAT:
        raise CommandRefused(
            f"{file} is a backup of format {said['format']}, written by Lastunit {said.get('version')}; this version "
            f"reads format {BACKUP_FORMAT}: restore it with the version that wrote it."
        )
    try:
        return msgspec.convert(said, Label)
    except msgspec.MsgspecError:
        raise _damaged(file) from None


def _copy_archive(path: Path, target: Path) -> None:
    """Copies a database as it is at one moment, while others write to it."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


def _refuse_gap(archive: Path, snapshot: Snapshot) -> None:
    """Raises CommandRefused where the engine dropped entries, archived by now, that the copy of the archive has not."""
    if not archive.exists():  # none, or elsewhere: it has a backup of its own
        return
    archived: dict[int, int] = {}
    with closing(sqlite3.connect(archive)) as copy, suppress(sqlite3.OperationalError):  # no table yet
        archived = dict(copy.execute("SELECT partition, sequence FROM positions").fetchall())
    for index, first in enumerate(snapshot.firsts):
        if first > archived.get(index, 0) + 1:
            raise CommandRefused(
                "The engine dropped entries while the archive was copied, so the two do not fit together: raise "
                "ledger_entries_kept to more than is sold meanwhile."
            )


@contextmanager
def _snapshot(url: str, partitions: Sequence[PartitionKeys], on_progress: Progress) -> Iterator[Snapshot]:
    deadline = time.monotonic() + SNAPSHOT_SECONDS_MAX
    try:
        with connect(url, timeout_seconds=ANSWER_SECONDS_MAX) as client:
            while client.info("persistence")["aof_rewrite_in_progress"]:
                _wait(deadline)
            with client.pipeline(transaction=False) as pipeline:
                pipeline.client_pause(PAUSE_MS_MAX, all=False)  # of writes: so what is read is what is saved
                for keys in partitions:
                    pipeline.hget(keys.meta, "sequence")
                    pipeline.xrange(keys.ledger, count=1)
                pipeline.bgsave(schedule=False)
                pipeline.client_unpause()
                _, *found, _, _ = pipeline.execute()
            while (facts := client.info("persistence"))["rdb_bgsave_in_progress"]:
                on_progress(SNAPSHOT, facts["current_save_keys_processed"] / max(1, facts["current_save_keys_total"]))
                _wait(deadline)
            config = client.config_get("dir", "dbfilename")
    except RedisError as error:
        raise CommandRefused(f"The engine did not save its keys ({type(error).__name__}): try again.") from None
    if facts["rdb_last_bgsave_status"] != "ok":
        raise CommandRefused("The engine could not save its keys: make room on its disk; its log says more.")
    path = Path(config["dir"], config["dbfilename"])
    try:
        sequences = tuple(int(sequence or 0) for sequence in found[::2])
        firsts = tuple(int(rows[0][0].partition("-")[0]) if rows else 0 for rows in found[1::2])
        yield Snapshot(path, firsts, sequences)
    finally:
        path.unlink(missing_ok=True)


def _wait(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise CommandRefused(f"The engine has been saving for more than {SNAPSHOT_SECONDS_MAX:g} s: try again.")
    time.sleep(LOOK_SECONDS)


def _pack(file: Path, label: Label, members: dict[str, Path], on_progress: Progress) -> None:
    with _create(file) as target, tarfile.open(fileobj=target, mode="w") as tar:
        content = msgspec.json.encode(label)
        _add(tar, LABEL, io.BytesIO(content), len(content))
        sums = [_sum_line(LABEL, io.BytesIO(content))]
        for name, path in members.items():
            if not path.exists():
                continue
            on_progress(f"packing {name}", 0)
            with path.open("rb") as source:
                sums.append(_sum_line(name, source))
                source.seek(0)
                _add(tar, name, source, path.stat().st_size)
        listed = "".join(sums).encode()
        _add(tar, SUMS, io.BytesIO(listed), len(listed))
    _sync(file)


def _add(tar: tarfile.TarFile, name: str, source: IO[bytes], size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o600, time.time()
    tar.addfile(info, source)


def _unpack(file: Path, directory: Path, on_progress: Progress) -> None:
    """Writes the members into the directory and proves them whole. Raises CommandRefused."""
    sums: list[str] = []
    try:
        with tarfile.open(file, "r:") as tar:
            for info in tar:
                on_progress(info.name, info.offset / file.stat().st_size)
                source, path = tar.extractfile(info), directory / info.name
                if source is None or info.name not in MEMBERS:
                    raise _damaged(file)
                with _create(path) as target:
                    shutil.copyfileobj(source, target)
                with path.open("rb") as copy:
                    sums.append(_sum_line(info.name, copy))
                _sync(path)
    except (tarfile.TarError, FileExistsError):
        raise _damaged(file) from None
    listed = directory / SUMS
    if not listed.exists() or listed.read_text("ascii", "replace") != "".join(sums[:-1]):
        raise _damaged(file)
    listed.unlink()
    (directory / LABEL).unlink()


def _sum_line(name: str, source: IO[bytes]) -> str:
    return f"{hashlib.file_digest(source, 'sha256').hexdigest()}  {name}\n"  # type: ignore[arg-type] # any file


def _damaged(file: Path) -> CommandRefused:
    return CommandRefused(f"{file} is cut off or damaged: restore another backup.")


def _create(path: Path) -> BinaryIO:
    """A new file that its owner alone may read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _sync(path: Path) -> None:
    """Makes a file, or what a directory lists, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
