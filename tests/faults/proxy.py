"""A proxy before a store that sees every request, and can hold requests back.

It passes Host and everything else on unchanged, so that signatures stay good: give its address to
the gateway as the public endpoint. It notes part PUTs when they have succeeded, by part number.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

# Connection headers are each hop's own (RFC 9110, section 7.6.1).
_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade"}


class StoreProxy:
    """Forwards to `upstream`; `hold_after` part PUTs the next ones wait until `release`."""

    def __init__(self, upstream: str) -> None:
        self.url = ""
        self.stored: Counter[int] = Counter()
        self._upstream = upstream
        self._open = asyncio.Event()
        self._open.set()
        self._left: int | None = None
        self._changed = asyncio.Condition()

    def hold_after(self, count: int) -> None:
        """Let `count` more part PUTs through, and hold back what comes after them."""
        self._left = count
        self._open.clear()

    def release(self) -> None:
        """Let everything through again, what waits included."""
        self._left = None
        self._open.set()

    async def wait_for_parts(self, count: int) -> None:
        """Return when so many different parts are stored."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: len(self.stored) >= count)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        number = request.query.get("partNumber")
        is_part = request.method == "PUT" and number is not None
        if is_part and not await self._may_pass(request):
            return web.Response(status=503)
        try:
            return await self._pass_on(request, int(number or 0) if is_part else None)
        except (aiohttp.ClientError, ConnectionResetError):
            # Either side has gone; the client, if it is there still, sees a failed request.
            return web.Response(status=502)

    async def _pass_on(self, request: web.Request, part: int | None) -> web.StreamResponse:
        async with self._http.request(
            request.method,
            self._upstream + request.raw_path,
            data=request.content if request.can_read_body else None,
            headers={k: v for k, v in request.headers.items() if k.lower() not in _HOP},
            skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
            allow_redirects=False,
        ) as answer:
            body = await answer.read()
            headers = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
            if part is not None and answer.status == web.HTTPOk.status_code:
                async with self._changed:
                    self.stored[part] += 1
                    self._changed.notify_all()
            return web.Response(status=answer.status, headers=headers, body=body)

    async def _may_pass(self, request: web.Request) -> bool:
        if self._left:
            self._left -= 1
            return True
        await self._open.wait()
        # A client that was killed while it was held back has sent nothing.
        return request.transport is not None and not request.transport.is_closing()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["StoreProxy"]:
        """Serve on a free loopback port."""
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._forward)
        runner = web.AppRunner(app, auto_decompress=False, access_log=None, shutdown_timeout=1)
        async with aiohttp.ClientSession(auto_decompress=False) as self._http:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            try:
                yield self
            finally:
                self.release()
                await runner.cleanup()
