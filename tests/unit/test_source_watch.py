"""What is said of a source: by what it sent last, and when."""

import pytest
from pydantic import SecretStr

from app.connectors.source_settings import SourceSettings
from app.ingest.source_watch import Condition, condition_of
from app.store.source_states import SourceState
from tests.webhooks import SECRET

NOW_US = 1_000_000_000_000_000
MINUTE_US = 60 * 1_000_000


def state(*, known_since_us: int | None = 1, success_us: int | None = None, failures: int = 0) -> SourceState:
    return SourceState(known_since_us, NOW_US, success_us, "away", failures)


@pytest.mark.parametrize(
    ("silent_after_seconds", "found", "condition"),
    [
        (60, state(success_us=NOW_US - MINUTE_US), Condition.OK),
        (60, state(success_us=NOW_US - MINUTE_US - 1), Condition.SILENT),
        (61, state(success_us=NOW_US - MINUTE_US - 1), Condition.OK),
        (None, state(success_us=1), Condition.OK),
        (60, state(), Condition.SILENT),
        (60, state(known_since_us=NOW_US - MINUTE_US), Condition.OK),
        (60, state(known_since_us=None), Condition.OK),
        (None, state(), Condition.OK),
        (60, state(failures=1), Condition.FAILING),
        (60, state(success_us=NOW_US, failures=1), Condition.FAILING),
    ],
)
def test_how_it_is_with_a_source(silent_after_seconds: float | None, found: SourceState, condition: Condition) -> None:
    source = SourceSettings(connector="wms", secrets=[SecretStr(SECRET)], silent_after_seconds=silent_after_seconds)
    assert condition_of(source, found, now_us=NOW_US) is condition


def test_a_source_that_is_not_to_be_polled_is_neither_failing_nor_silent() -> None:
    source = SourceSettings(connector="wms", secrets=[SecretStr(SECRET)], silent_after_seconds=60)
    assert condition_of(source, state(failures=1), now_us=NOW_US, is_disabled=True) is Condition.DISABLED
