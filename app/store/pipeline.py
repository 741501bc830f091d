"""One connection a gateway over which all script calls flow: the calls of a loop tick leave in one write.

The engine answers in order, so a queue of futures is all the bookkeeping there is. Connecting, TLS, AUTH and the
protocol are redis-py's; retries are nobody's: a call whose answer was lost may have run, and its caller is told so.

    waiting ──(room for it)──> in flight ──> answered
       │ 2 s, or 20,000 wait         │ 2 s, or the connection is lost
       └> Backpressure / Unavailable └> OutcomeUnknown

While somebody has set `held_back`, nothing is sent.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import hiredis
import structlog
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as EngineConnectionError
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter

from app.domain.errors import (
    Backpressure,
    EngineCorrupt,
    EngineError,
    EngineUnavailable,
    OutcomeUnknown,
)
from app.store.calls import Argument
from app.store.scripts import Script

RECONNECT_SECONDS_MIN = 0.02
RECONNECT_SECONDS_MAX = 1.0
OVERDUE_CHECK_SECONDS = 0.05
# What the engine says when it ran nothing: by the class redis-py gives it, or by its first word where it has none.
NOT_EXECUTED = (
    OutOfMemoryError,
    ReadOnlyError,
    NoPermissionError,
    ClusterDownError,
    MovedError,
    AskError,
    TryAgainError,
)
NOT_EXECUTED_WORDS = ("MISCONF", "NOREPLICAS", "BUSY", "UNKILLABLE")

log = structlog.get_logger()

Reply = list[bytes]


class _Call(NamedTuple):
    packed: bytes
    answer: "asyncio.Future[Any]"
    overdue_at: float


class Pipeline:
    """Calls scripts over one connection; made and closed inside the event loop that uses it.

    `make_connection` gives an unconnected redis-py connection; `on_open` is run on every new one before any call, and
    may refuse it by raising StartupError. With `may_be_away` it starts although nobody answers, and goes on trying.
    """

    def __init__(
        self,
        *,
        make_connection: Callable[[], AbstractConnection],
        on_open: Callable[["Opening"], Awaitable[None]],
        timeout_seconds: float,
        open_timeout_seconds: float,
        in_flight_max: int,
        waiting_max: int,
        may_be_away: bool,
    ) -> None:
        self._make_connection = make_connection
        self._on_open = on_open
        self._timeout_seconds = timeout_seconds
        self._open_timeout_seconds = open_timeout_seconds
        self._in_flight_max = in_flight_max
        self._waiting_max = waiting_max
        self._may_be_away = may_be_away
        self._waiting: deque[_Call] = deque()
        self._in_flight: deque[_Call] = deque()
        self._work = asyncio.Event()
        self._connection: AbstractConnection | None = None
        self._lost_at = -math.inf
        self._tasks: list[asyncio.Task[None]] = []
        self._renewing: asyncio.Future[None] | None = None
        self.refusal: str | None = None
        self.held_back: str | None = None  # why no call is to be sent
        self.lost_since: float | None = None  # monotonic time since when nothing was answered but refusals

    @property
    def is_open(self) -> bool:
        """Connected to an engine that passed its checks."""
        return self._connection is not None

    @property
    def in_flight(self) -> int:
        """Calls sent and not answered."""
        return len(self._in_flight)

    @property
    def waiting(self) -> int:
        """Calls not sent yet."""
        return len(self._waiting)

    async def start(self) -> None:
        """Connects once, raising StartupError or EngineUnavailable if that fails, then keeps itself connected."""
        connection: AbstractConnection | None
        try:
            connection = await self._open()
        except EngineUnavailable:
            if not self._may_be_away:
                raise
            connection = None
            self._note_lost(time.monotonic())
        self._tasks = [asyncio.create_task(self._run(connection)), asyncio.create_task(self._end_overdue())]

    async def close(self) -> None:
        """Ends the connection; what is still in flight ends as OutcomeUnknown."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._connection is not None:  # closed before it was served at all
            await self._connection.disconnect(nowait=True)
            self._connection = None
        self._fail(self._waiting, EngineUnavailable("the gateway is closing"))

    def renew(self) -> None:
        """Gives the connection up, if there is one: the next one passes the checks anew."""
        if self._connection is not None:
            self._renewing = asyncio.ensure_future(self._connection.disconnect(nowait=True))

    async def call(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Reply:
        """The script's reply. Sends the script itself where the engine does not know it; raises an EngineError else."""
        try:
            reply: Reply = await self._submit(_pack("EVALSHA", script.sha, len(keys), *keys, *args))
        except NoScriptError:
            # It loads and runs at once: between SCRIPT LOAD and another EVALSHA the scripts may be flushed again.
            reply = await self._submit(_pack("EVAL", script.source, len(keys), *keys, *args))
        return reply

    def _submit(self, packed: bytes) -> "asyncio.Future[Any]":
        if self.held_back is not None:
            raise EngineUnavailable(self.held_back)
        if len(self._waiting) >= self._waiting_max:
            raise Backpressure("too many calls wait for the engine")
        now = time.monotonic()
        if not self.is_open and now - self._lost_at > self._timeout_seconds:
            raise EngineUnavailable(self.refusal or "the engine cannot be reached")
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Call(packed, answer, now + self._timeout_seconds))
        self._work.set()
        return answer

    async def _run(self, connection: AbstractConnection | None) -> None:
        """Serves one connection after the other until cancelled."""
        while True:
            if connection is None:
                connection = await self._reopen()
            self._work.set()
            writer = asyncio.create_task(self._write(connection))
            try:
                await self._read(connection)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next connection is a new chance
                log.warning("engine_connection_lost", error=type(error).__name__, in_flight=len(self._in_flight))
            finally:
                self._connection = None
                self._lost_at = time.monotonic()
                self._note_lost(self._lost_at)
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
                await connection.disconnect(nowait=True)
                self._fail(self._in_flight, OutcomeUnknown("the connection to the engine was lost before it answered"))
            connection = None

    async def _reopen(self) -> AbstractConnection:
        async for attempt in AsyncRetrying(
            wait=wait_exponential_jitter(
                multiplier=RECONNECT_SECONDS_MIN, max=RECONNECT_SECONDS_MAX, jitter=RECONNECT_SECONDS_MIN
            ),
            retry=retry_if_exception_type(Exception),  # a gateway that stops trying is dead and does not know it
        ):
            with attempt:
                connection = await self._open()
                log.info("engine_connection_opened")
                return connection
        raise AssertionError("tries without end")

    async def _open(self) -> AbstractConnection:
        connection = self._make_connection()
        try:
            async with asyncio.timeout(self._open_timeout_seconds):
                await connection.connect()
                await self._on_open(Opening(connection))
        except ResponseError as error:
            await connection.disconnect(nowait=True)
            self.refusal = f"the engine denies what the service needs ({error})"
            raise EngineUnavailable(self.refusal) from None
        except (RedisError, OSError) as error:
            await connection.disconnect(nowait=True)
            self.refusal = f"the engine cannot be reached ({type(error).__name__})"
            raise EngineUnavailable(self.refusal) from None
        except BaseException as error:
            await connection.disconnect(nowait=True)
            self.refusal = str(error) or type(error).__name__
            raise
        self._connection = connection
        self.refusal = self.lost_since = None
        return connection

    async def _write(self, connection: AbstractConnection) -> None:
        """Sends what waits, as far as the bound on calls in flight allows. A call whose caller left is never sent."""
        while True:
            await self._work.wait()
            self._work.clear()
            if not connection.is_connected:
                return  # redis-py would connect anew by itself, to an engine that nobody has checked
            chunks: list[bytes] = []
            while self._waiting and len(self._in_flight) < self._in_flight_max:
                call = self._waiting.popleft()
                if not call.answer.done():
                    self._in_flight.append(call)
                    chunks.append(call.packed)
            if chunks:
                try:
                    await connection.send_packed_command([b"".join(chunks)], check_health=False)
                except Exception:  # noqa: BLE001 - uvloop has a RuntimeError for a connection that is closed already
                    await connection.disconnect(nowait=True)
                    return  # the reader meets the same loss and cleans up

    async def _read(self, connection: AbstractConnection) -> None:
        """Hands each answer to the call it belongs to; raises when the connection is lost."""
        while True:
            try:
                reply, failure = await connection.read_response(timeout=math.inf), None
            except ResponseError as error:
                reply, failure = None, error
            if not self._in_flight:
                raise EngineConnectionError("an answer to no call")
            answer = self._in_flight.popleft().answer
            if self._waiting:
                self._work.set()
            if answer.done():
                continue  # its caller left; the answer is nobody else's
            if failure is None:
                self.lost_since = None
                answer.set_result(reply)
                continue
            fault = _translated(failure)
            if isinstance(fault, EngineUnavailable) and not isinstance(failure, OutOfMemoryError):
                self._note_lost(time.monotonic())  # without memory it still gives back
            answer.set_exception(fault)

    async def _end_overdue(self) -> None:
        """Ends calls past their time. One in flight takes the connection with it: answers come in order."""
        while True:
            await asyncio.sleep(OVERDUE_CHECK_SECONDS)
            now = time.monotonic()
            while self._waiting and self._waiting[0].overdue_at <= now:
                overdue = self._waiting.popleft().answer
                if not overdue.done():
                    overdue.set_exception(
                        Backpressure("the engine is not keeping up")
                        if self.is_open
                        else EngineUnavailable(self.refusal or "the engine cannot be reached")
                    )
            if self._in_flight and self._in_flight[0].overdue_at <= now and self._connection is not None:
                log.warning("engine_not_answering", in_flight=len(self._in_flight))
                self._note_lost(self._in_flight[0].overdue_at - self._timeout_seconds)
                self._fail(self._in_flight, OutcomeUnknown("the engine did not answer in time"))
                await self._connection.disconnect(nowait=True)

    def _note_lost(self, since: float) -> None:
        if self.lost_since is None:
            self.lost_since = since

    @staticmethod
    def _fail(calls: deque[_Call], error: EngineError) -> None:
        while calls:
            answer = calls.popleft().answer
            if not answer.done():
                answer.set_exception(error)


class Opening:
    """A new connection before it serves calls: what `on_open` checks and prepares the engine with."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection

    async def command(self, *args: Argument) -> Any:
        """The reply to one command; raises RedisError."""
        await self._connection.send_packed_command([_pack(*args)], check_health=False)
        return await self._connection.read_response(timeout=math.inf)


def _pack(*args: Argument) -> bytes:
    packed: bytes = hiredis.pack_command(args)  # type: ignore[arg-type] # its stub is too narrow
    return packed


def _translated(error: ResponseError) -> Exception:
    """The one place where the engine's error words become ours."""
    if isinstance(error, NoScriptError):
        return error
    text = str(error)
    if isinstance(error, NOT_EXECUTED) or text.startswith(NOT_EXECUTED_WORDS):
        return EngineUnavailable(f"the engine refuses to run commands: {text[:80]}")
    return EngineCorrupt(text[:200])
