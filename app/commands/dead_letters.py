"""`lastunit dead-letters`: deliveries that could not be used, looked at and settled."""

from typing import Annotated

import typer

from app.commands.console import Config, DataDir, RedisUrl
from app.domain.dead_letters import LetterStatus
from app.settings import load_settings

Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="As lastunit dead-letters list names them.")]

dead_letters = typer.Typer(
    name="dead-letters", help="Look at deliveries that could not be used, and settle them.", no_args_is_help=True
)


@dead_letters.command("list")
def list_(
    *,
    status: Annotated[LetterStatus, typer.Option(help="Which of them.")] = LetterStatus.OPEN,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    config: Config = None,
) -> None:
    """Print a line for each, those received last first."""
    from app.commands.settling import run_list  # noqa: PLC0415 - a quick --help

    run_list(load_settings({"data_dir": data_dir, "redis_url": redis_url}, config=config), status, typer.echo)


@dead_letters.command("show")
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    config: Config = None,
) -> None:
    """Print one, with the headers that are no secret and the body."""
    from app.commands.settling import run_show  # noqa: PLC0415 - a quick --help

    run_show(load_settings({"data_dir": data_dir, "redis_url": redis_url}, config=config), letter_id, typer.echo)


@dead_letters.command("replay")
def replay(letter_ids: Ids, *, data_dir: DataDir = None, redis_url: RedisUrl = None, config: Config = None) -> None:
    """Take them in again, now that the reason is mended; exit status 1 where one is still of no use."""
    from app.commands.settling import run_replay  # noqa: PLC0415 - a quick --help

    settings = load_settings({"data_dir": data_dir, "redis_url": redis_url}, config=config)
    if not run_replay(settings, letter_ids, typer.echo):
        raise typer.Exit(1)


@dead_letters.command("discard")
def discard(letter_ids: Ids, *, data_dir: DataDir = None, redis_url: RedisUrl = None, config: Config = None) -> None:
    """Say that nothing is to be done about them."""
    from app.commands.settling import run_discard  # noqa: PLC0415 - a quick --help

    settings = load_settings({"data_dir": data_dir, "redis_url": redis_url}, config=config)
    run_discard(settings, letter_ids, typer.echo)
