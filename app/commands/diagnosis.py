"""What `lastunit doctor` judges: facts in, findings out."""

import os
import re
import resource
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from app.settings import Settings
from app.store import checks
from app.store.embedded import SERVICE_LOCK
from app.store.readers import Progress
from app.store.vitals import Vitals

CLOCK_APART_SECONDS_MAX = 1.0
MEMORY_SHARE_MAX = 0.8
LAG_SHARE_MAX = 0.1
DISK_FREE_BYTES_MIN = 1_000_000_000
FILES_FREE_MIN = 256
CONNECTIONS_SHARE_MAX = 0.8
DAY_SECONDS = 86_400
MB = 1_000_000


class Level(StrEnum):
    """How bad it is."""

    FINE = "fine"
    WARN = "warn"
    MEND = "mend"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was looked at, how it is, and what mends it where it is not fine."""

    what: str
    level: Level
    found: str
    mend: str | None = None


def find_in_engine(info: Mapping[str, Any], config: Mapping[str, Any], *, address: str) -> Iterator[Diagnosis]:
    """Version, role, persistence, eviction; and whether it could write what it was told."""
    findings = checks.check_engine(info, config)
    for finding in findings:
        level = Level.MEND if finding.severity is checks.Severity.REFUSE else Level.WARN
        found, _, mend = finding.sentence.rpartition(": ")
        yield Diagnosis("engine", level, found, mend)
    if not findings:
        said = f"{checks.name_engine(info)} at {address}, keeps an append-only file, never evicts"
        yield Diagnosis("engine", Level.FINE, said)
    for name in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        if (status := info.get(name, "ok")) != "ok":
            yield Diagnosis(
                "append-only file",
                Level.MEND,
                f"{name} is {status}",
                "make room on the engine's disk; its log says more",
            )


def find_in_data(settings: Settings, partitions: int) -> Iterator[Diagnosis]:
    """Whether the engine's data are what these settings serve."""
    if partitions == 0:
        yield Diagnosis("data", Level.WARN, "none: nothing was ever served from this engine", "start lastunit serve")
    elif partitions != settings.partitions:
        yield Diagnosis(
            "data", Level.MEND, f"{partitions} partitions, but the setting is {settings.partitions}",
            f"set partitions (LASTUNIT_PARTITIONS) to {partitions}",
        )  # fmt: skip


def find_in_clock(vitals: Vitals) -> Iterator[Diagnosis]:
    """Engine time against the engine's wall clock, and that against this machine's."""
    offset = max((meta.offset_us for meta in vitals.metas), key=abs, default=0) / 1e6
    apart = vitals.clock_apart_us / 1e6
    found = f"engine time is {offset:+.1f} s from its wall clock, that {apart:+.1f} s from this machine's"
    is_far = max(abs(offset), abs(apart)) > CLOCK_APART_SECONDS_MAX
    mend = "keep the machines' clocks by NTP; holds are right, but the times in answers are off by that much"
    yield Diagnosis("clock", Level.WARN, found, mend) if is_far else Diagnosis("clock", Level.FINE, found)


def find_in_memory(settings: Settings, vitals: Vitals) -> Iterator[Diagnosis]:
    """Mean rate x retention x bytes, with what was measured here, against what the engine may take."""
    loads, kept = vitals.loads, settings.ledger_entries_kept * len(vitals.loads)
    sales_rate = sum(load.sales_rate for load in loads)
    ended_rate = max(0.0, sum(load.reservations_rate for load in loads) - sales_rate)
    record_bytes = max((load.record_bytes for load in loads), default=0.0)
    needed, terms = 0.0, []
    for rate, seconds in (
        (sales_rate, settings.committed_retention_seconds),
        (ended_rate, settings.record_retention_seconds),
    ):
        needed += rate * seconds * record_bytes
        terms.append(f"{rate:,.2f}/s x {seconds:,} s x {record_bytes:,.0f} B")
    if settings.archive_address is not None:
        entry_bytes = max((load.entry_bytes for load in loads), default=0.0)
        needed += kept * entry_bytes
        terms.append(f"{kept:,} entries x {entry_bytes:,.0f} B")
    else:
        ledger_bytes = sum(load.ledger_bytes for load in loads)
        needed += ledger_bytes
        terms.append(f"the ledger's {ledger_bytes / MB:,.0f} MB")
    used, limit = vitals.info["used_memory"], vitals.info["maxmemory"] or vitals.info["total_system_memory"]
    whose = "maxmemory" if vitals.info["maxmemory"] else "the machine's memory"
    found = f"{' + '.join(terms)} = {needed / MB:,.0f} MB; used {used / MB:,.0f} MB of {limit / MB:,.0f} MB ({whose})"
    mend = "give it more memory, or lower committed_retention_seconds or record_retention_seconds"
    if max(needed, used) > limit:
        yield Diagnosis("memory", Level.MEND, found, mend)
    elif max(needed, used) > limit * MEMORY_SHARE_MAX:
        yield Diagnosis("memory", Level.WARN, found, mend)
    else:
        yield Diagnosis("memory", Level.FINE, found)


