"""Takes in again what could not be used, once the reason is mended."""

from app.domain.dead_letters import Content, DeadLetter, LetterStatus
from app.ingest.intake import Receipt, Source, Unusable, receive
from app.store.dead_letters import close
from app.store.store import Store
from app.store.updates import KindOf


async def replay_letter(
    store: Store, source: Source, letter: DeadLetter, content: Content, *, kind_of: KindOf
) -> Receipt | Unusable:
    """What becomes of a dead letter now. It is the delivery that it was: lines that were applied are duplicates.

    With nothing left that could not be used it is replayed, unless the delivery came and failed meanwhile. Raises
    EngineError, as `receive`.
    """
    store.mappings.refresh(source.name)  # what was mended a moment ago is why this is asked
    outcome = await receive(
        store, source, letter.delivery_id, content.headers, content.body, kind_of=kind_of, only=content.lines
    )
    if outcome.reason is None:
        await close(
            store.client,
            store.keyspace.sources,
            letter.id,
            LetterStatus.REPLAYED,
            at_us=store.now_us(),
            attempts=letter.attempts,
        )
    return outcome
