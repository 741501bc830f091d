"""What every route works with, handed to the rooms that make routes."""

from dataclasses import dataclass

from app.settings import Settings
from app.store.commands import Commands
from app.store.store import Store


@dataclass(slots=True)
class Services:
    """The settings, and the store once the service has started."""

    settings: Settings
    opened_store: Store | None = None

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
