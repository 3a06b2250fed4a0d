"""The connection to the store itself: parts go out, and pieces of objects come in, on signed URLs.

It sends exactly the headers that were signed, and no credentials, cookies or default headers; it
follows no redirects and asks for no compression. A transfer that stands still is ended after
`stall_timeout` seconds, however long the whole of it takes.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum
from http import HTTPStatus
from typing import Final, Protocol, Self

import aiohttp
from yarl import URL

from gateway.client.model import SignedPart
from gateway.client.problems import retry_after
from gateway.client.proxies import proxy_arguments

_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,100})</Code>")
_ERROR_BYTES: Final = 64 * 1024
RANGE_IGNORED: Final = "RangeIgnored"
"""No code of a store's: it, or a proxy before it, has answered a range with everything."""

_RESPONSE_STALLS: Final = 3
"""A store may think about a part before it answers, and buffers on the way are still draining."""


class Remedy(Enum):
    """What may help after the store has refused a request."""

    WAIT = "wait"
    SIGN_AGAIN = "sign again"
    READ_AGAIN = "read again"
    ASK_GATEWAY = "ask the gateway"
    NONE = "none"


# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; stores agree on these.
_BY_CODE: dict[str, Remedy] = {
    "BadDigest": Remedy.READ_AGAIN,
    "InvalidDigest": Remedy.READ_AGAIN,
    "XAmzContentChecksumMismatch": Remedy.READ_AGAIN,
    "XAmzContentSHA256Mismatch": Remedy.READ_AGAIN,
    "IncompleteBody": Remedy.WAIT,
    "InternalError": Remedy.WAIT,
    "RequestTimeout": Remedy.WAIT,
    "ServiceUnavailable": Remedy.WAIT,
    "SlowDown": Remedy.WAIT,
    "ExpiredToken": Remedy.SIGN_AGAIN,
    "InvalidToken": Remedy.SIGN_AGAIN,
    "NoSuchUpload": Remedy.ASK_GATEWAY,
    "NoSuchKey": Remedy.ASK_GATEWAY,
}


# What something before the store answers has no code, and a HEAD would have none.
_BY_STATUS: dict[int, Remedy] = {
    401: Remedy.SIGN_AGAIN,
    403: Remedy.SIGN_AGAIN,
    404: Remedy.ASK_GATEWAY,
    408: Remedy.WAIT,
    429: Remedy.WAIT,
}


class StoreRefused(Exception):
    """The store answered, and not with success. It never leaves the client library."""

    def __init__(self, status: int, code: str, wait: float | None) -> None:
        super().__init__(f"status {status}{f', {code}' if code else ''}")
        self.status = status
        self.code = code
        self.retry_after = wait

    @property
    def remedy(self) -> Remedy:
        """What may help. An expired URL is 403 AccessDenied, like any other bad signature."""
        if self.code in _BY_CODE:
            return _BY_CODE[self.code]
        if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Remedy.WAIT
        return _BY_STATUS.get(self.status, Remedy.NONE)


class Body(Protocol):
    """The bytes of one part, in blocks."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Return the blocks."""


