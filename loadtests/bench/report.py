"""What a run prints: tables in Markdown, as docs/performance.md has them, the goals beside what was reached."""

from collections.abc import Iterable, Sequence
from statistics import median, quantiles

from rich import box
from rich.console import Console
from rich.table import Table

from loadtests.bench.access import AccessCost
from loadtests.bench.archive import ArchiveCost
from loadtests.bench.engine_cost import EngineCost
from loadtests.bench.machine import Machine
from loadtests.bench.outside import RATE, RESERVE_RATE, SLOW_CALL_US, OutsideCost
from loadtests.bench.slow import SlowCost
from loadtests.bench.throughput import Throughput

RATE_RATIO_MIN = 0.8
ACCESS_SHARE_MAX = 0.05
SLOW_MEGABYTES_MAX = 250
COST_RATIO_MAX = 1.5
HOLD_BYTES_MAX = 700
ARCHIVE_RATES_MIN = {"sqlite": 5_000, "postgresql": 10_000}
DELIVERY_P99_MS_MAX = 5
PAGE_MS_MAX = 60
RECONCILIATION_SECONDS_MAX = 15
P99_RATIO_MAX = 2
COLUMNS = 160

console = Console(width=COLUMNS, highlight=False)


def print_machine(machine: Machine) -> None:
    engines = ", ".join(f"{name} {version}" for name, version in machine.engines.items())
    console.print(
        f"{machine.cores} cores ({machine.processor}), {machine.system}, Python {machine.python}; {engines}; "
        f"load before the run {machine.load_before:.2f}\n"
    )


def print_throughput(throughput: Throughput) -> None:
    table = _table("one worker, 64 connections", "answers/s", "p50 ms", "p99 ms", "generator's share of a core")
    for name, rounds in (("FastAPI route that does nothing", throughput.baseline), ("reserve", throughput.reserve)):
        table.add_row(
            name,
            _spread((each.rate for each in rounds), decimals=0),
            _spread((each.p50_us / 1000 for each in rounds), decimals=1),
            _spread((each.p99_us / 1000 for each in rounds), decimals=1),
            _spread((each.generator_share for each in rounds), decimals=2),
        )
    console.print(table)
    console.print(
        f"\nreserve / FastAPI route: {throughput.ratio:.2f} (goal: at least {RATE_RATIO_MIN}). "
        f"Proven by replay of the ledger: {throughput.proven_holds:,} holds acknowledged, as many made.\n"
    )


def print_engine_costs(costs: Sequence[EngineCost]) -> None:
    table = _table(
        "engine", "SKUs and live holds", "reference us", "commands us", "reserve us", "ratios",
        "bytes a hold", "with its entry",
    )  # fmt: skip
    for cost in costs:
        table.add_row(
            cost.engine,
            f"{cost.holds:,}",
            _quartiles(cost.reference_us),
            _quartiles(cost.commands_us),
            _quartiles(cost.reserve_us),
            f"{cost.ratio_least:.2f}, {cost.ratio:.2f}",
            f"{cost.hold_bytes:.0f}",
            f"{cost.hold_bytes + cost.entry_bytes:.0f}",
        )
    console.print(table)
    console.print(
        f"\nThe ratios: of reserve's engine commands alone, of reserve. Goals: reserve at most {COST_RATIO_MAX}, "
        f"at most {HOLD_BYTES_MAX} bytes a hold, the same at every size. "
        "Proven: every hold and release of every row is in the ledger and in the balances.\n"
    )


