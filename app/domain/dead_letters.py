"""Dead letters: deliveries that are authentic and could not be used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class LetterStatus(StrEnum):
    """An open letter waits for a person; the others are done."""

    OPEN = "open"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A letter without what is in it. `attempts` counts how often it could not be used, replays included."""

    id: str
    source: str
    delivery_id: str
    received_at_us: int
    reason: str
    attempts: int
    status: LetterStatus


@dataclass(frozen=True, slots=True)
class Content:
    """What was sent: the headers that are no secret, by their names in lower case, and the body to the byte.

    `lines` are the numbers of those that could not be used, where others were: which were, the engine remembers for
    some days, and a letter may wait for longer.
    """

    headers: Mapping[str, str]
    body: bytes
    lines: Sequence[int] | None = None
