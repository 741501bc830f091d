"""An event loop in virtual time: where all wait, its clock jumps to the first that is due. Days pass in a moment.

For code without sockets or threads, which keep no such time.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Begins at 0 s."""

    def __init__(self) -> None:
        self.now_seconds = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now_seconds


class _Selector(selectors.SelectSelector):
    """Waits by moving the loop's clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "all wait for something that no time brings"
        if timeout > 0:
            self._loop.now_seconds += timeout
        return super().select(0)


def run_virtually(scenario: Coroutine[Any, Any, Result]) -> Result:
    """The scenario's result; an hour of it takes no time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario)
