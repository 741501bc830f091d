"""Asks the sources that do not tell by themselves, each at its own times, one gateway at a time.

A page is applied, then the position moves on: what goes wrong in between brings a page again, and never loses one. A
page that comes again changes nothing, for its rows are counts with clocks.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus

import httpx
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from app.connectors.connector import Page, Poll, Row, Unreadable
from app.connectors.requests import PollFailed, make_client
from app.connectors.source_settings import PollSettings
from app.domain.errors import DeadLettersFull, EngineError
from app.ingest.intake import REASON_CHARACTERS_MAX, Source, Unusable, apply_lines
from app.ingest.schedule import Pace, Schedule
from app.observability import metrics
from app.store import dead_letters
from app.store.clock import MICROSECONDS
from app.store.leases import Lease, Position, move_position, read_position
from app.store.store import Store
from app.store.tasks import end_tasks
from app.store.updates import KindOf
from app.workflows.breakers import Breaker, Breakers

POLL_SECONDS_MAX = 600
LINES_AT_ONCE = 50  # a call or two of the engine: whoever reserves meanwhile waits for no more
THROTTLED = HTTPStatus.TOO_MANY_REQUESTS
BACKOFF_SECONDS_MIN = 0.5
# The next poll looks back by this much: rows of one moment may lie on two pages, and a source may write an earlier time
# late. What comes twice is stale the second time.
OVERLAP_US = 5 * MICROSECONDS

log = structlog.get_logger()


async def poll_sources(store: Store, sources: Mapping[str, Source], *, kind_of: KindOf, breakers: Breakers) -> None:
    """Until cancelled: polls every source that is polled, whenever that is this gateway's turn."""
    async with make_client() as client:
        tasks = []
        for source in sources.values():
            if isinstance(source.connector, Poll) and source.settings.poll:
                pace = Pace(source.settings.poll.requests_per_second)
                poller = Poller(
                    store, source, source.connector, source.settings.poll, client, kind_of, breakers[source.name], pace
                )
                lease = Lease(store.client, store.keyspace.sources.lease(f"poll:{source.name}"))
                tasks.append(asyncio.create_task(lease.run(poller.run)))
        try:
            await asyncio.gather(*tasks)
        finally:
            await end_tasks(tasks)


