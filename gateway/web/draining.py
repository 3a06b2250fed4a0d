"""The orderly end of a server: requests that are being served may end, within a limit.

aiohttp waits for them too, but from the moment that it begins to it drops what still arrives of
their bodies (seen in 3.14), it waits twice its timeout for a handler that does not end, and cannot
be hurried. So the waiting is done here, before aiohttp's own shutdown.
"""

import asyncio

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

_log = structlog.get_logger()

_ARRIVING_SECONDS = 0.05


class Stop:
    """How a process is told to stop: once to drain, a second time to cut short what still runs."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()

    def ask(self) -> None:
        """Drain, or hurry where that was asked already."""
        if self.asked.is_set():
            self.hurried.set()
        self.asked.set()

    def ask_once(self) -> None:
        """Drain, however often this is called."""
        self.asked.set()

    @property
    def draining(self) -> bool:
        """Whether it was asked."""
        return self.asked.is_set()


class Drain:
    """Counts the requests of one application, so that its end can wait for them."""

    def __init__(self, stop: Stop, *, seconds: float) -> None:
        """Wait at most so many seconds, and only until the stop is hurried."""
        self._stop = stop
        self._seconds = seconds
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def install(self, app: web.Application) -> None:
        """Count from now on; while draining, each answer is the last on its connection."""
        app.middlewares.insert(0, self._counting())
        app.on_response_prepare.append(self._close_connection)

    async def wait(self) -> None:
        """Wait until no request is being served. Nothing must be accepted any more.

        What never ends by itself, such as an event stream, has to be told to before.
        """
        # A request that is on its way on a connection just accepted is not counted yet.
        await asyncio.sleep(_ARRIVING_SECONDS)
        waits = [asyncio.create_task(event.wait()) for event in (self._idle, self._stop.hurried)]
        await asyncio.wait(waits, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if self._running:
            _log.warning("requests are cut short", requests=self._running)

    async def _close_connection(self, _request: web.Request, response: web.StreamResponse) -> None:
        if self._stop.draining:
            response.force_close()
            # aiohttp has decided about this header before it asks us.
            response.headers[hdrs.CONNECTION] = "close"

    def _counting(self) -> Middleware:
        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._running += 1
            self._idle.clear()
            try:
                return await handler(request)
            finally:
                self._running -= 1
                if not self._running:
                    self._idle.set()

        return count
