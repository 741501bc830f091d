"""The service and the oracle side by side: every command goes to both, and all they then say and keep must agree."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from itertools import zip_longest
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from app.domain.callers import Claim
from app.domain.caps import Caps
from app.domain.entries import Entry
from app.domain.errors import EngineBusy
from app.domain.outcomes import Held, ReservationNotFound
from app.domain.types import Line, Sku, Token
from app.domain.updates import Delivery
from app.projections.rebuild import first_difference, rebuild, verify
from app.settings import load_settings
from app.store.commands import Idempotency, Swept
from app.store.decoding import encode_caps, encode_policy
from app.store.keys import PartitionKeys, derived_token, idempotency_hash
from app.store.ledger import decode_entry, read_entries
from app.store.state import State, read_meta, read_state
from app.store.store import Store, make_store
from app.store.updates import KindOf, apply_delivery, reconcile_skus
from tests.engines import Engine
from tests.oracle import Oracle
from tests.oracle_ledger import Limits
from tests.oracle_partition import Request
from tests.oracle_stock import LIVE, Record, Stock
from tests.simulation.engine_time import EngineTime
from tests.simulation.half import Half, agree, check_kept
from tests.virtual_clock import REPLACED_INCLUDES, START_US, VirtualClock

TIMEOUT_US = 2_000_000
MAX_LIFETIME_US = 25_000_000
RETENTION_SECONDS = 86_400
COMMITTED_RETENTION_SECONDS = 10 * 86_400
SETTINGS = {
    "engine_timeout_seconds": TIMEOUT_US / 1_000_000,
    "max_lifetime_seconds": MAX_LIFETIME_US / 1_000_000,
    "ttl_seconds_max": MAX_LIFETIME_US / 1_000_000,
    "record_retention_seconds": RETENTION_SECONDS,
    "committed_retention_seconds": COMMITTED_RETENTION_SECONDS,
}
LIMITS = Limits(MAX_LIFETIME_US, RETENTION_SECONDS * 1_000_000, COMMITTED_RETENTION_SECONDS * 1_000_000)
BUSY = "busy"


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
async def open_twin(engine: Engine, *, seed: int, partitions: int = 1) -> AsyncIterator["Twin"]:
    """A twin on the engine, which is emptied first."""
    engine.client.flushall()
    clock = VirtualClock(engine.client)
    with repeatable(seed):
        settings = load_settings({**SETTINGS, "partitions": partitions})
        async with make_store(settings, engine.url, REPLACED_INCLUDES) as store:
            clock.gateways += store.partitions.clocks
            yield Twin(engine, store, clock)


@dataclass(frozen=True, slots=True)
class Saved:
    """A moment to go back to: the engine's keys with what they are worth and how long they live, and the oracles."""

    values: tuple[tuple[bytes, bytes, int], ...]
    wall_us: int
    halves: Sequence[tuple[Oracle, EngineTime]]


