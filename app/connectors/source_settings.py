"""`[sources.<name>]` of lastunit.toml: which system is on the other side, how it proves itself, what its words mean."""

import base64
import binascii
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from app.domain.ids import normalized_id
from app.domain.updates import SourcePriority, UpdateKind

SOURCES_MAX = 256
SECRETS_MAX = 8
MAPPINGS_MAX = 100_000
SECRET_BYTES_MAX = 4096
SOURCE_NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"
RESERVED_NAMES = frozenset({"adjustment", "import", "operator", "lastunit"})  # what the ledger calls our own changes
WEBHOOK_SECRET = re.compile(r"(?:whsec_)?([A-Za-z0-9+/]+)={0,2}")

Meaning = TypeVar("Meaning")


@dataclass(frozen=True, slots=True)
class ConnectorKind:
    """What a source of this kind is unless its table says otherwise. `secret_fault` is why a secret cannot be one.

    Without `secret_fault` it sends nothing signed. One that `is_polled` must say where, the others must not.
    """

    priority: SourcePriority
    deduct_on: UpdateKind
    secret_fault: Callable[[str], str | None] | None = None
    is_polled: bool = False


def standard_webhooks_fault(secret: str) -> str | None:
    """Why this is no secret of Standard Webhooks, None where it is one."""
    match = WEBHOOK_SECRET.fullmatch(secret)
    try:
        is_one = match is not None and base64.b64decode(match[1] + "=" * (-len(match[1]) % 4)) != b""
    except binascii.Error:
        is_one = False
    return None if is_one else "must be whsec_ and base64, as Standard Webhooks has it"


CONNECTORS: Mapping[str, ConnectorKind] = {
    "wms": ConnectorKind(SourcePriority.WAREHOUSE, UpdateKind.SHIP, standard_webhooks_fault),
    "erp": ConnectorKind(SourcePriority.PARTNER, UpdateKind.SHIP, standard_webhooks_fault),
    "pos": ConnectorKind(SourcePriority.PARTNER, UpdateKind.SALE, standard_webhooks_fault),
    "rest": ConnectorKind(SourcePriority.PARTNER, UpdateKind.SHIP, is_polled=True),
}


def _read_secret(value: Any) -> Any:
    """The text that a secret is written as, named in the environment, or kept in a file."""
    match value:
        case {"env": str(name), **others} if not others:
            if not (text := os.environ.get(name)):
                raise ValueError("names an environment variable that is not set, or empty")
            return text
        case {"file": str(path), **others} if not others:
            try:
                with Path(path).open("rb") as file:
                    return file.read(SECRET_BYTES_MAX + 1).decode().strip()
            except (OSError, UnicodeDecodeError):
                raise ValueError("names a file that cannot be read as text") from None
        case str() | SecretStr():
            return value
        case _:
            raise ValueError('must be text, {env = "NAME"} or {file = "PATH"}')


def _check_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not 1 <= len(text) <= SECRET_BYTES_MAX or not text.isascii() or not text.isprintable():
        raise ValueError(f"must be 1 to {SECRET_BYTES_MAX} visible ASCII characters")
    return value


Id = Annotated[str, AfterValidator(normalized_id)]
Secret = Annotated[SecretStr, BeforeValidator(_read_secret), AfterValidator(_check_secret)]
Mappings = Annotated[dict[Id, Id], Field(max_length=MAPPINGS_MAX)]
Seconds = Annotated[float, Field(ge=0.1, le=86_400)]
Hours = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]


