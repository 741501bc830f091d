"""How much the fault tests do, and what all of them stand on."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.service import Home, open_home


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "tests/faults")
    group.addoption("--commands", type=int, default=400, help="acknowledged commands under each fault, at least")
    group.addoption("--pause-seconds-max", type=float, default=5.0, help="how long an engine stands still, at most")


@dataclass(frozen=True, slots=True)
class Measure:
    """How much a run does."""

    commands: int
    pause_seconds_max: float

    @property
    def seconds_max(self) -> float:
        """More than they take on a machine that is busy."""
        return 30 + self.commands / 20


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Measure:
    return Measure(request.config.getoption("commands"), request.config.getoption("pause_seconds_max"))


@pytest.fixture
def chance() -> random.Random:
    """All chances of a test, from the seed that is printed at the top."""
    return random.Random(random.randrange(2**32))


@pytest.fixture
def home(request: pytest.FixtureRequest) -> Iterator[Home]:
    """An empty home for a service of the test's own; with an archive where the test is marked `archived`."""
    with open_home(is_archived=request.node.get_closest_marker("archived") is not None) as opened:
        yield opened
