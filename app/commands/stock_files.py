"""Runs `lastunit stock import` and `export`: an engine, a file, a progress bar."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from app.domain.outcomes import Imported
from app.observability.logging import configure_logging
from app.settings import Settings
from app.store.engine import open_engine
from app.store.store import Store, make_store
from app.workflows.stock_files.exporting import export_stock
from app.workflows.stock_files.faults import StockFileError
from app.workflows.stock_files.importing import import_stock

STEPS = {"read": "reading", "check": "checking", "apply": "applying", "export": "writing"}

Advance = Callable[[str, int, int], None]


def run_import(settings: Settings, path: Path) -> Imported:
    """Applies a file; raises StockFileError, ImportInterrupted, StartupError, EngineError."""
    configure_logging("warning")

    async def run(file: IO[bytes], advance: Advance) -> Imported:
        async with _store(settings) as store:
            return await import_stock(store, file, kind_of=settings.kind_of, on_progress=advance)

    try:
        with path.open("rb") as file, _progress() as advance:
            return asyncio.run(run(file, advance))
    except OSError as error:
        raise StockFileError(str(path), f"cannot be read ({error.strerror or error})") from None


def run_export(settings: Settings, path: Path) -> int:
    """Writes a file, which takes the path's place once it is whole; returns how many SKUs. Raises as an import."""
    configure_logging("warning")

    async def run(file: IO[str], advance: Advance) -> int:
        async with _store(settings) as store:
            return await export_stock(store, file, on_progress=lambda done, total: advance("export", done, total))

    try:
        with _replacing(path) as file, _progress() as advance:
            return asyncio.run(run(file, advance))
    except OSError as error:
        raise StockFileError(str(path), f"cannot be written ({error.strerror or error})") from None


@contextlib.asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[Store]:
    """The store on the engine of these settings: the running service's, or one that ends with the command."""
    with open_engine(settings, exclusive=False) as engine:
        async with make_store(settings, engine.url) as store:
            yield store


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """A file that takes this path's place once it is complete."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", newline="", prefix=f".{path.name}.", dir=path.parent, delete=False
    ) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise


@contextlib.contextmanager
def _progress() -> Iterator[Advance]:
    """A bar for each step, on stderr."""
    columns = (TextColumn("{task.description:<8}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, TaskID] = {}

        def advance(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(STEPS[step], total=total)
            progress.update(tasks[step], completed=done)

        yield advance
