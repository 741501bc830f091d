"""`lastunit keys`: API keys given out, listed and taken back."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from app.commands.console import Config
from app.settings import load_settings

KeyId = Annotated[str, typer.Argument(metavar="ID", help="Whose key it is: a name of yours.")]
KeysFile = Annotated[
    Path | None, typer.Option("--file", help="The file of keys.", show_default="the setting api_keys_file")
]

keys = typer.Typer(name="keys", help="Give out API keys, list them, take them back.", no_args_is_help=True)


@keys.command("create")
def create(
    key_id: KeyId,
    *,
    scope: Annotated[
        list[str] | None, typer.Option(help="What it may: agent, reader, operator, webhook:<source>. Repeatable.")
    ] = None,
    agent_id: Annotated[str | None, typer.Option(help="The only agent that it is good for.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="How long it is good.")] = None,
    renew: Annotated[bool, typer.Option("--renew", help="A second key for an ID that has one; both are good.")] = False,
    file: KeysFile = None,
    config: Config = None,
) -> None:
    """Make a key and print it, this once: only its hash is kept. A running service takes it within seconds."""
    from app.commands.key_file import create_key  # noqa: PLC0415 - a quick --help

    settings = load_settings({"api_keys_file": file}, config=config)
    expires_at = None if days is None else f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
    typer.echo(create_key(settings, key_id, scope or [], agent_id=agent_id, expires_at=expires_at, may_renew=renew))


@keys.command("list")
def list_(*, file: KeysFile = None, config: Config = None) -> None:
    """Print a line for each key, with the first digits of its hash."""
    from app.commands.key_file import list_keys  # noqa: PLC0415 - a quick --help

    for line in list_keys(load_settings({"api_keys_file": file}, config=config)):
        typer.echo(line)


@keys.command("revoke")
def revoke(
    key_id: KeyId,
    *,
    sha256: Annotated[
        str | None, typer.Option(help="Only the key whose hash begins so.", show_default="all of the ID")
    ] = None,
    file: KeysFile = None,
    config: Config = None,
) -> None:
    """Take keys back. A running service refuses them within seconds."""
    from app.commands.key_file import revoke_keys  # noqa: PLC0415 - a quick --help

    typer.echo(revoke_keys(load_settings({"api_keys_file": file}, config=config), key_id, sha256 or ""))
