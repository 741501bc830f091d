"""Times as others write them."""

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime.fromtimestamp(0, UTC)
MICROSECOND = timedelta(microseconds=1)
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def parse_time(text: str) -> int:
    """A time of RFC 3339 in us since 1970, what is finer cut off; raises ValueError, which does not repeat the text."""
    try:
        if RFC_3339.fullmatch(text):
            return (datetime.fromisoformat(text.upper()) - EPOCH) // MICROSECOND
    except ValueError:
        pass  # no such day or hour
    raise ValueError("must be a time like 2030-05-01T12:00:00Z")
