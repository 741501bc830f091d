"""A disk that is soon full."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LARGE_MEGABYTES = 64


@contextmanager
def small_disk(folder: Path, *, megabytes: int) -> Iterator[Callable[[int], Callable[[], None]]]:
    """The folder on a disk of that size: given the pid of who fills it, what makes room.

    Where mounts are not ours to make, no file of that process grows beyond that size.
    """
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    is_mounted = os.geteuid() == 0 and subprocess.run(["mount", *options], check=False).returncode == 0

    def fill(pid: int) -> Callable[[], None]:
        limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        if not is_mounted:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (megabytes << 20, limits[1]))

        def enlarge() -> None:
            if is_mounted:
                subprocess.run(["mount", "-o", f"remount,size={LARGE_MEGABYTES}m", str(folder)], check=True)
            else:
                with suppress(ProcessLookupError):  # it ended; the next one has no limit
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)

        return enlarge

    print(f"small disk: {'tmpfs' if is_mounted else 'RLIMIT_FSIZE'}")
    try:
        yield fill
    finally:
        if is_mounted:
            subprocess.run(["umount", str(folder)], check=True)