class StoreConnection:
    """Connections to the store, `parallel` at most at once; an async context manager."""

    def __init__(self, parallel: int, *, stall_timeout: float, connect_timeout: float) -> None:
        self._parallel = parallel
        self._stall = stall_timeout
        self._connect = connect_timeout
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._parallel),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Only standing still is limited, by ourselves; a large part may take hours.
            timeout=aiohttp.ClientTimeout(
                total=None, connect=2 * self._connect, sock_connect=self._connect
            ),
            skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def put(
        self, signed: SignedPart, body: Body | None, on_block: Callable[[int], None]
    ) -> str:
        """Send one part and return its ETag without quotes; `body` is None for an empty part.

        `on_block` is told the size of each block that the network has taken. Raises StoreRefused,
        and what a network raises (`problems.NETWORK_ERRORS`).
        """
        url = URL(signed.url, encoded=True)
        async with stall_limit(self._stall) as limit:
            blocks = None if body is None else paced(body, limit, self._stall, on_block)
            async with self._open().put(
                url,
                data=b"" if blocks is None else blocks,
                headers={**signed.headers, "Content-Length": str(signed.size)},
                allow_redirects=False,
                **proxy_arguments(url),
            ) as response:
                text = await response.content.read(_ERROR_BYTES)
                etag = response.headers.get("ETag", "").strip().strip('"')
                # A success without an ETag comes from something that is no store.
                if response.status == HTTPStatus.OK and etag:
                    return etag
                raise _refusal(response, text)

    @asynccontextmanager
    async def get(
        self, url: str, *, start: int, stop: int, etag: str
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read the bytes from `start` up to, not including, `stop`, if the object is still that.

        What comes may be shorter. Raises StoreRefused (412: the object is another one now;
        `RANGE_IGNORED`), and what a network raises.
        """
        address = URL(url, encoded=True)
        headers = {"Range": f"bytes={start}-{stop - 1}", "If-Match": f'"{etag}"'}
        async with (
            stall_limit(self._stall) as limit,
            self._open().get(
                address, headers=headers, allow_redirects=False, **proxy_arguments(address)
            ) as response,
        ):
            yield await read_range(response, limit, self._stall, start=start, stop=stop, etag=etag)

    def _open(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise RuntimeError("Use StoreConnection as an async context manager.")
        return self._http


def stall_limit(seconds: float) -> asyncio.Timeout:
    """Return the time limit of one transfer, which `paced` and `read_range` put off."""
    return asyncio.timeout(seconds)


async def paced(
    body: Body, limit: asyncio.Timeout, stall: float, on_block: Callable[[int], None]
) -> AsyncIterator[bytes]:
    """Yield the blocks of a part as the network takes them, putting off the limit each time."""
    clock = asyncio.get_running_loop().time
    async for block in body:
        limit.reschedule(clock() + stall)
        yield block
        on_block(len(block))
    limit.reschedule(clock() + stall * _RESPONSE_STALLS)


async def read_range(
    response: aiohttp.ClientResponse,
    limit: asyncio.Timeout,
    stall: float,
    *,
    start: int,
    stop: int,
    etag: str,
) -> AsyncIterator[bytes]:
    """Return the blocks of an answer to a range. Raises StoreRefused for any other answer."""
    if not _is_range(response, start, stop):
        raise _refusal(response, await response.content.read(_ERROR_BYTES))
    if response.headers.get("ETag", etag).strip('"') != etag:
        # What stands between may not know If-Match.
        raise StoreRefused(HTTPStatus.PRECONDITION_FAILED, "", None)

    async def blocks() -> AsyncIterator[bytes]:
        left = stop - start
        async for block in response.content.iter_any():
            left -= len(block)
            if left < 0:
                raise aiohttp.ClientPayloadError("More came than was asked for.")
            limit.reschedule(asyncio.get_running_loop().time() + stall)
            yield block

    return blocks()


def _is_range(response: aiohttp.ClientResponse, start: int, stop: int) -> bool:
    if response.status == HTTPStatus.OK:
        # The whole is as good, if it is what was asked for.
        return start == 0 and response.content_length == stop
    span = response.headers.get("Content-Range", "")
    return response.status == HTTPStatus.PARTIAL_CONTENT and span.startswith(
        f"bytes {start}-{stop - 1}/"
    )


def _refusal(response: aiohttp.ClientResponse, body: bytes) -> StoreRefused:
    found = _CODE.search(body)
    code = found[1].decode() if found else ""
    status = response.status
    if status < HTTPStatus.MULTIPLE_CHOICES:
        if response.method == "GET" and status == HTTPStatus.OK:
            code = RANGE_IGNORED
        # It lacks the ETag or the range that was asked for: a proxy, or a store that is unwell.
        status = HTTPStatus.BAD_GATEWAY
    return StoreRefused(int(status), code, retry_after(response.headers))
