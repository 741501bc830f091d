"""What --help says of each command: all that was written for it, and what an option is where it is not given."""

import pytest
import typer.rich_utils
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command
from typer.testing import CliRunner

from app.cli import cli


def commands_of(command: object, *words: str) -> dict[str, TyperCommand]:
    """Each command by its words."""
    if isinstance(command, TyperGroup):
        found = [commands_of(each, *words, name) for name, each in command.commands.items()]
        return {name: each for of_one in found for name, each in of_one.items()}
    assert isinstance(command, TyperCommand)
    return {" ".join(words): command}


COMMANDS = commands_of(get_command(cli))


@pytest.mark.parametrize("words", COMMANDS)
def test_nothing_of_the_help_is_swallowed(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer.rich_utils, "MAX_WIDTH", 500)
    shown = CliRunner().invoke(cli, [*words.split(), "--help"]).output
    options = [each for each in COMMANDS[words].params if isinstance(each, TyperArgument | TyperOption) and each.help]
    for option in options:
        (row,) = [line for line in shown.splitlines() if str(option.help) in line]
        if isinstance(option.show_default, str):
            assert f"[default: ({option.show_default})]" in row
