"""Runs `lastunit doctor`: a row for everything that can go wrong, and for each that has, what mends it."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from app.commands.diagnosis import (
    Diagnosis,
    Level,
    find_in_archive,
    find_in_clock,
    find_in_connections,
    find_in_data,
    find_in_disk,
    find_in_engine,
    find_in_files,
    find_in_memory,
)
from app.commands.sources import archive_of
from app.domain.errors import LastunitError
from app.observability.logging import configure_logging
from app.settings import Settings, load_settings
from app.store.engine import Engine, reach_engine, read_facts, require_data
from app.store.keys import Keyspace
from app.store.readers import ARCHIVE, read_progress
from app.store.state import count_partitions, open_client
from app.store.vitals import read_vitals

COLORS = {Level.FINE: "green", Level.WARN: "yellow", Level.MEND: "red"}


def run_doctor(options: Mapping[str, object], config: Path | None, *, as_json: bool) -> bool:
    """Prints what it finds; true when nothing must be mended."""
    configure_logging("error")
    findings = list(_examine(options, config))
    is_healthy = all(finding.level is not Level.MEND for finding in findings)
    if as_json:
        typer.echo(msgspec.json.encode({"is_healthy": is_healthy, "findings": findings}))
    else:
        table = Table("", "what", "found", "mend")
        for finding in findings:
            table.add_row(
                f"[{COLORS[finding.level]}]{finding.level}[/]", finding.what, finding.found, finding.mend or ""
            )
        Console().print(table)
    return is_healthy


def _examine(options: Mapping[str, object], config: Path | None) -> Iterator[Diagnosis]:
    try:
        settings = load_settings(options, config=config)
    except LastunitError as error:
        yield Diagnosis("settings", Level.MEND, str(error), "correct it; the rest cannot be examined before")
        return
    yield Diagnosis("settings", Level.FINE, f"data_dir {settings.data_dir}, partitions {settings.partitions}")
    if settings.redis_url is None:
        yield from find_in_disk(settings.data_dir)
    try:
        require_data(settings)
        with reach_engine(settings, exclusive=False) as engine:
            yield from asyncio.run(_examine_engine(settings, engine))
    except LastunitError as error:
        yield Diagnosis("engine", Level.MEND, str(error), "as it says; the rest needs an engine")
    yield from find_in_files(settings)


async def _examine_engine(settings: Settings, engine: Engine) -> list[Diagnosis]:
    info, config = read_facts(engine, timeout_seconds=settings.engine_connect_timeout_seconds)
    found = list(find_in_engine(info, config, address=engine.address))
    async with open_client(engine.url) as client:
        partitions = await count_partitions(client)
        found += find_in_data(settings, partitions)
        if not partitions:
            return found
        keyspace = Keyspace(partitions)
        vitals = await read_vitals(client, keyspace)
        progress = await read_progress(client, keyspace, name=ARCHIVE)
    found += [*find_in_clock(vitals), *find_in_memory(settings, vitals), *find_in_connections(vitals)]
    archive = archive_of(settings)
    try:
        positions = await archive.positions() if archive else None
        found += find_in_archive(settings, vitals, progress, positions)
    except LastunitError as error:
        found.append(Diagnosis("archive", Level.MEND, str(error), "bring its database back, or correct archive_url"))
    finally:
        if archive:
            await archive.close()
    return found
