"""What a reader of the ledger does in the engine: it follows the streams and says how far it has come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.entries import Entry
from app.domain.errors import EngineUnavailable, ForeignLedger
from app.settings import Settings
from app.store.calls import AcknowledgeArgs, AcknowledgeReply, check_contracts
from app.store.connections import BEGINNING
from app.store.keys import Keyspace, PartitionKeys
from app.store.ledger import decode_values, sequence_of
from app.store.scripts import load_scripts
from app.store.state import Meta, read_meta

ARCHIVE = "archive"  # the reader that keeps the ledger when the engine no longer does
# More than any command writes, so that a page always has a whole one.
PAGE_SIZE_MIN = 500


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a reader has come in a partition: of `sequence` entries it has `acknowledged` so many.

    The stream begins with `first_sequence`: the ones before it were dropped.
    """

    sequence: int
    acknowledged: int
    first_sequence: int

    @property
    def lag(self) -> int:
        """Entries that the reader has not acknowledged."""
        return max(0, self.sequence - self.acknowledged)


class LedgerReader:
    """A reader of all partitions, by the name that the engine knows it by, on a connection of its own."""

    def __init__(self, settings: Settings, url: str, *, name: str) -> None:
        scripts = load_scripts()
        check_contracts(scripts)
        self.keyspace = Keyspace(settings.partitions)
        self._name = name
        # Following waits in the engine: the answer comes later than any other's, and so the timeout is the caller's.
        self._client: Redis = Redis.from_url(
            url, **BEGINNING, retry=None, socket_timeout=None, max_connections=1,
            socket_connect_timeout=settings.engine_connect_timeout_seconds,
        )  # fmt: skip
        # As it came: entries are decoded from it at once, without a dict of each between.
        self._client.set_response_callback("XREAD", lambda response, **_: response)
        self._acknowledge = self._client.register_script(scripts["acknowledge"].source)

    async def follow(self, positions: Mapping[int, int], *, count: int, block_ms: int | None) -> dict[int, list[Entry]]:
        """Entries after these positions, whole commands, by partition; waits so long for the first of them, or not.

        About `count` entries, and at least PAGE_SIZE_MIN of each partition that has them. Raises EngineUnavailable,
        LedgerBroken.
        """
        partitions = self.keyspace.partitions
        count = max(count // len(partitions), PAGE_SIZE_MIN)
        streams: dict[Any, Any] = {keys.ledger: str(positions.get(keys.index, 0)) for keys in partitions}
        try:
            found: Any = await self._client.xread(streams, count=count, block=block_ms)
        except RedisError as error:
            raise EngineUnavailable(f"the ledger cannot be followed ({type(error).__name__})") from None
        by_name = {keys.ledger.encode(): keys.index for keys in partitions}
        return {by_name[name]: _decode(by_name[name], rows, is_cut=len(rows) == count) for name, rows in found or ()}

    async def read_meta(self, keys: PartitionKeys) -> Meta:
        """The partition's meta hash. Raises EngineError."""
        meta, _ = await read_meta(self._client, keys)
        return meta

    async def acknowledge(self, keys: PartitionKeys, sequence: int, *, entries_kept: int) -> int:
        """Says that all up to this sequence is safe here; returns the first sequence that the engine still has.

        Raises EngineUnavailable, and ForeignLedger where the engine's ledger ends before that.
        """
        args = AcknowledgeArgs(self._name, sequence, entries_kept)
        try:
            raw: Any = await self._acknowledge(keys=[keys.meta, keys.ledger, keys.readers], args=list(args))
        except RedisError as error:
            raise EngineUnavailable(f"the engine takes no acknowledgement ({type(error).__name__})") from None
        reply = AcknowledgeReply(*raw)
        if reply.status == b"rolled_back":
            raise ForeignLedger(
                f"The engine's ledger of partition {keys.index} ends at {int(reply.acknowledged)}, but {self._name} "
                f"has read up to {sequence}: the engine was rolled back."
            )
        return int(reply.first_sequence)

    async def disconnect(self) -> None:
        """Gives the connection up; the next call makes a new one."""
        await self._client.aclose()


async def read_progress(client: Redis, keyspace: Keyspace, *, name: str) -> list[Progress]:
    """How far a reader has come, by partition. Raises EngineUnavailable."""
    try:
        async with client.pipeline(transaction=False) as pipeline:
            for keys in keyspace.partitions:
                pipeline.hget(keys.meta, "sequence")
                pipeline.hget(keys.readers, name)
                pipeline.xrange(keys.ledger, count=1)
            answers = await pipeline.execute()
    except RedisError as error:
        raise EngineUnavailable(f"the readers cannot be watched ({type(error).__name__})") from None
    found = []
    for sequence, acknowledged, first in zip(answers[::3], answers[1::3], answers[2::3], strict=True):
        last = int(sequence or 0)
        found.append(Progress(last, int(acknowledged or 0), sequence_of(first[0][0]) if first else last + 1))
    return found


def _decode(partition: int, rows: Sequence[Any], *, is_cut: bool) -> list[Entry]:
    """The entries; of a page that was cut to its size without the last command, which may be in part."""
    page = [decode_values(partition, sequence_of(entry_id), words[::2], words[1::2]) for entry_id, words in rows]
    return [entry for entry in page if entry.command != page[-1].command] if is_cut else page
