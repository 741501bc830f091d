"""The console blocks of a document: what a reader types, what it prints, and whether that is still so.

In a shown answer `...` stands for members left out. Times, tokens, request ids and waits are of one run: only their
shape is compared, and that a token which comes again is the same one again.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ADDRESS = "http://127.0.0.1:8000"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n", re.MULTILINE)
TOKEN = re.compile(r"\d+-[\w-]{22}")
SHAPES = (TOKEN, re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), re.compile(r"[0-9a-f]{24}"))
TOOLS = ("curl", "openssl")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
SECONDS_MAX = 20


@dataclass(frozen=True, slots=True)
class Example:
    """A command, and what the document shows that it prints."""

    command: str
    shown: str


def examples(document: str) -> Iterator[Example]:
    """Every curl line of the document and every NAME=value, in order."""
    for block in BLOCK.findall(document):
        _, *parts = COMMAND.split(block)
        for command, shown in zip(parts[::2], parts[1::2], strict=True):
            if re.match(r"curl |[A-Z]+=", command):
                yield Example(command, shown.strip())


def stand_ins(*tools: str) -> str:
    """A shell's first line, for where these are missing: something that does as much of each as the documents need."""
    made = (f'{tool}() {{ "{sys.executable}" -m tests.fundamentals.{tool} "$@"; }}' for tool in tools)
    return "; ".join((":", *made))


class Console:
    """A reader's shell, in which the service has another address, and the tokens that it gave out this time."""

    def __init__(self, address: str, missing: Iterable[str] = MISSING) -> None:
        self._address = address
        self._prelude = stand_ins(*missing)
        self._tokens: dict[str, str] = {}

    def run(self, command: str) -> str:
        """What the command prints. A NAME=value is remembered."""
        typed = TOKEN.sub(lambda shown: self._tokens[shown[0]], command.replace(ADDRESS, self._address))
        if not typed.startswith("curl "):
            self._prelude += f"\n{typed}"
            return ""
        script = f"{self._prelude}\n{typed}"
        done = subprocess.run(
            ["/bin/sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=SECONDS_MAX
        )
        return done.stdout.strip()

    def check(self, example: Example) -> None:
        """Runs the command; what it prints must be what is shown."""
        printed, shown = _parsed(self.run(example.command)), _parsed(example.shown)
        difference = self._difference(shown, printed, "")
        assert difference is None, f"$ {example.command}\n{difference}\nit printed: {json.dumps(printed)}"

    def _difference(self, shown: Any, printed: Any, where: str) -> str | None:
        """The first, in words; None when they agree."""
        rows: Iterator[tuple[Any, Any, str]] = iter(())
        match shown, printed:
            case dict(), dict():
                is_alike = shown.keys() <= printed.keys() | {"..."} and (
                    "..." in shown or printed.keys() <= shown.keys()
                )
                rows = ((shown[name], printed.get(name), f"{where}.{name}") for name in shown if name != "...")
            case list(), list():
                is_alike = len(shown) == len(printed)
                rows = ((*pair, f"{where}[{index}]") for index, pair in enumerate(zip(shown, printed, strict=False)))
            case str(), str():
                is_alike = self._is_alike(shown, printed)
            case int(), int() if where.endswith(".retry_after_ms"):
                is_alike = shown > 0 and printed > 0
            case _:
                is_alike = type(shown) is type(printed) and shown == printed
        if not is_alike:
            return f"{where or 'all of it'} is shown as {json.dumps(shown)}"
        return next(filter(None, (self._difference(*row) for row in rows)), None)

    def _is_alike(self, shown: str, printed: str) -> bool:
        """The same text but for what has a shape. A token of the document stands for the one that came in its place."""
        for token, came in zip(TOKEN.findall(shown), TOKEN.findall(printed), strict=False):
            if self._tokens.setdefault(token, came) != came:
                return False
        for shape in SHAPES:
            shown, printed = shape.sub("", shown), shape.sub("", printed)
        return shown == printed


def _parsed(text: str) -> list[Any]:
    """The JSON that the text begins with, if it does, and the rest of it as text."""
    if not text.startswith("{"):
        return [text]
    whole = text.replace("...", '"...": 0')
    value, end = json.JSONDecoder().raw_decode(whole)
    return [value, whole[end:].strip()]
