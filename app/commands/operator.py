"""`lastunit doctor`, `backup` and `restore`: what an operator types."""

from pathlib import Path
from typing import Annotated

import typer

from app.commands.console import Config, DataDir, RedisUrl
from app.settings import load_settings


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    config: Config = None,
) -> None:
    """Examine settings, engine, clock, memory, archive and disk; exit status 1 where something must be mended."""
    from app.commands.examination import run_doctor  # noqa: PLC0415 - a quick --help

    if not run_doctor({"data_dir": data_dir, "redis_url": redis_url}, config, as_json=as_json):
        raise typer.Exit(1)


def backup(
    file: Annotated[Path, typer.Argument(help="A new file.")], *, data_dir: DataDir = None, config: Config = None
) -> None:
    """Write the data directory's engine and archive into a file, as they are at one moment. The service may run."""
    from app.commands.backups import run_backup  # noqa: PLC0415 - a quick --help

    typer.echo(run_backup(load_settings({"data_dir": data_dir}, config=config), file))


def restore(
    file: Annotated[Path, typer.Argument(help="What lastunit backup wrote.")],
    *,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Make a new or empty data directory the one that was backed up."""
    from app.commands.backups import run_restore  # noqa: PLC0415 - a quick --help

    typer.echo(run_restore(load_settings({"data_dir": data_dir}, config=config), file))
