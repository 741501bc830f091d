"""`python -m tests.faults.skewed_clock serve ...`: the service on a machine whose clock somebody sets.

The one fragment of the scripts that asks for the time adds what a key says, and the gateway's wall clock what a file
says, in us. What passes is real time, and all that is built on it is the real thing.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from redis import Redis

from app.cli import main
from app.store import clock, store
from app.store.scripts import Script, load_scripts

SKEWED = ("-m", "tests.faults.skewed_clock")
KEY = FILE = "SKEW_US"  # the file's name is in the environment
INCLUDES = {
    "wall_clock": f"""
local function wall_clock_us(_meta_key)
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2] + tonumber(redis.call('GET', '{KEY}') or 0)
end
"""
}


def set_clock(engine: Redis, seconds: float) -> None:
    """So far from the right time, for the engine and for the service that was started with this environment."""
    Path(os.environ[FILE]).write_text(str(round(seconds * 1_000_000)), "utf-8")
    engine.set(KEY, round(seconds * 1_000_000))


def skewed_time() -> float:
    path = Path(os.environ[FILE])
    return time.time() + (int(path.read_text("utf-8") or 0) if path.exists() else 0) / 1_000_000


def load_skewed(_: Mapping[str, str] | None = None) -> dict[str, Script]:
    return load_scripts(INCLUDES)


if __name__ == "__main__":
    skewed = SimpleNamespace(time=skewed_time, monotonic_ns=time.monotonic_ns)
    with patch.object(store, "load_scripts", load_skewed), patch.object(clock, "time", skewed):
        main()
