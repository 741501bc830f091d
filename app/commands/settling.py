"""Runs `lastunit dead-letters`. What others sent is shown without what a terminal would obey."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from app.api.answers import rfc3339
from app.domain.dead_letters import Content, DeadLetter, LetterStatus
from app.domain.errors import CommandRefused
from app.ingest.dead_letters import replay_letter
from app.ingest.intake import Receipt, Unusable, make_sources
from app.observability.logging import configure_logging
from app.settings import Settings
from app.store.dead_letters import Place, close, list_places, read_letter, read_letters
from app.store.engine import open_engine, require_data
from app.store.store import Store, make_store

PAGE_SIZE = 1000

Echo = Callable[[str], None]
Found = TypeVar("Found")


def run_list(settings: Settings, status: LetterStatus, echo: Echo) -> None:
    """Tells of every letter with this status. Raises CommandRefused, StartupError, EngineError, as all here."""

    async def list_all(store: Store) -> None:
        keys = store.keyspace.sources
        after: Place | None = None
        while page := await list_places(store.client, keys, status, after=after, limit=PAGE_SIZE):
            for letter in await read_letters(store.client, keys, [letter_id for _, letter_id in page]):
                echo(_shown(_summary(letter)))
            after = page[-1]

    _run(settings, list_all)


def run_show(settings: Settings, letter_id: str, echo: Echo) -> None:
    """Tells of a letter, with its headers and its body."""
    letter, content = _run(settings, lambda store: _read(store, letter_id))
    echo(_shown(_summary(letter)))
    for name, text in content.headers.items():
        echo(_shown(f"{name}: {text}"))
    body = content.body.decode("utf-8", "backslashreplace")
    echo("\n" + _shown(body, kept="\n\t"))


def run_replay(settings: Settings, letter_ids: Sequence[str], echo: Echo) -> bool:
    """Tells what became of each letter; true where all could be used."""
    sources = make_sources(settings)

    async def replay(store: Store) -> bool:
        is_done = True
        for letter_id in letter_ids:
            letter, content = await _read(store, letter_id)
            if (source := sources.get(letter.source)) is None:
                raise CommandRefused(f"{letter_id} is of {letter.source}, which is not in lastunit.toml: add it again.")
            outcome = await replay_letter(store, source, letter, content, kind_of=settings.kind_of)
            echo(f"{letter_id} {_shown(_told(outcome))}")
            is_done = is_done and outcome.reason is None
        await store.source_states.write_notes()
        return is_done

    return _run(settings, replay)


def run_discard(settings: Settings, letter_ids: Sequence[str], echo: Echo) -> None:
    """Tells what each letter is now."""

    async def discard(store: Store) -> None:
        keys = store.keyspace.sources
        for letter_id in letter_ids:
            letter = await close(store.client, keys, letter_id, LetterStatus.DISCARDED, at_us=store.now_us())
            if letter is None:
                raise _unknown(letter_id)
            echo(f"{letter_id} {letter.status}")

    _run(settings, discard)


def _run(settings: Settings, work: Callable[[Store], Awaitable[Found]]) -> Found:
    """Does this with the engine of these settings: the running service's, or one that ends with the command."""
    configure_logging("error")
    require_data(settings)

    async def run(url: str) -> Found:
        async with make_store(settings, url) as store:
            return await work(store)

    with open_engine(settings, exclusive=False) as engine:
        return asyncio.run(run(engine.url))


async def _read(store: Store, letter_id: str) -> tuple[DeadLetter, Content]:
    found = await read_letter(store.client, store.keyspace.sources, letter_id)
    if found is None:
        raise _unknown(letter_id)
    return found


def _unknown(letter_id: str) -> CommandRefused:
    return CommandRefused(f"{letter_id!a} is no dead letter: name one as lastunit dead-letters list does.")


def _summary(letter: DeadLetter) -> str:
    times = "once" if letter.attempts == 1 else f"{letter.attempts} times"
    return (
        f"{letter.id} {rfc3339(letter.received_at_us)} {letter.source} {letter.delivery_id} {letter.status}, "
        f"of no use {times}: {letter.reason}"
    )


def _told(outcome: Receipt | Unusable) -> str:
    if outcome.reason is not None:
        return f"still of no use: {outcome.reason}"
    assert isinstance(outcome, Receipt)
    lines = Counter(line.status.value for line in outcome.lines)
    return f"{outcome.status} ({', '.join(f'{count} {status}' for status, count in lines.items())})"


def _shown(text: str, *, kept: str = "") -> str:
    """The text without control characters but these."""
    return "".join(char if char.isprintable() or char in kept else ascii(char)[1:-1] for char in text)
