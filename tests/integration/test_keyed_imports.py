"""An import with an Idempotency-Key happens once: repeated it is answered as at first, and nothing is counted again."""

import asyncio
import io
import uuid
from functools import partial
from typing import Any

import pytest

from app.domain.outcomes import IdempotencyConflict, Imported, ImportOutcome, SkuAnswered
from app.domain.types import Sku
from app.settings import load_settings
from app.store.commands import Idempotency
from app.store.keys import PREFIX
from app.store.store import Store
from app.workflows.stock_files.importing import ImportInterrupted, import_once
from tests.conftest import OpenStore
from tests.gateway import Answer, Gateway, done, refused

HEAD = "sku,location_id,on_hand"
FILE = f"{HEAD}\nA,main,1\nB,main,1\n"
RETENTION_MS_MIN = 24 * 3600 * 1000
KIND = load_settings().kind_of


def post(gateway: Gateway, content: str, key: str) -> Answer:
    headers = [("Content-Type", "text/csv"), ("Idempotency-Key", key)]
    return gateway.send("POST", "stock/import", content.encode(), headers)


@pytest.fixture
def key() -> str:
    """One that nobody used before."""
    return uuid.uuid4().hex


@pytest.fixture
def sku() -> str:
    return f"SKU-{uuid.uuid4().hex[:12]}"


def test_a_repeated_import_counts_nothing_again(gateway: Gateway, key: str, sku: str) -> None:
    content = f"{HEAD}\n{sku},main,5\n{sku},east,0\n"
    first = post(gateway, content, key)
    assert done(first) == {"rows": 2, "changed": 2}
    assert "idempotent-replayed" not in first.headers
    done(gateway.post(f"skus/{sku}/adjustments", {"delta": 3, "reason": "received"}))
    ledger = gateway.entries(sku=sku)
    again = post(gateway, content, f'"{key}"')
    assert (done(again), again.headers["idempotent-replayed"]) == ({"rows": 2, "changed": 2}, "true")
    for other in (f"{content}\n", content.replace(",5", ",6"), "no CSV of stock"):
        refused(post(gateway, other, key), 422, "idempotency_conflict")
    assert gateway.entries(sku=sku) == ledger

    later = post(gateway, content, f"{key}-2")
    assert (done(later), "idempotent-replayed" in later.headers) == ({"rows": 2, "changed": 1}, False)


def test_a_wrong_file_leaves_the_key_free(gateway: Gateway, key: str, sku: str) -> None:
    full = gateway.stock(10**12)
    for wrong in (f"{HEAD}\n{sku},main,-1\n", f"{HEAD}\n{full},east,1\n"):
        refused(post(gateway, wrong, key), 422, "validation_failed")
    answer = post(gateway, f"{HEAD}\n{sku},main,1\n", key)
    assert (done(answer), "idempotent-replayed" in answer.headers) == ({"rows": 1, "changed": 1}, False)


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel"])
def test_a_key_that_is_none(gateway: Gateway, key: str, sku: str) -> None:
    (error,) = refused(post(gateway, f"{HEAD}\n{sku},main,1\n", key), 422, "validation_failed")["errors"]
    assert error["field"] == "Idempotency-Key"
    refused(gateway.get(f"skus/{sku}/availability"), 404, "sku_not_found")


async def put_in(store: Store, text: str, **options: Any) -> ImportOutcome:
    request = Idempotency(("", "", "POST", "/import", "key"), str(hash(text)))
    return await import_once(store, io.BytesIO(text.encode()), request, kind_of=KIND, **options)


async def on_hand(store: Store, sku: str) -> int:
    outcome = await store.commands.availability(Sku(sku))
    assert isinstance(outcome, SkuAnswered)
    return outcome.state.on_hand


async def test_an_import_that_broke_off_is_finished_under_its_key(open_store: OpenStore) -> None:
    store = await open_store()
    spoilt: list[asyncio.Task[object]] = []
    adjust = partial(store.commands.adjust, Sku("B"), location_id="east", mode="count", reason="meanwhile")

    def spoil(step: str, done: int, total: int) -> None:
        if (step, done) == ("check", total):
            spoilt.append(asyncio.create_task(adjust(amount=10**12)))

    with pytest.raises(ImportInterrupted):
        await put_in(store, FILE, on_progress=spoil)
    await asyncio.gather(*spoilt)
    await adjust(amount=0)
    assert await put_in(store, f"{HEAD}\nC,main,1\n") == IdempotencyConflict()
    finished = await put_in(store, FILE)
    assert isinstance(finished, Imported)
    assert (finished.rows, finished.is_replayed) == (2, False)
    assert (await on_hand(store, "A"), await on_hand(store, "B")) == (1, 1)
    assert await put_in(store, FILE) == Imported(2, finished.changed, is_replayed=True)


async def test_imports_at_once_with_one_key_have_one_answer(open_store: OpenStore) -> None:
    store = await open_store()
    outcomes = await asyncio.gather(*(put_in(store, FILE) for _ in range(8)))
    answers = [outcome for outcome in outcomes if isinstance(outcome, Imported)]
    assert len(answers) == 8
    assert len({(answer.rows, answer.changed) for answer in answers}) == 1
    assert sum(not answer.is_replayed for answer in answers) == 1


async def test_two_files_at_once_with_one_key_are_not_both_imported(open_store: OpenStore) -> None:
    store = await open_store()
    texts = [f"{HEAD}\nA,main,{units}\n" for units in range(1, 9)]
    outcomes = await asyncio.gather(*(put_in(store, text) for text in texts))
    (units,) = [units for units, outcome in enumerate(outcomes, 1) if isinstance(outcome, Imported)]
    assert await on_hand(store, "A") == units
    assert outcomes.count(IdempotencyConflict()) == 7


async def test_it_is_remembered_for_a_day_and_not_for_ever(open_store: OpenStore) -> None:
    """Also where it was only begun. No entry tells of it, and a ledger without entries is empty still."""
    store = await open_store()
    assert await put_in(store, f"{HEAD}\n") == Imported(0, 0)
    (raw,) = [raw async for raw in store.client.scan_iter(match=f"{PREFIX}*import:*")]
    assert await store.client.pttl(raw) > RETENTION_MS_MIN
    assert await put_in(store, f"{HEAD}\n") == Imported(0, 0, is_replayed=True)
