"""What the commands have in common: their options, and a progress bar on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from app.settings import Settings

OnProgress = Callable[[str, float], None]  # what it is at, and how much of that is done, 0 to 1


def default_of(name: str) -> str:
    """A setting's default, for the help of its option: given as such, the option would hide environment and file."""
    return str(Settings.model_fields[name].default)


DataDir = Annotated[
    Path | None, typer.Option(help="The service's data directory.", show_default=default_of("data_dir"))
]
RedisUrl = Annotated[str | None, typer.Option(help="Use this engine instead of the data directory's.")]
Config = Annotated[Path | None, typer.Option(help="lastunit.toml.", show_default="the data directory's")]


@contextmanager
def progress_bar() -> Iterator[OnProgress]:
    """A bar for each step; nothing where stderr is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(step: str, share: float) -> None:
            if step not in tasks:
                for task in tasks.values():
                    bars.update(task, completed=1)
                tasks[step] = bars.add_task(step, total=1)
            bars.update(tasks[step], completed=share)

        yield advance
        for task in tasks.values():
            bars.update(task, completed=1)