class Twin:
    """One gateway, virtual time, an oracle a partition. `said` counts outcomes and entries: what a run has met.

    A command takes what it takes in app.store.commands, and gives its outcome once the oracle agrees with it and with
    all that it added to the ledger.
    """

    def __init__(self, engine: Engine, store: Store, clock: VirtualClock) -> None:
        self.clock = clock
        self.said: Counter[str] = Counter()
        self._store = store
        self._engine = engine.client
        self._halves = [self._half(keys) for keys in store.keyspace.partitions]

    def _half(self, keys: PartitionKeys) -> Half:
        secret: Any = self._engine.hget(keys.meta, "secret")
        return Half(keys, secret, Oracle(LIMITS, index=keys.index), EngineTime(START_US))

    # What is known

    def partition_of(self, sku: Sku) -> int:
        return self._store.keyspace.of_sku(sku).index

    def record(self, token: Token) -> Record | None:
        return self._of_token(token)[0].oracle.records.get(token)

    def stock(self, sku: Sku) -> Stock | None:
        return self._of_sku(sku).oracle.skus.get(sku)

    @property
    def records(self) -> list[Record]:
        """Every reservation that is remembered; of a partition in the order they began."""
        return [record for half in self._halves for record in half.oracle.records.values()]

    def token_of(self, sku: Sku, idempotency: Idempotency) -> Token:
        """What a hold of this SKU is called that comes with this key."""
        half = self._of_sku(sku)
        return derived_token(half.keys, half.secret, *idempotency.scope)

    def skus_of(self, category: str) -> list[Sku]:
        skus = [(sku, stock.policy.category) for half in self._halves for sku, stock in half.oracle.skus.items()]
        return [sku for sku, its_category in skus if its_category == category]

    def time_left_us(self, record: Record) -> int:
        """From the last command in its partition to its deadline."""
        return record.deadline_us - self._of_token(record.token)[0].oracle.now_us

    def time_to_next_deadline_us(self) -> int | None:
        records = (record for half in self._halves for record in half.oracle.records.values())
        return min((self.time_left_us(record) for record in records if record.status in LIVE), default=None)

    @property
    def entry_count(self) -> int:
        return sum(len(half.oracle.ledger) for half in self._halves)

    def ledger_bytes(self) -> bytes:
        """The ledgers as the engine has them."""
        return repr([self._engine.xrange(half.keys.ledger) for half in self._halves]).encode()

    # Commands

    async def reserve(
        self, lines: Sequence[Line], *, idempotency: Idempotency | None, holder: str = "", account: str = "", **how: Any
    ) -> object:
        who: dict[str, Any] = {"holder": holder, "account": account}
        answer = self._store.commands.reserve(lines, idempotency=idempotency, details=None, **who, **how)
        request = Request(**who)
        if idempotency:  # whose ledger entries know it by its token
            request = Request(scope=idempotency.scope, fingerprint=idempotency.fingerprint, **who)

        def expected(half: Half, outcome: object) -> object:
            token = outcome.reservation.token if isinstance(outcome, Held) else Token("none is held")
            if idempotency:
                token = derived_token(half.keys, half.secret, *idempotency.scope)
            return half.oracle.reserve(lines, token=token, request=request, **how)

        return await self._compare("reserve", [self._of_sku(lines[0].sku)], answer, expected)

    async def verb(
        self,
        name: str,
        token: Token,
        *arguments: Any,
        idempotency: Idempotency | None,
        details: Mapping[str, object],
        claim: Claim | None = None,
        **how: Any,
    ) -> object:
        """Commit, release, extend, payment, cancel or allocate."""
        command = getattr(self._store.commands, name)
        answer = command(token, *arguments, claim=claim, idempotency=idempotency, details=details, **how)

        def expected(half: Half, _: object) -> object:
            request = replace(_request(half, details, idempotency), claim=claim)
            return getattr(half.oracle, name)(token, *arguments, request=request, **how)

        return await self._compare(name, self._of_token(token), answer, expected)

    async def adjust(self, sku: Sku, **how: Any) -> object:
        return await self._stock_command("adjust", sku, **how)

    async def transfer(self, sku: Sku, **how: Any) -> object:
        return await self._stock_command("transfer", sku, **how)

    async def _stock_command(self, name: str, sku: Sku, *, idempotency: Idempotency | None, **how: Any) -> object:
        answer = getattr(self._store.commands, name)(sku, idempotency=idempotency, **how)

        def expected(half: Half, _: object) -> object:
            return getattr(half.oracle, name)(sku, request=_request(half, {}, idempotency), **how)

        return await self._compare(name, [self._of_sku(sku)], answer, expected)

    async def put_sku(self, sku: Sku, policy: Mapping[str, Any], **how: Any) -> object:
        fields = encode_policy(policy)
        answer, request = self._store.commands.put_sku(sku, fields, **how), Request({"policy": fields})

        def expected(half: Half, _: object) -> object:
            return half.oracle.put_sku(sku, policy, request=request, **how)

        return await self._compare("put_sku", [self._of_sku(sku)], answer, expected)

    async def put_category(self, category: str, policy: Mapping[str, Any]) -> None:
        """Every partition is told; the category's SKUs are not written yet."""
        fields = encode_policy(policy)
        request = Request({"category": category, "policy": fields})

        def expected(half: Half, _: object) -> object:
            return half.oracle.put_category(category, policy, request=request)

        for half in self._halves:
            answer = self._store.commands.put_category(half.keys, category, fields)
            await self._compare("put_category", [half], answer, expected)

    async def read(self, token: Token, *, claim: Claim | None = None) -> object:
        answer = self._store.commands.read(token, claim=claim)

        def expected(half: Half, _: object) -> object:
            return half.oracle.read(token, claim=claim)

        return await self._compare("read", self._of_token(token), answer, expected, is_question=True)

    async def availability(self, sku: Sku, *, channel: str) -> object:
        answer = self._store.commands.availability(sku, channel=channel)

        def expected(half: Half, _: object) -> object:
            return half.oracle.availability(sku, channel=channel)

        return await self._compare("availability", [self._of_sku(sku)], answer, expected, is_question=True)

    async def expire(self) -> None:
        """A sweep of every partition."""
        for half in self._halves:
            answer = self._store.commands.expire(half.keys)
            await self._compare(
                "expire", [half], answer, lambda half, _: Swept(*half.oracle.expire(), half.oracle.now_us)
            )

    async def deliver(self, delivery: Delivery, *, kind_of: KindOf) -> object:
        """What a source says, of SKUs in one partition."""
        answer = apply_delivery(self._store.commands, self._store.keyspace, delivery, kind_of=kind_of)

        def expected(half: Half, _: object) -> object:
            return half.oracle.deliver(delivery, kind_of=kind_of)

        results: Any = await self._compare("deliver", [self._of_sku(delivery.updates[0].sku)], answer, expected)
        if results is not BUSY:
            self.said.update(
                f"{line.kind} {result.status}" for line, result in zip(delivery.updates, results, strict=True)
            )
        return results

    async def reconcile(self, sku: Sku, authorities: Mapping[str, str]) -> object:
        half = self._of_sku(sku)
        answer = reconcile_skus(self._store.commands, half.keys, [sku], authorities)

        def expected(half: Half, _: object) -> object:
            return half.oracle.reconcile(sku, authorities)

        outcome: Any = await self._compare("reconcile", [half], answer, expected)
        if outcome is not BUSY:
            self.said.update(f"reconcile {drift.outcome}" for drift in outcome.drifts)
        return outcome

    def _of_sku(self, sku: Sku) -> Half:
        return self._halves[self.partition_of(sku)]

    def _of_token(self, token: Token) -> list[Half]:
        """Where its record is looked for, in this order."""
        return [self._halves[keys.index] for keys in self._store.keyspace.of_token(token)]

    async def _compare(
        self,
        name: str,
        halves: Sequence[Half],
        answer: Awaitable[object],
        expected: Callable[[Half, object], object],
        *,
        is_question: bool = False,
    ) -> object:
        """Of several halves each is asked until one knows the reservation."""
        clocks = self._store.partitions.clocks
        not_after_us = [clocks[half.keys.index].now_us() + TIMEOUT_US for half in halves]
        try:
            outcome = await answer
        except EngineBusy:
            outcome = BUSY
        said: object = ReservationNotFound()
        for half, last_us in zip(halves, not_after_us, strict=True):
            if said == ReservationNotFound():
                oracle, before = half.oracle, len(half.oracle.ledger)
                oracle.now_us = half.time.read(self.clock.now_us, seen_us=last_us)
                is_late = oracle.now_us > last_us and not is_question
                said = BUSY if is_late else expected(half, outcome)
                agree(f"{name} heard the time", clocks[half.keys.index].now_us(), oracle.now_us)
                for number, pair in enumerate(
                    zip_longest(self._entries(half, after=before), oracle.ledger[before:]), 1
                ):
                    agree(f"{name} wrote, as its entry {number}", *pair)
                self.said.update(f"entry {entry.type}" for entry in oracle.ledger[before:])
                if len(oracle.ledger) > before:
                    half.time.store(self.clock.now_us, oracle.now_us)
        agree(f"{name} answered", outcome, said)
        word = BUSY if outcome is BUSY else type(outcome).__name__
        self.said[f"{name} {word}{' again' if getattr(outcome, 'is_replayed', False) else ''}"] += 1
        return outcome

    def _entries(self, half: Half, *, after: int) -> list[Entry]:
        """The ledger beyond a sequence."""
        page: Any = self._engine.xrange(half.keys.ledger, min=str(after + 1))
        return [decode_entry(half.keys.index, int(entry_id.split(b"-")[0]), fields) for entry_id, fields in page]

    # What is looked at and done between commands

    async def set_caps(self, caps: Caps) -> None:
        """As a gateway does that connects with other settings."""
        for half in self._halves:
            half.oracle.limits = replace(half.oracle.limits, caps=caps)
            self._engine.hset(half.keys.meta, "caps", encode_caps(caps))
            if not caps.is_any:
                self._engine.hdel(half.keys.meta, "caps")

    async def check_state(self) -> None:
        """From the ledger alone follows every key that the engine has; every promised unit has its reservation."""
        verdict = await verify(self._store)
        agree("what the ledger and the engine differ in", verdict.difference, None)
        agree("entries replayed", verdict.entries, self.entry_count)
        for half in self._halves:
            check_kept(half, await self._read_state(half))

    async def rebuild(self) -> None:
        """The engine loses everything and is rebuilt from its ledger; it then goes on as if nothing had happened."""
        await self.forget()
        client, lost = self._store.client, []
        for half in self._halves:
            meta, _ = await read_meta(client, half.keys)
            pages = [page async for _, page in read_entries(client, half.keys)]
            lost.append((half, await read_state(client, half.keys), meta, pages))
        await client.flushall()
        self.clock.step(0)
        for half, before, meta, pages in lost:
            await rebuild(in_turn(pages), client, half.keys, meta)
            difference = first_difference(await read_state(client, half.keys), before, now_us=half.oracle.now_us)
            agree("what the rebuilt engine and the lost one differ in", difference, None)

    def save(self) -> "Saved":
        """The moment as it is, on both sides."""
        keys: Any = self._engine.keys()
        with self._engine.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.dump(key)
                pipeline.pttl(key)
            dumps = pipeline.execute()
        values = zip(keys, dumps[::2], (max(0, left_ms) for left_ms in dumps[1::2]), strict=True)
        halves = [(_copied(half.oracle), copy(half.time)) for half in self._halves]
        return Saved(tuple(values), self.clock.now_us, halves)

    def restore(self, saved: "Saved") -> None:
        """Goes back to that moment."""
        with self._engine.pipeline(transaction=False) as pipeline:
            pipeline.flushall()
            for key, value, left_ms in saved.values:
                pipeline.restore(key, left_ms, value)
            pipeline.execute()
        self.clock.set(saved.wall_us)
        for number, (half, (oracle, time)) in enumerate(zip(self._halves, saved.halves, strict=True)):
            self._halves[number] = replace(half, oracle=_copied(oracle), time=copy(time))
            self._store.partitions.clocks[number].hear(oracle.now_us)

    async def forget(self) -> None:
        """The engine forgets by a clock that no test moves: what it would have forgotten is taken out by hand."""
        for half in self._halves:
            records, scopes, orders = half.oracle.forget()
            half.forgotten.extend(record for record in records if record.status == "committed")
            hashes = [idempotency_hash(half.secret, *scope) for scope in scopes]
            keys = [half.keys.reservation(record.token) for record in records]
            keys += (half.keys.order(*order.name) for order in orders)
            for key in (*keys, *(half.keys.seen("adjustment", each) for each in hashes)):
                agree(f"{key} rested", self._engine.delete(key), 1)

    async def _read_state(self, half: Half) -> State:
        """What expires does so in engine time of the last command."""
        state, (meta, _) = (
            await read_state(self._store.client, half.keys),
            await read_meta(self._store.client, half.keys),
        )
        passed_us = half.oracle.now_us - meta.now_us
        return replace(state, expires_at_us={key: at_us + passed_us for key, at_us in state.expires_at_us.items()})


def _copied(oracle: Oracle) -> Oracle:
    """An oracle that goes its own way; entries never change, and are shared."""
    return deepcopy(oracle, {id(entry): entry for entry in oracle.ledger})


def _request(half: Half, details: Mapping[str, object], idempotency: Idempotency | None) -> Request:
    if idempotency is None:
        return Request(details)
    key_hash = idempotency_hash(half.secret, *idempotency.scope)
    return Request(details, idempotency.scope, key_hash, idempotency.fingerprint)
