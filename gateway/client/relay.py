"""Connections through the gateway for the bytes of parts and objects, where the store is away.

Like `store`, which it stands in for: a transfer that stands still is ended, however long the whole
takes, and nothing is repeated here. The gateway has recorded a part when it answers, so there is
nothing to be acknowledged afterwards.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final, Self

import aiohttp
import orjson
from yarl import URL

from gateway.client.api import GatewayClient, upload_path
from gateway.client.model import StoredPart, read_stored_part, unexpected_answer
from gateway.client.problems import NETWORK_ERRORS, error_from
from gateway.client.proxies import proxy_arguments
from gateway.client.store import Body, StoreRefused, paced, read_range, stall_limit
from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.errors import GatewayError, TooLarge

_ASK_TIMEOUT: Final = 5.0


class RelayRefused(Exception):
    """The gateway answered, and not with success. It never leaves the client library."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__(error.code)
        self.error = error


class RelayConnection:
    """Connections to the gateway, `parallel` at most at once; an async context manager."""

    def __init__(
        self,
        client: GatewayClient,
        parallel: int,
        *,
        stall_timeout: float,
        connect_timeout: float,
    ) -> None:
        self._client = client
        self._parallel = parallel
        self._stall = stall_timeout
        self._connect = connect_timeout
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._parallel),
            headers={**self._client.headers, "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            # Only standing still is limited, by ourselves; a large part may take hours.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def put(
        self,
        session_id: str,
        part_number: int,
        body: Body | None,
        on_block: Callable[[int], None],
        *,
        size: int,
        checksum: Checksum,
        replace: bool,
    ) -> StoredPart:
        """Send one part of `size` bytes with its checksum; return it as it is recorded.

        `body` is None for an empty part; `on_block` is told the size of each block that the network
        has taken. Raises RelayRefused, Internal (`unexpected_answer`), and what a network raises.
        """
        url = self._address(session_id, f"parts/{part_number}")
        async with (
            stall_limit(self._stall) as limit,
            self._open().put(
                url.with_query({"replace": "1"} if replace else {}),
                data=b"" if body is None else paced(body, limit, self._stall, on_block),
                headers={
                    ALGORITHMS[checksum.algorithm].header: checksum.value,
                    "Content-Length": str(size),
                },
                allow_redirects=False,
                **proxy_arguments(url),
            ) as response,
        ):
            text = await response.read()
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                raise RelayRefused(_refusal(response, text))
        part = read_stored_part(_part(text))
        if (part.part_number, part.size) != (part_number, size):
            raise unexpected_answer("another part than was sent")
        return part

    @asynccontextmanager
    async def get(
        self, session_id: str, *, start: int, stop: int, etag: str
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read the object's bytes from `start` up to, not including, `stop`, through the gateway.

        What comes may be shorter. Raises RelayRefused, StoreRefused as `StoreConnection.get` does,
        and what a network raises.
        """
        url = self._address(session_id, "content").with_query(relay="1")
        async with (
            stall_limit(self._stall) as limit,
            self._open().get(
                url,
                headers={"Range": f"bytes={start}-{stop - 1}", "Accept": "*/*"},
                allow_redirects=False,
                **proxy_arguments(url),
            ) as response,
        ):
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                text = await response.read()
                raise RelayRefused(error_from(response.status, response.headers, text))
            yield await read_range(response, limit, self._stall, start=start, stop=stop, etag=etag)

    async def reaches_store(self, session_id: str, etag: str) -> bool:
        """Tell whether the gateway can read this object just now: its first byte is asked for."""
        try:
            async with (
                asyncio.timeout(_ASK_TIMEOUT),
                self.get(session_id, start=0, stop=1, etag=etag) as blocks,
            ):
                return [block async for block in blocks] != []
        except (RelayRefused, StoreRefused, *NETWORK_ERRORS):
            return False

    def _address(self, session_id: str, path: str) -> URL:
        return URL(self._client.server) / upload_path(session_id) / path

    def _open(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise RuntimeError("Use RelayConnection as an async context manager.")
        return self._http


def _refusal(response: aiohttp.ClientResponse, text: bytes) -> GatewayError:
    error = error_from(response.status, response.headers, text)
    if isinstance(error, TooLarge) and response.content_type != "application/problem+json":
        # nginx takes bodies of 1 MB unless it is told otherwise.
        return TooLarge(
            "Something before the gateway takes no bodies of a part's size.",
            code="relay_too_large",
            hint="Raise the limit of the proxy before the gateway (nginx: client_max_body_size), "
            "or use a smaller part size.",
        )
    return error


def _part(text: bytes) -> Any:
    try:
        return orjson.loads(text)["part"]
    except (KeyError, TypeError, ValueError) as error:
        raise unexpected_answer("no relayed part") from error
