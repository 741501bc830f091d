"""A partner that is polled, end to end: its answers over loopback, their effect in a real engine's ledger."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.connectors.connector import Poll
from app.connectors.requests import PollFailed, make_client
from app.domain.dead_letters import LetterStatus
from app.domain.outcomes import SkuAnswered
from app.domain.types import Sku
from app.ingest.dead_letters import replay_letter
from app.ingest.intake import make_sources
from app.ingest.poller import Poller
from app.ingest.schedule import Pace
from app.settings import load_settings
from app.store.dead_letters import list_places, read_letter
from app.store.mappings import Mapped
from app.store.store import Store
from app.workflows.breakers import make_source_breaker
from tests.service import Home, eventually
from tests.simulators import partner as faults
from tests.simulators.partner import Partner, serving

AT = datetime.now(UTC) - timedelta(hours=1)


class Polling:
    """A partner, and a poller of it."""

    def __init__(self, store: Store, partner: Partner, poller: Poller) -> None:
        self.store = store
        self.partner = partner
        self.poller = poller

    async def poll(self) -> None:
        """Once, as soon as the breaker allows it."""
        await asyncio.sleep(self.poller.breaker.pause_left_seconds)
        await self.poller.poll()

    async def on_hand(self, *skus: str) -> list[int]:
        found = [await self.store.commands.availability(Sku(sku)) for sku in skus]
        return [each.state.on_hand if isinstance(each, SkuAnswered) else -1 for each in found]

    async def letters(self) -> dict[str, str]:
        """The dead letters that are open: id -> reason."""
        client, keys = self.store.client, self.store.keyspace.sources
        places = await list_places(client, keys, LetterStatus.OPEN, after=None, limit=100)
        found = [await read_letter(client, keys, letter_id) for _, letter_id in places]
        return {letter.id: letter.reason for letter, _ in filter(None, found)}

    async def replay(self, letter_id: str) -> str | None:
        """The reason why it still cannot be used."""
        found = await read_letter(self.store.client, self.store.keyspace.sources, letter_id)
        assert found
        outcome = await replay_letter(self.store, self.poller.source, *found, kind_of=self.poller.kind_of)
        return outcome.reason


def source_table(url: str, **table: object) -> dict[str, Any]:
    poll = {
        "url": url, "token": Partner().token, "page_size": 100, "pages_max": 20, "timeout_seconds": 5.0,
        "backoff_seconds_max": 0.1,
    }  # fmt: skip
    return {"connector": "rest", "unknown_sku": "create", "poll": poll, **table}


@pytest.fixture
async def polling(store: Store, request: pytest.FixtureRequest) -> AsyncIterator[Polling]:
    table = getattr(request, "param", {})
    async with serving(partner := Partner()) as url, make_client() as client:
        settings = load_settings({"sources": {"partner": source_table(url, **table)}})
        source = make_sources(settings)["partner"]
        assert isinstance(source.connector, Poll)
        assert source.settings.poll
        poll = source.settings.poll
        breaker, pace = make_source_breaker("partner", poll), Pace(poll.requests_per_second)
        poller = Poller(store, source, source.connector, poll, client, settings.kind_of, breaker, pace)
        yield Polling(store, partner, poller)


async def test_what_the_partner_says_is_on_hand(polling: Polling) -> None:
    for number in range(250):
        polling.partner.set_stock(f"S{number}", number, at=AT + timedelta(seconds=number))
    await polling.poll()
    assert len(polling.partner.asked) == 3
    assert await polling.on_hand("S0", "S1", "S249") == [0, 1, 249]
    polling.partner.set_stock("S1", 7)
    await polling.poll()
    assert await polling.on_hand("S0", "S1", "S249") == [0, 7, 249]
    assert polling.partner.asked[-1].query["updated_since"] > AT.isoformat()
    assert await polling.letters() == {}


async def test_an_old_version_says_nothing_new(polling: Polling) -> None:
    old = polling.partner.set_stock("S", 9)
    polling.partner.set_stock("S", 4)
    await polling.poll()
    polling.partner.set_row(old)
    await polling.poll()
    assert await polling.on_hand("S") == [4]


@pytest.mark.parametrize("polling", [{"unknown_sku": "dead_letter", "locations": {"R-1": "EAST"}}], indirect=True)
async def test_a_row_that_is_no_use_waits_and_the_others_do_not(polling: Polling) -> None:
    await polling.store.commands.adjust(Sku("KNOWN"), location_id="main", mode="count", amount=1, reason="first")
    for sku, on_hand, location_id in (("KNOWN", 5, "R-1"), ("NEW", 6, "R-1"), ("KNOWN", 7, "R-2"), ("BAD", -1, "R-1")):
        polling.partner.set_stock(sku, on_hand, location_id=location_id)
    await polling.poll()
    letters = await polling.letters()
    assert sorted(letters.values()) == [
        "invalid: on_hand input should be greater than or equal to 0",
        "unknown_location",
        "unknown_sku",
    ]
    await polling.poll()
    assert await polling.letters() == letters  # however often they come
    assert await polling.on_hand("KNOWN", "NEW") == [6, -1]
    of = {reason: letter_id for letter_id, reason in letters.items()}
    await polling.store.mappings.put("partner", Mapped.SKU, "NEW", "KNOWN")
    await polling.store.mappings.put("partner", Mapped.LOCATION, "R-2", "WEST")
    assert await polling.replay(of["unknown_location"]) is None
    assert await polling.on_hand("KNOWN") == [13]
    assert await polling.replay(of["unknown_sku"]) is None  # now it says of KNOWN at EAST what was said already
    assert len(await polling.letters()) == 1
    assert await polling.replay(next(iter(await polling.letters()))) is not None


async def test_a_source_with_versions_has_them_in_every_row(polling: Polling) -> None:
    polling.partner.set_stock("WITH", 5)
    polling.partner.has_versions = False
    polling.partner.set_stock("WITHOUT", 5)
    await polling.poll()
    assert await polling.on_hand("WITH", "WITHOUT") == [5, -1]
    assert list((await polling.letters()).values()) == ["clock_mixed"]


async def test_versions_of_rows_are_no_numbers_that_may_be_missing(polling: Polling) -> None:
    polling.partner.set_stock("A", 1)
    for on_hand in range(5):
        polling.partner.set_stock("B", on_hand)
    await polling.poll()
    await polling.store.source_states.write_notes()
    assert await polling.store.source_states.missing_numbers("partner") == []


async def test_a_partner_with_bad_days_ends_where_it_would_have_anyway(polling: Polling) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    stock = dict.fromkeys((f"S{number}" for number in range(300)), 0)
    bad_days = [
        faults.status(500), faults.throttled(), faults.html(), faults.raw('{"items": ['), faults.endless(),
        faults.repeated_cursor(), faults.squeezed(), faults.redirect("http://127.0.0.1:1/"), faults.status(400),
    ]  # fmt: skip
    failed = 0
    for _ in range(25):
        for sku in chance.sample(sorted(stock), 40):
            stock[sku] = chance.randrange(1000)
            polling.partner.set_stock(sku, stock[sku])
        polling.partner.faults.extend(chance.choice(bad_days) for _ in range(chance.randrange(3)))
        try:
            await polling.poll()
        except PollFailed:
            failed += 1
    polling.partner.faults.clear()
    with suppress(PollFailed):  # a cursor of a bad day leads nowhere
        await polling.poll()
    await polling.poll()
    assert failed > 3
    told = [sku for sku, units in stock.items() if units]
    assert await polling.on_hand(*told) == [stock[sku] for sku in told]
    assert await polling.letters() == {}


async def test_a_service_that_polls(home: Home) -> None:
    async with serving(partner := Partner()) as url:
        partner.set_stock("P", 12)
        table = source_table(url)
        table["poll"]["interval_seconds"] = 0.1
        service = await asyncio.to_thread(home.serve, sources={"partner": table})
        gateway = service.gateway

        def state() -> dict[str, Any]:
            (found,) = gateway.items("admin/connectors")
            return found

        def on_hand(units: int) -> bool:
            answer = gateway.get("skus/P/availability")
            return answer.status == 200 and answer.json["on_hand_quantity"] == units

        await asyncio.to_thread(eventually, lambda: on_hand(12))
        assert state()["state"] == "ok"
        partner.fault = faults.status(500)
        await asyncio.to_thread(eventually, lambda: state()["state"] == "failing")
        assert state()["last_error"] == "poll: answered with status 500"
        partner.fault = None
        partner.set_stock("P", 3)
        await asyncio.to_thread(eventually, lambda: on_hand(3) and state()["state"] == "ok")
        partner.fault = faults.hang()
        partner.was_asked.clear()
        await partner.was_asked.wait()
        loop = asyncio.get_running_loop()
        asked = loop.time()
        assert await asyncio.to_thread(service.terminate) == 0
        assert loop.time() - asked < 4  # of which the partner's silence is no part