def find_in_archive(
    settings: Settings, vitals: Vitals, progress: Sequence[Progress], positions: Mapping[int, int] | None
) -> Iterator[Diagnosis]:
    """How far it is behind, and whether it is of this engine's ledger at all."""
    daily_mb = sum(load.entries_rate * load.entry_bytes for load in vitals.loads) * DAY_SECONDS / MB
    if settings.archive_address is None:
        yield Diagnosis(
            "archive", Level.WARN, f"off: the ledger grows by {daily_mb:,.1f} MB of memory a day and is never trimmed",
            "set archive_url, or remove the empty one",
        )  # fmt: skip
        return
    positions = positions or {}
    ahead = [part for part in range(len(progress)) if positions.get(part, 0) > progress[part].sequence]
    if ahead:
        part = ahead[0]
        yield Diagnosis(
            "archive", Level.MEND,
            f"it ends at {positions[part]:,}, the engine at {progress[part].sequence:,} (partition {part}): a rollback",
            "lastunit ledger rebuild into an empty engine, or name another archive (archive_url)",
        )  # fmt: skip
        return
    lag = max(part.sequence - positions.get(index, 0) for index, part in enumerate(progress))
    found = f"{lag:,} entries behind; beyond {settings.archive_lag_entries_max:,} reserve is refused"
    if lag > settings.archive_lag_entries_max:
        yield Diagnosis("archive", Level.MEND, found, "start the service, and see its log for archive_interrupted")
    elif lag > settings.archive_lag_entries_max * LAG_SHARE_MAX:
        yield Diagnosis("archive", Level.WARN, found, "see that its database keeps up")
    else:
        yield Diagnosis("archive", Level.FINE, found)


def find_in_disk(data_dir: Path) -> Iterator[Diagnosis]:
    """The data directory: whose it is, and how much room is left."""
    if not data_dir.is_dir():
        return
    if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        yield Diagnosis("data directory", Level.MEND, f"{data_dir} may not be written", "run as the user that owns it")
    elif data_dir.stat().st_mode & 0o077:
        mode = f"{data_dir.stat().st_mode & 0o777:o}"
        yield Diagnosis(
            "data directory", Level.WARN, f"{data_dir} has mode {mode}: others may look in", f"chmod 700 {data_dir}"
        )
    else:
        yield Diagnosis("data directory", Level.FINE, f"{data_dir}, its owner's alone")
    free = shutil.disk_usage(data_dir).free
    log = sum(path.stat().st_size for path in data_dir.glob("appendonlydir/*"))
    needed = max(DISK_FREE_BYTES_MIN, 2 * log)
    found = f"{free / MB:,.0f} MB free, the append-only file has {log / MB:,.0f} MB"
    if free < needed:
        mend = f"make room for {needed / MB:,.0f} MB: a rewrite of the append-only file and a backup need it"
        yield Diagnosis("disk", Level.MEND, found, mend)
    else:
        yield Diagnosis("disk", Level.FINE, found)


def find_in_connections(vitals: Vitals) -> Iterator[Diagnosis]:
    """How many more clients the engine takes."""
    used, limit = vitals.info["connected_clients"], vitals.info["maxclients"]
    found = f"{used:,} of {limit:,}"
    if used > limit * CONNECTIONS_SHARE_MAX:
        yield Diagnosis("connections", Level.MEND, found, "raise the engine's maxclients, or run fewer workers")
    else:
        yield Diagnosis("connections", Level.FINE, found)


def find_in_files(settings: Settings) -> Iterator[Diagnosis]:
    """How many more file descriptors, and so connections, the service gets; without one, a process like this."""
    process, limit = Path("/proc/self"), resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with suppress(OSError, ValueError):
        service = Path("/proc", (settings.data_dir / SERVICE_LOCK).read_text())
        limit = int(re.findall(r"Max open files +(\d+)", (service / "limits").read_text())[0])
        process = service
    try:
        used = len(list((process / "fd").iterdir()))
    except OSError:  # no /proc on this system
        used = 0
    found = f"{used:,} of {limit:,}"
    if limit - used < FILES_FREE_MIN:
        yield Diagnosis("file descriptors", Level.MEND, found, "ulimit -n 65536, for systemd LimitNOFILE=65536")
    else:
        yield Diagnosis("file descriptors", Level.FINE, found)
