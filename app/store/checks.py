"""What an engine must be before it may hold the ledger, decided from its INFO and, where permitted, its CONFIG.

Pure, so that the parent checks with it at start and a gateway at every reconnect.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.domain.errors import StartupError

INFO_SECTIONS = ("server", "memory", "persistence", "replication")
CONFIG_NAMES = ("appendfsync",)

REDIS_VERSION_MIN = (7, 0)
VALKEY_VERSION_MIN = (8, 0)


class Severity(StrEnum):
    """Whether a finding stops the start or is only said."""

    REFUSE = "refuse"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with the engine; the sentence names the setting to change."""

    severity: Severity
    sentence: str


def name_engine(info: Mapping[str, object]) -> str:
    """Its name and version for people: `valkey 9.1.2`. Valkey calls itself redis 7.2.4 as well, for old clients."""
    if version := info.get("valkey_version"):
        return f"valkey {version}"
    return f"redis {info.get('redis_version', 'of unknown version')}"


def check_engine(info: Mapping[str, object], config: Mapping[str, object]) -> tuple[Finding, ...]:
    """All findings. `info` holds INFO_SECTIONS; `config` holds CONFIG_NAMES, or nothing where CONFIG is denied.

    INFO always has what is asked of it here, so a missing field is refused like a wrong one.
    """
    findings = (
        _check_version(info),
        _check_field(info, "role", "master", "connect to the primary (redis_url) or run REPLICAOF NO ONE"),
        _check_field(info, "maxmemory_policy", "noeviction", "it may delete holds; set maxmemory-policy to noeviction"),
        _check_field(info, "aof_enabled", "1", "a crash would lose what was acknowledged; set appendonly to yes"),
        _check_fsync(config),
    )
    return tuple(finding for finding in findings if finding)


def refuse_unsafe(findings: Iterable[Finding]) -> None:
    """Raises StartupError with every refusal among the findings, in their order."""
    if refusals := [finding.sentence for finding in findings if finding.severity is Severity.REFUSE]:
        raise StartupError(" ".join(refusals))


def _check_version(info: Mapping[str, object]) -> Finding | None:
    minimum, version = REDIS_VERSION_MIN, info.get("redis_version")
    if "valkey_version" in info:
        minimum, version = VALKEY_VERSION_MIN, info["valkey_version"]
    parts = re.match(r"(\d+)\.(\d+)", str(version))
    if parts and (int(parts[1]), int(parts[2])) >= minimum:
        return None
    return Finding(
        Severity.REFUSE,
        f"The engine is {name_engine(info)}, which is too old: use Valkey 8 or newer, or Redis 7.0 or newer.",
    )


def _check_field(info: Mapping[str, object], name: str, expected: str, mend: str) -> Finding | None:
    found = info.get(name, "missing")
    if str(found) == expected:
        return None
    return Finding(Severity.REFUSE, f"The engine's {name} is {found}, not {expected}: {mend}.")


def _check_fsync(config: Mapping[str, object]) -> Finding | None:
    match config.get("appendfsync"):
        case "always":
            return None
        case None:
            sentence = "The engine does not show its appendfsync: make sure it is always, or permit CONFIG GET."
            return Finding(Severity.WARN, sentence)
        case "everysec":
            sentence = "The engine's appendfsync is everysec: a power cut may lose the last second; set it to always."
            return Finding(Severity.WARN, sentence)
        case found:
            sentence = (
                f"The engine's appendfsync is {found}: a power cut loses what was acknowledged; set it to always."
            )
            return Finding(Severity.REFUSE, sentence)
