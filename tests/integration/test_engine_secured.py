"""An engine over TLS, and a user with the least rights: a day of everything through it, and nothing else goes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from app.domain.errors import EngineUnavailable, StartupError
from app.settings import Settings, load_settings
from app.store.engine import open_engine
from app.store.scripts import load_scripts
from app.store.store import make_store
from app.workflows.partner import Partner, listen, serving, url_of
from app.workflows.warehouse_day import Warehouse, configuration, live_a_day, new_secret, proven
from tests import engines
from tests.commands import said
from tests.gateway import done, refused
from tests.secured import DEPLOY, Secured, secured
from tests.service import Home, eventually
from tests.webhooks import deliver
from tests.webhooks import said as told

FORBIDDEN = """
CONFIG SET maxmemory 1|CONFIG REWRITE|FLUSHALL|FLUSHDB|SWAPDB 0 1|KEYS *|SHUTDOWN NOSAVE|SAVE|BGSAVE
BGREWRITEAOF|REPLICAOF NO ONE|SYNC|MONITOR|ACL LIST|ACL SETUSER lastunit allcommands|MODULE LIST|CLIENT LIST
CLIENT KILL TYPE normal|CLIENT PAUSE 1000|SCRIPT FLUSH|SCRIPT KILL|FUNCTION FLUSH|SLOWLOG GET|LATENCY RESET|SELECT 1
SUBSCRIBE a|PUBLISH a b|GET other|SET other 1|DEL other|RENAME lastunit:{0}:meta other|DUMP lastunit:{0}:meta
RESTORE lastunit:{0}:a 0 a|MIGRATE host 1 lastunit:{0}:meta 0 1|OBJECT FREQ lastunit:{0}:meta|SORT lastunit:{0}:a
""".replace("\n", "|").strip("|")


@pytest.fixture(scope="module", params=engines.chosen())
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured(request.param, tmp_path_factory.mktemp("engine")) as running:
        yield running


@pytest.mark.archived
async def test_a_day_of_everything(engine: Secured, home: Home) -> None:
    url, secret, partner = engine.url(), new_secret(), Partner()
    settings: dict[str, Any] = {"redis_url": url, "ledger_entries_kept": 10}
    with listen() as listener:
        home.data_dir.mkdir()
        (home.data_dir / "lastunit.toml").write_text(configuration(secret, partner, url_of(listener)))
        service = home.serve(**settings)
        gateway = service.gateway
        address = f"http://{gateway.peer[0]}:{gateway.peer[1]}"
        async with Warehouse(address, secret) as warehouse, serving(partner, listener):
            assert all(is_so for _, is_so in proven(await live_a_day(warehouse, partner)))
    _sell_in_every_way(gateway)
    lost, mended = (
        refused(
            deliver(gateway, "erp", told("ship", (sku, 1)), secret=secret), 422, "validation_failed", dead_letter_id=str
        )
        for sku in ("NOBODY-HAS-IT", "NOT-MAPPED")
    )
    done(gateway("PUT", "admin/connectors/erp/skus/NOT-MAPPED", {"sku": "TULIP"}))
    done(gateway.post(f"admin/dead-letters/{mended['dead_letter_id']}/replay"))
    done(gateway.post(f"admin/dead-letters/{lost['dead_letter_id']}/discard"))
    assert gateway.items("admin/dead-letters") == []
    for path in ("admin/connectors", "admin/reconciliations", "skus", "reservations", "ledger", "feed"):
        assert gateway.get(path).status == 200
    engine.admin.script_flush()
    gateway.reserve("ROSE")

    assert '"is_healthy":true' in said(home.command("doctor", "--json", settings=settings))
    assert service.terminate() == 0
    assert "Traceback" not in home.stderr
    engine.admin.flushall()
    said(home.command("ledger", "rebuild", settings=settings))
    assert said(home.command("ledger", "verify", settings=settings)).startswith("All ")
    assert engine.password not in home.stderr
    assert engine.admin.acl_log() == []


def _sell_in_every_way(gateway: Any) -> None:
    done(gateway("PUT", "categories/flowers", {"safety_stock": 1}))
    done(gateway("PUT", "skus/TULIP", {"category": "flowers", "backorder_limit": 1000}))
    rows = b"sku,location_id,on_hand\nROSE,main,5\nROSE,EAST,5\n"
    done(gateway.send("POST", "stock/import", rows, [("Content-Type", "text/csv"), ("Idempotency-Key", "rows")]))
    due = gateway.reserve("ROSE", ttl_seconds=1)
    for verb, body in (("extend", {"additional_seconds": 1}), ("payment", {}), ("commit", {}), ("cancel", {})):
        held = gateway.reserve("ROSE")
        done(gateway.verb(held, verb if verb != "cancel" else "commit", body))
        if verb == "cancel":
            done(gateway.verb(held, "allocations", {"strategy": "most_stock"}))
            done(gateway.verb(held, "cancel"))
    done(gateway.verb(gateway.reserve("TULIP", 500, allow_backorder=True), "commit"))
    done(gateway.post("skus/ROSE/transfers", {"from_location_id": "main", "to_location_id": "EAST", "quantity": 1,
                                              "reason": "test"}))  # fmt: skip
    eventually(lambda: gateway.read(due)["status"] == "expired")
    refused(
        gateway.post("reservations", {"sku": "ROSE", "quantity": 1000, "agent_id": "a"}),
        409,
        "out_of_stock",
        lines=list,
    )


def test_every_command_of_a_script_is_the_users() -> None:
    allowed = set(re.findall(r"\+(\S+)", (DEPLOY / "users.acl").read_text()))
    called = {
        command.lower()
        for script in load_scripts().values()
        for command in re.findall(r"redis\.p?call\(\s*'(\w+)'", script.source)
    }
    assert len(called) > 20
    assert called <= allowed


def test_what_the_user_may_not(engine: Secured) -> None:
    with Redis.from_url(engine.url(), protocol=2) as client:
        for words in FORBIDDEN.split("|"):
            with pytest.raises(NoPermissionError):  # noqa: PT012 - or else it says which
                client.execute_command(*words.split())
                pytest.fail(words)
    engine.admin.acl_log_reset()


@pytest.mark.parametrize("case", ["another authority", "no authority", "another host", "another user", "no TLS"])
def test_one_sentence_says_what_is_wrong(engine: Secured, case: str, tmp_path: Path) -> None:
    url, words = {
        "another authority": (engine.url(authority=engine.stranger), r"is not trusted \(.+issuer"),
        "no authority": (engine.url().partition("?")[0], r"is not trusted \(.+issuer"),
        "another host": (engine.url(host="127.0.0.1"), r"127.0.0.1:\d+ is not trusted \(ip address mismatch"),
        "another user": (engine.url(user="default"), "refuses the user name or password"),
        "no TLS": (engine.url().replace("rediss://", "redis://").partition("?")[0], "No engine answers at"),
    }[case]
    with pytest.raises(StartupError, match=words) as caught:
        open_engine(Settings(redis_url=url, data_dir=tmp_path))
    assert engine.password not in str(caught.value)
    assert str(caught.value).endswith(".")
    engine.admin.acl_log_reset()


async def test_what_lacks_is_named(engine: Secured) -> None:
    engine.admin.execute_command("ACL", "SETUSER", "lastunit", "-evalsha")
    try:
        with pytest.raises(EngineUnavailable, match="'evalsha'"):
            await make_store(load_settings(), engine.url()).pipeline.start()
    finally:
        engine.admin.execute_command("ACL", "SETUSER", "lastunit", "+evalsha")
        engine.admin.acl_log_reset()
