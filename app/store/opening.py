"""What happens on every new connection before it serves: checks, scripts, partitions."""

import secrets
from collections.abc import Mapping

import structlog
from redis.exceptions import NoPermissionError, ResponseError

from app.domain.caps import Caps
from app.domain.errors import StartupError
from app.store.calls import OpenPartitionArgs, OpenPartitionReply
from app.store.checks import CONFIG_NAMES, INFO_SECTIONS, check_engine, refuse_unsafe
from app.store.clock import EngineClock
from app.store.decoding import encode_caps
from app.store.keys import Keyspace
from app.store.pipeline import Opening
from app.store.scripts import Script

SCHEMA_VERSION = 2
SECRET_BYTES = 32
KEEP_CAPS = "keep"  # as another gateway had them set

log = structlog.get_logger()


class Partitions:
    """What this gateway knows of the partitions it opened: clock and secret of each, the highest sequence seen."""

    def __init__(
        self,
        keyspace: Keyspace,
        scripts: Mapping[str, Script],
        *,
        retention_ms: int,
        committed_retention_ms: int,
        caps: Caps | None,
    ) -> None:
        self._keyspace = keyspace
        self._scripts = scripts
        self._retention_ms = retention_ms
        self._committed_retention_ms = committed_retention_ms
        self._caps = KEEP_CAPS if caps is None else encode_caps(caps)
        self._is_first_time = True
        self.clocks = [EngineClock() for _ in keyspace.partitions]
        self.secrets: list[bytes] = [b""] * len(keyspace.partitions)
        self.sequences: list[int] = [0] * len(keyspace.partitions)

    def saw(self, partition: int, sequence: int) -> None:
        """Takes note of a sequence that the engine answered with."""
        self.sequences[partition] = max(self.sequences[partition], sequence)

    async def open(self, opening: Opening) -> None:
        """Prepares the engine behind a new connection; raises StartupError where it is not safe to serve from."""
        info: dict[str, object] = {}
        for section in INFO_SECTIONS:
            info |= _parse_pairs((await opening.command("INFO", section)).decode().splitlines())
        try:
            flat = [part.decode() for part in await opening.command("CONFIG", "GET", *CONFIG_NAMES)]
        except (NoPermissionError, ResponseError):  # forbidden to this user, or renamed away by the provider
            flat = []
        refuse_unsafe(check_engine(info, dict(zip(flat[::2], flat[1::2], strict=True))))
        for script in self._scripts.values():
            await opening.command("SCRIPT", "LOAD", script.source)
        for index in range(len(self._keyspace.partitions)):
            await self._open_partition(opening, index)
        self._is_first_time = False

    async def _open_partition(self, opening: Opening, index: int) -> None:
        keys = self._keyspace.partitions[index]
        script = self._scripts["open_partition"]
        args = OpenPartitionArgs(
            schema_version=SCHEMA_VERSION,
            partition=index,
            partitions=len(self._keyspace.partitions),
            secret=secrets.token_hex(SECRET_BYTES),
            retention_ms=self._retention_ms,
            sequence_seen=self.sequences[index],
            take_clock=int(self._is_first_time),
            committed_retention_ms=self._committed_retention_ms,
            caps=self._caps,
        )
        raw = await opening.command("EVALSHA", script.sha, 3, keys.meta, keys.ledger, keys.deadlines, *args)
        reply = OpenPartitionReply(*raw)
        found = reply.sequence.decode()
        match reply.status:
            case b"opened":
                self.secrets[index] = reply.secret
                self.saw(index, int(reply.sequence))
                self.clocks[index].hear(int(reply.now_us))
            case b"schema_mismatch":
                raise StartupError(
                    f"The engine's data is of schema version {found}, this service knows {SCHEMA_VERSION}: "
                    "run the version of Lastunit that wrote it."
                )
            case b"partitions_mismatch":
                raise StartupError(
                    f"The engine's data has {found} partitions, not {len(self._keyspace.partitions)}: "
                    f"set partitions (LASTUNIT_PARTITIONS) to {found}."
                )
            case _:
                log.error("ledger_rolled_back", sequence=int(reply.sequence), seen=self.sequences[index])
                raise StartupError(
                    f"The engine's ledger ends at {found}, but this gateway has seen {self.sequences[index]}: "
                    "it was rolled back, so nothing is held until somebody restarts the service, knowing that."
                )


def _parse_pairs(lines: list[str]) -> dict[str, object]:
    return {name: value for name, _, value in (line.partition(":") for line in lines) if value}
