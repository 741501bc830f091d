"""Many agents, few units, real HTTP: who wins may differ, that exactly one wins may not."""

import asyncio
import csv
import random
import time
from collections import Counter
from collections.abc import Awaitable
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.gateway import Agent, Answer, done, open_agents
from tests.service import Home

LAST_UNIT_ROUNDS, LAST_UNIT_AGENTS = 5, 200
DEADLINES, DEADLINE_STEP_SECONDS = 200, 0.01
AIMS_SECONDS = (0.001, 0.001, 0.004, 0.016)  # how far from the deadline a call is aimed, at most
FLOWER_AGENTS, FLOWERS_A_CALL_MAX = 500, 12
CHANGED_MINDS = 0.1


@pytest.fixture
def chance() -> random.Random:
    """All randomness of a test; its seed is printed with a failure."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


async def together(*calls: Awaitable[Answer]) -> list[Answer]:
    return list(await asyncio.gather(*calls))


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_last_unit_is_sold_once(home: Home, workers: int) -> None:
    service = home.serve("--workers", str(workers))
    async with open_agents(service.gateway, LAST_UNIT_AGENTS) as agents:
        for _ in range(LAST_UNIT_ROUNDS):
            sku = service.gateway.stock(1)
            bodies = [{"sku": sku, "agent_id": f"agent-{number}"} for number in range(LAST_UNIT_AGENTS)]
            answers = await together(
                *(agent("POST", "reservations", body) for agent, body in zip(agents, bodies, strict=True))
            )
            assert Counter(answer.status for answer in answers) == {201: 1, 409: LAST_UNIT_AGENTS - 1}
            (held,) = (answer.json for answer in answers if answer.status == 201)
            lines = [answer.json["lines"] for answer in answers if answer.status == 409]
            assert all(line["available_quantity"] == 0 for (line,) in lines)
            assert {line["advice"]["next_release_at"] for (line,) in lines} == {held["expires_at"]}
            assert [entry["token"] for entry in service.gateway.entries(sku=sku)] == [None, held["token"]]
    assert (await home.verify()).difference is None


async def race_at_the_deadline(
    agents: list[Agent], held: dict[str, Any], early_seconds: float, chance: random.Random
) -> str:
    """Commits, releases and looks when the reservation ends; its one end, which every answer must agree with."""
    ends_at = datetime.fromisoformat(held["expires_at"]).timestamp() - early_seconds
    aim_seconds = chance.choice(AIMS_SECONDS)

    async def at_the_deadline(agent: Agent, method: str, path: str) -> Answer:
        await asyncio.sleep(ends_at + chance.uniform(-aim_seconds, aim_seconds) - time.time())
        return await agent(method, path)

    path = f"reservations/{held['token']}"
    committed, released, found = await together(
        at_the_deadline(agents[0], "POST", f"{path}/commit"),
        at_the_deadline(agents[1], "POST", f"{path}/release"),
        at_the_deadline(agents[2], "GET", f"skus/{held['sku']}/availability"),
    )
    quantities = done(found)
    assert sum(quantities[f"{name}_quantity"] for name in ("reserved", "committed", "available")) == 1
    ends: set[str] = {
        "committed" if committed.status == 200 else committed.json["code"].removeprefix("reservation_"),
        "committed" if released.status == 409 else released.json["status"],
        done(await agents[0]("GET", path))["status"],
    }
    (end,) = ends
    return end


async def test_commit_release_and_expiry_meet_at_the_deadline(home: Home, chance: random.Random) -> None:
    service = home.serve()
    skus = [service.gateway.stock(1) for _ in range(DEADLINES)]
    async with open_agents(service.gateway, 3 * DEADLINES) as agents:
        begins_at = time.time() + 1.5
        reservations = []
        for number, sku in enumerate(skus):
            ttl_seconds = begins_at + number * DEADLINE_STEP_SECONDS - time.time()
            body = {"sku": sku, "agent_id": "agent", "ttl_seconds": max(1, ttl_seconds)}
            reservations.append(done(await agents[0]("POST", "reservations", body), 201))
        early_seconds = await half_a_round_trip(agents[0])
        ends = await asyncio.gather(
            *(
                race_at_the_deadline(agents[3 * number : 3 * number + 3], held, early_seconds, chance)
                for number, held in enumerate(reservations)
            )
        )
    print(Counter(ends), f"{early_seconds * 1000:.2f} ms")
    assert set(ends) == {"committed", "released", "expired"}, "a race that one side always wins is none"
    for held, end in zip(reservations, ends, strict=True):
        types = [entry["type"] for entry in service.gateway.entries(token=held["token"])]
        assert types == ["reservation.held", f"reservation.{end}"]
    assert (await home.verify()).difference is None


async def half_a_round_trip(agent: Agent) -> float:
    """In seconds; how much before a moment a call must leave to be there in time."""
    seconds = []
    for _ in range(50):
        started = time.perf_counter()
        await agent("GET", "skus/nobody-told/availability")
        seconds.append(time.perf_counter() - started)
    return median(seconds) / 2


async def buy_flowers(agent: Agent, name: str, skus: list[str], chance: random.Random) -> None:
    """Buys what can be had, a few at a time, until every flower is known to be sold."""
    left = list(skus)
    sku, quantity = chance.choice(left), 0
    while left:
        quantity = quantity or chance.randint(1, FLOWERS_A_CALL_MAX)
        answer = await agent(
            "POST", "reservations", {"sku": sku, "quantity": quantity, "agent_id": name, "ttl_seconds": 60}
        )
        quantity = 0
        if answer.status == 201:
            verb = "release" if chance.random() < CHANGED_MINDS else "commit"
            done(await agent("POST", f"reservations/{answer.json['token']}/{verb}"))
        else:
            assert answer.status == 409, answer.body
            (line,) = answer.json["lines"]
            quantity = line["available_quantity"]
            if line["advice"]["action"] == "give_up" and not quantity:
                left.remove(sku)
        if not quantity and left:
            sku = chance.choice(left)


async def test_the_flower_shop_is_sold_out_unit_for_unit(
    home: Home, chance: random.Random, samples_dir: Path | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = samples_dir / "ucp" / "inventory.csv" if samples_dir else Path(__file__).with_name("flower_shop.csv")
    stock = {row["product_id"]: int(row["quantity"]) for row in csv.DictReader(path.read_text("utf-8").splitlines())}
    with capsys.disabled():
        print(f"\nthe flower shop is {path}, {sum(stock.values()):,} units ", end="")
    service = home.serve()
    for sku, units in stock.items():
        body = {"on_hand_quantity": units, "reason": "opening"}
        assert done(service.gateway.post(f"skus/{sku}/adjustments", body))["on_hand_quantity"] == units
    async with open_agents(service.gateway, FLOWER_AGENTS) as agents, asyncio.TaskGroup() as group:
        for number, agent in enumerate(agents):
            group.create_task(buy_flowers(agent, f"agent-{number}", list(stock), random.Random(chance.random())))
    sold: Counter[str] = Counter()
    for entry in service.gateway.entries():
        if entry["token"] is not None:
            assert stock[entry["sku"]], "what there is none of was never even held"
            sold[entry["sku"]] += entry["quantity"] * (entry["type"] == "reservation.committed")
    assert sold == Counter(stock)
    for sku, units in stock.items():
        found = service.gateway.availability(sku)
        quantities = [found[f"{name}_quantity"] for name in ("on_hand", "committed", "reserved", "available")]
        assert quantities == [units, units, 0, 0]
    assert (await home.verify()).difference is None
