"""`python -m tests.faults`: the fault tests from many seeds, with many commands and long pauses.

Each seed that held is a line in a file; those that it names already are not run again, so a run goes on where it was
ended. It ends with the first seed that does not hold, and says how to replay that one.
"""

import argparse
import re
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

LOAD_TESTS = 32  # that take a number of commands
ACKNOWLEDGED = re.compile(r"(\d+) acknowledged of \d+ calls")  # as tests/faults/proof.py prints it
LINES_SHOWN_MAX = 300
PAUSE_SECONDS_MAX = 60
TEST_SECONDS_MAX = 3600


def run(seed: int, commands: int) -> int | None:
    """How many commands were acknowledged, by what the tests print; None where one of them failed."""
    measure = [f"--randomly-seed={seed}", f"--commands={commands}", f"--pause-seconds-max={PAUSE_SECONDS_MAX}"]
    side_by_side = ["--numprocesses=2", "--dist=worksteal"]
    command = [sys.executable, "-m", "pytest", f"--timeout={TEST_SECONDS_MAX}", "-x", "-rP", *side_by_side, *measure]
    acknowledged, last = 0, deque[str](maxlen=LINES_SHOWN_MAX)
    with subprocess.Popen([*command, "tests/faults"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            last.append(line)
            if said := ACKNOWLEDGED.match(line):
                acknowledged += int(said[1])
    if process.returncode:
        print("".join(last), end="", flush=True)
        return None
    return acknowledged


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--commands", type=int, default=5_000_000, help="in sum, acknowledged")
    parser.add_argument("--done", type=Path, default=Path("build/faults-long.txt"), help="the file of what held")
    arguments = parser.parse_args()
    commands = arguments.commands // (arguments.seeds * LOAD_TESTS)
    arguments.done.parent.mkdir(exist_ok=True)
    arguments.done.touch()
    held = {line.partition(":")[0] for line in arguments.done.read_text("utf-8").splitlines()}
    for seed in range(1, arguments.seeds + 1):
        name = f"seed {seed} with {commands} commands"
        if name not in held:
            started = time.monotonic()
            acknowledged = run(seed, commands)
            if acknowledged is None:
                sys.exit(f"{name} does not hold; make faults SEED={seed} runs it with fewer")
            with arguments.done.open("a", encoding="utf-8") as file:
                file.write(f"{name}: held, {acknowledged} acknowledged, in {time.monotonic() - started:.0f} s\n")
    print(arguments.done.read_text("utf-8"), end="")


if __name__ == "__main__":
    main()
