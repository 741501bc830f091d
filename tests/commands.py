"""What a typed command answers, and a service that sells meanwhile."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.gateway import Gateway, done
from tests.service import eventually


def said(command: "subprocess.CompletedProcess[str]") -> str:
    """What it printed, where all was well."""
    assert (command.returncode, command.stderr) == (0, "")
    return command.stdout.strip()


def refusal(command: "subprocess.CompletedProcess[str]") -> str:
    """The one sentence with which it refused."""
    assert (command.returncode, command.stdout) == (1, "")
    (sentence,) = command.stderr.splitlines()
    assert sentence.startswith("lastunit: ")
    assert sentence.endswith(".")
    return sentence


def sell(gateway: Gateway, sku: str) -> None:
    """One unit held and sold, one held and given back, one still held."""
    done(gateway.verb(gateway.reserve(sku), "commit"))
    done(gateway.verb(gateway.reserve(sku), "release"))
    gateway.reserve(sku, ttl_seconds=600)


@contextmanager
def selling(gateway: Gateway, sku: str) -> Iterator[list[int]]:
    """Sales in the background, for as long; the sequences of those that were answered."""
    answered: list[int] = []
    is_over = threading.Event()

    def run() -> None:
        while not is_over.is_set():
            held = gateway.reserve(sku)
            answered.append(done(gateway.verb(held, "commit"))["sequence"])

    thread = threading.Thread(target=run)
    thread.start()
    try:
        eventually(lambda: answered)
        yield answered
    finally:
        is_over.set()
        thread.join()
