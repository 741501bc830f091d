"""What clients saw of a run, and the proof that it can have been so.

Every call, each of its attempts with begin and end, and the answer if one came. `violations` holds them against the
ledger: what was acknowledged is in it, once, in the order of real time, and is what the oracle answers when it lives
through the ledger in the order of sequence (`tests/faults/follower.py`); what was said not to have happened is not.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import Any

from app.domain.caps import NO_CAPS, Caps
from app.domain.entries import Entry
from app.domain.types import Token
from app.store.keys import Keyspace, derived_token, idempotency_hash
from tests.faults.follower import Follower, Misfit
from tests.gateway import Answer

PREFIX = "/inventory/v1/"
KEYS = Keyspace(1).partitions[0]
LATE_SECONDS_MAX = 1.0  # what was answered with an error takes no effect later than that
DONE = (200, 201)
# A refusal of these says what state the call met; of a reservation, how that had ended.
REFUSED = (409, 410)
COMES_AGAIN = (429, 503)
NOTHING_HAPPENED = ("ledger_unavailable", "busy", "backpressure", "agent_quota_exceeded")
ENDS = ("committed", "released", "expired", "voided")
BALANCES = ("on_hand", "reserved", "committed", "backordered", "available")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One time that a call was sent: times in monotonic seconds; no answer where it was lost, or not waited for."""

    started: float
    ended: float
    answer: Answer | None

    @property
    def is_acknowledged(self) -> bool:
        return self.answer is not None and self.answer.status in DONE


@dataclass(slots=True)
class Call:
    """What a client wants, once, however often it has to ask: a key makes all attempts one. Questions have none."""

    client: int
    method: str
    path: str  # after PREFIX
    body: Mapping[str, Any]
    key: str = ""
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def verb(self) -> str:
        """What it is a call of: reserve, commit, ..., adjust, availability; its path says so."""
        return {"reservations": "reserve", "adjustments": "adjust"}.get(name := self.path.rpartition("/")[2], name)

    @property
    def started(self) -> float:
        return self.attempts[0].started

    @property
    def acknowledged(self) -> Attempt | None:
        """The first answer that says that it is done."""
        return next((attempt for attempt in self.attempts if attempt.is_acknowledged), None)

    @property
    def scope(self) -> tuple[str, ...]:
        """Of its key, as the gateway has it: nobody's in particular, for the service is open."""
        return ("", self.body.get("agent_id", ""), self.method, PREFIX + self.path, self.key)


Command = list[Entry]


class History:
    """The calls of a run and the ledger that it left, put together by the names that keys give."""

    def __init__(self, calls: Sequence[Call], entries: Sequence[Entry], secret: bytes, *, wall_offset: float) -> None:
        """`wall_offset` makes wall-clock seconds of monotonic ones."""
        self.calls = [call for call in calls if call.attempts]
        self.entries = entries
        self.secret = secret
        self.wall_offset = wall_offset
        self.commands: list[Command] = [list(group) for _, group in groupby(entries, lambda entry: entry.command)]
        self._by_name = {self._name_of(call): call for call in self.calls if call.key}
        self.effects: defaultdict[int, list[Command]] = defaultdict(list)  # by id of the call
        for command in self.commands:
            if call := self.call_of(command):
                self.effects[id(call)].append(command)

    def call_of(self, command: Command) -> Call | None:
        """Whose effect it is; nobody's where it settles what is due, or was called without a key."""
        head = command[0]
        name = head.token if head.type == "reservation.held" else head.data.get("key")
        return self._by_name.get(str(name))

    def _name_of(self, call: Call) -> str:
        if call.verb == "reserve":
            return derived_token(KEYS, self.secret, *call.scope)
        return idempotency_hash(self.secret, *call.scope)


def violations(history: History, *, is_clock_true: bool = True, caps: Caps = NO_CAPS) -> list[str]:
    """All that cannot be, in words; empty for a run in which every promise was kept."""
    found = [*_torn(history.entries), *_unbalanced(history.entries), *_ended_twice(history)]
    for check in (_unexpected, _not_once, _happened_all_the_same, _unordered, _misread):
        found += check(history)
    if is_clock_true:
        found += _ghosts(history)
    try:
        follow(history, caps)
    except Misfit as misfit:
        found.append(str(misfit))
    return found


def follow(history: History, caps: Caps = NO_CAPS) -> Follower:
    """The oracle after it lived through the ledger. Raises Misfit at the first command or answer that is not so."""
    follower = Follower(caps)
    for command in history.commands:
        call = history.call_of(command)
        answers = [attempt.answer for attempt in call.attempts if attempt.is_acknowledged] if call else []
        request = (call.verb, call.path, call.body, call.scope) if call else None
        follower.follow(command, request, [answer for answer in answers if answer])
    return follower


# The ledger alone


def _torn(entries: Sequence[Entry]) -> Iterator[str]:
    for place, entry in enumerate(entries, 1):
        if entry.sequence != place:
            yield f"gap: entry {entry.sequence} stands where {place} belongs"
            return


def _unbalanced(entries: Sequence[Entry]) -> Iterator[str]:
    safety: dict[str, int] = {}
    for entry in entries:
        if entry.safety_stock is not None:
            safety[entry.sku] = entry.safety_stock
        left = entry.on_hand + entry.backordered - entry.reserved - entry.committed - safety.get(entry.sku, 0)
        if entry.available != max(0, left) or min(getattr(entry, name) for name in BALANCES) < 0:
            yield f"balance: entry {entry.sequence} does not add up"


