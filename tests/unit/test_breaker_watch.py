"""What the engine's breaker is told, and how a person's word reaches every gateway, with the engine or without it."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from fakeredis import FakeAsyncRedis, FakeServer

from app.domain.breakers import ENGINE, Order
from app.domain.errors import EngineUnavailable
from app.store.breaker_orders import read_orders_file, write_orders_file
from app.store.keys import Keyspace
from app.store.store import Store
from app.workflows.breaker_watch import (
    ENGINE_SECONDS_MAX,
    LOOK_SECONDS,
    ORDERS_LOOK_SECONDS,
    follow_orders,
    give_order,
    watch_engine,
)
from app.workflows.breakers import Breaker
from tests.virtual_loop import run_virtually

OPEN, CLOSED, LIFTED = Order("open", "works", 10), Order("closed", None, 20), Order(None, None, 30)


@dataclass(slots=True)
class Connected:
    """What a breaker sees of the pipeline."""

    is_open: bool = True
    lost_since: float | None = None
    held_back: str | None = None
    refusal: str | None = None
    renewals: int = 0

    def renew(self) -> None:
        self.renewals += 1


@dataclass(slots=True)
class Gateway:
    """A gateway of a host, whose file it shares with others there; and of an engine."""

    file: Path
    server: FakeServer
    pipeline: Connected = field(default_factory=Connected)
    breakers: dict[str, Breaker] = field(default_factory=lambda: {ENGINE: Breaker(ENGINE), "wms": Breaker("wms")})

    @property
    def store(self) -> Store:
        @dataclass(frozen=True, slots=True)
        class Parts:
            client: FakeAsyncRedis
            keyspace: Keyspace
            pipeline: Connected

        return cast("Store", Parts(FakeAsyncRedis(server=self.server), Keyspace(1), self.pipeline))

    async def give(self, name: str, order: Order) -> None:
        await give_order(self.store, self.breakers, self.file, name, order)

    async def forced(self, name: str) -> str | None:
        """After its next look."""
        await follow_orders(self.store, self.breakers, self.file)
        return self.breakers[name].forced


@pytest.fixture
def hosts(tmp_path: Path) -> tuple[Gateway, Gateway]:
    """Two gateways on two hosts."""
    server = FakeServer()
    return Gateway(tmp_path / "a" / "breakers.json", server), Gateway(tmp_path / "b" / "breakers.json", server)


def test_an_order_is_heard_within_a_second() -> None:
    """Whoever looks at the worst moment, while the engine keeps it waiting as long as it may, looks again in time."""
    assert ENGINE_SECONDS_MAX + ORDERS_LOOK_SECONDS + LOOK_SECONDS < 1


async def test_an_order_is_heard_everywhere(hosts: tuple[Gateway, Gateway]) -> None:
    here, there = hosts
    await here.give("wms", OPEN)
    assert here.breakers["wms"].is_open
    assert [await there.forced("wms"), await there.forced(ENGINE)] == ["open", None]
    await there.give("wms", LIFTED)
    assert await here.forced("wms") is None


async def test_an_order_is_heard_on_the_host_while_the_engine_is_away_and_elsewhere_when_it_is_back(
    hosts: tuple[Gateway, Gateway],
) -> None:
    here, there = hosts
    beside = Gateway(here.file, here.server)
    here.server.connected = False
    await here.give(ENGINE, OPEN)
    assert [await beside.forced(ENGINE), await there.forced(ENGINE)] == ["open", None]
    assert here.file.stat().st_mode & 0o777 == 0o600
    here.server.connected = True
    assert await here.forced(ENGINE) == "open"
    assert await there.forced(ENGINE) == "open"


async def test_an_old_order_does_not_come_back(hosts: tuple[Gateway, Gateway]) -> None:
    here, there = hosts
    await here.give("wms", OPEN)
    await there.give("wms", LIFTED)
    assert await here.forced("wms") is None
    here.server.connected = False
    assert await Gateway(here.file, here.server).forced("wms") is None, "who starts meanwhile has heard it"
    await there.give("wms", CLOSED)  # older than what it heard
    assert await there.forced("wms") is None


async def test_an_order_that_nobody_can_keep_is_refused(hosts: tuple[Gateway, Gateway]) -> None:
    here, _ = hosts
    here.server.connected = False
    here.file.parent.parent.joinpath("a").write_text("a file where the directory should be")
    with pytest.raises(EngineUnavailable):
        await here.give("wms", OPEN)
    assert not here.breakers["wms"].is_open


def test_two_who_write_at_once_lose_nothing_and_damage_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "breakers.json"
    write_orders_file(path, {"wms": OPEN})
    write_orders_file(path, {ENGINE: CLOSED, "wms": Order(None, None, 1)})
    assert read_orders_file(path) == {"wms": OPEN, ENGINE: CLOSED}
    path.write_text('{"wms": {"forced": "ajar"}}')
    assert read_orders_file(path) == {}
    write_orders_file(path, {"wms": LIFTED})
    assert [each.name for each in tmp_path.iterdir()] == ["breakers.json"], "and leaves nothing else behind"


def test_the_engines_breaker_opens_when_it_was_lost_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr("time.monotonic", loop.time)
        gateway = Gateway(Path(), FakeServer())
        pipeline, breaker = gateway.pipeline, gateway.breakers[ENGINE]

        def seen() -> tuple[bool, str | None, int]:
            return breaker.is_open, pipeline.held_back, pipeline.renewals

        watching = asyncio.create_task(watch_engine(gateway.store, breaker, open_after_seconds=5))
        await asyncio.sleep(60)
        assert seen() == (False, None, 0)
        pipeline.lost_since, pipeline.refusal = loop.time(), "gone"
        await asyncio.sleep(5 - 2 * LOOK_SECONDS)
        assert seen() == (False, None, 0)
        await asyncio.sleep(4 * LOOK_SECONDS)
        assert seen() == (True, "gone", 1)
        await asyncio.sleep(60)
        assert seen() == (True, "gone", 1)
        pipeline.lost_since = None
        await asyncio.sleep(4 * LOOK_SECONDS)
        assert seen() == (False, None, 1)

        breaker.obey(OPEN)
        await asyncio.sleep(4 * LOOK_SECONDS)
        assert seen() == (True, "an operator has opened its breaker (works)", 1)
        breaker.obey(CLOSED)
        pipeline.lost_since = loop.time()
        await asyncio.sleep(60)
        assert seen() == (False, None, 1)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    run_virtually(scenario())