@dataclass(frozen=True, slots=True)
class Poller:
    """Polls one source."""

    store: Store
    source: Source
    connector: Poll
    settings: PollSettings
    client: httpx.AsyncClient
    kind_of: KindOf
    breaker: Breaker
    pace: Pace

    async def run(self) -> None:
        """Polls by the schedule until cancelled, and after a failure again as soon as is decent."""
        self._begin_anew()
        try:
            await self._poll_on()
        finally:
            self._begin_anew()

    def _begin_anew(self) -> None:
        """Whose turn it is has the breaker that counts: it begins closed, and is left so."""
        self.breaker.close()
        self.store.source_states.note_breaker(self.source.name, self.breaker.state)

    async def _poll_on(self) -> None:
        schedule, loop = Schedule.of(self.settings), asyncio.get_running_loop()
        while True:
            next_seconds = 0.0
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(Exception),  # whatever it is, the next attempt is a new chance
                wait=self._seconds_to_wait,
                before_sleep=self._note_failure,
                sleep=self._rest,
            ):
                with attempt:
                    while self.breaker.forced == "open":
                        await self.breaker.await_order()
                    next_seconds = loop.time() + schedule.seconds_to_next(datetime.now(UTC))
                    await self.poll()
            await self._rest(max(0.0, next_seconds - loop.time(), self.breaker.pause_left_seconds))

    async def _rest(self, seconds: float) -> None:
        """Waits so long, or until a person orders something."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.breaker.await_order()

    async def poll(self) -> None:
        """One poll, on from where the last one came to. Raises PollFailed, EngineError: the next one goes on there."""
        try:
            async with asyncio.timeout(POLL_SECONDS_MAX):
                await self._read_on()
        except TimeoutError:
            raise PollFailed(f"took over {POLL_SECONDS_MAX} s") from None
        except PollFailed as failure:
            if failure.is_over:
                at = await read_position(self.store.client, self._key)
                await self._move(at, Position(since_us=at.since_us))
            raise
        self.store.source_states.note_success(self.source.name, at_us=self.store.now_us())
        metrics.polls_total.labels(self.source.name, "done").inc()

    async def _read_on(self) -> None:
        """Applies page after page. Where dead letters have no room all else is applied, and the position stays."""
        at, has_room = await read_position(self.store.client, self._key), True
        async with aclosing(self._pages(at)) as pages:
            async for page in pages:
                has_room = await self._apply(page, has_room=has_room)
                if has_room:
                    before, at = at, _position_after(at, page)
                    if not await self._move(before, at):
                        log.info("poll_left_to_another", source=self.source.name)
                        return
        if not has_room:
            raise PollFailed("there is no room for more dead letters", is_over=True)

    @property
    def _key(self) -> str:
        """Of the position at this address: at another one nothing has been read."""
        address = hashlib.sha256(self.settings.url.encode()).hexdigest()[:16]
        return self.store.keyspace.sources.position(self.source.name, address)

    async def _move(self, before: Position, after: Position) -> bool:
        return await move_position(self.store.client, self._key, before=before, after=after)

    async def _pages(self, at: Position) -> AsyncGenerator[Page, None]:
        """The pages, as long as each one leads to another."""
        cursors = {at.cursor}
        asked = self.connector.pages(self.client, updated_since_us=at.since_us, cursor=at.cursor)
        async with aclosing(asked) as pages:
            for number in range(self.settings.pages_max):
                try:
                    page = await self._next(pages)
                except PollFailed as failure:
                    # A cursor has a second chance, and no third: perhaps its source knows it no more, whatever it says.
                    is_second = number == 0 and at.cursor is not None and failure.status != THROTTLED
                    failure.is_over = failure.is_over or is_second
                    raise
                yield page
                if page.cursor is None:
                    return
                if page.cursor in cursors:
                    raise PollFailed("a cursor came twice: its pages have no end", is_over=True)
                cursors.add(page.cursor)
        raise PollFailed(f"more than {self.settings.pages_max} pages", is_over=True)

    async def _next(self, pages: AsyncGenerator[Page, None]) -> Page:
        """One page, when its turn has come; how that went is the breaker's to judge."""
        if self.breaker.is_open:
            raise PollFailed("paused: too many answers failed or were slow")
        await self.pace.wait()
        loop = asyncio.get_running_loop()
        began_seconds, has_failed = loop.time(), True
        try:
            page = await anext(pages)
            has_failed = False
        except PollFailed as failure:
            has_failed = failure.status != THROTTLED  # who says so is well
            raise
        else:
            return page
        finally:
            seconds = loop.time() - began_seconds
            self.breaker.record(seconds=seconds, has_failed=has_failed)
            self.store.source_states.note_breaker(self.source.name, self.breaker.state)
            metrics.poll_page_seconds.labels(self.source.name).observe(seconds)

    async def _apply(self, page: Page, *, has_room: bool) -> bool:
        """Applies what can be used of a page; whether there was room for a dead letter of each row that cannot."""
        faults: dict[int, str] = {}  # by the row's number
        lines = []
        for number, row in enumerate(page.rows):
            if isinstance(row.parsed, Unreadable):
                faults[number] = Unusable(row.parsed).reason
            else:
                lines += [(number, line) for line in row.parsed]
        for start in range(0, len(lines), LINES_AT_ONCE):
            batch = lines[start : start + LINES_AT_ONCE]
            receipt = await apply_lines(self.store, self.source, "", [line for _, line in batch], kind_of=self.kind_of)
            faults |= {
                number: said.reason for (number, _), said in zip(batch, receipt.lines, strict=True) if said.reason
            }
        for number, reason in faults.items():
            has_room = has_room and await self._keep(page.rows[number], reason)
        metrics.polled_rows_total.labels(self.source.name).inc(len(page.rows))
        return has_room

    async def _keep(self, row: Row, reason: str) -> bool:
        """Keeps a row as a dead letter, one however often it comes; false where there is no room."""
        body = json.dumps(row.value, ensure_ascii=False).encode()
        try:
            await dead_letters.keep(
                self.store.client, self.store.keyspace.sources, source=self.source.name,
                delivery_id=f"poll-{hashlib.sha256(body).hexdigest()[:32]}", received_at_us=self.store.now_us(),
                reason=reason[:REASON_CHARACTERS_MAX], headers={}, body=body,
            )  # fmt: skip
        except DeadLettersFull:
            return False
        return True

    def _seconds_to_wait(self, state: RetryCallState) -> float:
        """Until the next attempt: longer each time, as long as the source asks for, and while the breaker is open."""
        assert state.outcome is not None
        failure = state.outcome.exception()
        backoff = wait_exponential_jitter(
            multiplier=BACKOFF_SECONDS_MIN, max=self.settings.backoff_seconds_max, jitter=BACKOFF_SECONDS_MIN
        )
        asked_seconds = failure.retry_after_seconds if isinstance(failure, PollFailed) else 0.0
        return max(backoff(state), asked_seconds, self.breaker.pause_left_seconds)

    def _note_failure(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        failure = state.outcome.exception()
        is_known = isinstance(failure, PollFailed | EngineError)
        error = str(failure) if is_known else type(failure).__name__
        self.store.source_states.note_failure(self.source.name, f"poll: {error}")
        metrics.polls_total.labels(self.source.name, "failed").inc()
        log.warning(
            "poll_failed",
            source=self.source.name,
            error=error,
            again_in_seconds=round(state.upcoming_sleep, 3),
            exc_info=None if is_known else failure,
        )


def _position_after(at: Position, page: Page) -> Position:
    """Where a poll has come to with this page; after the last one where the next poll begins."""
    times_us = [
        line.occurred_at_us for row in page.rows if not isinstance(row.parsed, Unreadable) for line in row.parsed
    ]
    newest_us = max([at.newest_us or 0, *times_us])
    if page.cursor is not None or not newest_us:
        return replace(at, newest_us=newest_us or None, cursor=page.cursor)
    # A time that has not come yet would hide all that changes until then.
    reached_us = min(newest_us, time.time_ns() // 1000) - OVERLAP_US
    return Position(since_us=max(at.since_us or 0, reached_us))
