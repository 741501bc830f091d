"""The service and the oracle side by side: every command goes to both, and all they then say and keep must agree."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from app.domain.entries import Entry
from app.domain.errors import EngineBusy
from app.domain.outcomes import Held
from app.domain.types import Line, Sku, Token
from app.projections.rebuild import first_difference, rebuild, verify
from app.settings import load_settings
from app.store.commands import Idempotency, Swept
from app.store.decoding import decode_lines, encode_policy
from app.store.keys import idempotency_hash
from app.store.ledger import decode_entry, read_entries
from app.store.state import State, read_meta, read_state
from app.store.store import Store, make_store
from tests.engines import Engine
from tests.oracle import LIVE, Oracle, Request
from tests.simulation.engine_time import EngineTime
from tests.virtual_clock import REPLACED_INCLUDES, START_US, VirtualClock

TIMEOUT_US = 2_000_000
MAX_LIFETIME_US = 25_000_000
SETTINGS = {
    "engine_timeout_seconds": TIMEOUT_US / 1_000_000,
    "max_lifetime_seconds": MAX_LIFETIME_US / 1_000_000,
    "ttl_seconds_max": MAX_LIFETIME_US / 1_000_000,
}
BUSY = "busy"


class Divergence(AssertionError):
    """The service and the oracle do not agree."""


def agree(what: str, service: object, oracle: object) -> None:
    if service != oracle:
        raise Divergence(f"{what}\n  service: {service}\n  oracle:  {oracle}")


async def in_turn(pages: Iterable[Sequence[Entry]]) -> AsyncIterator[Sequence[Entry]]:
    for page in pages:
        yield page


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Makes the service repeat itself: its random numbers come from `seed`, and its own clock stands still."""
    source = random.Random(seed)
    numbers = SimpleNamespace(token_bytes=source.randbytes, token_hex=lambda count: source.randbytes(count).hex())
    with (
        patch("app.store.keys.secrets", numbers),
        patch("app.store.opening.secrets", numbers),
        patch("app.store.clock.time", SimpleNamespace(monotonic_ns=lambda: 0)),
    ):
        yield


@asynccontextmanager
async def open_twin(engine: Engine, *, seed: int) -> AsyncIterator["Twin"]:
    """A twin on the engine, which is emptied first."""
    engine.client.flushall()
    clock = VirtualClock(engine.client)
    with repeatable(seed):
        async with make_store(load_settings(SETTINGS), engine.url, REPLACED_INCLUDES) as store:
            clock.gateways += store.partitions.clocks
            yield Twin(engine, store, clock)


