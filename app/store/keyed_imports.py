"""What is remembered of a stock file that came with an Idempotency-Key.

Many calls import a file, so none of them can remember what it was answered. It stands around the scripts, in two steps:
whose file the key is, before anything of it is applied; then the answer. Neither step is ever taken back.
"""

from typing import Any

from app.domain.outcomes import IdempotencyConflict, Imported, ImportOutcome
from app.store.commands import SEEN_RETENTION_MS, Idempotency
from app.store.faults import translated
from app.store.keys import idempotency_hash
from app.store.store import Store

FIELDS = ("fingerprint", "rows", "changed")


class KeyedImport:
    """The memory of one key."""

    def __init__(self, store: Store, idempotency: Idempotency) -> None:
        key_hash = idempotency_hash(store.partitions.secrets[0], *idempotency.scope)
        self._key = store.keyspace.sources.imported(key_hash)
        self._client = store.client
        self._fingerprint = idempotency.fingerprint

    async def recall(self) -> ImportOutcome | None:
        """What the key was answered; None where it is free, or is this file's and has no answer yet."""
        with translated():
            return self._outcome(await self._client.hmget(self._key, FIELDS))

    async def begin(self) -> ImportOutcome | None:
        """Makes the key this file's where it is free. Returns as recall."""
        _, known = await self._note({"fingerprint": self._fingerprint})
        return self._outcome(known)

    async def end(self, done: Imported) -> Imported:
        """The answer of the first import under the key to end: of this one, or of one that ran at the same time."""
        is_first, known = await self._note({"rows": done.rows, "changed": done.changed})
        first = self._outcome(known)
        assert isinstance(first, Imported)
        return done if is_first else first

    async def _note(self, fields: dict[str, str | int]) -> tuple[bool, list[bytes | None]]:
        """Stores what is not known yet; returns whether it was not, and all that is known then."""
        with translated():
            async with self._client.pipeline(transaction=True) as pipeline:
                for name, text in fields.items():
                    pipeline.hsetnx(self._key, name, str(text))
                pipeline.pexpire(self._key, SEEN_RETENTION_MS)
                pipeline.hmget(self._key, FIELDS)
                is_new, *_, known = await pipeline.execute()
        return bool(is_new), known

    def _outcome(self, known: Any) -> ImportOutcome | None:
        fingerprint, rows, changed = known
        if fingerprint is not None and fingerprint.decode() != self._fingerprint:
            return IdempotencyConflict()
        return None if rows is None else Imported(int(rows), int(changed), is_replayed=True)