def print_archive_cost(cost: ArchiveCost) -> None:
    table = _table("database", "entries/s", "goal")
    for backlog in cost.backlogs:
        table.add_row(backlog.database, _spread(backlog.rates, decimals=0), f"{ARCHIVE_RATES_MIN[backlog.database]:,}")
    console.print(table)
    table = _table("sale", "holds/s", "entries behind at its end", "seconds to catch up")
    for name, turns in (("without an archive", cost.without_archive), ("with its archive", cost.with_archive)):
        table.add_row(
            name,
            _spread((turn.rate for turn in turns), decimals=0),
            _spread((turn.lag_entries for turn in turns), decimals=0),
            _spread((turn.drain_seconds for turn in turns), decimals=1),
        )
    console.print(table)
    console.print(
        f"\nreserve with / without its archive: {cost.ratio:.2f} (goal: at least {RATE_RATIO_MIN}). "
        "Proven: every entry is archived once, archive and stream replayed give the engine's state.\n"
    )


def print_outside_cost(cost: OutsideCost) -> None:
    run = cost.reconciliation
    table = _table("open loop, from when each is due", "a second", "p50 ms", "p99 ms", "generator's share of a core")
    for name, rate, rounds in (
        ("deliveries of one line", RATE, cost.deliveries),
        ("reservations, in turns with them", RATE, cost.reservations),
        ("reservations alone", RESERVE_RATE, [run.idle]),
        ("reservations during a reconciliation", RESERVE_RATE, [run.meanwhile]),
    ):
        table.add_row(
            name,
            f"{rate:,}",
            _spread((each.p50_us / 1000 for each in rounds), decimals=1),
            _spread((each.p99_us / 1000 for each in rounds), decimals=1),
            _spread((each.generator_share for each in rounds), decimals=2),
        )
    console.print(table)
    console.print(
        f"\nDeliveries' p99: goal below {DELIVERY_P99_MS_MAX} ms. A page of 1,000 counts: "
        f"{_spread(cost.page_ms, decimals=0)} ms (goal: {PAGE_MS_MAX}), {cost.slow_calls} calls of the engine over "
        f"{SLOW_CALL_US / 1000:.0f} ms. Reconciliation of {run.skus:,} SKUs: {run.seconds:.1f} s (goal: "
        f"{RECONCILIATION_SECONDS_MAX} of 100,000), reservations' p99 meanwhile by idle: "
        f"{run.meanwhile.p99_us / run.idle.p99_us:.1f} (goal: at most {P99_RATIO_MAX}). "
        "Proven: every unit told of is on hand, and the ledger replayed gives the engine's state.\n"
    )


def print_access_cost(cost: AccessCost) -> None:
    table = _table("us of a core a reserve", "open", "with a key", "and a rate limit")
    of_gateway = (_quartiles(values) for values in (cost.open_us, cost.key_us, cost.rate_us))
    table.add_row("the gateway's own code", *of_gateway)
    table.add_row("worker and engine", _quartiles(cost.open_service_us), _quartiles(cost.key_service_us), "")
    console.print(table)
    console.print(f"\nWith a key: {cost.share:+.1%} (goal: at most {ACCESS_SHARE_MAX:.0%}).\n")


def print_slow_cost(cost: SlowCost) -> None:
    table = _table("one worker", "resident MB", "reserves/s of 64 other connections")
    for name, megabytes, rate in zip(
        ("before", f"with {cost.clients:,} slow clients"), cost.megabytes, cost.rates, strict=True
    ):
        table.add_row(name, f"{megabytes:.0f}", f"{rate:,.0f}")
    console.print(table)
    console.print(
        f"\nA slow client: {cost.client_kilobytes:.1f} KB. Goal: below {SLOW_MEGABYTES_MAX} MB with 10,000.\n"
    )


def _table(*names: str) -> Table:
    table = Table(box=box.MARKDOWN)
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number else "left")
    return table


def _quartiles(values: Sequence[float]) -> str:
    """The median, and the middle half of many short rounds: the rest were interrupted by something else."""
    low, middle, high = quantiles(values, n=4)
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def _spread(values: Iterable[float], *, decimals: int) -> str:
    """The median, and the whole range of few long rounds."""
    ordered = sorted(values)
    return f"{median(ordered):,.{decimals}f} ({ordered[0]:,.{decimals}f} to {ordered[-1]:,.{decimals}f})"