def _ended_twice(history: History) -> Iterator[str]:
    ends: Counter[Token] = Counter()
    for command in history.commands:
        tokens = {entry.token for entry in command if entry.type.removeprefix("reservation.") in ENDS}
        ends.update(token for token in tokens if token)
    for token, count in ends.items():
        if count > 1:
            yield f"ends: {token} ended {count} times"


# What clients heard


def _unexpected(history: History) -> Iterator[str]:
    """Nobody asks here for what does not exist, or wrongly."""
    for call in history.calls:
        for attempt in call.attempts:
            if attempt.answer and attempt.answer.status not in (*DONE, *REFUSED, *COMES_AGAIN):
                yield f"answer: {call.verb} was answered {attempt.answer.status} {attempt.answer.body[:200]!r}"


def _not_once(history: History) -> Iterator[str]:
    for call in history.calls:
        effects = history.effects[id(call)]
        if len(effects) > 1:
            yield f"twice: {call.verb} of {call.key} took effect {len(effects)} times"
        acknowledged = call.acknowledged
        if not acknowledged or not call.key or not acknowledged.answer:
            continue
        said = acknowledged.answer.json
        if effects:
            if said["sequence"] != effects[0][-1].sequence:
                yield f"sequence: {call.verb} of {call.key} is not entry {said['sequence']}"
        elif call.verb != "release" or not _is_so(history, said):
            yield f"lost: {call.verb} of {call.key} was acknowledged and is not in the ledger"


def _is_so(history: History, said: Mapping[str, Any]) -> bool:
    """Of an answer without an effect: the reservation is as it says since that entry."""
    if not 1 <= said["sequence"] <= len(history.entries):
        return False
    entry = history.entries[said["sequence"] - 1]
    return (entry.token, entry.type) == (said["token"], f"reservation.{said['status']}")


def _happened_all_the_same(history: History) -> Iterator[str]:
    for call in history.calls:
        answers = [attempt.answer for attempt in call.attempts]
        if history.effects[id(call)] and all(answer and _says_no(answer) for answer in answers):
            yield f"refused: {call.verb} of {call.key} took effect though each answer says that it did not"


def _says_no(answer: Answer) -> bool:
    return answer.status in REFUSED or (answer.status not in DONE and answer.json["code"] in NOTHING_HAPPENED)


def _ghosts(history: History) -> Iterator[str]:
    """What took effect long after its client was told that something went wrong, and was not asked for again."""
    for call in history.calls:
        if not all(attempt.answer for attempt in call.attempts):
            continue  # one that was lost on the way may still arrive
        ended_at = max(attempt.ended for attempt in call.attempts) + history.wall_offset
        for command in history.effects[id(call)]:
            late_seconds = command[0].at_us / 1e6 - ended_at
            if late_seconds > LATE_SECONDS_MAX:
                yield f"ghost: {call.verb} of {call.key} took effect {late_seconds:.1f} s after its last answer"


# Real time


def _unordered(history: History) -> Iterator[str]:
    """Of two effects of which one was acknowledged before the other was asked for, the first is the lower entry."""
    done = [(call.acknowledged.ended, history.effects[id(call)][-1][-1].sequence, call)
            for call in history.calls if call.acknowledged and history.effects[id(call)]]  # fmt: skip
    acknowledged = _Extremes([(ended, sequence) for ended, sequence, _ in done])
    for _, sequence, call in done:
        if acknowledged.before(call.started, least=0) > sequence:
            yield f"order: {call.verb} of {call.key} is entry {sequence}, below one acknowledged before it began"


def _misread(history: History) -> Iterator[str]:
    """A question, or a refusal, tells of some state between the last before it began and the first after it ended."""
    entries: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in history.entries:
        entries[entry.sku].append(entry)
    sequences = {sku: [entry.sequence for entry in found] for sku, found in entries.items()}
    effects = [(call, history.effects[id(call)][-1]) for call in history.calls if history.effects[id(call)]]
    known = _Extremes(
        [(call.acknowledged.ended, command[-1].sequence) for call, command in effects if call.acknowledged]
    )
    later = _Extremes([(-call.started, -command[0].sequence) for call, command in effects])
    for call in history.calls:
        for attempt in call.attempts:
            for sku, told in _told(attempt.answer):
                first = bisect_right(sequences[sku], known.before(attempt.started, least=0)) - 1
                last = bisect_left(sequences[sku], -later.before(-attempt.ended, least=-len(history.entries) - 1))
                met = entries[sku][max(0, first) : last]
                if not any(all(getattr(entry, name) == value for name, value in told.items()) for entry in met):
                    yield f"read: {call.verb} was told {told} of {sku}, which was not so at that time"


def _told(answer: Answer | None) -> Iterator[tuple[str, dict[str, int]]]:
    """What an answer says of SKUs, but for the effect that it has itself: see the follower for that."""
    is_of_now = answer and answer.status == DONE[0] and "idempotent-replayed" not in answer.headers
    if answer and is_of_now and "schema_version" in (said := answer.json):
        yield said["sku"], {"sequence": said["sequence"]} | {name: said[f"{name}_quantity"] for name in BALANCES}
    if answer and answer.status in REFUSED and answer.json["code"] == "out_of_stock":
        for line in answer.json["lines"]:
            yield line["sku"], {"available": line["available_quantity"]}


class _Extremes:
    """Of numbers at times, the largest of those before a time."""

    def __init__(self, rows: list[tuple[float, int]]) -> None:
        rows.sort()
        self._times = [time for time, _ in rows]
        self._largest = list(accumulate((number for _, number in rows), max))

    def before(self, time: float, *, least: int) -> int:
        place = bisect_left(self._times, time)
        return max(least, self._largest[place - 1]) if place else least
