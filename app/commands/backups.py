"""Runs `lastunit backup` and `restore`."""

import asyncio
from pathlib import Path

from app.commands.console import progress_bar
from app.commands.sources import archive_of, partitions_at
from app.domain.errors import CommandRefused
from app.observability.logging import configure_logging
from app.settings import Settings
from app.store.backups import Label, read_label, restore_backup, write_backup
from app.store.engine import open_engine, require_data
from app.store.keys import Keyspace

BYTES_PER_MB = 1_000_000


def run_backup(settings: Settings, file: Path) -> str:
    """Backs up the data directory; says what is in the file. Raises CommandRefused, StartupError."""
    configure_logging("error")
    if settings.redis_url is not None:
        raise CommandRefused("redis_url names an engine of your own: back it up by its own means.")
    require_data(settings)
    with open_engine(settings, exclusive=False) as engine, progress_bar() as on_progress:
        keyspace = Keyspace(asyncio.run(partitions_at(engine.url)) or settings.partitions)
        label = write_backup(settings.data_dir, engine.url, keyspace.partitions, file, on_progress=on_progress)
    size_mb = file.stat().st_size / BYTES_PER_MB
    return f"{file} has {settings.data_dir} as of {label.taken_at}, {_ends(label)} ({size_mb:,.1f} MB)."


def run_restore(settings: Settings, file: Path) -> str:
    """Restores into the data directory; says what it now is. Raises CommandRefused."""
    configure_logging("error")
    label = read_label(file)
    asyncio.run(_refuse_rollback(settings, label))
    with progress_bar() as on_progress:
        restore_backup(file, settings.data_dir, on_progress=on_progress)
    return (
        f"{settings.data_dir} is as of {label.taken_at}, {_ends(label)}, written by Lastunit {label.version} with "
        f"{label.engine}. What happened later is not in it: a service that sold since has sold those units too."
    )


async def _refuse_rollback(settings: Settings, label: Label) -> None:
    """An archive elsewhere that has more than the backup makes a rollback of it: nothing would be held."""
    if (archive := archive_of(settings)) is None:
        return
    try:
        positions = await archive.positions()
    finally:
        await archive.close()
    later = sum(max(0, positions.get(index, 0) - sequence) for index, sequence in enumerate(label.sequences))
    if later:
        raise CommandRefused(
            f"The archive has {later:,} entries more than this backup of {label.taken_at}; restored, it would be a "
            "rollback. Rebuild from the archive instead, which loses nothing (lastunit ledger rebuild), or, to give "
            "those entries up, name another archive (archive_url)."
        )


def _ends(label: Label) -> str:
    if len(label.sequences) == 1:
        return f"its ledger ends at sequence {label.sequences[0]:,}"
    return f"its ledger ends at the sequences {', '.join(f'{sequence:,}' for sequence in label.sequences)}"
