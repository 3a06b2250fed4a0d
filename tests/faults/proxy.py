"""A proxy before a store that does harm to chosen calls, and remembers every call.

Give its `url` to the gateway, to clients, or to both, in the store's place. Host and everything
else pass unchanged, so that signatures stay good, and bodies are streamed both ways. One call that
comes in is at most one call to the store: nothing is repeated here.

    async with StoreProxy(store.endpoint).running() as proxy:
        lost = proxy.add(Fault("CompleteMultipartUpload", Kind.RESET, after=True))
        proxy.add(Fault("UploadPart", Kind.SLOW_DOWN, part=3, times=2, retry_after=1))
        held = proxy.add(Fault("ListParts", Kind.STALL, nth=2))
        ...                                     # what is tested begins in the background
        await proxy.until(lambda: held.hits)    # the second ListParts has come
        held.release()                          # and goes on to the store
        ...
        assert lost.hits == 1
        assert proxy.count("CompleteMultipartUpload") == 1

A fault is chosen by operation ("*" is any of them) and strikes the `nth` call that fits it since it
was added, and the calls after that, `times` in all (None: without end). `part` and `when`, a
function of the `Call`, narrow that down; a random `when` makes chaos. Where several faults fit, the
one added first strikes. With `after=True` the store does first what is asked, and only its reply
suffers; what else a kind takes into account stands at the kind. A store that is down looks through
the proxy as it does without: connections are reset.

`hold_after`, `release` and `wait_for_parts` hold back part PUTs without any fault.

It does not speak TLS, nor virtual-hosted buckets.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from faults.calls import OPERATIONS, Call, call_of
from faults.harm import (
    HOP,
    INSTEAD,
    CutError,
    Fault,
    Kind,
    after_blanks,
    blanks,
    cut,
    flipped,
    harmed,
    instead,
    is_there,
    one,
    pass_on,
    reset,
    taken,
)
from yarl import URL

__all__ = ["Call", "Fault", "Kind", "StoreProxy"]


class StoreProxy:
    """Forwards to `upstream`, through the faults added.

    `calls` holds every call since the start or `forget`; `stored` how often the store has taken
    each part number. All of it lives in the event loop that `running` was entered in.
    """

    def __init__(self, upstream: str) -> None:
        self.url = ""
        self.calls: list[Call] = []
        self.stored: Counter[int] = Counter()
        self._upstream = upstream
        self._faults: list[Fault] = []
        self._open = asyncio.Event()
        self._open.set()
        self._left: int | None = None
        self._told = asyncio.Event()

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force, and return it."""
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Take all faults out of force, and let go what they hold back."""
        for fault in self._faults:
            fault.release()
        self._faults.clear()

    def forget(self) -> None:
        """Begin the log anew."""
        self.calls.clear()
        self.stored.clear()

    def find(self, operation: str, **fields: object) -> list[Call]:
        """Return the calls of an operation whose fields have these values, oldest first."""
        assert operation in OPERATIONS
        return [
            call
            for call in self.calls
            if call.operation == operation
            and all(getattr(call, name) == value for name, value in fields.items())
        ]

    def count(self, operation: str, **fields: object) -> int:
        """Count them: `count("UploadPart", part_number=3, store_status=200)`."""
        return len(self.find(operation, **fields))

    async def until(self, condition: Callable[[], object], *, seconds: float = 60) -> None:
        """Wait until the condition holds; it is looked at whenever a call comes, moves or ends."""
        async with asyncio.timeout(seconds):
            while not condition():
                await self._told.wait()

    def hold_after(self, count: int) -> None:
        """Let `count` more part PUTs through, and hold back what comes after them."""
        self._left = count
        self._open.clear()

    def release(self) -> None:
        """Let all held part PUTs through again; faults stay in force."""
        self._left = None
        self._open.set()

    async def wait_for_parts(self, count: int) -> None:
        """Return when so many different parts are stored."""
        await self.until(lambda: len(self.stored) >= count)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["StoreProxy"]:
        """Serve on a free loopback port."""
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, auto_decompress=False, access_log=None, shutdown_timeout=1)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with aiohttp.ClientSession(
            auto_decompress=False, connector=connector, timeout=timeout
        ) as self._http:
            # Else aiohttp itself sends idempotent calls again whose connection broke.
            self._http._retry_connection = False
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            try:
                yield self
            finally:
                self.clear()
                self.release()
                await runner.cleanup()

    def _tell(self) -> None:
        self._told.set()
        self._told = asyncio.Event()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = call_of(request)
        self.calls.append(call)
        # Every fault counts the calls that fit it, those that another one strikes too.
        due = [fault for fault in self._faults if fault.due(call)]
        fault = due[0] if due else None
        if fault is not None:
            fault.hits += 1
            call.fault = fault.kind
        self._tell()
        try:
            if call.operation == "UploadPart" and not await self._may_pass(request):
                return reset(request)
            response = await self._act(request, call, fault)
        except (aiohttp.ClientError, ConnectionError, TimeoutError, CutError):
            # Either side has gone. A caller that is still there sees what the store would show.
            return reset(request)
        else:
            if is_there(request):
                call.status = response.status
            return response
        finally:
            call.done = True
            self._tell()

    async def _may_pass(self, request: web.Request) -> bool:
        if self._left:
            self._left -= 1
            return True
        await self._open.wait()
        # A client that was killed while it was held back has sent nothing.
        return is_there(request)

    async def _act(
        self, request: web.Request, call: Call, fault: Fault | None
    ) -> web.StreamResponse:
        body = request.content.iter_any() if request.can_read_body else None
        if fault is None:
            async with self._ask(request, call, body) as answer:
                return await pass_on(request, answer)
        kind = fault.kind
        if kind in INSTEAD and not fault.after:
            return await instead(request, fault)
        if kind is Kind.LATE:
            body = one(await taken(request))
            reset(request)
        if kind is Kind.WHITE_SPACE and not fault.after:
            response = await blanks(request, fault)
            async with self._ask(request, call, body) as answer:
                return await after_blanks(response, await answer.read())
        if kind is Kind.LATE or (kind is Kind.STALL and not fault.after):
            await fault.held()
            if kind is Kind.STALL and not is_there(request):
                return reset(request)
        if body is not None and kind is Kind.FLIP_REQUEST:
            body = flipped(body, fault.at or 0)
        if body is not None and kind is Kind.CUT_REQUEST:
            body = cut(body, fault.at or 0)
        async with self._ask(request, call, body) as answer:
            return await harmed(request, answer, fault)

    @asynccontextmanager
    async def _ask(
        self, request: web.Request, call: Call, body: AsyncIterator[bytes] | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self._http.request(
            request.method,
            URL(self._upstream + request.raw_path, encoded=True),
            data=None if body is None else self._counted(call, body),
            headers={k: v for k, v in request.headers.items() if k.lower() not in HOP},
            skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
            allow_redirects=False,
        ) as answer:
            call.store_status = answer.status
            if call.operation == "UploadPart" and answer.status == web.HTTPOk.status_code:
                self.stored[call.part_number or 0] += 1
            self._tell()
            yield answer

    async def _counted(self, call: Call, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for block in blocks:
            yield block
            call.sent += len(block)
            self._tell()
