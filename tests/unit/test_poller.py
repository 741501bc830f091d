"""The poller in virtual time, against sources that do what a test tells them. The engine's part is in fakeredis."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fakeredis import FakeAsyncRedis
from structlog.testing import capture_logs

from app.connectors.connector import Fault, Headers, Page, Parsed, Row, Unreadable, VendorLine
from app.connectors.requests import PollFailed
from app.connectors.source_settings import SourceSettings
from app.domain.breakers import Order
from app.domain.dead_letters import LetterStatus
from app.domain.errors import EngineBusy
from app.domain.updates import UpdateKind
from app.ingest import poller
from app.ingest.intake import LineReceipt, Receipt, ReceiptStatus, Source
from app.ingest.poller import LINES_AT_ONCE, OVERLAP_US, Poller, poll_sources
from app.ingest.schedule import Pace
from app.store import dead_letters
from app.store.keys import Keyspace
from app.store.leases import LEASE_SECONDS, Position, move_position, read_position
from app.store.source_states import SourceStates
from app.store.store import Store
from app.workflows.breakers import Breaker, make_source_breaker
from tests.virtual_loop import run_virtually

DAY_US = 24 * 3600 * 1_000_000
AT_US = 1_700_000_000_000_000
SOURCE = "partner"
NO_CLIENT = cast("httpx.AsyncClient", None)  # nobody asks here


@dataclass(frozen=True, slots=True)
class Call:
    """What a source was asked for, and when."""

    at_seconds: float
    updated_since_us: int | None
    cursor: str | None


@dataclass(slots=True)
class Scripted:
    """A source that answers with what is in `answers`, each after `seconds`; then with pages that say nothing."""

    answers: deque[Page | Exception] = field(default_factory=deque)
    seconds: float = 0.0
    calls: list[Call] = field(default_factory=list)

    async def pages(
        self, client: httpx.AsyncClient, *, updated_since_us: int | None, cursor: str | None
    ) -> AsyncGenerator[Page, None]:
        while True:
            self.calls.append(Call(asyncio.get_running_loop().time(), updated_since_us, cursor))
            await asyncio.sleep(self.seconds)
            answer = self.answers.popleft() if self.answers else page()
            if isinstance(answer, Exception):
                raise answer
            yield answer
            cursor = answer.cursor
            if cursor is None:
                return

    def parse(self, headers: Headers, body: bytes) -> Parsed:
        raise NotImplementedError

    @property
    def times(self) -> list[float]:
        return [call.at_seconds for call in self.calls]


def row(sku: str = "A", *, at_us: int = AT_US) -> Row:
    line = VendorLine(UpdateKind.COUNT, 5, at_us, sku, sku, "R-1")
    return Row({"sku": sku, "on_hand": 5}, [line])


def bad_row(sku: str = "BAD") -> Row:
    return Row({"sku": sku, "on_hand": "five"}, Unreadable(Fault.INVALID, [("on_hand", "should be a valid integer")]))


def page(*rows: Row, cursor: str | None = None) -> Page:
    return Page(rows, cursor)


@dataclass(slots=True)
class Gateway:
    """One gateway: an engine that several may share, and what was applied through this one."""

    store: Store
    applied: list[list[str]] = field(default_factory=list)
    failures: deque[Exception] = field(default_factory=deque)
    unknown_skus: frozenset[str] = frozenset({"UNKNOWN"})

    async def apply_lines(
        self, store: Store, source: Source, delivery_id: str, lines: Sequence[VendorLine], *, kind_of: object
    ) -> Receipt:
        assert delivery_id == ""
        if self.failures:
            raise self.failures.popleft()
        self.applied.append([line.item_id for line in lines])
        receipts = [
            LineReceipt(line.item_id, ReceiptStatus.DEAD_LETTERED, reason="unknown_sku")
            if line.item_id in self.unknown_skus
            else LineReceipt(line.item_id, ReceiptStatus.APPLIED, 1)
            for line in lines
        ]
        return Receipt(ReceiptStatus.APPLIED, receipts)

    async def position(self) -> Position:
        keys = await self.store.client.keys("*position:*") or [b"nowhere"]
        assert len(keys) == 1
        return await read_position(self.store.client, keys[0].decode())  # type: ignore[union-attr] # bytes

    async def letters(self) -> list[tuple[str, dict[str, object]]]:
        """Reason and row of each dead letter, sorted."""
        client, keys = self.store.client, self.store.keyspace.sources
        places = await dead_letters.list_places(client, keys, LetterStatus.OPEN, after=None, limit=100)
        found = [await dead_letters.read_letter(client, keys, letter_id) for _, letter_id in places]
        letters = [(letter.reason, json.loads(content.body)) for letter, content in filter(None, found)]
        return sorted(letters, key=lambda letter: letter[0])

    async def state(self) -> tuple[int, str | None]:
        """Failures since the last success, and the last error."""
        await self.store.source_states.write_notes()
        (state,) = await self.store.source_states.read([SOURCE])
        return state.consecutive_failures, state.last_error


def make_gateway(client: FakeAsyncRedis) -> Gateway:
    keyspace = Keyspace(1)
    parts = SimpleNamespace(
        client=client, keyspace=keyspace, source_states=SourceStates(client, keyspace.sources), now_us=lambda: AT_US
    )
    return Gateway(cast("Store", parts))


def make_source(connector: Scripted, **poll: object) -> Source:
    settings = {"connector": "rest", "poll": {"url": "https://partner.example", "token": "t", **poll}}
    return Source(SOURCE, SourceSettings.model_validate(settings), connector)


Scenario = Callable[[Gateway, Scripted, Callable[..., Poller]], Coroutine[Any, Any, None]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], None]:
    """Plays a scenario: one gateway, one source, and what makes the poller of it with some settings."""

    def run(scenario: Scenario) -> None:
        async def play_it() -> None:
            gateway, connector = make_gateway(FakeAsyncRedis()), Scripted()
            monkeypatch.setattr(poller, "apply_lines", gateway.apply_lines)

            def make(**poll: object) -> Poller:
                source = make_source(connector, **poll)
                assert source.settings.poll
                loop, settings = asyncio.get_running_loop(), source.settings.poll
                breaker = make_source_breaker(SOURCE, settings, now_seconds=loop.time)
                pace = Pace(settings.requests_per_second)
                return Poller(gateway.store, source, connector, settings, NO_CLIENT, lambda _: "shared", breaker, pace)

            await scenario(gateway, connector, make)

        run_virtually(play_it())

    return run


async def run_for(made: Poller, seconds: float) -> None:
    """Lets the poller run for so long."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await made.run()