class PollSettings(BaseModel):
    """Where a source is asked, as whom, and how often. `peak_hours` are UTC, and may run over midnight."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    url: Annotated[str, Field(pattern=r"^https?://[^\s/]+", max_length=2048, repr=False)]
    token: Secret
    interval_seconds: Seconds = 30.0
    off_peak_interval_seconds: Seconds = 300.0
    peak_hours: Hours = "00:00-24:00"
    page_size: Annotated[int, Field(ge=1, le=10_000)] = 1000
    pages_max: Annotated[int, Field(ge=1, le=100_000)] = 1000
    timeout_seconds: Annotated[float, Field(ge=0.1, le=300)] = 10.0
    backoff_seconds_max: Annotated[float, Field(ge=0.1, le=3600)] = 60.0
    requests_per_second: Annotated[float, Field(gt=0, le=1000)] | None = None


def _words_for(meanings: Mapping[str, Meaning]) -> BeforeValidator:
    """Takes one of these words as what it means."""

    def read(value: Any) -> Meaning:
        if not isinstance(value, str) or value not in meanings:
            raise ValueError(f"must be one of {', '.join(meanings)}")
        return meanings[value]

    return BeforeValidator(read)


PRIORITIES = {priority.name.lower(): priority for priority in reversed(SourcePriority)}
DEDUCTIONS = {kind.value: kind for kind in (UpdateKind.SALE, UpdateKind.PICK, UpdateKind.PACK, UpdateKind.SHIP)}


class SourceSettings(BaseModel):
    """One source. What its table leaves out follows from its connector."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    connector: Annotated[str, _words_for({name: name for name in CONNECTORS})]
    secrets: Annotated[list[Secret], Field(max_length=SECRETS_MAX, validate_default=True)] = Field(default_factory=list)
    priority: Annotated[SourcePriority, _words_for(PRIORITIES)] = Field(
        default_factory=lambda fields: CONNECTORS[fields["connector"]].priority
    )
    deduct_on: Annotated[UpdateKind, _words_for(DEDUCTIONS)] = Field(
        default_factory=lambda fields: CONNECTORS[fields["connector"]].deduct_on
    )
    channel: Id = "direct"
    default_location: Id = "main"
    unknown_sku: Literal["dead_letter", "create"] = "dead_letter"
    silent_after_seconds: Annotated[float, Field(ge=0.1, le=31 * 86_400)] | None = None
    locations: Mappings | None = None
    skus: Mappings | None = None
    poll: Annotated[PollSettings | None, Field(validate_default=True)] = None

    @field_validator("secrets")
    @classmethod
    def _check_secrets(cls, secrets: list[SecretStr], info: ValidationInfo) -> list[SecretStr]:
        kind = _kind_of(info)
        if kind and kind.secret_fault:
            if not secrets:
                raise ValueError("is missing: what this connector takes is signed")
            for number, secret in enumerate(secrets, 1):
                if fault := kind.secret_fault(secret.get_secret_value()):
                    raise ValueError(f"the secret number {number} {fault}")
        return secrets

    @field_validator("poll")
    @classmethod
    def _check_poll(cls, poll: PollSettings | None, info: ValidationInfo) -> PollSettings | None:
        kind = _kind_of(info)
        if kind and kind.is_polled != (poll is not None):
            raise ValueError(
                "is missing" if kind.is_polled else "does not go with this connector, which is never asked"
            )
        return poll


def _kind_of(info: ValidationInfo) -> ConnectorKind | None:
    """The kind of the connector, None where there is no such connector."""
    return CONNECTORS.get(info.data.get("connector", ""))


def _name_connectors(value: Any) -> Any:
    """The tables of sources, where each that names no connector has the one that is called as it is."""
    if not isinstance(value, dict):
        return value
    return {name: {"connector": name} | table if isinstance(table, dict) else table for name, table in value.items()}


def _check_name(name: str) -> str:
    if not re.fullmatch(SOURCE_NAME, name):
        raise ValueError("a source's name has 1 to 64 of a-z, 0-9, _ and -, and begins with a letter or digit")
    if name in RESERVED_NAMES:
        raise ValueError("this name is the ledger's own: give the source another, and say what its connector is")
    return name


SourceName = Annotated[str, AfterValidator(_check_name)]
Sources = Annotated[dict[SourceName, SourceSettings], BeforeValidator(_name_connectors), Field(max_length=SOURCES_MAX)]
