"""`python -m tests.faults`: the fault tests from many seeds, with many commands and long pauses.

Each seed that held is a line in a file; those that it names already are not run again, so a run goes on where it was
ended. It ends with the first seed that does not hold, and says how to replay that one.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

LOAD_TESTS = 27  # that take a number of commands
PAUSE_SECONDS_MAX = 60
TEST_SECONDS_MAX = 3600


def run(seed: int, commands: int) -> int:
    """The exit status of pytest."""
    measure = [f"--randomly-seed={seed}", f"--commands={commands}", f"--pause-seconds-max={PAUSE_SECONDS_MAX}"]
    command = [sys.executable, "-m", "pytest", f"--timeout={TEST_SECONDS_MAX}", "-x", *measure, "tests/faults"]
    return subprocess.run(command, check=False).returncode


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
            if run(seed, commands):
                sys.exit(f"{name} does not hold; make faults SEED={seed} runs it with fewer")
            with arguments.done.open("a", encoding="utf-8") as file:
                file.write(f"{name}: held, in {time.monotonic() - started:.0f} s\n")
    print(arguments.done.read_text("utf-8"), end="")


if __name__ == "__main__":
    main()
