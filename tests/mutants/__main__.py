"""`python -m tests.mutants [--count 24] [--seed 1] [--every]`: breaks one line at a time; the quick suite must notice.

Each is tried in a copy of the tree, with the engine that is first. What documents say and how the code is written is
not asked: a test that compares a text would notice anything.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from tests.engines import chosen as engines
from tests.mutants.mutations import Mutant, chosen, generated

ROOT = Path(__file__).parents[2]
PARTS = ("app", "lua", "tests", "docs", "pyproject.toml", "README.md", "CHANGELOG.md", "Makefile")
QUICK = ("tests/scripts", "tests/unit")
NOT_ASKED = ("tests/unit/test_docs.py", "tests/unit/test_tidy.py", "tests/scripts/test_loader.py")
SECONDS_MAX = 600
AT_ONCE = 2

console = Console()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which test noticed; empty where none did."""

    mutant: Mutant
    test: str


def main(
    count: Annotated[int, typer.Option(help="How many of the generated ones.", min=0)] = 24,
    seed: Annotated[int, typer.Option(help="Which of them.")] = 1,
    *,
    every: Annotated[bool, typer.Option("--every", help="All of them: hours.")] = False,
    only: Annotated[str, typer.Option(help="Those of files whose path has this.")] = "",
) -> None:
    """Prints what noticed each mutant; exit status 1 where one survived."""
    mutants = [each for each in chosen(ROOT) if only in each.path]
    candidates = [each for each in generated(ROOT) if only in each.path]
    mutants += candidates if every else random.Random(seed).sample(candidates, min(count, len(candidates)))
    with tempfile.TemporaryDirectory(prefix="lastunit-mutants-") as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(AT_ONCE):
            copies.put(_copy(Path(folder) / str(number)))
        copy = copies.get()
        if noticed := _run(copy, ()):
            sys.exit(f"The quick suite fails on the code as it is: {noticed}.")
        copies.put(copy)

        def judge(mutant: Mutant) -> Verdict:
            copy = copies.get()
            try:
                return Verdict(mutant, _try(copy, mutant))
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(AT_ONCE) as executor:
            found = list[Verdict]()
            judging = executor.map(judge, mutants)
            for verdict in track(judging, description="mutants", total=len(mutants), console=console):
                found.append(verdict)
                _print(verdict)
    survivors = sum(not verdict.test for verdict in found)
    console.print(f"{len(found)} mutants, {len(found) - survivors} noticed, {survivors} survived; --seed {seed}.")
    sys.exit(bool(survivors))


def _print(verdict: Verdict) -> None:
    name = f"{verdict.mutant.name}: " if verdict.mutant.name else ""
    text = f"{verdict.test or 'SURVIVED'}\n    {name}{verdict.mutant}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _copy(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def _try(copy: Path, mutant: Mutant) -> str:
    path = copy / mutant.path
    text = path.read_text("utf-8")
    lines = text.splitlines(keepends=True)
    lines[mutant.number - 1] = mutant.after + "\n"
    path.write_text("".join(lines), "utf-8")
    try:
        return _run(copy, _first_asked(copy, mutant))
    finally:
        path.write_text(text, "utf-8")


def _first_asked(copy: Path, mutant: Mutant) -> tuple[str, ...]:
    """The tests that are named after the file, because they are the likely ones."""
    return tuple(
        str(path.relative_to(copy))
        for folder in QUICK
        for path in sorted((copy / folder).glob(f"test_*{Path(mutant.path).stem}*.py"))
    )


def _run(copy: Path, first: tuple[str, ...]) -> str:
    """The first test that fails, or how else it ended; empty where all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--no-header"]
    command += [f"--deselect={path}" for path in NOT_ASKED]
    environment = {**os.environ, "LASTUNIT_TEST_ENGINES": engines()[0], "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, *first, *QUICK],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_MAX,
        )
    except subprocess.TimeoutExpired:
        return f"no end within {SECONDS_MAX} s"
    if done.returncode == 0:
        return ""
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return failed[0].partition(" - ")[0] if failed else f"exit status {done.returncode}"


if __name__ == "__main__":
    typer.run(main)
