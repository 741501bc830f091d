"""What the tutorial runs against: `lastunit serve`, started as a person starts it, and a plain HTTP client."""

from collections.abc import Iterator

import httpx
import pytest

from tests.service import A_NEW_PYTHON, open_home


@pytest.fixture(scope="session")
def shop() -> Iterator[httpx.Client]:
    """A client of a new, empty service. Every chapter sells SKUs of its own."""
    with open_home() as home:
        home.python = A_NEW_PYTHON
        base_url = f"{home.serve().gateway.address}/inventory/v1"
        with httpx.Client(base_url=base_url, trust_env=False) as client:
            yield client
