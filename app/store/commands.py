"""Every command as a typed function: arguments in, an outcome out. Each is one script call in one partition.

A command that came too late or met too much that was due raises EngineBusy: it had no effect.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from app.domain.callers import Claim
from app.domain.errors import EngineBusy, EngineCorrupt, EngineError
from app.domain.outcomes import (
    AdjustOutcome,
    AvailabilityOutcome,
    Done,
    Held,
    PutSkuOutcome,
    ReservationEnded,
    ReservationNotFound,
    ReserveOutcome,
    SequenceMismatch,
    SkuAnswered,
    SkuNotFound,
    TransferOutcome,
    VerbOutcome,
)
from app.domain.types import Allocation, Line, Reservation, Sku, Token
from app.store import calls
from app.store.decoding import (
    RESERVE_REFUSALS,
    STOCK_REFUSALS,
    VERB_REFUSALS,
    decode_lines,
    decode_remaining,
    decode_reservation,
    decode_sku,
    encode_claim,
    encode_details,
)
from app.store.keys import TOKEN_CHARS, Keyspace, PartitionKeys, derived_token, idempotency_hash, new_token
from app.store.opening import Partitions
from app.store.pipeline import Pipeline, Reply
from app.store.scripts import Script

LocationKind = Literal["shared", "dedicated"]

RECLAIM_CALLS_MAX = 20
SEEN_RETENTION_MS = 7 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Idempotency:
    """An Idempotency-Key with its scope (key holder, agent, method and path) and the fingerprint of its request."""

    scope: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did, and the next deadline (us of engine time), None when nothing is live."""

    lines: int
    next_deadline_us: int | None
    now_us: int


