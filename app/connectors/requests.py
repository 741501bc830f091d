"""Asks a source: one request that never outgrows its bounds, and how it fails."""

import asyncio
import email.utils
import re
import time
from http import HTTPStatus
from typing import Any

import httpx
import jiter

import app

PAGE_BYTES_MAX = 8 * 1024 * 1024
RETRY_AFTER_SECONDS_MAX = 3600.0  # a source that asks for more is asked again all the same
DIGITS = re.compile(r"[0-9]{1,300}")
SAYS_WHEN = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class PollFailed(Exception):
    """A poll got no usable page; `str(error)` says why in our words, for the source's may say anything.

    `status` is what it answered with, None where it did not. It is not asked again before `retry_after_seconds`. With
    `is_over` nobody goes on where it failed: the next poll begins anew, at the time that the last whole one reached.
    """

    def __init__(
        self, reason: str, *, status: int | None = None, retry_after_seconds: float = 0.0, is_over: bool = False
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.is_over = is_over


def make_client() -> httpx.AsyncClient:
    """What all sources are asked with: it takes nothing from the environment, and waits as `fetch_json` says."""
    agent = {"user-agent": f"lastunit/{app.__version__}"}
    return httpx.AsyncClient(timeout=None, trust_env=False, headers=agent)  # noqa: S113 - fetch_json has the timeout


async def fetch_json(client: httpx.AsyncClient, request: httpx.Request, *, timeout_seconds: float) -> Any:
    """The JSON value that the answer to a request is, within time and PAGE_BYTES_MAX. Raises PollFailed.

    Compression is refused: what a few bytes become has no bound while it is read.
    """
    request.headers["accept"], request.headers["accept-encoding"] = "application/json", "identity"
    try:
        async with asyncio.timeout(timeout_seconds):
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                _refuse_unusable(response)
                body = await _read(response)
            finally:
                await response.aclose()
    except TimeoutError:
        raise PollFailed(f"no whole answer within {timeout_seconds:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PollFailed(f"no answer ({type(error).__name__})") from None
    try:
        return jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError:
        raise PollFailed("the answer is no JSON") from None


def _refuse_unusable(response: httpx.Response) -> None:
    if response.status_code != HTTPStatus.OK:
        is_elsewhere = "; redirects are not followed" if response.is_redirect else ""
        raise PollFailed(
            f"answered with status {response.status_code}{is_elsewhere}",
            status=response.status_code,
            retry_after_seconds=_retry_after_seconds(response),
        )
    if response.headers.get("content-encoding", "identity") != "identity":
        raise PollFailed("the answer is compressed, which was not asked for")


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > PAGE_BYTES_MAX:
            raise PollFailed(f"the answer is over {PAGE_BYTES_MAX} bytes")
    return bytes(body)


def _retry_after_seconds(response: httpx.Response) -> float:
    """What Retry-After asks for, in either of its forms (RFC 9110, 10.2.3), within bounds; 0 where it does not."""
    text = response.headers.get("retry-after", "")
    if response.status_code not in SAYS_WHEN:
        return 0.0
    if DIGITS.fullmatch(text):
        return min(float(text), RETRY_AFTER_SECONDS_MAX)
    try:
        seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)
