"""Stands between a gateway and its engine, and loses, tears, delays and holds back what they say to each other.

It lives in a thread of its own, so that whoever uses it may block. Its chances come from a seed.
"""

import asyncio
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

CHUNK_BYTES_MAX = 65_536

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """One engine's stand-in, over TCP, or over a unix socket where it is given a path for one.

    `replies_to_lose` and `loss_share` say which of the engine's next words come to nothing: it has run what was asked,
    and the connection ends instead of the answer, or in the middle of it where `may_tear`. `delay_seconds_max` holds
    each word back, in both directions. All may be set at any time.
    """

    def __init__(self, upstream: str, *, path: Path | None = None, chance: random.Random | None = None) -> None:
        self._upstream = urlsplit(upstream)
        self._path = path
        self._chance = chance or random.Random(0)
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._is_refusing = False
        self._links: set[_Link] = set()
        self.url = f"unix://{path}" if path else ""
        self.replies_to_lose = 0
        self.replies_lost = 0
        self.loss_share = 0.0
        self.may_tear = False
        self.delay_seconds_max = 0.0

    @contextmanager
    def open(self) -> Iterator[Self]:
        """Lets connections in, until the end."""
        thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        thread.start()
        try:
            server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
            yield self
            asyncio.run_coroutine_threadsafe(self._close(server), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def cut(self) -> None:
        """Ends every connection at once, for both sides."""
        self._tell(self._cut_all)

    def half_close(self) -> None:
        """Tells every gateway that the engine has nothing more to say; what it is asked still reaches the engine."""
        self._tell(self._half_close_all)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Until the end nothing passes, and no connection ends: a network that is silent."""
        self._tell(self._flows.clear)
        try:
            yield
        finally:
            self._tell(self._flows.set)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Until the end there is no connection, old or new."""
        self._is_refusing = True
        self.cut()
        try:
            yield
        finally:
            self._is_refusing = False

    def _tell(self, what: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(what)

    async def _listen(self) -> asyncio.Server:
        self._flows.set()
        if self._path:
            return await asyncio.start_unix_server(self._connect, self._path)
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        credentials, at, _ = self._upstream.netloc.rpartition("@")
        self.url = f"redis://{credentials}{at}127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def _close(self, server: asyncio.Server) -> None:
        server.close()
        self._flows.set()
        self._is_refusing = True
        self._cut_all()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._is_refusing:
                raise ConnectionRefusedError
            engine_reader, engine_writer = await self._reach_engine()
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, engine_writer)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pass_on(reader, engine_writer, link), self._pass_on(engine_reader, writer, link, is_reply=True)
            )
        except OSError:
            pass  # either side is gone, and so is the other
        finally:
            link.cut()
            self._links.discard(link)

    async def _reach_engine(self) -> Streams:
        if self._upstream.scheme == "unix":
            return await asyncio.open_unix_connection(self._upstream.path)
        return await asyncio.open_connection(self._upstream.hostname, self._upstream.port)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: "_Link", *, is_reply: bool = False
    ) -> None:
        while data := await reader.read(CHUNK_BYTES_MAX):
            await self._flows.wait()
            if self.delay_seconds_max:
                await asyncio.sleep(self._chance.uniform(0, self.delay_seconds_max))
            if is_reply and self._is_lost():
                link.lose(data[: self._chance.randrange(len(data))] if self.may_tear else b"")
                return
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()

    def _is_lost(self) -> bool:
        is_lost = self.replies_to_lose > 0 or self._chance.random() < self.loss_share
        self.replies_to_lose -= self.replies_to_lose > 0
        self.replies_lost += is_lost
        return is_lost

    def _half_close_all(self) -> None:
        for link in set(self._links):
            link.half_close()

    def _cut_all(self) -> None:
        for link in set(self._links):
            link.cut()


class _Link:
    """A connection of the gateway and the one to the engine that belongs to it."""

    def __init__(self, gateway: asyncio.StreamWriter, engine: asyncio.StreamWriter) -> None:
        self._gateway = gateway
        self._engine = engine

    def cut(self) -> None:
        self._gateway.transport.abort()
        self._engine.transport.abort()

    def half_close(self) -> None:
        with suppress(OSError):  # it is closed already
            self._gateway.get_extra_info("socket").shutdown(socket.SHUT_WR)

    def lose(self, rest: bytes) -> None:
        """Ends both, after this much of what the engine said."""
        self._gateway.write(rest)
        self.cut()
