"""The one connection to a real engine when things go wrong on the way: every caller gets its own answer, or the truth."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from itertools import batched
from pathlib import Path
from typing import Any

import pytest

from app.domain.errors import Backpressure, EngineError, EngineUnavailable, OutcomeUnknown
from app.domain.outcomes import Done, Held, ReserveOutcome, SkuAnswered
from app.domain.types import Line, Sku, Token
from app.settings import load_settings
from app.store.commands import Idempotency
from app.store.store import Store, make_store
from tests.conftest import OpenStore
from tests.engines import Engine

A = Sku("A")
IN_FLIGHT_MAX = 256
STORM_CALLS, STORM_SKUS, STORM_BATCH = 4000, 50, 500
PATIENCE_SECONDS = 10.0
"""