# Where it has come to


def test_a_poll_goes_on_where_the_last_one_came_to(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        connector.answers += [page(row("A", at_us=AT_US), cursor="2"), page(row("B", at_us=AT_US - 1))]
        await make().poll()
        assert gateway.applied == [["A"], ["B"]]
        assert await gateway.position() == Position(since_us=AT_US - OVERLAP_US)
        await make().poll()  # says nothing
        connector.answers += [page(row("A", at_us=AT_US - DAY_US))]
        await make().poll()  # nor anything new
        asked = [(call.updated_since_us, call.cursor) for call in connector.calls]
        assert asked == [(None, None), (None, "2"), (AT_US - OVERLAP_US, None), (AT_US - OVERLAP_US, None)]
        assert await gateway.position() == Position(since_us=AT_US - OVERLAP_US)

    play(scenario)


def test_a_time_that_has_not_come_hides_nothing(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        connector.answers += [page(row(at_us=AT_US + 10_000 * DAY_US))]
        await make().poll()
        since_us = (await gateway.position()).since_us
        assert since_us is not None
        assert since_us < AT_US + 9_000 * DAY_US

    play(scenario)


def test_a_poll_that_failed_goes_on_with_the_page_that_failed(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        connector.answers += [page(row("A"), cursor="2"), PollFailed("answered with status 500"), page(row("B"))]
        await run_for(make(), 10)
        assert gateway.applied == [["A"], ["B"]]
        assert [call.cursor for call in connector.calls] == [None, "2", "2"]
        assert await gateway.position() == Position(since_us=AT_US - OVERLAP_US)  # of both pages
        assert await gateway.state() == (0, "poll: answered with status 500")

    play(scenario)


def test_a_page_that_was_not_applied_comes_again(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        gateway.failures.append(EngineBusy("too much is due"))
        connector.answers += [page(row("A"), cursor="2"), page(row("A"), cursor="2"), page(row("B"))]
        await run_for(make(), 10)
        assert gateway.applied == [["A"], ["B"]]
        assert [call.cursor for call in connector.calls] == [None, None, "2"]

    play(scenario)


@pytest.mark.parametrize(
    ("cursors", "reason"),
    [("aa", "a cursor came twice: its pages have no end"), ("aba", "a cursor came twice: its pages have no end"),
     ("abcde", "more than 4 pages")],
)  # fmt: skip
def test_pages_without_end_fail_the_poll(play: Callable[[Scenario], None], cursors: str, reason: str) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        connector.answers += [page(row(), cursor=cursor) for cursor in cursors]
        with pytest.raises(PollFailed, match=reason):
            await make(pages_max=4).poll()
        assert len(connector.calls) == min(len(cursors), 4)
        assert len(gateway.applied) == len(connector.calls)  # what they said is so all the same
        assert await gateway.position() == Position()
        connector.answers.clear()
        await make().poll()
        assert connector.calls[-1].cursor is None

    play(scenario)


def test_a_cursor_has_a_second_chance_and_no_third(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        connector.answers += [page(row()), page(row(), cursor="2")]
        connector.answers += [PollFailed("throttled", status=429)] * 3  # says nothing about the cursor
        connector.answers += [PollFailed("no such cursor", status=500), page(row("B"))]
        await make().poll()
        since_us = (await gateway.position()).since_us
        await run_for(make(), 25)
        asked = [(call.updated_since_us, call.cursor) for call in connector.calls[1:]]
        assert asked == [(since_us, None), *[(since_us, "2")] * 4, (since_us, None)]
        assert gateway.applied == [["A"], ["A"], ["B"]]

    play(scenario)


def test_at_another_address_nothing_has_been_read(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        connector.answers += [page(row())]
        await make().poll()
        await make(url="https://partner.example/new").poll()
        assert connector.calls[-1].updated_since_us is None

    play(scenario)


def test_of_two_gateways_one_goes_on(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        connector.answers += [page(row("A"), cursor="2"), page(row("B"))]
        connector.seconds = 10.0
        made = make(timeout_seconds=300)
        polling, key = asyncio.create_task(made.poll()), made._key
        await asyncio.sleep(5)
        elsewhere = Position(cursor="9")
        assert await move_position(gateway.store.client, key, before=Position(), after=elsewhere)
        await polling
        assert gateway.applied == [["A"]]
        assert len(connector.calls) == 1
        assert await gateway.position() == elsewhere

    play(scenario)


# When it asks


def test_a_source_is_asked_by_its_schedule(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        connector.seconds = 2.0
        await run_for(make(interval_seconds=30.0), 100)
        assert connector.times == [0, 30, 60, 90]  # from beginning to beginning
        connector.calls.clear()
        connector.seconds = 40.0
        await run_for(make(interval_seconds=30.0, timeout_seconds=300), 100)
        assert connector.times == [100, 140, 180]

    play(scenario)


def test_a_source_that_fails_is_asked_ever_less_often(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        connector.answers += [PollFailed("answered with status 429", status=429)] * 8
        await run_for(make(backoff_seconds_max=20.0, interval_seconds=1000.0), 200)
        pauses = [later - earlier for earlier, later in pairwise(connector.times)]
        for pause, least in zip(pauses, [0.5, 1, 2, 4, 8, 16, 20, 20], strict=True):
            assert least <= round(pause, 6) <= min(least + 0.5, 20)
        assert await gateway.state() == (0, "poll: answered with status 429")

    play(scenario)


def test_a_source_is_not_asked_before_the_time_it_named(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        connector.answers += [PollFailed("throttled", status=429, retry_after_seconds=90.0)]
        await run_for(make(backoff_seconds_max=1.0, interval_seconds=10.0), 105)
        assert connector.times == [0, 90, 100]

    play(scenario)


def test_a_source_that_is_down_is_left_alone_for_a_while(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        connector.answers += [PollFailed("answered with status 500", status=500)] * 6
        made = make(backoff_seconds_max=60.0, interval_seconds=10.0)
        await run_for(made, 200)
        fifth, sixth, seventh, eighth, *_ = connector.times[4:]
        assert (sixth - fifth, seventh - sixth, eighth - seventh) == pytest.approx((60, 60, 10))
        assert not made.breaker.is_open
        await gateway.store.source_states.write_notes()
        assert await gateway.store.source_states.read_breakers(["other", SOURCE]) == {SOURCE: made.breaker.state}

    play(scenario)


def test_a_source_that_is_slow_is_left_alone_for_a_while(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        connector.seconds = 6.0
        connector.answers += [page(row(str(number)), cursor=str(number)) for number in range(7)]
        await run_for(make(timeout_seconds=10.0, backoff_seconds_max=60.0), 161)
        assert connector.times == pytest.approx([0, 6, 12, 18, 24, 90, 156])
        assert [call.cursor for call in connector.calls] == [None, "0", "1", "2", "3", "4", "5"]
        assert [skus for (skus,) in gateway.applied] == ["0", "1", "2", "3", "4", "5"]

    play(scenario)


def test_a_source_that_is_forced_open_is_not_polled(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        made = make(interval_seconds=10.0)
        loop = asyncio.get_running_loop()
        loop.call_later(15, made.breaker.obey, Order("open", None, 1))
        loop.call_later(47, made.breaker.obey, Order(None, None, 2))
        await run_for(made, 60)
        assert connector.times == [0, 10, 47, 57]
        assert await gateway.state() == (0, None), "it is no failure"

    play(scenario)


def test_a_breaker_that_is_forced_closed_pauses_nobody(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        connector.answers += [PollFailed("answered with status 500", status=500)] * 5
        made = make(backoff_seconds_max=3600.0, interval_seconds=10.0)
        asyncio.get_running_loop().call_later(100, made.breaker.obey, Order("closed", None, 1))
        await run_for(made, 115)
        assert connector.times[5:] == [100, 110]

    play(scenario)


def test_a_pace_is_kept_between_pages(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        connector.answers += [page(cursor=str(number)) for number in range(3)]
        await make(requests_per_second=0.5).poll()
        assert connector.times == [0, 2, 4, 6]

    play(scenario)


def test_a_poll_has_its_time_as_a_whole(play: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        monkeypatch.setattr(poller, "POLL_SECONDS_MAX", 25)
        connector.seconds = 10.0
        connector.answers += [page(row(), cursor=str(number)) for number in range(9)]
        with pytest.raises(PollFailed, match="took over 25 s"):
            await make(timeout_seconds=300).poll()
        assert (await gateway.position()).cursor == "1"

    play(scenario)


def test_what_nobody_expected_ends_no_poller(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        connector.answers += [KeyError("a bug"), page(row())]
        with capture_logs() as logged:
            await run_for(make(), 10)
        assert gateway.applied == [["A"]]
        assert await gateway.state() == (0, "poll: KeyError")
        assert [(each["event"], type(each["exc_info"])) for each in logged] == [("poll_failed", KeyError)]

    play(scenario)


# What cannot be used


def test_rows_that_cannot_be_used_are_dead_letters_once(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        for _ in range(2):
            connector.answers += [page(row("A"), bad_row(), row("UNKNOWN"), row("B"))]
            await make().poll()
        assert gateway.applied == [["A", "UNKNOWN", "B"]] * 2
        assert await gateway.letters() == [
            ("invalid: on_hand should be a valid integer", {"sku": "BAD", "on_hand": "five"}),
            ("unknown_sku", {"sku": "UNKNOWN", "on_hand": 5}),
        ]
        assert await gateway.state() == (0, None)  # the poll itself is well

    play(scenario)


def test_without_room_for_dead_letters_all_else_is_applied_and_nothing_is_passed_by(
    play: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        monkeypatch.setattr(dead_letters, "LETTERS_MAX", 1)
        bad_page = page(bad_row("1"), bad_row("2"), row("A"), cursor="2")
        connector.answers += [bad_page, page(row("B"))]
        with pytest.raises(PollFailed, match="no room for more dead letters"):
            await make().poll()
        assert gateway.applied == [["A"], ["B"]]
        assert await gateway.position() == Position()
        monkeypatch.setattr(dead_letters, "LETTERS_MAX", 2)
        connector.answers += [bad_page, page(row("B"))]
        await make().poll()
        assert len(await gateway.letters()) == 2
        assert await gateway.position() == Position(since_us=AT_US - OVERLAP_US)

    play(scenario)


def test_a_page_is_applied_a_few_lines_at_a_time(play: Callable[[Scenario], None]) -> None:
    async def scenario(gateway: Gateway, connector: Scripted, make: Callable[..., Poller]) -> None:
        skus = [str(number) for number in range(2 * LINES_AT_ONCE + 1)]
        connector.answers += [page(*(row(sku) for sku in skus))]
        await make().poll()
        assert gateway.applied == [skus[:LINES_AT_ONCE], skus[LINES_AT_ONCE:-1], skus[-1:]]

    play(scenario)


# Whose turn it is


def test_one_gateway_of_many_polls_and_another_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        client, connectors = FakeAsyncRedis(), [Scripted() for _ in range(3)]
        gateways = [make_gateway(client) for _ in connectors]
        monkeypatch.setattr(poller, "apply_lines", gateways[0].apply_lines)
        running = [
            asyncio.create_task(
                poll_sources(
                    gateway.store, sources(connector), kind_of=lambda _: "shared", breakers={SOURCE: Breaker(SOURCE)}
                )
            )
            for gateway, connector in zip(gateways, connectors, strict=True)
        ]
        await asyncio.sleep(95)
        (active,) = [number for number, connector in enumerate(connectors) if connector.calls]
        assert len(connectors[active].calls) == 4
        began = asyncio.get_running_loop().time()
        running[active].cancel()
        await asyncio.gather(running[active], return_exceptions=True)
        assert asyncio.get_running_loop().time() - began < 1
        await asyncio.sleep(LEASE_SECONDS)
        assert [bool(connector.calls) for connector in connectors].count(True) == 2
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def sources(connector: Scripted) -> Mapping[str, Source]:
        return {SOURCE: make_source(connector)}

    run_virtually(scenario())
