"""Keeps calls out of a gateway that has started before Redis and the store answer.

Health and the upload page are served meanwhile. Once open it stays open: what fails later is told
by the call that needs it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.core.health import Check
from gateway.errors import GatewayError, Unavailable
from gateway.web.door import DoorTable

# Seconds. A store that just starts answers soon; one that is away must not be hammered.
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0
_ATTEMPT_SECONDS = 120.0
_RETRY_AFTER = 2.0

_log = structlog.get_logger()


class Gate:
    """Closed until what the doors need has answered once."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self._problem = "starting"

    def check(self) -> Check:
        """Tell as one of the readiness checks whether it is open, or the code of what keeps it."""
        ok = self.opened.is_set()
        return Check(ok=ok, detail="ok" if ok else self._problem)

    def middleware(self, doors: DoorTable) -> Middleware:
        """Return what raises Unavailable `starting` for calls of doors while it is closed."""

        @web.middleware
        async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
            if (
                not self.opened.is_set()
                and request.match_info.http_exception is None
                and doors.find(request) is not None
            ):
                raise Unavailable(
                    "The gateway has started, but Redis or the store has not answered yet.",
                    code="starting",
                    hint="Try again in a few seconds; /readyz tells what is missing.",
                    retry_after=_RETRY_AFTER,
                )
            return await handler(request)

        return refuse

    async def open_when(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Try until it succeeds, each time within a limit, with growing and uneven pauses."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout(_ATTEMPT_SECONDS):
                    await attempt()
            except TimeoutError:
                self._problem = "timeout"
                _log.warning("not ready", code="timeout")
            except GatewayError as error:
                self._problem = error.code
                _log.warning("not ready", code=error.code, reason=error.message, hint=error.hint)
            else:
                self.opened.set()
                return
            # Many gateways that wait for the same store should not ask it all at once.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret is made.
            pause = min(2 * pause, _LONGEST_PAUSE)
