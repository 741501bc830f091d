"""Intake on a real engine where something fails in the middle: a delivery that comes again finishes what was begun."""

import json
from collections.abc import Sequence

import pytest

from app.connectors.connector import Fault, Headers, Parsed, Unreadable
from app.domain.errors import DeadLettersFull, OutcomeUnknown
from app.domain.outcomes import SkuAnswered
from app.domain.types import Sku
from app.domain.updates import Delivery, UpdateResult
from app.ingest import intake
from app.ingest.intake import Receipt, Source, Unusable, make_sources
from app.settings import load_settings
from app.store import dead_letters
from app.store.commands import Commands
from app.store.keys import Keyspace
from app.store.mappings import Mapped
from app.store.store import Store
from app.store.updates import KindOf, apply_delivery
from tests.webhooks import SOURCES, said

SETTINGS = load_settings({"sources": SOURCES})
WMS, POS, ERP = (make_sources(SETTINGS)[name] for name in ("wms", "pos", "erp"))
KNOWN, UNKNOWN = Sku("KNOWN"), Sku("UNKNOWN")


async def receive(store: Store, source: Source, body: object, *, delivery_id: str = "d") -> Receipt | Unusable:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await intake.receive(store, source, delivery_id, {}, content, kind_of=SETTINGS.kind_of)


async def on_hand(store: Store, sku: Sku) -> int:
    found = await store.commands.availability(sku)
    return found.state.on_hand if isinstance(found, SkuAnswered) else -1


async def open_letters(store: Store) -> int:
    return await dead_letters.count_open(store.client, store.keyspace.sources)


def statuses(outcome: Receipt | Unusable) -> list[str]:
    assert isinstance(outcome, Receipt)
    return [outcome.status, *(line.status for line in outcome.lines)]


async def test_an_answer_that_was_lost(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lose_answer(
        commands: Commands, keyspace: Keyspace, delivery: Delivery, *, kind_of: KindOf
    ) -> Sequence[UpdateResult]:
        await apply_delivery(commands, keyspace, delivery, kind_of=kind_of)
        raise OutcomeUnknown("lost on the way")

    body = said("receive", (KNOWN, 2))
    with monkeypatch.context() as patched:
        patched.setattr(intake, "apply_delivery", lose_answer)
        with pytest.raises(OutcomeUnknown):
            await receive(store, POS, body)
    assert (await on_hand(store, KNOWN), await open_letters(store)) == (2, 0)
    assert statuses(await receive(store, POS, body)) == ["duplicate", "duplicate"]
    assert await on_hand(store, KNOWN) == 2


async def test_no_room_for_what_is_no_use(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert statuses(await receive(store, POS, said("receive", (KNOWN, 1)), delivery_id="first")) == ["applied"] * 2
    body = said("ship", (KNOWN, 1), (UNKNOWN, 1))
    with monkeypatch.context() as patched:
        patched.setattr(dead_letters, "LETTERS_MAX", 0)
        with pytest.raises(DeadLettersFull):
            await receive(store, POS, body)
        with pytest.raises(DeadLettersFull):
            await receive(store, POS, b"{", delivery_id="other")
    assert (await on_hand(store, KNOWN), await open_letters(store)) == (0, 0)
    outcome = await receive(store, POS, body)
    assert statuses(outcome) == ["dead_lettered", "duplicate", "dead_lettered"]
    assert outcome.reason == "unknown_sku"
    assert (await on_hand(store, KNOWN), await open_letters(store)) == (0, 1)


async def test_what_operators_said_counts_at_once(store: Store) -> None:
    body = said("receive", (KNOWN, 2), location_id="E7")
    outcome = await receive(store, ERP, body)
    assert (statuses(outcome), outcome.reason) == (["dead_lettered"] * 2, "unknown_location")
    await store.mappings.put("erp", Mapped.LOCATION, "E7", "NORTH")
    await store.mappings.put("erp", Mapped.SKU, KNOWN, "OURS")
    outcome = await receive(store, ERP, body)
    assert statuses(outcome) == ["applied"] * 2
    assert isinstance(outcome, Receipt)
    assert outcome.lines[0].sku == "OURS"
    assert (await on_hand(store, Sku("OURS")), await on_hand(store, KNOWN)) == (2, -1)


async def test_the_first_that_fits_of_a_deliverys_lines(store: Store) -> None:
    await receive(store, POS, said("count", (KNOWN, 5), occurred_at="2026-11-21T11:00:00Z"), delivery_id="later")
    old = said("count", (KNOWN, 4))
    assert statuses(await receive(store, POS, old, delivery_id="old")) == ["stale"] * 2
    for line, status in (((UNKNOWN, 1), "applied"), ((KNOWN, 4), "stale")):
        body = said("count", (KNOWN, 4), line)
        assert statuses(await receive(store, POS, body, delivery_id=status)) == [status, "stale", status]


async def test_a_delivery_that_says_nothing(store: Store) -> None:
    class Silent:
        """Reads what it is told to."""

        def __init__(self, parsed: Parsed) -> None:
            self.parsed = parsed

        def verify(self, headers: Headers, body: bytes, *, now_us: int) -> None:
            """Nobody asks."""

        def parse(self, headers: Headers, body: bytes) -> Parsed:
            return self.parsed

    silent = Source("pos", POS.settings, Silent([]))  # type: ignore[arg-type] # nobody asks it who sent it
    assert statuses(await receive(store, silent, b"")) == ["ignored"]
    broken = Source("pos", POS.settings, Silent(Unreadable(Fault.INVALID)))  # type: ignore[arg-type] # likewise
    assert (await receive(store, broken, b"")).reason == "invalid"


async def test_how_it_goes_is_noted(store: Store) -> None:
    states, names = store.source_states, ["pos"]
    await receive(store, POS, said("receive", (KNOWN, 2), clock={"pos": 5}))
    await receive(store, POS, said("receive", (KNOWN, 2), clock={"pos": 8}), delivery_id="e")
    await receive(store, POS, b"{", delivery_id="broken")
    await states.write_notes()
    (state,) = await states.read(names)
    assert (state.last_error, state.consecutive_failures) == ("delivery broken: malformed", 1)
    assert state.last_success_us is not None
    assert await states.missing_numbers("pos") == [6, 7]
    await receive(store, POS, said("receive", (KNOWN, 2), clock={"pos": 9}), delivery_id="f")
    await states.write_notes()
    assert (await states.read(names))[0].consecutive_failures == 0
