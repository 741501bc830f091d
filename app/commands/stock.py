"""`lastunit stock`: stock from a file into the ledger, and out of it into one."""

from pathlib import Path
from typing import Annotated

import typer

from app.commands.console import Config, DataDir, RedisUrl
from app.settings import load_settings

stock = typer.Typer(name="stock", help="Stock from a file into the ledger, and out of it.", no_args_is_help=True)


@stock.command("import")
def stock_import(
    file: Annotated[Path, typer.Argument(help="CSV, or the JSON of Amazon's inventory summaries.")],
    *,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    config: Config = None,
) -> None:
    """Count stock and set policies as a file says: all of it, or nothing where a row is wrong."""
    from app.commands.stock_files import run_import  # noqa: PLC0415 - a quick --help

    done = run_import(load_settings({"data_dir": data_dir, "redis_url": redis_url}, config=config), file)
    typer.echo(f"{done.rows} rows are as the file says; {done.changed} of them changed something.")


@stock.command("export")
def stock_export(
    file: Annotated[Path, typer.Argument(help="CSV, as import takes it.")],
    *,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    config: Config = None,
) -> None:
    """Write every SKU's stock and policy into a file, ordered by SKU and location."""
    from app.commands.stock_files import run_export  # noqa: PLC0415 - a quick --help

    skus = run_export(load_settings({"data_dir": data_dir, "redis_url": redis_url}, config=config), file)
    typer.echo(f"{skus} SKUs are in {file}.")
