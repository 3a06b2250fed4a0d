"""A store that only remembers one kind of upload: `python -m benchmarks.stub UPSTREAM PARTS`.

It stands before a real store and forwards everything, but the parts of objects that are called
`made-up.bin`. Of these it says that PARTS parts of 5 MiB of zeros are there, and that they have
become an object once they are completed: ten thousand real ones would be 49 GiB. Its answers are
rendered beforehand, in SeaweedFS's form, so that next to nothing of what is measured is its own.
What a completion takes in a store, it cannot tell.
"""

import asyncio
import sys
from collections.abc import Mapping
from hashlib import md5
from typing import Final

import aiohttp
import orjson
import uvloop
from aiohttp import web

from benchmarks import MIB
from benchmarks.store import exact
from gateway.core.checksums import ALGORITHMS, combine

NAME: Final = "made-up.bin"
PART_SIZE: Final = 5 * MIB
ALGORITHM: Final = "crc64nvme"
PART_ETAG: Final = md5(bytes(PART_SIZE), usedforsecurity=False).hexdigest()
PART_CHECKSUM: Final = ALGORITHMS[ALGORITHM].value_of(bytes(PART_SIZE))
_PAGE: Final = 1000
_MAX_BODY: Final = 64 * MIB
# Those of one connection are not for the next (RFC 9110, 7.6.1); lengths are set anew.
_HOP: Final = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})


class Stub:
    """Forwards to `upstream`, and answers for uploads of `count` parts that nobody has sent."""

    def __init__(self, http: aiohttp.ClientSession, upstream: str, count: int) -> None:
        self._http = http
        self._upstream = upstream
        self._count = count
        # Key -> the headers that the upload was begun with, and whether it is completed.
        self._begun: dict[str, dict[str, str]] = {}
        self._completed: set[str] = set()
        self._parts = [
            f"<Part><PartNumber>{number}</PartNumber><LastModified>2026-01-01T00:00:00Z"
            f"</LastModified><ETag>&#34;{PART_ETAG}&#34;</ETag><Size>{PART_SIZE}</Size></Part>"
            for number in range(1, count + 1)
        ]
        self._etag = f"{md5(bytes.fromhex(PART_ETAG) * count, usedforsecurity=False).hexdigest()}"
        self._etag += f"-{count}"
        self._checksum = combine(ALGORITHM, [(PART_CHECKSUM, PART_SIZE)] * count).value

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer for what is made up, and forward the rest."""
        if not request.path.endswith(f"/{NAME}"):
            return await self._forward(request)
        if "uploadId" in request.query:
            if request.method == "GET":
                return self._page(int(request.query.get("part-number-marker", 0)))
            if request.method == "POST":
                await request.read()
                self._completed.add(request.path)
                return _xml(
                    f"<CompleteMultipartUploadResult>{self._described()}</CompleteMultipartUploadResult>"
                )
        elif request.method == "HEAD":
            return self._head(request.path)
        elif request.method == "POST":
            self._begun[request.path] = {
                name: value
                for name, value in request.headers.items()
                if name.lower().startswith("x-amz-meta-")
            }
            return await self._forward(request)
        return web.Response(status=501)

    def _page(self, marker: int) -> web.Response:
        parts = self._parts[marker : marker + _PAGE]
        more = "true" if marker + _PAGE < self._count else "false"
        return _xml(
            f"<ListPartsResult><IsTruncated>{more}</IsTruncated>{''.join(parts)}</ListPartsResult>"
        )

    def _described(self) -> str:
        return (
            f"<ETag>&#34;{self._etag}&#34;</ETag><ChecksumCRC64NVME>{self._checksum}"
            "</ChecksumCRC64NVME><ChecksumType>FULL_OBJECT</ChecksumType>"
        )

    def _head(self, path: str) -> web.Response:
        if path not in self._completed:
            return web.Response(status=404)
        return web.Response(
            headers={
                **self._begun[path],
                "Content-Length": str(self._count * PART_SIZE),
                "ETag": f'"{self._etag}"',
                "x-amz-checksum-crc64nvme": self._checksum,
                "x-amz-checksum-type": "FULL_OBJECT",
            }
        )

    async def _forward(self, request: web.Request) -> web.Response:
        body = await request.read()
        async with self._http.request(
            request.method,
            exact(self._upstream + request.raw_path),
            data=body or None,
            # The Host too, which is signed.
            headers=_passed_on(request.headers),
            skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
            allow_redirects=False,
        ) as answer:
            content = await answer.read()
            headers = _passed_on(answer.headers)
            if request.method == "HEAD":
                headers["Content-Length"] = answer.headers.get("Content-Length", "0")
            return web.Response(status=answer.status, headers=headers, body=content or None)


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP}


def _xml(document: str) -> web.Response:
    return web.Response(text=document, content_type="application/xml")


async def main(upstream: str, count: int) -> None:
    """Serve on a free loopback port until told to stop."""
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:.*}", Stub(http, upstream, count).handle)
        runner = web.AppRunner(app, auto_decompress=False, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        print(orjson.dumps({"url": f"http://{host}:{port}"}).decode(), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
