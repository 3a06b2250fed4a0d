"""A client of the store and nothing else: signs in its own process, asks nobody, hashes nothing."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import aiohttp
from lxml import etree
from yarl import URL

from gateway.storage.s3.credentials import Credentials
from gateway.storage.s3.endpoint import Endpoint
from gateway.storage.s3.presign import QuerySigner

_EXPIRES_IN: Final = 86_400


class BareStore:
    """Calls to one bucket on presigned URLs. `s3` is what `gateway dev --json` says of the store."""

    def __init__(
        self, http: aiohttp.ClientSession, s3: Mapping[str, str], *, endpoint: str | None = None
    ) -> None:
        self._http = http
        self._signer = QuerySigner(Endpoint.parse(endpoint or s3["endpoint"]), s3["region"])
        self._credentials = Credentials(s3["access_key_id"], s3["secret_access_key"])
        self._bucket = s3["bucket"]

    async def create(self, key: str) -> str:
        """Begin a multipart upload, and return its upload id."""
        async with self._ask("POST", key, [("uploads", "")]) as answer:
            answer.raise_for_status()
            return str(etree.fromstring(await answer.read()).findtext("{*}UploadId"))

    async def send(
        self,
        key: str,
        upload_id: str,
        count: int,
        read: Callable[[int], Awaitable[bytes]],
        *,
        parallel: int,
    ) -> dict[int, str]:
        """PUT `count` parts, so many at a time, and return their ETags by number."""
        signer = self._signer.parts(
            self._credentials,
            self._bucket,
            key,
            upload_id,
            expires_in=_EXPIRES_IN,
            now=datetime.now(UTC),
        )
        etags: dict[int, str] = {}
        numbers = iter(range(1, count + 1))

        async def work() -> None:
            for number in numbers:
                body = await read(number)
                url = exact(signer.sign(number, len(body), None).url)
                async with self._http.put(url, data=body) as answer:
                    answer.raise_for_status()
                    etags[number] = answer.headers["ETag"]

        await asyncio.gather(*(work() for _ in range(parallel)))
        return etags

    async def complete(self, key: str, upload_id: str, etags: Mapping[int, str]) -> None:
        """Complete the upload; a 200 without an ETag in it is no success."""
        listed = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{etags[n]}</ETag></Part>"
            for n in sorted(etags)
        )
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        async with self._ask("POST", key, [("uploadId", upload_id)], body) as answer:
            answer.raise_for_status()
            if b"<ETag>" not in await answer.read():
                raise SystemExit("The bare client's upload was not completed.")

    async def describe(self, key: str) -> tuple[int, str]:
        """Return size and ETag of an object."""
        async with self._ask("HEAD", key, []) as answer:
            answer.raise_for_status()
            return int(answer.headers["Content-Length"]), answer.headers["ETag"].strip('"')

    def _ask(
        self, method: str, key: str, query: Sequence[tuple[str, str]], body: bytes | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        url = self._signer.presign(
            self._credentials,
            method,
            self._bucket,
            key,
            query=query,
            expires_in=_EXPIRES_IN,
            now=datetime.now(UTC),
        ).url
        return self._http.request(method, exact(url), data=body)


def exact(url: str) -> URL:
    """Return the URL as it is: the signature covers it, and yarl would quote it anew."""
    return URL(url, encoded=True)


def upload_id_of(url: str) -> str:
    """Return the upload id that a presigned part URL names."""
    return parse_qs(urlsplit(url).query)["uploadId"][0]


def read_at(file: Path, offset: int, size: int) -> bytes:
    """Return a piece of a file; shorter at its end."""
    with file.open("rb") as opened:
        return os.pread(opened.fileno(), size, offset)
