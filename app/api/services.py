"""What every route works with, handed to the rooms that make routes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.access.gate import Gate
from app.api.bodies import Bodies
from app.domain.breakers import ENGINE
from app.ingest.intake import Source, make_sources
from app.projections.archive.reader import Archive
from app.settings import Settings
from app.store.commands import Commands
from app.store.store import Store
from app.workflows.admission import gate_of
from app.workflows.archive_watch import Watch
from app.workflows.breakers import Breaker, make_breakers


@dataclass(slots=True)
class Services:
    """What the settings ask for, how far the archive is behind, and the store once the service has started."""

    settings: Settings
    opened_store: Store | None = None
    bodies: Bodies = field(default_factory=Bodies)
    archive: Archive = field(init=False)
    archive_watch: Watch = field(init=False)
    sources: Mapping[str, Source] = field(init=False)
    gate: Gate | None = field(init=False)
    breakers: Mapping[str, Breaker] = field(init=False)
    engine_breaker: Breaker = field(init=False)

    def __post_init__(self) -> None:
        self.archive = Archive.of(self.settings)
        self.archive_watch = Watch(self.settings.archive_lag_entries_max)
        self.sources = make_sources(self.settings)
        self.gate = gate_of(self.settings)
        polled = {name: each.poll for name, each in self.settings.sources.items() if each.poll}
        self.breakers = make_breakers(polled)
        self.engine_breaker = self.breakers[ENGINE]

    @property
    def store(self) -> Store:
        """The open store; there is none before the lifespan began or after it ended."""
        if self.opened_store is None:
            raise RuntimeError("the service has not started")
        return self.opened_store

    @property
    def commands(self) -> Commands:
        """The commands of the open store."""
        return self.store.commands

    def now_us(self) -> int:
        """Engine time now; where the partitions' clocks differ, the latest."""
        return self.store.now_us()
