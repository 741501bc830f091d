"""`python -m tests.simulation --seed 7 --commands 20000`: prints its seed; the same seed repeats the run."""

import argparse
import asyncio
import os
import random
import time

from tests import engines
from tests.simulation.simulation import Simulation
from tests.simulation.twin import open_twin


async def simulate(engine: engines.Engine, *, seed: int, commands: int, partitions: int) -> None:
    async with open_twin(engine, seed=seed, partitions=partitions) as twin:
        started = time.monotonic()
        await Simulation(twin, seed=seed).run(commands)
        entries, seconds = twin.entry_count, time.monotonic() - started
        print(f"{engine.name}: {commands} steps, {entries} ledger entries, all as the oracle says, in {seconds:.1f} s")
        for outcome, count in sorted(twin.said.items()):
            print(f"  {count:7} {outcome}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--commands", type=int, default=10_000)
    parser.add_argument("--partitions", type=int, default=1)
    arguments = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("LASTUNIT_")]:
        del os.environ[name]  # what was said to the tests is read; the service refuses it
    print(f"seed {arguments.seed} (make simulate SEED={arguments.seed} repeats this run); {engines.describe()}")
    for name in engines.chosen():
        with engines.running(name) as engine:
            asyncio.run(simulate(engine, **vars(arguments)))


if __name__ == "__main__":
    main()
