"""Files that say who may come in: read strictly when the service starts, and again whenever they change."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from app.domain.errors import StartupError
from app.observability import metrics

POLL_SECONDS = 1.0
BYTES_MAX = 1024 * 1024
# A file that changed this lately is read again, changed or not: a second change may have the same time on it.
FRESH_SECONDS = 2.0

log = structlog.get_logger()
Content = TypeVar("Content")


class Unusable(Exception):
    """What a file says cannot be used; `str(error)` names the field and never what stands there."""


class WatchedFile(Generic[Content]):
    """What a file says. One that turns bad while it is watched changes nothing, and says so in log and metrics."""

    def __init__(self, path: Path, parse: Callable[[bytes], Content]) -> None:
        self.path = path
        self._parse = parse
        self._mark: tuple[int, ...] = ()
        try:
            self.content, self._mark = self._read()
        except Unusable as error:
            raise StartupError(f"{path}: {error}: correct the file.") from None
        metrics.access_file_valid.labels(path.name).set(1)

    async def watch(self) -> None:
        """Reads the file again whenever it has changed, until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Reads the file if it has changed."""
        try:
            found = await asyncio.to_thread(self._read_if_changed)
        except Unusable as error:
            metrics.access_file_valid.labels(self.path.name).set(0)
            log.error("access_file_refused", path=str(self.path), reason=str(error))  # noqa: TRY400 - says all
            return
        if found is not None:
            self.content = found
            metrics.access_file_valid.labels(self.path.name).set(1)
            log.info("access_file_read", path=str(self.path))

    def _read_if_changed(self) -> Content | None:
        """None where the file is as it was when it was last looked at."""
        try:
            mark = _mark_of(self.path.stat())
        except OSError:
            mark = ()  # gone, perhaps only for a moment
        if mark == self._mark:
            return None
        self._mark = mark  # of a bad file too, which is not read again and again
        content, self._mark = self._read()
        return content

    def _read(self) -> tuple[Content, tuple[int, ...]]:
        try:
            with self.path.open("rb") as file:
                mark = _mark_of(os.fstat(file.fileno()))
                raw = file.read(BYTES_MAX + 1)
        except OSError as error:
            raise Unusable(f"cannot be read ({error.strerror})") from None
        if len(raw) > BYTES_MAX:
            raise Unusable(f"has over {BYTES_MAX} bytes")
        return self._parse(raw), mark


def _mark_of(found: os.stat_result) -> tuple[int, ...]:
    """What changes when a file does."""
    is_fresh = time.time() - found.st_mtime < FRESH_SECONDS
    return found.st_mtime_ns, found.st_size, found.st_ino, int(is_fresh)
