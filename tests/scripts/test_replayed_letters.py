"""Dead letters replayed: each line of a delivery is applied once, however late and however often."""

import asyncio
import json

import pytest

from app.domain.dead_letters import LetterStatus
from app.domain.outcomes import SkuAnswered
from app.domain.types import Sku
from app.ingest.dead_letters import replay_letter
from app.ingest.intake import Receipt, Source, Unusable, make_sources, receive
from app.settings import load_settings
from app.store.dead_letters import keep, letter_id_of, read_letter
from app.store.mappings import Mapped
from app.store.store import Store
from tests.webhooks import SOURCES, said

SETTINGS = load_settings({"sources": SOURCES})
LETTER_ID = letter_id_of("wms", "1")


@pytest.fixture
def source() -> Source:
    return make_sources(SETTINGS)["wms"]


async def make(store: Store, *skus: str) -> None:
    for sku in skus:
        await store.commands.adjust(Sku(sku), location_id="main", mode="delta", amount=1, reason="found")


async def on_hand(store: Store, sku: str) -> int:
    outcome = await store.commands.availability(Sku(sku))
    assert isinstance(outcome, SkuAnswered)
    return outcome.state.on_hand


async def deliver(store: Store, source: Source, *lines: tuple[str, int]) -> list[str]:
    body = json.dumps(said("receive", *lines)).encode()
    return told(await receive(store, source, "1", {}, body, kind_of=SETTINGS.kind_of))


async def replay(store: Store, source: Source) -> list[str]:
    found = await read_letter(store.client, store.keyspace.sources, LETTER_ID)
    assert found
    return told(await replay_letter(store, source, *found, kind_of=SETTINGS.kind_of))


async def status(store: Store) -> LetterStatus:
    found = await read_letter(store.client, store.keyspace.sources, LETTER_ID)
    assert found
    return found[0].status


def told(outcome: Receipt | Unusable) -> list[str]:
    assert isinstance(outcome, Receipt)
    return [line.status.value for line in outcome.lines]


@pytest.mark.damaging
async def test_also_when_the_engine_has_forgotten_what_it_applied(store: Store, source: Source) -> None:
    """As it has after a week, and the letter waits still."""
    await make(store, "A", "C")
    lines = (("A", 5), ("V-1", 2), ("C", 3), ("V-2", 4))
    assert await deliver(store, source, *lines) == ["applied", "dead_lettered", "applied", "dead_lettered"]
    seen_key = store.keyspace.partitions[0].seen("wms", "1")
    assert await store.client.delete(seen_key)
    assert await replay(store, source) == ["duplicate", "dead_lettered"] * 2
    await store.mappings.put("wms", Mapped.SKU, "V-1", "A")
    assert await replay(store, source) == ["duplicate", "applied", "duplicate", "dead_lettered"]
    assert await status(store) is LetterStatus.OPEN
    await store.mappings.put("wms", Mapped.SKU, "V-2", "C")
    assert await store.client.delete(seen_key)
    assert await replay(store, source) == ["duplicate", "duplicate", "duplicate", "applied"]
    assert await status(store) is LetterStatus.REPLAYED
    assert (await on_hand(store, "A"), await on_hand(store, "C")) == (1 + 5 + 2, 1 + 3 + 4)


async def test_whoever_replays_it_at_once(store: Store, source: Source) -> None:
    await make(store, "A")
    assert await deliver(store, source, ("V-1", 2)) == ["dead_lettered"]
    await store.mappings.put("wms", Mapped.SKU, "V-1", "A")
    found = await asyncio.gather(*(replay(store, source) for _ in range(5)), deliver(store, source, ("V-1", 2)))
    assert sorted(found) == [["applied"], *[["duplicate"]] * 5]
    assert await on_hand(store, "A") == 3
    assert await status(store) is LetterStatus.REPLAYED


async def test_what_fails_while_it_is_replayed_stays_open(
    store: Store, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(store, "A")
    assert await deliver(store, source, ("V-1", 2)) == ["dead_lettered"]
    await store.mappings.put("wms", Mapped.SKU, "V-1", "A")
    receive_whole = receive

    async def receive_slowly(*args: object, **options: object) -> Receipt | Unusable:
        outcome = await receive_whole(*args, **options)  # type: ignore[arg-type] # what it was given
        await keep(
            store.client, store.keyspace.sources, source="wms", delivery_id="1", received_at_us=1, reason="malformed",
            headers={}, body=b"{",
        )  # fmt: skip
        return outcome

    monkeypatch.setattr("app.ingest.dead_letters.receive", receive_slowly)
    assert await replay(store, source) == ["applied"]
    assert await status(store) is LetterStatus.OPEN
