"""A proxy that tests put before a gateway or a store, to see requests and to make them fail.

It passes everything on unchanged, Host included, so that signatures stay good. A fault is a rule
on the n-th request of a kind; what it may do stands in `Fault`. Without faults it only counts.
"""

import asyncio
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

# Connection headers are each hop's own (RFC 9110, section 7.6.1).
_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "date", "server"}


@dataclass
class Fault:
    """What happens to the first `times` requests whose method and path fit.

    `answer` is given instead of forwarding; `lose_reply` forwards, and then cuts the connection;
    `cut_after` cuts it when so many bytes of the body have come; `flip` damages one byte of the
    body on the way; `swallow` reads all and answers success without forwarding; `hook` is awaited
    before anything else.
    """

    method: str
    path: str
    times: int = 1
    answer: tuple[int, dict[str, str], bytes] | None = None
    lose_reply: bool = False
    cut_after: int | None = None
    flip: bool = False
    swallow: str | None = None
    hook: Callable[[web.Request], Awaitable[None]] | None = None
    hits: int = field(default=0)

    def strikes(self, request: web.Request) -> bool:
        fits = request.method == self.method and re.search(self.path, request.raw_path)
        if not fits or self.hits >= self.times:
            return False
        self.hits += 1
        return True


class Between:
    """The proxy. `seen` holds (method, path and query) of all requests since the last `reset`."""

    def __init__(self, upstream: str) -> None:
        self.url = ""
        self.seen: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.stored: Counter[int] = Counter()
        self.part_stored = asyncio.Event()
        self._faults: list[Fault] = []
        self._upstream = upstream

    def reset(self) -> None:
        self.seen.clear()
        self.headers.clear()
        # A request of the test before may still be under way; it goes on counting where it began.
        self.stored = Counter()
        self.part_stored.clear()
        self._faults.clear()

    def add(self, fault: Fault) -> Fault:
        self._faults.append(fault)
        return fault

    def count(self, method: str, path: str) -> int:
        return sum(1 for m, p in self.seen if m == method and re.search(path, p))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        stored = self.stored
        self.seen.append((request.method, request.raw_path))
        self.headers.append(dict(request.headers))
        fault = next((fault for fault in self._faults if fault.strikes(request)), None)
        if fault is None:
            return await self._forward(request, stored)
        if fault.hook is not None:
            await fault.hook(request)
        if fault.answer is not None:
            status, headers, body = fault.answer
            # Read what comes, so that the client gets to read the answer.
            async for _ in request.content.iter_any():
                pass
            return web.Response(status=status, headers=headers, body=body)
        if fault.cut_after is not None:
            got = 0
            async for block in request.content.iter_any():
                got += len(block)
                if got >= fault.cut_after:
                    break
            return self._cut(request)
        if fault.swallow is not None:
            async for _ in request.content.iter_any():
                pass
            return web.Response(headers={"ETag": f'"{fault.swallow}"'})
        response = await self._forward(request, stored, flip=fault.flip)
        return self._cut(request) if fault.lose_reply else response

    def _cut(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response(status=500)

    async def _forward(
        self, request: web.Request, stored: Counter[int], *, flip: bool = False
    ) -> web.StreamResponse:
        async with self._http.request(
            request.method,
            self._upstream + request.raw_path,
            data=_flipped(request.content) if flip else self._body(request),
            headers={k: v for k, v in request.headers.items() if k.lower() not in _HOP},
            skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
            allow_redirects=False,
        ) as answer:
            headers = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
            relayed = re.search(r"/parts/(\d+)$", request.path)
            number = relayed[1] if relayed else request.query.get("partNumber")
            body = await answer.read()
            if request.method == "PUT" and number and answer.status == web.HTTPOk.status_code:
                stored[int(number)] += 1
                self.part_stored.set()
            return web.Response(status=answer.status, headers=headers, body=body)

    def _body(self, request: web.Request) -> aiohttp.StreamReader | None:
        return request.content if request.can_read_body else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Between"]:
        """Serve on a free loopback port."""
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, auto_decompress=False, access_log=None, shutdown_timeout=1)
        async with aiohttp.ClientSession(auto_decompress=False) as self._http:
            await runner.setup()
            self._site = web.TCPSite(runner, "127.0.0.1", 0)
            await self._site.start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            self._runner, self._port = runner, port
            try:
                yield self
            finally:
                await runner.cleanup()

    async def close(self) -> None:
        """Refuse connections from now on, and cut those that there are."""
        await self._site.stop()
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def open(self) -> None:
        """Take them again, at the same port."""
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await self._site.start()

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """Refuse connections for as long as the block lasts."""
        await self.close()
        try:
            yield
        finally:
            await self.open()

    @asynccontextmanager
    async def silent(self) -> AsyncIterator[None]:
        """Take connections for as long as the block lasts, and never answer on any."""
        async with self.closed():
            taken: list[asyncio.StreamWriter] = []
            server = await asyncio.start_server(
                lambda _, writer: taken.append(writer), "127.0.0.1", self._port
            )
            try:
                yield
            finally:
                server.close()
                for writer in taken:
                    writer.transport.abort()
                await server.wait_closed()

    @asynccontextmanager
    async def swallowing(self) -> AsyncIterator[None]:
        """Let connections come to nothing for as long as the block lasts, as a black hole does."""
        async with self.closed():
            with socket.socket() as listening, ExitStack() as waiting:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind(("127.0.0.1", self._port))
                listening.listen(0)
                # With the queue full, Linux drops whatever else knocks.
                for _ in range(4):
                    one = waiting.enter_context(socket.socket())
                    one.settimeout(0)
                    with suppress(BlockingIOError):
                        one.connect(("127.0.0.1", self._port))
                yield


async def _flipped(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    first = True
    async for block in content.iter_any():
        yield bytes([block[0] ^ 1]) + block[1:] if first else block
        first = False


def store_error(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    """Give an answer as a store words it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>No.</Message></Error>"
    return status, {"Content-Type": "application/xml"}, body.encode()
