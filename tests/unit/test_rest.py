"""The connector `rest` against a partner over loopback, well or not."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.connectors import requests
from app.connectors.connector import Fault, Page, Unreadable, VendorLine
from app.connectors.requests import RETRY_AFTER_SECONDS_MAX, PollFailed, make_client
from app.connectors.rest import ROWS_MAX, Rest
from app.connectors.source_settings import PollSettings
from app.domain.updates import UpdateKind
from tests.simulators import partner as faults
from tests.simulators.partner import Partner, serving

AT = datetime(2030, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)
AT_US = 1_903_867_200_250_000


class Asking:
    """A partner that is served, and the connector that asks it."""

    def __init__(self, partner: Partner, url: str, client: httpx.AsyncClient) -> None:
        self.partner = partner
        self.url = url
        self._client = client

    async def pages(
        self, *, updated_since_us: int | None = None, cursor: str | None = None, **settings: Any
    ) -> list[Page]:
        poll = PollSettings.model_validate(
            {"url": self.url, "token": self.partner.token, "timeout_seconds": 5.0, **settings}
        )
        asked = Rest("partner", poll).pages(self._client, updated_since_us=updated_since_us, cursor=cursor)
        return [page async for page in asked]

    async def failure(self, **settings: Any) -> PollFailed:
        with pytest.raises(PollFailed) as caught:
            await self.pages(**settings)
        assert self.partner.token not in str(caught.value)
        return caught.value


@pytest.fixture
async def asking() -> AsyncIterator[Asking]:
    partner = Partner()
    async with serving(partner) as url, make_client() as client:
        yield Asking(partner, url, client)


async def test_rows_are_counts_with_their_versions(asking: Asking) -> None:
    asking.partner.set_stock("ABC", 7, at=AT)
    asking.partner.set_row(
        {"sku": "e\u0301", "location_id": "R-2", "on_hand": 0, "updated_at": "2030-05-01T14:00:00.25+02:00"}
    )
    (page,) = await asking.pages()
    assert page.cursor is None
    assert [row.parsed for row in page.rows] == [
        [VendorLine(UpdateKind.COUNT, 7, AT_US, "ABC", "ABC", "R-1", clock={"partner": 1})],
        [VendorLine(UpdateKind.COUNT, 0, AT_US, "\u00e9", "\u00e9", "R-2", clock=None)],
    ]


async def test_every_page_is_read_with_what_the_partner_wants_to_know(asking: Asking) -> None:
    for number in range(7):
        asking.partner.set_stock(f"S{number}", number)
    pages = await asking.pages(page_size=3, url=f"{asking.url}?tenant=a%26b")
    assert [[row.value["sku"] for row in page.rows] for page in pages] == [  # type: ignore[index] # a row is a dict
        ["S0", "S1", "S2"],
        ["S3", "S4", "S5"],
        ["S6"],
    ]
    assert [asked.query for asked in asking.partner.asked] == [
        {"tenant": "a&b", "limit": "3"},
        {"tenant": "a&b", "limit": "3", "cursor": "3"},
        {"tenant": "a&b", "limit": "3", "cursor": "6"},
    ]
    assert {asked.headers["authorization"] for asked in asking.partner.asked} == {f"Bearer {asking.partner.token}"}


async def test_only_what_changed_since_is_asked_for(asking: Asking) -> None:
    asking.partner.set_stock("OLD", 1, at=AT - timedelta(microseconds=1))
    asking.partner.set_stock("NEW", 1, at=AT)
    (page,) = await asking.pages(updated_since_us=AT_US)
    assert [row.value["sku"] for row in page.rows] == ["NEW"]  # type: ignore[index] # a row is a dict
    assert asking.partner.asked[-1].query["updated_since"] == "2030-05-01T12:00:00.250000Z"


GOOD_ROW = {"sku": "A", "location_id": "L", "on_hand": 1, "version": 1, "updated_at": "2030-05-01T12:00:00Z"}


BAD_FIELDS: list[dict[str, object]] = [
    {"sku": None}, {"sku": ""}, {"sku": 5}, {"sku": "a\nb"}, {"sku": "x" * 129}, {"location_id": None},
    {"on_hand": -1}, {"on_hand": "5"}, {"on_hand": 1.5}, {"on_hand": True}, {"on_hand": None}, {"on_hand": 10**13},
    {"version": -1}, {"version": "2"}, {"version": 2**53}, {"updated_at": None}, {"updated_at": 1_700_000_000},
    {"updated_at": "2030-05-01"}, {"updated_at": "2030-05-01T12:00:00"}, {"updated_at": "1969-12-31T23:59:59Z"},
]  # fmt: skip


async def test_a_bad_row_spoils_no_other(asking: Asking) -> None:
    bad_rows = [{key: value for key, value in {**GOOD_ROW, **bad}.items() if value is not None} for bad in BAD_FIELDS]
    no_rows: list[object] = [5, None, "row", [GOOD_ROW]]
    asking.partner.faults.append(faults.raw(json.dumps({"items": [GOOD_ROW, *bad_rows, *no_rows, GOOD_ROW]})))
    (page,) = await asking.pages()
    first, *bad, last = [row.parsed for row in page.rows]
    assert not isinstance(first, Unreadable)
    assert first == last
    assert all(isinstance(each, Unreadable) and each.fault is Fault.INVALID for each in bad)
    named = [field for each in bad if isinstance(each, Unreadable) for field, _ in each.errors]
    assert named == [*(field for fields in BAD_FIELDS for field in fields), *[""] * len(no_rows)]


def test_a_row_that_became_a_dead_letter_is_read_again() -> None:
    rest = Rest("partner", PollSettings.model_validate({"url": "https://partner.example", "token": "t"}))
    (line,) = rest.parse({}, json.dumps(GOOD_ROW).encode())  # type: ignore[misc] # it is readable
    assert (line.sku, line.quantity, line.clock) == ("A", 1, {"partner": 1})
    assert rest.parse({}, b"{") == Unreadable(Fault.MALFORMED)


NO_PAGES = {
    "answered with status 500": [faults.status(500)],
    "answered with status 404": [faults.status(404)],
    "answered with status 204": [faults.status(204, "")],
    "answered with status 429": [faults.throttled()],
    "the answer is compressed, which was not asked for": [faults.squeezed()],
    "the answer is no JSON": [
        faults.html(), faults.raw('{"items": ['), faults.raw(""), faults.raw('{"items": [], "items": []}'),
        faults.raw('{"items": [NaN]}'), faults.raw("[" * 100_000), faults.raw('{"items": ["\\ud800"]}'),
    ],
    "the answer is no page of items": [
        faults.raw("[]"), faults.raw('{"next_cursor": null}'), faults.raw('{"items": {}, "next_cursor": null}'),
        faults.raw('{"items": [], "next_cursor": 5}'), faults.raw(json.dumps({"items": [0] * (ROWS_MAX + 1)})),
        faults.raw(json.dumps({"items": [], "next_cursor": "x" * 2049})),
    ],
}  # fmt: skip


async def test_an_answer_that_is_no_page_fails_the_poll(asking: Asking) -> None:
    for reason, instead in NO_PAGES.items():
        asking.partner.faults += instead
        for _ in instead:
            assert str(await asking.failure()) == reason
    assert len(await asking.pages()) == 1  # and the next one is as good as ever


async def test_a_wrong_token_fails_the_poll(asking: Asking) -> None:
    assert str(await asking.failure(token="another")) == "answered with status 401"


async def test_redirects_are_not_followed(asking: Asking) -> None:
    elsewhere = Partner(token=asking.partner.token)
    async with serving(elsewhere) as url:
        asking.partner.faults.append(faults.redirect(url))
        assert str(await asking.failure()) == "answered with status 302; redirects are not followed"
    assert elsewhere.asked == []


async def test_an_answer_has_its_time_as_a_whole(asking: Asking) -> None:
    for fault in (faults.hang(), faults.drip(0.01)):
        asking.partner.faults.append(fault)
        assert str(await asking.failure(timeout_seconds=0.2)) == "no whole answer within 0.2 s"
        assert len(await asking.pages()) == 1


async def test_an_answer_is_read_up_to_its_bound(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "PAGE_BYTES_MAX", 100_000)
    asking.partner.faults.append(faults.huge())
    assert str(await asking.failure()) == "the answer is over 100000 bytes"


def test_the_partner_is_a_process_too() -> None:
    """As a person tries a source out: see docs/connectors.md."""
    command = [sys.executable, "-m", "tests.simulators.partner", "--token", "t"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, httpx.Client() as client:
        try:
            assert process.stdout
            url = process.stdout.readline().split()[-1]
            stock = {"items": [{"sku": "A", "on_hand": 5}]}
            assert client.put(url, json=stock).status_code == 200
            assert (
                client.post(url.replace("/stock", "/faults"), json={"fault": "status", "times": 2}).status_code == 200
            )
            asked = [client.get(url, headers={"authorization": "Bearer t"}) for _ in range(3)]
            assert [answer.status_code for answer in asked] == [500, 500, 200]
            assert asked[-1].json()["items"][0]["on_hand"] == 5
        finally:
            process.kill()


async def test_nobody_there_fails_the_poll(asking: Asking) -> None:
    assert str(await asking.failure(url="http://127.0.0.1:1/stock")) == "no answer (ConnectError)"


async def test_retry_after_in_seconds_or_as_a_date(asking: Asking) -> None:
    asked = {
        "3": 3, "0": 0, None: 0, "": 0, "soon": 0, "-1": 0, "1e3": 0, "9" * 300: RETRY_AFTER_SECONDS_MAX,
        faults.http_date(-60): 0, faults.http_date(7200): RETRY_AFTER_SECONDS_MAX,
    }  # fmt: skip
    for retry_after, seconds in asked.items():
        asking.partner.faults.append(faults.throttled(retry_after))
        failure = await asking.failure()
        assert (failure.status, failure.retry_after_seconds) == (429, seconds), retry_after


async def test_retry_after_as_a_date_is_counted_from_now(asking: Asking) -> None:
    asking.partner.faults.append(faults.throttled(faults.http_date(60)))
    assert 55 < (await asking.failure()).retry_after_seconds <= 60
