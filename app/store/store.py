"""Everything a gateway needs of the engine, wired: made inside the event loop, opened, closed."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from redis.asyncio import BlockingConnectionPool, Redis

from app.settings import Settings
from app.store.calls import check_contracts
from app.store.clock import MICROSECONDS
from app.store.commands import Commands
from app.store.connections import BEGINNING
from app.store.keys import Keyspace
from app.store.mappings import Mappings
from app.store.opening import Partitions
from app.store.pipeline import Pipeline
from app.store.scripts import Script, load_scripts
from app.store.source_states import SourceStates

POOL_WAIT_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Store:
    """The commands over one pipeline, a pool for what may take long or stands around the scripts, and what it knows."""

    commands: Commands
    pipeline: Pipeline
    keyspace: Keyspace
    partitions: Partitions
    client: Redis
    mappings: Mappings
    source_states: SourceStates

    def now_us(self) -> int:
        """Engine time now; where the partitions' clocks differ, the latest. Before one was heard, the wall clock's."""
        return max(clock.now_us() for clock in self.partitions.clocks) or time.time_ns() // 1000

    async def __aenter__(self) -> Self:
        """Connects; raises StartupError, or EngineUnavailable unless the engine may be away."""
        await self.pipeline.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pipeline.close()
        await self.client.aclose()


def make_store(
    settings: Settings,
    url: str,
    replaced_includes: Mapping[str, str] | None = None,
    *,
    sets_caps: bool = False,
    may_be_away: bool = False,
) -> Store:
    """The store for the engine at `url`; enter it to connect. `replaced_includes` is for tests: see `load_scripts`.

    A gateway that serves sets what one caller may hold, as its settings have it; what else opens a store leaves that.
    An engine that `may_be_away` is connected to when it comes.
    """
    scripts: dict[str, Script] = load_scripts(replaced_includes)
    check_contracts(scripts)
    keyspace = Keyspace(settings.partitions)
    partitions = Partitions(
        keyspace,
        scripts,
        retention_ms=settings.record_retention_seconds * 1000,
        committed_retention_ms=settings.committed_retention_seconds * 1000,
        caps=settings.caps if sets_caps else None,
    )
    # retry=None: a call that lost its answer may have run, so nothing is ever sent twice (docs/promises.md).
    pipelined = BlockingConnectionPool.from_url(url, **BEGINNING, retry=None, socket_timeout=None, max_connections=1)
    pool = BlockingConnectionPool.from_url(
        url,
        **BEGINNING,
        retry=None,
        max_connections=settings.engine_pool_connections_max,
        timeout=POOL_WAIT_SECONDS,
        socket_timeout=settings.engine_timeout_seconds,
        socket_connect_timeout=settings.engine_connect_timeout_seconds,
    )
    pipeline = Pipeline(
        make_connection=pipelined.make_connection,
        on_open=partitions.open,
        timeout_seconds=settings.engine_timeout_seconds,
        open_timeout_seconds=settings.engine_connect_timeout_seconds,
        in_flight_max=settings.engine_in_flight_max,
        waiting_max=settings.engine_waiting_max,
        may_be_away=may_be_away,
    )
    commands = Commands(
        pipeline=pipeline,
        scripts=scripts,
        keyspace=keyspace,
        partitions=partitions,
        timeout_us=int(settings.engine_timeout_seconds * MICROSECONDS),
        max_lifetime_us=int(settings.max_lifetime_seconds * MICROSECONDS),
    )
    client = Redis.from_pool(pool)
    return Store(
        commands,
        pipeline,
        keyspace,
        partitions,
        client,
        mappings=Mappings(client, keyspace.sources),
        source_states=SourceStates(client, keyspace.sources),
    )
