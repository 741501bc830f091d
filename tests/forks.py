"""`lastunit` as it is typed, forked from a process that has imported it: a new Python takes two seconds for that.

The command has a process, a session, arguments, an environment, a folder and an output of its own, and ends as any
other.
"""

import atexit
import gc
import io
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import app.commands

IMPORTED = (
    "app.main",
    "app.cli",
    "app.api.protocol",
    "app.projections.archive.opening",
    "app.projections.archive.process",
    "alembic.command",
    "uvicorn",
    "uvloop",
    *(f"app.commands.{module.name}" for module in iter_modules(app.commands.__path__)),
)
REQUEST_BYTES_MAX = 1 << 20


class Process:
    """A command that runs; as much of a Popen as its users need."""

    def __init__(self, report: int, stdout: int) -> None:
        self._report = os.fdopen(report, "rb", buffering=0)
        self.pid = int(self._report.readline())
        self.stdout = io.TextIOWrapper(os.fdopen(stdout, "rb"), encoding="utf-8")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        if self.returncode is None and select.select([self._report], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; of a signal that ended it, that number below 0."""
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("lastunit", timeout or 0)
            self.returncode = int(self._report.readline())
            self._report.close()
        return self.returncode

    def terminate(self) -> None:
        """SIGTERM, unless it has ended."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, likewise."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def fork(args: Sequence[str], *, folder: Path, environment: Mapping[str, str], stderr: int) -> Process:
    """Runs `lastunit` with these arguments; its output is a pipe."""
    report, reported = os.pipe()
    stdout, written = os.pipe()
    request = json.dumps({"args": list(args), "folder": str(folder), "environment": dict(environment)}).encode()
    socket.send_fds(_parent(), [request], [written, stderr, reported])
    os.close(written)
    os.close(reported)
    return Process(report, stdout)


@cache
def _parent() -> socket.socket:
    """To the process that forks, which ends with this one."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen([sys.executable, "-m", __name__, str(there.fileno())], pass_fds=[there.fileno()])
    there.close()

    def end() -> None:
        here.close()
        process.wait()

    atexit.register(end)
    return here


def _serve(channel: socket.socket) -> None:
    """Forks for each request, and returns in the fork, which then is the command; ends with whoever asks."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, (*fds,), *_ = socket.recv_fds(channel, REQUEST_BYTES_MAX, 3)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            channel.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            stdout, stderr, report = fds
            if (pid := os.fork()) == 0:
                os.close(report)
                _become(json.loads(request), stdout, stderr)
                return
            _tell_end(pid, report, (stdout, stderr))
        for fd in fds:
            os.close(fd)


def _tell_end(pid: int, report: int, others: Sequence[int]) -> None:
    """Stays beside a command for its exit status."""
    for fd in others:
        os.close(fd)
    os.write(report, b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    with open(report, "wb", buffering=0) as pipe:  # who asked may be gone
        try:
            pipe.write(b"%d\n" % os.waitstatus_to_exitcode(status))
        except BrokenPipeError:
            os._exit(0)
    os._exit(0)


def _become(request: Mapping[str, object], stdout: int, stderr: int) -> None:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for fd, place in ((nothing, 0), (stdout, 1), (stderr, 2)):
        os.dup2(fd, place)
        os.close(fd)
    os.chdir(str(request["folder"]))
    os.environ.clear()
    environment, args = request["environment"], request["args"]
    assert isinstance(environment, dict)
    assert isinstance(args, list)
    os.environ.update(environment)
    sys.argv = ["lastunit", *args]
    random.seed()


if __name__ == "__main__":
    for name in IMPORTED:
        import_module(name)
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("app", run_name="__main__", alter_sys=True)
