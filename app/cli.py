"""The `lastunit` command: serve and demo here, the others in app.commands."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import app
from app.commands.console import Config, default_of
from app.commands.dead_letters import dead_letters
from app.commands.keys import keys
from app.commands.ledger import ledger
from app.commands.operator import backup, doctor, restore
from app.commands.stock import stock
from app.domain.errors import LastunitError
from app.settings import load_settings

cli = typer.Typer(
    name="lastunit",
    help="Lastunit: the reservation service that sells the last unit exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.add_typer(stock)
cli.add_typer(ledger)
cli.add_typer(dead_letters)
cli.add_typer(keys)


def main() -> None:
    """Runs the command line; a known fault is one sentence on stderr and exit status 1."""
    try:
        cli()
    except LastunitError as error:
        typer.echo(f"lastunit: {str(error).removesuffix('.')}.", err=True)
        sys.exit(1)


def _show_version(is_wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if is_wanted:
        typer.echo(f"lastunit {app.__version__}")
        raise typer.Exit


@cli.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Options of every command are also LASTUNIT_<NAME> in the environment and keys of lastunit.toml."""


@cli.command()
def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default=default_of("host"))] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0 takes a free one.", show_default=default_of("port"))
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where the embedded engine keeps its data.", show_default=default_of("data_dir")),
    ] = None,
    redis_url: Annotated[str | None, typer.Option(help="Use this engine instead of an embedded one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Gateway processes.", show_default=default_of("workers"))] = None,
    config: Config = None,
    sample_stock: Annotated[
        bool | None, typer.Option("--sample-stock", help="Start an empty ledger with a sample catalogue.")
    ] = None,
) -> None:
    """Serve the API; with an embedded engine unless --redis-url names one. Ends cleanly on SIGTERM."""
    from app.workflows.serving import serve as run  # noqa: PLC0415 - a quick --help

    overrides = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "redis_url": redis_url,
        "workers": workers,
        "sample_stock": sample_stock,
    }
    run(load_settings(overrides, config=config))


@cli.command()
def demo(
    *,
    agents: Annotated[int, typer.Option(min=1, max=10_000, help="How many agents want a unit.")] = 1000,
    units: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many units there are.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="What the agents' moods follow from.")] = 1,
    with_warehouse: Annotated[bool, typer.Option("--with-warehouse", help="A warehouse's day instead.")] = False,
) -> None:
    """Run a flash sale over real HTTP in the terminal, and prove from the ledger that nothing was sold twice."""
    from app.demo import run_demo, run_warehouse_demo  # noqa: PLC0415 - a quick --help

    if with_warehouse:
        raise typer.Exit(0 if run_warehouse_demo() else 1)
    raise typer.Exit(0 if run_demo(agents=agents, units=units, seed=seed) else 1)


for command in (doctor, backup, restore):
    cli.command()(command)
