"""Somebody's webhook: notes what comes, and answers as a test says.

async with Receiver() as receiver:
    receiver.answer(500, 200)         # the next two; after that, 200 for ever
    letter = await receiver.next()    # waits for it
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import orjson
from aiohttp import web

Answer: TypeAlias = int | web.StreamResponse | asyncio.Event


@dataclass(frozen=True)
class Received:
    """One request, as its bytes were."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return orjson.loads(self.body)


class Receiver:
    """An HTTP server of one test on 127.0.0.1, or another address of this machine."""

    def __init__(
        self, host: str = "127.0.0.1", *, port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.received: list[Received] = []
        self.url = ""
        self.port = port
        self._host = host
        self._tls = tls
        self._answers: deque[Answer] = deque()
        self._about: dict[str, deque[Answer]] = {}
        self._queue: asyncio.Queue[Received] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"{'https' if self._tls else 'http'}://{self._host}:{self.port}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def answer(self, *answers: Answer, about: str = "") -> None:
        """Give these to the next requests: a status, a response, or 200 when an event is set.

        `about` a session, only to its own.
        """
        (self._about.setdefault(about, deque()) if about else self._answers).extend(answers)

    def forgive(self, about: str) -> None:
        """Answer 200 again to what is about a session."""
        del self._about[about]

    async def next(self, seconds: float = 40) -> Received:
        """Wait for the next request that nobody has waited for."""
        async with asyncio.timeout(seconds):
            return await self._queue.get()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        received = Received(request.path_qs, dict(request.headers), await request.read())
        self.received.append(received)
        self._queue.put_nowait(received)
        session_id = received.headers.get("Webhook-Id", "").partition(":")[0]
        answers = self._about.get(session_id, self._answers)
        answer = answers.popleft() if answers else 200
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = 200
        return web.Response(status=answer) if isinstance(answer, int) else answer
