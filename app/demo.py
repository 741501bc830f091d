"""`lastunit demo`: a flash sale in the terminal, and its proof."""

import asyncio
import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.domain.entries import Entry
from app.domain.errors import StartupError
from app.observability.logging import configure_logging
from app.projections.rebuild import Verdict, verify
from app.settings import CONFIG_NAME, load_settings
from app.store.engine import open_engine
from app.store.ledger import read_entries
from app.store.store import make_store
from app.workflows.flash_sale import SKU, Tally, run_flash_sale
from app.workflows.partner import Partner, listen, serving, url_of
from app.workflows.warehouse_day import Step, Warehouse, configuration, live_a_day, new_secret, proven

ANNOUNCED = re.compile(r"Lastunit answers on (\S+) \((.+)\)")
END_SECONDS_MAX = 30


def run_demo(*, agents: int, units: int, seed: int) -> bool:
    """Runs the sale on a service of its own; true when the ledger proves that nothing was sold twice."""
    configure_logging("warning")
    console = Console()
    with tempfile.TemporaryDirectory(prefix="lastunit-demo-") as directory:
        data_dir = Path(directory) / "data"
        with _service(data_dir) as (address, engine):
            console.print(f"[bold]{agents:,} agents, {units:,} units[/bold] on {address} ({engine})", soft_wrap=True)
            started = time.perf_counter()
            tally = _sell(console, address, agents=agents, units=units, seed=seed)
            seconds = time.perf_counter() - started
            entries, verdict = asyncio.run(_read_proof(data_dir))
    return _print_proof(console, tally, entries, verdict, agents=agents, units=units, seconds=seconds)


def run_warehouse_demo() -> bool:
    """A warehouse's day on a service of its own; true when every step left what it must, and the ledger proves it."""
    configure_logging("warning")
    console = Console()
    with tempfile.TemporaryDirectory(prefix="lastunit-demo-") as directory, listen() as listener:
        data_dir, secret, partner = Path(directory) / "data", new_secret(), Partner()
        data_dir.mkdir()
        (data_dir / CONFIG_NAME).write_text(configuration(secret, partner, url_of(listener)), "utf-8")
        with _service(data_dir) as (address, engine):
            console.print(f"[bold]A warehouse's day[/bold] on {address} ({engine})", soft_wrap=True)
            steps = asyncio.run(_live_a_day(address, secret, partner, listener))
            entries, verdict = asyncio.run(_read_proof(data_dir))
    table = Table("what was said", "on hand", "available", "committed", "ms")
    for step in steps:
        numbers = (step.on_hand, step.available, step.committed)
        table.add_row(step.said, *(f"{number:,}" for number in numbers), f"{step.ms:.1f}")
    replays = f"all {len(entries):,} entries replay without a gap to exactly the live state"
    checks = {**dict(proven(steps)), replays: verdict.difference is None}
    console.print(table)
    console.print(_proof_table(checks))
    if verdict.difference:
        console.print(f"[red]{verdict.difference.sentence}[/red]")
    return all(checks.values())


async def _live_a_day(address: str, secret: str, partner: Partner, listener: socket.socket) -> Sequence[Step]:
    async with Warehouse(address, secret) as warehouse, serving(partner, listener):
        return await live_a_day(warehouse, partner)


@contextlib.contextmanager
def _service(data_dir: Path) -> Iterator[tuple[str, str]]:
    """The service as a person starts it, on a free port: its address and its engine."""
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--data-dir", str(data_dir)]
    log_path = data_dir.parent / "service.log"
    with (
        log_path.open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,  # noqa: S603 - ourselves
    ):
        try:
            assert process.stdout is not None
            announced = ANNOUNCED.match(process.stdout.readline())
            if not announced:
                raise StartupError(f"The service did not start: {log_path.read_text('utf-8').strip()[-500:]}")
            yield announced[1], announced[2]
        finally:
            process.terminate()
            process.wait(END_SECONDS_MAX)


def _sell(console: Console, address: str, *, agents: int, units: int, seed: int) -> Tally:
    columns = (TextColumn("agents done"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("sale", total=agents)
        sale = run_flash_sale(
            address, agents=agents, units=units, seed=seed, on_agent_done=lambda: progress.advance(task)
        )
        return asyncio.run(sale)


async def _read_proof(data_dir: Path) -> tuple[list[Entry], Verdict]:
    """The ledger as the engine has it, and what its replay says of the live state."""
    settings = load_settings({"data_dir": data_dir})
    with open_engine(settings, exclusive=False) as engine:
        async with make_store(settings, engine.url) as store:
            entries: list[Entry] = []
            for keys in store.keyspace.partitions:
                async for _, page in read_entries(store.client, keys):
                    entries += page
            return entries, await verify(store)


def _print_proof(
    console: Console, tally: Tally, entries: list[Entry], verdict: Verdict, *, agents: int, units: int, seconds: float
) -> bool:
    sold_tokens = {entry.token for entry in entries if entry.type == "reservation.committed"}
    counts = Counter(entry.type for entry in entries)
    stock = next(stock for sku, stock in verdict.stocks.items() if sku == SKU)
    wanted = min(agents - tally.changed_minds, units)
    checks = {
        f"{len(tally.bought):,} agents were told that they bought one of {units:,} units": len(tally.bought) <= units,
        "the ledger has a sale for each of them, and no other": sold_tokens == set(tally.bought),
        f"no unit was left that somebody still wanted: {wanted:,} could be sold": len(tally.bought) >= wanted,
        f"{stock.on_hand:,} on hand = {stock.committed:,} sold + {stock.reserved:,} held + {stock.available:,} left": (
            stock.on_hand == stock.committed + stock.reserved + stock.available == units
        ),
        f"all {verdict.entries:,} entries replay without a gap to exactly the live state": verdict.difference is None,
    }
    answers = Table("agents", "", title="What the agents were told")
    answers.add_row(f"{len(tally.bought):,}", "bought a unit")
    answers.add_row(f"{tally.changed_minds:,}", "held one, changed their mind and released it")
    answers.add_row(f"{tally.gave_up:,}", "were told that all is sold")
    ledger = Table("entries", "type", title="What the ledger holds")
    for kind, count in sorted(counts.items()):
        ledger.add_row(f"{count:,}", kind)
    for table in (answers, ledger, _proof_table(checks)):
        console.print(table)
    if verdict.difference:
        console.print(f"[red]{verdict.difference.sentence}[/red]")
    console.print(f"{tally.calls:,} calls in {seconds:.1f} s, {tally.refusals:,} of them refused with advice")
    return all(checks.values())


def _proof_table(checks: Mapping[str, bool]) -> Table:
    proof = Table("", "", title="The proof", show_header=False)
    for sentence, is_true in checks.items():
        proof.add_row("[green]yes[/green]" if is_true else "[red]NO[/red]", sentence)
    return proof
