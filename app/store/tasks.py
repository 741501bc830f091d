"""Ends what runs beside."""

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_SECONDS = 0.5


async def end_tasks(tasks: Iterable["asyncio.Future[Any]"]) -> None:
    """Cancels them until they have ended; how they ended is not told.

    Once may not be enough: `asyncio.wait_for`, which redis-py sends with, loses a cancel that comes just as it is done
    (https://github.com/python/cpython/issues/86296, mended in Python 3.12).
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=AGAIN_SECONDS)