class Twin:
    """One partition, one gateway, virtual time. `said` counts the outcomes: what a run has met.

    A command takes what it takes in app.store.commands, and gives its outcome once the oracle agrees with it and with
    all that it added to the ledger.
    """

    def __init__(self, engine: Engine, store: Store, clock: VirtualClock) -> None:
        self.oracle = Oracle(max_lifetime_us=MAX_LIFETIME_US)
        self.clock = clock
        self.said: Counter[str] = Counter()
        self._store = store
        self._engine = engine.client
        self._keys = store.keyspace.partitions[0]
        self._secret: Any = self._engine.hget(self._keys.meta, "secret")
        self._time = EngineTime(START_US)

    @property
    def now_us(self) -> int:
        """Engine time of the last command."""
        return self.oracle.now_us

    async def reserve(self, lines: Sequence[Line], *, idempotency: Idempotency | None, **how: Any) -> object:
        answer = self._store.commands.reserve(lines, idempotency=idempotency, details=None, **how)
        request = Request()
        if idempotency:  # whose ledger entries know it by its token
            request = Request(scope=idempotency.scope, fingerprint=idempotency.fingerprint)

        def expected(outcome: object) -> object:
            token = outcome.reservation.token if isinstance(outcome, Held) else Token("none is held")
            return self.oracle.reserve(lines, token=token, request=request, **how)

        return await self._compare("reserve", answer, expected)

    async def verb(
        self, name: str, token: Token, *, idempotency: Idempotency | None, details: Mapping[str, object], **how: Any
    ) -> object:
        """Commit, release, extend, payment or cancel."""
        answer = getattr(self._store.commands, name)(token, idempotency=idempotency, details=details, **how)
        expected, request = getattr(self.oracle, name), self._request(details, idempotency)
        return await self._compare(name, answer, lambda _: expected(token, request=request, **how))

    async def adjust(self, sku: Sku, *, idempotency: Idempotency | None, **how: Any) -> object:
        answer = self._store.commands.adjust(sku, idempotency=idempotency, **how)
        request = self._request({}, idempotency)
        return await self._compare("adjust", answer, lambda _: self.oracle.adjust(sku, request=request, **how))

    async def put_sku(self, sku: Sku, policy: Mapping[str, Any], **how: Any) -> object:
        fields = encode_policy(policy)
        answer = self._store.commands.put_sku(sku, fields, **how)
        request = Request({"policy": fields})
        return await self._compare(
            "put_sku", answer, lambda _: self.oracle.put_sku(sku, policy, request=request, **how)
        )

    async def read(self, token: Token) -> object:
        answer = self._store.commands.read(token)
        return await self._compare("read", answer, lambda _: self.oracle.read(token), is_question=True)

    async def availability(self, sku: Sku) -> object:
        answer = self._store.commands.availability(sku)
        return await self._compare("availability", answer, lambda _: self.oracle.availability(sku), is_question=True)

    async def expire(self) -> object:
        answer = self._store.commands.expire(self._keys)
        return await self._compare("expire", answer, lambda _: Swept(*self.oracle.expire(), self.now_us))

    def _request(self, details: Mapping[str, object], idempotency: Idempotency | None) -> Request:
        if idempotency is None:
            return Request(details)
        key_hash = idempotency_hash(self._secret, *idempotency.scope)
        return Request(details, idempotency.scope, key_hash, idempotency.fingerprint)

    async def _compare(
        self, name: str, answer: Awaitable[object], expected: Callable[[object], object], *, is_question: bool = False
    ) -> object:
        not_after_us = self._store.partitions.clocks[0].now_us() + TIMEOUT_US
        now_us = self._time.read(self.clock.now_us, seen_us=not_after_us)
        is_late = now_us > not_after_us and not is_question
        before, self.oracle.now_us = len(self.oracle.ledger), now_us
        try:
            outcome = await answer
        except EngineBusy:
            outcome = BUSY
        agree(f"{name} answered", outcome, BUSY if is_late else expected(outcome))
        agree(f"{name} heard the time", self._store.partitions.clocks[0].now_us(), now_us)
        agree(f"{name} wrote", self.entries(after=before), self.oracle.ledger[before:])
        if len(self.oracle.ledger) > before:
            self._time.store(self.clock.now_us, now_us)
        word = BUSY if outcome is BUSY else type(outcome).__name__
        self.said[f"{name} {word}{' again' if getattr(outcome, 'is_replayed', False) else ''}"] += 1
        return outcome

    def entries(self, *, after: int = 0) -> list[Entry]:
        """The ledger beyond a sequence."""
        page: Any = self._engine.xrange(self._keys.ledger, min=str(after + 1))
        return [decode_entry(0, int(entry_id.split(b"-")[0]), fields) for entry_id, fields in page]

    def ledger_bytes(self) -> bytes:
        """The ledger as the engine has it."""
        return repr(self._engine.xrange(self._keys.ledger)).encode()

    async def check_state(self) -> None:
        """From the ledger alone follows every key that the engine has; every promised unit has its reservation."""
        verdict = await verify(self._store)
        agree("what the ledger and the engine differ in", verdict.difference, None)
        agree("entries replayed", verdict.entries, len(self.oracle.ledger))
        self._check_conservation(await read_state(self._store.client, self._keys))

    async def rebuild(self) -> None:
        """The engine loses everything and is rebuilt from its ledger; it then goes on as if nothing had happened."""
        client, keys = self._store.client, self._keys
        before, (meta, _) = await read_state(client, keys), await read_meta(client, keys)
        pages = [page async for _, page in read_entries(client, keys)]
        await client.flushall()
        self.clock.step(0)
        await rebuild(in_turn(pages), client, keys, meta)
        difference = first_difference(await read_state(client, keys), before, now_us=self.now_us)
        agree("what the rebuilt engine and the lost one differ in", difference, None)

    def _check_conservation(self, kept: State) -> None:
        promised = {sku: Counter[str]() for sku in self.oracle.skus}
        for key, record in kept.hashes.items():
            if key.startswith(self._keys.reservation(Token(""))) and record["status"] in (*LIVE, "committed"):
                pool = "committed" if record["status"] == "committed" else "reserved"
                for line in decode_lines(record.get("remaining_lines", record["lines"]).encode()):
                    promised[line.sku] += Counter({pool: line.quantity, "backordered": line.backordered})
        for sku, units in promised.items():
            stock, locations = kept.hashes[self._keys.sku(sku)], kept.hashes.get(self._keys.locations(sku), {})
            units["on_hand"] = sum(int(text) for text in locations.values())
            for pool in ("on_hand", "reserved", "committed", "backordered"):
                agree(f"{pool} of {sku}", int(stock[pool]), units[pool])
