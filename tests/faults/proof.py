"""What must hold after every fault: the service is back, what is due is back, and the run's history can have been."""

import asyncio
import random
from typing import Any

from app.domain.caps import NO_CAPS, Caps
from app.domain.entries import Entry
from app.store.ledger import decode_entry, sequence_of
from tests.faults.history import KEYS, History, violations
from tests.faults.shop import Shop
from tests.gateway import Gateway
from tests.service import Home, eventually

BACK_SECONDS_MAX = 5.0
SWEEP_SECONDS_MAX = 1.0
BACK_COMMANDS = 20
ASKED_AGAIN = 40
SHOWN_MAX = 5


def heals(shop: Shop, gateway: Gateway, brief: str) -> None:
    """The service sells again within seconds, and a hold that was due meanwhile is back within a sweep."""
    shop.advances(BACK_COMMANDS, seconds_max=BACK_SECONDS_MAX)
    seconds_max = BACK_SECONDS_MAX + SWEEP_SECONDS_MAX
    eventually(lambda: "reservation.expired" in types_of(gateway, brief), seconds_max=seconds_max)


def types_of(gateway: Gateway, token: str) -> list[str]:
    return [entry["type"] for entry in gateway.entries(token=token)]


def entries_of(home: Home) -> tuple[list[Entry], bytes]:
    """The ledger in the engine, and the secret that names are derived with."""
    with home.client() as client:
        rows: Any = client.xrange(KEYS.ledger)
        secret: Any = client.hget(KEYS.meta, "secret")
    return [decode_entry(0, sequence_of(entry_id), fields) for entry_id, fields in rows], secret


def prove(
    home: Home,
    shop: Shop,
    gateway: Gateway | None = None,
    *,
    is_clock_true: bool = True,
    is_prompt: bool = True,
    caps: Caps = NO_CAPS,
) -> History:
    """The history of a shop that has closed is without violations, and so is the engine's state.

    Some of what was acknowledged is asked for again, where there is a gateway to ask.
    """
    if gateway:
        shop.ask_again(gateway, ASKED_AGAIN, random.Random(0))
    history = History(shop.calls, *entries_of(home), wall_offset=shop.wall_offset)
    found = violations(history, is_clock_true=is_clock_true, caps=caps)
    assert not found, f"{len(found)} violations:\n" + "\n".join(found[:SHOWN_MAX])
    assert shop.unanswered == 0 or not is_prompt, "an answer took longer than one may"
    assert asyncio.run(home.verify()).difference is None
    acknowledged = sum(1 for call in history.calls if call.key and call.acknowledged)
    print(f"{acknowledged} acknowledged of {len(history.calls)} calls, {len(history.entries)} entries,"
          f" slowest answer {shop.seconds_max:.2f} s")  # fmt: skip
    return history
