"""`python -m loadtests.bench [http|engine|archive|outside|access|slow]... [--quick]`: measures, proves, keeps."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvloop

from app.observability.logging import configure_logging
from loadtests.bench.access import AccessCost, measure_access
from loadtests.bench.archive import ArchiveCost, measure_archive
from loadtests.bench.engine_cost import EngineCost, measure_engine_cost
from loadtests.bench.machine import Machine, this_machine
from loadtests.bench.outside import OutsideCost, measure_outside
from loadtests.bench.proof import ProofFailed
from loadtests.bench.report import (
    print_access_cost,
    print_archive_cost,
    print_engine_costs,
    print_machine,
    print_outside_cost,
    print_slow_cost,
    print_throughput,
)
from loadtests.bench.slow import SlowCost, measure_slow
from loadtests.bench.throughput import Throughput, measure_throughput
from tests.engines import installed

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    http_rounds: int
    http_seconds: float
    sizes: tuple[int, ...]
    engine_rounds: int
    engine_calls: int
    backlog_rounds: int
    backlog_entries: int
    sale_turns: int
    sale_seconds: float
    delivery_rounds: int
    delivery_seconds: float
    pages: int
    reconciled_skus: int
    access_rounds: int
    access_seconds: float
    slow_clients: int
    slow_seconds: float


FULL = Plan(
    http_rounds=5, http_seconds=4.0, sizes=(1_000, 10_000, 200_000), engine_rounds=150, engine_calls=100,
    backlog_rounds=5, backlog_entries=100_000, sale_turns=2, sale_seconds=60.0,
    delivery_rounds=5, delivery_seconds=5.0, pages=30, reconciled_skus=100_000, access_rounds=24, access_seconds=1.0,
    slow_clients=10_000, slow_seconds=3.0,
)  # fmt: skip
QUICK = Plan(
    http_rounds=3, http_seconds=1.5, sizes=(1_000, 10_000), engine_rounds=100, engine_calls=100,
    backlog_rounds=1, backlog_entries=40_000, sale_turns=1, sale_seconds=8.0,
    delivery_rounds=2, delivery_seconds=3.0, pages=10, reconciled_skus=10_000, access_rounds=4, access_seconds=0.5,
    slow_clients=1_000, slow_seconds=1.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Results:
    """Everything a run measured."""

    at: datetime
    machine: Machine
    throughput: Throughput | None
    engine_costs: list[EngineCost]
    archive_cost: ArchiveCost | None
    outside_cost: OutsideCost | None
    access_cost: AccessCost | None
    slow_cost: SlowCost | None


class Part(StrEnum):
    """What can be measured alone."""

    HTTP = "http"
    ENGINE = "engine"
    ARCHIVE = "archive"
    OUTSIDE = "outside"
    ACCESS = "access"
    SLOW = "slow"


cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@cli.command()
def main(
    parts: Annotated[list[Part] | None, typer.Argument(help="What to measure. [default: all]")] = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A minute or two: fewer rounds and sizes.")] = False,
    save: Annotated[
        Path | None, typer.Option(help="Where the numbers go. [default: loadtests/results/<time>.json]")
    ] = None,
) -> None:
    """Throughput and cost beside peers, in alternating rounds of one run, each with its proof."""
    configure_logging("warning")
    plan, parts = QUICK if quick else FULL, parts or list(Part)
    at, machine = datetime.now(UTC), this_machine(installed())
    print_machine(machine)

    throughput, costs, archive_cost = None, list[EngineCost](), None
    outside_cost, access_cost, slow_cost = None, None, None
    try:
        if Part.HTTP in parts:
            throughput = measure_throughput(rounds=plan.http_rounds, seconds=plan.http_seconds)
            print_throughput(throughput)
        if Part.ENGINE in parts:
            costs = list(_engine_costs(plan))
            print_engine_costs(costs)
        if Part.ARCHIVE in parts:
            archive_cost = measure_archive(
                rounds=plan.backlog_rounds,
                entries=plan.backlog_entries,
                turns=plan.sale_turns,
                seconds=plan.sale_seconds,
            )
            print_archive_cost(archive_cost)
        if Part.OUTSIDE in parts:
            outside_cost = measure_outside(
                rounds=plan.delivery_rounds,
                seconds=plan.delivery_seconds,
                pages=plan.pages,
                skus=plan.reconciled_skus,
            )
            print_outside_cost(outside_cost)
        if Part.ACCESS in parts:
            access_cost = measure_access(rounds=plan.access_rounds, seconds=plan.access_seconds)
            print_access_cost(access_cost)
        if Part.SLOW in parts:
            slow_cost = measure_slow(clients=plan.slow_clients, seconds=plan.slow_seconds)
            print_slow_cost(slow_cost)
    except ProofFailed as failure:
        sys.exit(f"The run proves nothing: {failure}.")

    path = save or RESULTS / f"{at:%Y-%m-%dT%H%M%SZ}.json"
    path.parent.mkdir(exist_ok=True)
    results = Results(at, machine, throughput, costs, archive_cost, outside_cost, access_cost, slow_cost)
    path.write_bytes(msgspec.json.encode(results) + b"\n")
    print(f"The numbers of all rounds: {os.path.relpath(path)}")


def _engine_costs(plan: Plan) -> Iterator[EngineCost]:
    for name, binary in installed().items():
        for holds in plan.sizes:
            measuring = measure_engine_cost(
                name, binary, holds=holds, rounds=plan.engine_rounds, calls=plan.engine_calls
            )
            yield uvloop.run(measuring)


if __name__ == "__main__":
    cli()
