"""What the archive is tested on: SQLite, which is always there, and PostgreSQL where a server is installed.

A cluster of its own on a unix socket in a temporary directory, by a user that is not root: the server insists on that.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.service import eventually

USER = "lastunit"
UNPRIVILEGED = ("postgres", "nobody")


def binaries() -> Path | None:
    """Where PostgreSQL's server is: the newest that Debian installed, else that on PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = versions[-1] if versions else shutil.which("initdb")
    return Path(found).parent if found else None


def chosen() -> list[str]:
    return ["sqlite", "postgresql"] if binaries() else ["sqlite"]


def describe() -> str:
    """What this run uses, and what it does without."""
    folder = binaries()
    if folder is None:
        return "archives: SQLite; WITHOUT PostgreSQL (not installed)"
    version = subprocess.check_output([folder / "postgres", "--version"], text=True).strip()
    return f"archives: SQLite, {version}"


class Postgres:
    """A server, empty at first. It can be killed and started again on what it has."""

    def __init__(self, folder: Path) -> None:
        found = binaries()
        assert found
        self._binaries = found
        self._folder = folder
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = next(name for name in UNPRIVILEGED if name in {entry.pw_name for entry in pwd.getpwall()})
            shutil.chown(folder, user)
            self._as_user = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
        self._call("initdb", "--pgdata", "data", "--username", USER, "--auth", "trust", "--encoding", "UTF8")
        self._process: subprocess.Popen[str] | None = None
        self._databases = 0

    def start(self) -> None:
        """Does nothing where it runs already."""
        if self._process and self._process.poll() is None:
            return
        command = [str(self._binaries / "postgres"), "-D", "data", "-k", str(self._folder), "-c", "listen_addresses="]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdout=log, stderr=log, text=True, process_group=0, **self._as_user
            )
        eventually(lambda: self._call("pg_isready", "--host", str(self._folder), is_checked=False) == 0)

    def kill(self) -> None:
        """As if the power went: no connection is ended in order."""
        assert self._process
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def new_database(self) -> str:
        """The URL of an empty database."""
        self._databases += 1
        name = f"archive{self._databases}"
        self._call("createdb", "--host", str(self._folder), "--username", USER, name)
        return f"postgresql://{USER}@/{name}?host={self._folder}"

    def _call(self, name: str, *arguments: str, is_checked: bool = True) -> int:
        command = [str(self._binaries / name), *arguments]
        ended = subprocess.run(command, cwd=self._folder, check=False, capture_output=True, text=True, **self._as_user)
        assert ended.returncode == 0 or not is_checked, ended.stderr
        return ended.returncode


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server that is gone afterwards, data and all."""
    with tempfile.TemporaryDirectory(prefix="lu-pg-", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()