class Commands:
    """The commands, sent over one pipeline."""

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        scripts: Mapping[str, Script],
        keyspace: Keyspace,
        partitions: Partitions,
        timeout_us: int,
        max_lifetime_us: int,
    ) -> None:
        self._pipeline = pipeline
        self._scripts = scripts
        self._keyspace = keyspace
        self._partitions = partitions
        self._timeout_us = timeout_us
        self._max_lifetime_us = max_lifetime_us

    async def reserve(
        self,
        lines: Sequence[Line],
        *,
        agent_id: str,
        channel: str,
        ttl_us: int,
        allow_backorder: bool,
        details: Mapping[str, object] | None,
        idempotency: Idempotency | None,
        holder: str = "",
        account: str = "",
    ) -> ReserveOutcome:
        """Holds the lines, all or nothing. Each SKU comes once, and all are of one partition.

        `holder` is whose key it came with, empty where it came with none; `account` where it counts, if anything is
        capped: see `Caller.account_for`.
        """
        keys = self._keyspace.of_sku(lines[0].sku)
        token = self._token(keys, idempotency)
        fingerprint = idempotency.fingerprint if idempotency else ""
        encoded = encode_details(details, "", fingerprint)
        script_keys = [keys.meta, keys.ledger, keys.deadlines, keys.reservation(token)]
        pairs: list[calls.Argument] = []
        for line in lines:
            script_keys += (keys.sku(line.sku), keys.holds(line.sku))
            pairs += (line.sku, line.quantity)
        args = calls.ReserveArgs(
            self.not_after_us(keys), token, agent_id, channel, ttl_us, int(allow_backorder), fingerprint, encoded,
            holder, account,
        )  # fmt: skip
        reply = calls.ReserveReply(*await self.call("reserve", keys, script_keys, (*args, *pairs)))
        return self._reserve_outcome(keys, args, reply)

    def _reserve_outcome(
        self, keys: PartitionKeys, args: calls.ReserveArgs, reply: calls.ReserveReply
    ) -> ReserveOutcome:
        if refusal := RESERVE_REFUSALS.get(reply.status):
            return refusal(reply)
        if reply.status not in (b"held", b"replayed"):
            raise _unexpected("reserve", reply.status)
        sequence = int(reply.sequence)
        self._partitions.saw(keys.index, sequence)
        reservation = Reservation(
            token=Token(args.token),
            status=reply.state.decode(),
            agent_id=args.agent,
            channel=args.channel,
            order_id="",
            details=args.details,
            created_at_us=int(reply.created_us),
            expires_at_us=int(reply.expires_us),
            sequence=sequence,
            lines=decode_lines(reply.lines),
            remaining=decode_remaining(reply.availability),
        )
        return Held(reservation, is_replayed=reply.status == b"replayed")

    async def commit(
        self,
        token: Token,
        *,
        order_id: str,
        lines: Iterable[Line] = (),
        claim: Claim | None = None,
        details: Mapping[str, object] | None = None,
        idempotency: Idempotency | None = None,
    ) -> VerbOutcome:
        """Sells these lines of the reservation, all of it where none is named; the rest goes back."""
        kept = {**(details or {}), "order_id": order_id} if order_id else details
        return await self._verb("commit", token, claim, kept, idempotency, (order_id,), _pairs(lines))

    async def release(
        self,
        token: Token,
        *,
        claim: Claim | None = None,
        details: Mapping[str, object] | None = None,
        idempotency: Idempotency | None = None,
    ) -> VerbOutcome:
        """Gives back what the reservation holds."""
        return await self._verb("release", token, claim, details, idempotency)

    async def extend(
        self,
        token: Token,
        *,
        counted_from: Literal["now", "deadline"],
        amount_us: int,
        claim: Claim | None = None,
        details: Mapping[str, object] | None = None,
        idempotency: Idempotency | None = None,
    ) -> VerbOutcome:
        """Moves the deadline to that much after now or after the deadline in force, never earlier."""
        return await self._verb(
            "extend", token, claim, details, idempotency, (counted_from, amount_us, self._max_lifetime_us)
        )

    async def payment(
        self,
        token: Token,
        *,
        ttl_us: int,
        claim: Claim | None = None,
        details: Mapping[str, object] | None = None,
        idempotency: Idempotency | None = None,
    ) -> VerbOutcome:
        """Notes that a payment runs."""
        return await self._verb("payment", token, claim, details, idempotency, (ttl_us, self._max_lifetime_us))

    async def cancel(
        self,
        token: Token,
        *,
        lines: Iterable[Line] = (),
        claim: Claim | None = None,
        details: Mapping[str, object] | None = None,
        idempotency: Idempotency | None = None,
    ) -> VerbOutcome:
        """Takes these lines of a sale back, all of it where none is named."""
        return await self._verb("cancel", token, claim, details, idempotency, (), _pairs(lines))

    async def allocate(
        self,
        token: Token,
        allocations: Iterable[Allocation],
        *,
        claim: Claim | None = None,
        details: Mapping[str, object] | None = None,
        idempotency: Idempotency | None = None,
    ) -> VerbOutcome:
        """Notes from where the units of a sale are to be taken, in place of what was noted for the same SKUs."""
        rows = [(each.sku, each.location_id, each.quantity) for each in allocations]
        kept = {**(details or {}), "allocations": rows}
        return await self._verb(
            "allocate", token, claim, kept, idempotency, (), [value for row in rows for value in row]
        )

    async def read(self, token: Token, *, claim: Claim | None = None) -> ReservationNotFound | Done:
        """The reservation as it stands."""
        for keys in self._keyspace.of_token(token):
            args = calls.ReadArgs(self.not_after_us(keys), token, encode_claim(claim))
            outcome = await self._reservation_call("read", keys, token, args)
            if isinstance(outcome, Done):
                return outcome
        return ReservationNotFound()

    async def _verb(  # noqa: PLR0917 - what every verb has, in the order that its script takes it
        self,
        name: str,
        token: Token,
        claim: Claim | None,
        details: Mapping[str, object] | None,
        idempotency: Idempotency | None,
        rest: Sequence[calls.Argument] = (),
        pairs: Sequence[calls.Argument] = (),
    ) -> VerbOutcome:
        args_type, _ = calls.CONTRACTS[name]
        fingerprint = idempotency.fingerprint if idempotency else ""
        for keys in self._keyspace.of_token(token):
            key_hash = self._key_hash(keys, idempotency) if idempotency else ""
            encoded = encode_details(details, key_hash, fingerprint)
            args = args_type(self.not_after_us(keys), token, encode_claim(claim), key_hash, fingerprint, encoded, *rest)
            outcome = await self._reservation_call(name, keys, token, (*args, *pairs))
            if not isinstance(outcome, ReservationNotFound):
                return outcome
        return ReservationNotFound()

    async def _reservation_call(
        self, name: str, keys: PartitionKeys, token: Token, args: Sequence[calls.Argument]
    ) -> VerbOutcome:
        script_keys = (keys.meta, keys.ledger, keys.deadlines, keys.reservation(token))
        reply = calls.ReservationReply(*await self.call(name, keys, script_keys, args))
        match reply.status:
            case status if status in VERB_REFUSALS:
                return VERB_REFUSALS[status]
            case b"ended":
                return ReservationEnded(decode_reservation(token, reply))
            case (
                b"committed"
                | b"released"
                | b"moved"
                | b"cancelled"
                | b"allocated"
                | b"found"
                | b"unchanged"
                | b"replayed"
            ):
                reservation = decode_reservation(token, reply)
                self._partitions.saw(keys.index, reservation.sequence)
                return Done(
                    reservation,
                    is_replayed=reply.status == b"replayed",
                    has_effect=reply.status not in {b"replayed", b"unchanged", b"found"},
                )
            case _:
                raise _unexpected(name, reply.status)

    async def adjust(
        self,
        sku: Sku,
        *,
        location_id: str,
        location_kind: LocationKind = "shared",
        mode: Literal["delta", "count"],
        amount: int,
        reason: str,
        expected_sequence: str = "",
        details: Mapping[str, object] | None = None,
        idempotency: Idempotency | None = None,
    ) -> AdjustOutcome:
        """Changes what is on hand at a location by `amount`, or to it; the kind is that of a location new to the SKU.

        What is promised and no longer there is voided before this returns.
        """
        outcome = await self._stock_call(
            "adjust", sku, (location_id, location_kind, mode, amount, expected_sequence, reason), details, idempotency
        )
        assert not isinstance(outcome, SkuNotFound)
        return outcome

    async def transfer(
        self,
        sku: Sku,
        *,
        from_location_id: str,
        to_location_id: str,
        to_location_kind: LocationKind = "shared",
        quantity: int,
        reason: str,
        expected_sequence: str = "",
        details: Mapping[str, object] | None = None,
        idempotency: Idempotency | None = None,
    ) -> TransferOutcome:
        """Moves units from one location to another. Raises nothing that adjust does not."""
        args = (from_location_id, to_location_id, to_location_kind, quantity, expected_sequence, reason)
        return await self._stock_call("transfer", sku, args, details, idempotency)

    async def _stock_call(
        self,
        name: str,
        sku: Sku,
        args: Sequence[calls.Argument],
        details: Mapping[str, object] | None,
        idempotency: Idempotency | None,
    ) -> TransferOutcome:
        keys = self._keyspace.of_sku(sku)
        key_hash = self._key_hash(keys, idempotency) if idempotency else ""
        fingerprint = idempotency.fingerprint if idempotency else ""
        kept = (fingerprint, SEEN_RETENTION_MS, encode_details(details, key_hash, fingerprint))
        all_args = (self.not_after_us(keys), sku, *args, *kept)
        reply = await self._sku_call(name, keys, sku, all_args, keys.seen("adjustment", key_hash))
        if reply.status == b"voiding":
            with suppress(EngineError):  # the stock has changed; what is still to be voided is, by the SKU's next calls
                closed = await self.close_shortfall(sku)  # by commands of their own: the answer is still this one's
                reply = closed._replace(sequence=reply.sequence)
        match reply.status:
            case b"adjusted" | b"transferred" | b"voiding" | b"closed" | b"replayed":
                return SkuAnswered(decode_sku(sku, reply), is_replayed=reply.status == b"replayed")
            case b"sku_not_found":
                return SkuNotFound(sku)
            case b"sequence_mismatch":
                return SequenceMismatch(int(reply.sequence))
            case status if status in STOCK_REFUSALS:
                return STOCK_REFUSALS[status]
            case _:
                raise _unexpected(name, reply.status)

    async def close_shortfall(self, sku: Sku) -> calls.SkuReply:
        """Goes on voiding what a loss left without stock, where one call could not."""
        keys = self._keyspace.of_sku(sku)
        return await self._sku_call(
            "close_shortfall", keys, sku, calls.CloseShortfallArgs(self.not_after_us(keys), sku)
        )

    async def put_sku(
        self,
        sku: Sku,
        fields: Mapping[str, str],
        *,
        may_create: bool,
        expected_sequence: str = "",
        details: Mapping[str, object] | None = None,
    ) -> PutSkuOutcome:
        """Stores these policy fields (see `app.store.decoding`), creating the SKU if that is allowed."""
        keys = self._keyspace.of_sku(sku)
        kept = encode_details({**(details or {}), "policy": fields}, "", "")
        args = calls.PutSkuArgs(self.not_after_us(keys), sku, expected_sequence, int(may_create), kept)
        pairs = [text for field in fields.items() for text in field]
        reply = await self._sku_call("put_sku", keys, sku, (*args, *pairs))
        match reply.status:
            case b"created" | b"updated":
                return SkuAnswered(decode_sku(sku, reply), is_created=reply.status == b"created")
            case b"sku_not_found":
                return SkuNotFound(sku)
            case b"sequence_mismatch":
                return SequenceMismatch(int(reply.sequence))
            case _:
                raise _unexpected("put_sku", reply.status)

    async def put_category(self, partition: PartitionKeys, category: str, fields: Mapping[str, str]) -> int:
        """Says what a partition's SKUs of the category take where they say nothing, from when they are next written.

        Returns the sequence.
        """
        details = encode_details({"category": category, "policy": fields}, "", "")
        args = calls.PutCategoryArgs(self.not_after_us(partition), details)
        script_keys = (partition.meta, partition.ledger, partition.deadlines, partition.category(category))
        pairs = [text for field in fields.items() for text in field]
        reply = calls.PutCategoryReply(*await self.call("put_category", partition, script_keys, (*args, *pairs)))
        if reply.status != b"stored":
            raise _unexpected("put_category", reply.status)
        self._partitions.saw(partition.index, int(reply.sequence))
        return int(reply.sequence)

    async def availability(self, sku: Sku, *, channel: str = "") -> AvailabilityOutcome:
        """The SKU as it stands, and what the channel may still have of it."""
        keys = self._keyspace.of_sku(sku)
        args = calls.AvailabilityArgs(self.not_after_us(keys), sku, channel)
        reply = await self._sku_call("availability", keys, sku, args)
        match reply.status:
            case b"found":
                return SkuAnswered(decode_sku(sku, reply))
            case b"sku_not_found":
                return SkuNotFound(sku)
            case _:
                raise _unexpected("availability", reply.status)

    async def expire(self, partition: PartitionKeys) -> Swept:
        """Settles some of what is due in a partition."""
        script_keys = (partition.meta, partition.ledger, partition.deadlines)
        args = calls.ExpireArgs(self.not_after_us(partition))
        reply = calls.ExpireReply(*await self.call("expire", partition, script_keys, args))
        if reply.status != b"swept":
            raise _unexpected("expire", reply.status)
        return Swept(int(reply.settled_lines), int(reply.next_deadline_us) or None, int(reply.now_us))

    async def ping(self) -> None:
        """Proves that the engine runs scripts: reads a reservation that does not exist; raises EngineError."""
        for keys in self._keyspace.partitions:
            await self.read(Token(f"{keys.index}-{'A' * TOKEN_CHARS}"))

    def _key_hash(self, keys: PartitionKeys, idempotency: Idempotency) -> str:
        return idempotency_hash(self._partitions.secrets[keys.index], *idempotency.scope)

    async def _sku_call(
        self, name: str, keys: PartitionKeys, sku: Sku, args: Sequence[calls.Argument], *more_keys: str
    ) -> calls.SkuReply:
        script_keys = (keys.meta, keys.ledger, keys.deadlines, keys.sku(sku), keys.holds(sku), keys.locations(sku))
        reply = calls.SkuReply(*await self.call(name, keys, (*script_keys, *more_keys), args))
        self._partitions.saw(keys.index, int(reply.sequence))
        return reply

    def _token(self, keys: PartitionKeys, idempotency: Idempotency | None) -> Token:
        if idempotency is None:
            return new_token(keys)
        return derived_token(keys, self._partitions.secrets[keys.index], *idempotency.scope)

    async def call(
        self, name: str, keys: PartitionKeys, script_keys: Sequence[str], args: Sequence[calls.Argument]
    ) -> Reply:
        """The script's reply, called again while it says that more is due than it settles in one call."""
        for _ in range(RECLAIM_CALLS_MAX):
            reply = await self._pipeline.call(self._scripts[name], script_keys, args)
            self._partitions.clocks[keys.index].hear(int(reply[1]))
            if reply[0] != b"reclaiming":
                return reply
        raise EngineBusy("more is due on these SKUs than a command may settle")

    def saw(self, keys: PartitionKeys, sequence: int) -> None:
        """Takes note of how far a partition's ledger is: what answers less later was rolled back."""
        self._partitions.saw(keys.index, sequence)

    def not_after_us(self, keys: PartitionKeys) -> int:
        """The last moment of a command that is sent now, in us of engine time."""
        return self._partitions.clocks[keys.index].now_us() + self._timeout_us


def _pairs(lines: Iterable[Line]) -> list[calls.Argument]:
    return [value for line in lines for value in (line.sku, line.quantity)]


def _unexpected(script: str, status: bytes) -> Exception:
    if status == b"too_late":
        return EngineBusy("the command reached the engine too late and had no effect")
    return EngineCorrupt(f"{script} answered with an unknown status")
