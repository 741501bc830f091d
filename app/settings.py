"""The one frozen settings object: every option of the service, its unit in its name, its bounds beside it.

Precedence: command line > environment (`LASTUNIT_<NAME>`) > `lastunit.toml` > the defaults below.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from app.connectors.source_settings import Sources
from app.domain.breakers import ENGINE
from app.domain.caps import Caps
from app.domain.errors import StartupError

ENV_PREFIX = "LASTUNIT_"
CONFIG_NAME = "lastunit.toml"
ARCHIVE_NAME = "archive"  # of the embedded engine; after a dash stands where another engine is
BREAKERS_NAME = "lastunit.breakers"  # likewise


class LocationSettings(BaseModel):
    """What is known of a location. A smaller priority is taken from first."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["shared", "dedicated"] = "shared"
    priority: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    lead_time_days: Annotated[int, Field(ge=0, le=3650)] | None = None
    authority: str | None = None


class Settings(BaseSettings):
    """All options, validated once at start. Unknown keys and variables stop the start."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    data_dir: Path = Path("data")
    redis_url: str | None = Field(default=None, repr=False)
    partitions: Annotated[int, Field(ge=1, le=1024)] = 1
    sample_stock: bool = False

    api_keys_file: Path | None = None
    jwt_jwks: Annotated[str, Field(min_length=1)] | None = None
    jwt_issuer: Annotated[str, Field(min_length=1)] | None = None
    jwt_audience: Annotated[str, Field(min_length=1)] | None = None
    rate_limit: Annotated[str, Field(pattern="^[1-9][0-9]{0,6}/(second|minute)$")] | None = None

    agent_open_holds_max: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    agent_held_units_max: Annotated[int | None, Field(ge=1, le=10**12)] = None
    agent_sku_share_percent_max: Annotated[float | None, Field(ge=0.01, le=100)] = None
    agent_expired_holds_max: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    agent_cooldown_seconds: Annotated[float, Field(gt=0, le=86_400)] = 60.0

    ttl_seconds_default: Annotated[float, Field(gt=0, le=86_400)] = 10.0
    ttl_seconds_min: Annotated[float, Field(gt=0, le=86_400)] = 1.0
    ttl_seconds_max: Annotated[float, Field(gt=0, le=86_400)] = 1800.0
    payment_ttl_seconds_default: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    max_lifetime_seconds: Annotated[float, Field(gt=0, le=7 * 86_400)] = 3600.0
    record_retention_seconds: Annotated[int, Field(ge=86_400, le=90 * 86_400)] = 86_400
    committed_retention_seconds: Annotated[int, Field(ge=86_400, le=365 * 86_400)] = 30 * 86_400

    sweep_enabled: bool = True
    sweep_interval_seconds_max: Annotated[float, Field(ge=0.01, le=60)] = 1.0

    engine_timeout_seconds: Annotated[float, Field(ge=0.05, le=8)] = 2.0
    engine_connect_timeout_seconds: Annotated[float, Field(ge=0.05, le=30)] = 2.0
    engine_pool_connections_max: Annotated[int, Field(ge=1, le=1024)] = 16
    engine_in_flight_max: Annotated[int, Field(ge=1, le=4096)] = 256
    engine_waiting_max: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    breaker_open_after_seconds: Annotated[float, Field(ge=0.1, le=300)] = 5.0
    breakers_file: Path | None = None

    archive_url: Annotated[str, Field(pattern=r"^(sqlite:///.+|postgresql://.+)?$")] | None = Field(
        default=None, repr=False
    )
    archive_lag_entries_max: Annotated[int, Field(ge=1, le=100_000_000)] = 1_000_000
    ledger_entries_kept: Annotated[int, Field(ge=1, le=100_000_000)] = 100_000

    reconciliation_interval_seconds: Annotated[float, Field(ge=0, le=900)] = 600.0

    body_bytes_max: Annotated[int, Field(ge=1024, le=16 * 1024 * 1024)] = 64 * 1024
    import_bytes_max: Annotated[int, Field(ge=1024, le=1024**3)] = 4 * 1024 * 1024
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"
    log_requests: bool = False

    sources: Sources = Field(default_factory=dict)
    locations: dict[str, LocationSettings] = Field(default_factory=dict)

    def kind_of(self, location_id: str) -> Literal["shared", "dedicated"]:
        """Whether a location's stock is sold from, or only shown."""
        location = self.locations.get(location_id)
        return location.kind if location else "shared"

    @property
    def caps(self) -> Caps:
        """What one caller may hold."""
        share = self.agent_sku_share_percent_max
        return Caps(
            open_holds=self.agent_open_holds_max,
            held_units=self.agent_held_units_max,
            sku_share_basis_points=None if share is None else round(share * 100),
            expired_holds=self.agent_expired_holds_max,
            cooldown_us=round(self.agent_cooldown_seconds * 1_000_000),
        )

    @property
    def has_keys(self) -> bool:
        """Whether callers must show who they are; else everybody may do everything, from this machine alone."""
        return self.api_keys_file is not None or self.jwt_jwks is not None

    @property
    def archive_address(self) -> str | None:
        """The URL of the archive's database, None when there is no archive."""
        if self.archive_url is None:
            return f"sqlite:///{self._path_of(ARCHIVE_NAME)}.sqlite"
        return self.archive_url or None

    @property
    def breakers_path(self) -> Path:
        """The file of what persons ordered breakers to be."""
        return self.breakers_file or Path(f"{self._path_of(BREAKERS_NAME)}.json")

    def _path_of(self, name: str) -> Path:
        """Each engine has its own: what one has sold is nothing to another that is served from the same directory."""
        return self.data_dir / (f"{name}-{_place_of(self.redis_url)}" if self.redis_url else name)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        order = ("ttl_seconds_min", "ttl_seconds_default", "ttl_seconds_max", "max_lifetime_seconds")
        for smaller, larger in pairwise(order):
            if getattr(self, smaller) > getattr(self, larger):
                raise ValueError(f"{smaller} is larger than {larger}: change one of them")
        return self

    @model_validator(mode="after")
    def _check_tokens(self) -> Self:
        given = [name for name in ("jwt_jwks", "jwt_issuer", "jwt_audience") if getattr(self, name) is not None]
        if len(given) not in (0, 3):
            raise ValueError(f"{given[0]} needs the others: give jwt_jwks, jwt_issuer and jwt_audience together")
        if self.jwt_jwks and "://" in self.jwt_jwks and not self.jwt_jwks.startswith("https://"):
            raise ValueError("jwt_jwks must be a path or an https URL")
        return self

    @field_validator("sources")
    @classmethod
    def _check_names(cls, sources: Sources) -> Sources:
        if ENGINE in sources:
            raise ValueError(f"no source may be called {ENGINE}: its breaker would be taken for the engine's")
        return sources

    @field_validator("locations")
    @classmethod
    def _check_authorities(
        cls, locations: dict[str, LocationSettings], info: ValidationInfo
    ) -> dict[str, LocationSettings]:
        for name, location in locations.items():
            if location.authority is not None and location.authority not in info.data.get(
                "sources", [location.authority]
            ):
                raise ValueError(f"the authority of {name} is no source: name one of [sources.*], or leave it out")
        return locations

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line (init), then environment, then the file; no dotenv, no secrets directory."""
        file_values: dict[str, Any] = {}
        if isinstance(init_settings, InitSettingsSource):
            file_values = init_settings.init_kwargs.pop("file_values", {})
        return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=file_values)


def _place_of(url: str) -> str:
    """Where an engine is, as a part of a file's name: without credentials, and the same for all URLs of one place."""
    parts = urlsplit(url)
    authority, path = parts.netloc.rpartition("@")[2], parts.path.strip("/")
    if authority:
        place, database = authority if ":" in authority else f"{authority}:6379", path
    else:
        place, database = path, ""
    database = dict(parse_qsl(parts.query)).get("db", database) or "0"
    return re.sub(r"[^\w.-]+", "-", f"{place}-{database}")


