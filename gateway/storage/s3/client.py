"""The connection to one S3 store: aiobotocore for rare calls, our own requests for the others.

aiobotocore parses XML on the event loop (86 ms for 1,000 parts) and takes 2 ms of it for any call,
so ListParts and CompleteMultipartUpload go past it, signed by our own signer, and so does whatever
is asked of one object.
Nothing is retried here: each call is sent once (law 3), and a decorator repeats what may be.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from yarl import URL

from gateway.errors import Internal
from gateway.storage.s3.credentials import Credentials
from gateway.storage.s3.errors import credentials_missing, translated
from gateway.storage.s3.options import S3Options
from gateway.storage.s3.presign import QuerySigner

T = TypeVar("T")

BLOCK_BYTES = 1024 * 1024
"""Objects are read in blocks of at most this size."""

# Our own requests are signed when they are sent; the store's clock may be a little ahead.
_EXPIRES_IN = 900


class S3Client:
    """One store's connections; open it with `async with`, and share it."""

    def __init__(self, options: S3Options) -> None:
        self.options = options
        self._stack = AsyncExitStack()
        self._session = AioSession()
        self._signer = QuerySigner(options.endpoint, options.region)
        self._sdk: Any = None
        self._http: aiohttp.ClientSession | None = None
        self._one_thread = asyncio.Lock()

    async def __aenter__(self) -> Self:
        options = self.options
        endpoint = options.endpoint
        url = f"{endpoint.scheme}://{endpoint.authority}{endpoint.base_path}"
        config = AioConfig(
            connect_timeout=options.connect_timeout,
            read_timeout=options.read_timeout,
            max_pool_connections=options.max_connections,
            retries={"total_max_attempts": 1},
            # Other stores than Amazon's stumble over checksums nobody asked for.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": endpoint.addressing},
            # Reading the service's description takes tenths of a second; this does it in a thread.
            warm_up_loader_caches=True,
        )
        try:
            with translated("connect"):
                self._sdk = await self._stack.enter_async_context(
                    self._session.create_client(
                        "s3",
                        region_name=options.region,
                        endpoint_url=url,
                        verify=None if options.verify_tls else False,
                        aws_access_key_id=options.access_key_id,
                        aws_secret_access_key=options.secret_access_key,
                        aws_session_token=options.session_token,
                        config=config,
                    )
                )
            connector = aiohttp.TCPConnector(
                limit=options.max_connections, ssl=options.verify_tls or False
            )
            self._http = await self._stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=connector,
                    # An object that was stored compressed is handed on as it is.
                    auto_decompress=False,
                    # The SDK obeys the environment's proxies too.
                    trust_env=True,
                    cookie_jar=aiohttp.DummyCookieJar(),
                )
            )
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def credentials(self) -> Credentials:
        """Return the credentials of this moment, refreshed where they were about to end.

        Raises Unavailable `storage_credentials_missing` and
        `storage_credentials_unavailable`.
        """
        static = self.options.static_credentials
        if static is not None:
            return static
        with translated("credentials"):
            async with asyncio.timeout(self.options.call_timeout):
                chain = await self._session.get_credentials()
                frozen = await chain.get_frozen_credentials() if chain is not None else None
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            raise credentials_missing()
        # The SDK tells the end of temporary credentials nowhere else. Nothing was awaited since
        # they were frozen, so that this is the end of the same ones.
        expires_at = getattr(chain, "_expiry_time", None)
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token, expires_at)

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call one operation of the SDK by its method name, such as `head_bucket`, once."""
        if self._sdk is None:
            raise Internal("The client of the store is not open.")
        with translated(operation):
            async with asyncio.timeout(self.options.call_timeout):
                answer: dict[str, Any] = await getattr(self._sdk, operation)(**parameters)
        return answer

    @asynccontextmanager
    async def request(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
        read_timeout: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request of our own, once, and give the answer with its body unread.

        A body that is an iterator is streamed; its length is in the headers. `read_timeout` bounds a silence in seconds. Exceptions of aiohttp come out as they are:
        what they mean depends on the operation. None of them repeats the signed URL.
        """
        headers = dict(headers or {})
        signed = self._signer.presign(
            await self.credentials(),
            method,
            bucket,
            key,
            expires_in=_EXPIRES_IN,
            now=datetime.now(UTC),
            query=query,
            headers={name: value for name, value in headers.items() if name.startswith("x-amz-")},
        )
        try:
            async with self.http.request(
                method,
                # The URL is signed as it is written: encoding it again breaks the signature.
                URL(signed.url, encoded=True),
                headers={"accept-encoding": "identity", **headers},
                # A buffer is sent in pieces; bytes would be written at once, holding up the loop.
                data=io.BytesIO(body) if isinstance(body, bytes) and body else body or None,
                skip_auto_headers=["content-type"],
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    connect=self.options.connect_timeout,
                    sock_connect=self.options.connect_timeout,
                    sock_read=read_timeout or self.options.read_timeout,
                ),
            ) as response:
                yield response
        except aiohttp.ClientResponseError as error:
            # Only this kind repeats the URL, which is as good as a password for a while.
            raise aiohttp.ClientPayloadError(f"The answer is no HTTP ({error.status}).") from None

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function of milliseconds in a thread, one at a time.

        Each thread that works beside the event loop may take the interpreter for 5 ms before the
        loop has it back; several would add up.
        """
        async with self._one_thread:
            return await asyncio.to_thread(function, *arguments)

    @property
    def http(self) -> aiohttp.ClientSession:
        """The HTTP session for requests without the SDK."""
        if self._http is None:
            raise Internal("The client of the store is not open.")
        return self._http


async def read_body(response: aiohttp.ClientResponse, *, limit: int) -> bytes:
    """Return a whole answer of at most `limit` bytes, or raise aiohttp.ClientPayloadError."""
    body = bytearray()
    async for block in response.content.iter_any():
        body += block
        if len(body) > limit:
            raise aiohttp.ClientPayloadError("The answer is longer than any of its kind.")
    return bytes(body)
