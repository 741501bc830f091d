"""`lastunit ledger`: the proof that the ledger is the whole truth, and an engine made from it."""

from typing import Annotated

import typer

from app.commands.console import Config, DataDir, RedisUrl
from app.settings import load_settings

ledger = typer.Typer(name="ledger", help="Prove the ledger, or rebuild an engine from it.", no_args_is_help=True)


@ledger.command("verify")
def verify(*, data_dir: DataDir = None, redis_url: RedisUrl = None, config: Config = None) -> None:
    """Replay the ledger and compare it with the live state; exit status 1 where they differ. A service may run."""
    from app.commands.proof import run_verify  # noqa: PLC0415 - a quick --help

    verdict = run_verify(load_settings({"data_dir": data_dir, "redis_url": redis_url}, config=config))
    if verdict.difference is None:
        typer.echo(f"All {verdict.entries:,} entries replay without a gap to exactly the live state.")
        return
    found = verdict.difference
    typer.echo(f"They differ first at sequence {found.sequence} of partition {found.partition}: {found.sentence}.")
    raise typer.Exit(1)


@ledger.command("rebuild")
def rebuild(
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--from", help="A backup, another data directory or another engine's URL.", show_default="the archive"
        ),
    ] = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Write it for so many partitions.", show_default="as it was")
    ] = None,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    config: Config = None,
) -> None:
    """Make an empty engine the one whose ledger is in the archive, in a backup, or in another engine."""
    from app.commands.rebuilding import run_rebuild  # noqa: PLC0415 - a quick --help

    settings = load_settings({"data_dir": data_dir, "redis_url": redis_url}, config=config)
    rebuilt = run_rebuild(settings, source, partitions)
    typer.echo(f"Rebuilt from {rebuilt.entries:,} entries in {rebuilt.seconds:.1f} s: {rebuilt.description}.")
    if rebuilt.is_repartitioned:
        typer.echo(
            f"Before you serve it, set partitions (LASTUNIT_PARTITIONS) to {rebuilt.partitions}. Idempotency-Keys of "
            "before are forgotten: let no agent repeat a request from then."
        )