def load_settings(overrides: Mapping[str, object] | None = None, *, config: Path | None = None) -> Settings:
    """The settings of this process; raises StartupError naming the file or variable and the key, never the value.

    `overrides` are options given on the command line (None means not given). Without `config`, the file is
    `LASTUNIT_CONFIG`, else `lastunit.toml` in the data directory when it exists.
    """
    given: dict[str, Any] = {key: value for key, value in (overrides or {}).items() if value is not None}
    _check_environment()
    path = _config_path(given, config)
    file_values = _read_toml(path) if path else {}
    for name in file_values:
        if name not in Settings.model_fields:
            raise StartupError(f"{path}: unknown key '{name}': {_mend(name, str)}.")
    try:
        return Settings(**given, file_values=file_values)  # type: ignore[call-arg] # customise_sources takes it out
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"] if part != "[key]")
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown key: remove it or correct its name"
        raise StartupError(f"{_origin_of(key, given, file_values, path)}: {message}.") from None
    except SettingsError as error:
        name = str(error).split('"')[1]  # error parsing value for field "locations" from source ...
        raise StartupError(f"environment variable {_variable(name)}: must be a JSON object.") from None


def _check_environment() -> None:
    """Raises StartupError where a variable reads like a setting and is none: misspelt, it would protect nothing."""
    for name in os.environ:
        key = name.upper().removeprefix(ENV_PREFIX).lower()
        if name.upper().startswith(ENV_PREFIX) and key not in (*Settings.model_fields, "config"):
            raise StartupError(f"unknown environment variable {name}: {_mend(key, _variable)}.")


def _mend(key: str, written: Callable[[str], str]) -> str:
    """What to do about a name that no setting has; `written` is how settings are written where it stands."""
    nearest = get_close_matches(key, Settings.model_fields, n=1)
    return f"remove it or correct its name to {written(nearest[0])}" if nearest else "remove it or correct its name"


def _variable(key: str) -> str:
    return f"{ENV_PREFIX}{key.upper()}"


def _config_path(given: Mapping[str, object], config: Path | None) -> Path | None:
    named = config or (Path(os.environ[f"{ENV_PREFIX}CONFIG"]) if os.environ.get(f"{ENV_PREFIX}CONFIG") else None)
    if named:
        if not named.is_file():
            raise StartupError(f"{named}: no such configuration file: correct --config or LASTUNIT_CONFIG.")
        return named
    data_dir = (
        given.get("data_dir") or os.environ.get(f"{ENV_PREFIX}DATA_DIR") or Settings.model_fields["data_dir"].default
    )
    default = Path(str(data_dir)) / CONFIG_NAME
    return default if default.is_file() else None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise StartupError(f"{path}: not readable as TOML ({type(error).__name__}): correct the file.") from None


def _origin_of(key: str, given: Mapping[str, object], file_values: Mapping[str, object], path: Path | None) -> str:
    name, _, within = key.partition(".")
    if name in given:
        return f"option --{name.replace('_', '-')}"
    if _variable(name) in os.environ:
        return f"environment variable {_variable(name)}{within and f', key {within!r}'}"
    if name in file_values:
        return f"{path}: key '{key}'"
    return f"setting '{key}'" if key else "settings"
