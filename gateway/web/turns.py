"""Shares out among clients how many large bodies are read at a time.

While a body arrives, it takes memory and a way to the store, for as long as its client pleases within
the pace of `bodies`. Seventy clients that are as slow as they may be would otherwise keep out all
others, for hours. Here no client is given more than four times what is left free (the dynamic
thresholds of Choudhury and Hahne, IEEE/ACM Transactions on Networking 6, 1998): one alone has most
of it, and there is always some left for one that comes new.

A client is an address, of IPv6 a /64. Behind a proxy that is not among the trusted ones, all are one
client. Against more than a dozen addresses that mean harm together, this does not help.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from ipaddress import IPv6Address, IPv6Network, ip_address

from aiohttp import web

from gateway.errors import Unavailable
from gateway.web.forwarding import front_of

_SHARE = 4
_RETRY_AFTER = 2.0

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Turn:
    """Leave to read one body, to be given back when it has been read."""

    client: str
    _turns: "Turns"
    _returned: bool = False

    def give_back(self) -> None:
        """Let the next one read; again is no mistake."""
        if not self._returned:
            self._returned = True
            self._turns._take_back(self.client)  # noqa: SLF001 - the two are one thing.


@dataclass(slots=True)
class _Pool:
    """So many places, and who has how many of them."""

    places: int
    held: Counter[str] = field(default_factory=Counter)
    taken: int = 0

    def has_room(self, client: str) -> bool:
        return self.held[client] < _SHARE * (self.places - self.taken)

    def take(self, client: str) -> None:
        self.held[client] += 1
        self.taken += 1

    def leave(self, client: str) -> None:
        self.taken -= 1
        self.held[client] -= 1
        if not self.held[client]:
            del self.held[client]


class Turns:
    """The turns of one process.

    `at_once` bodies are read; `waiting` requests stand in line for at most `patience` seconds, which
    is shared out alike: what a connection has sent of its body lies in memory, up to 1 MB each.
    """

    def __init__(self, *, at_once: int = 64, waiting: int = 256, patience: float = 30.0) -> None:
        self._reading = _Pool(at_once)
        self._waiting = _Pool(waiting)
        self._patience = patience
        # A line for each client; they are served in turn.
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def taken(self, client: str) -> AsyncIterator[Turn]:
        """Wait for a turn and have it inside, or until it is given back.

        Raises Unavailable `too_many_parts_in_flight`, retryable.
        """
        if client not in self._lines and self._reading.has_room(client):
            self._reading.take(client)
        else:
            await self._wait(client)
        turn = Turn(client, self)
        try:
            yield turn
        finally:
            turn.give_back()

    async def _wait(self, client: str) -> None:
        if not self._waiting.has_room(client):
            raise _too_many()
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(client, deque()).append(ready)
        self._waiting.take(client)
        try:
            async with asyncio.timeout(self._patience):
                await ready
        except BaseException as error:
            if ready.done() and not ready.cancelled():
                # It was served at the moment at which it gave up.
                self._take_back(client)
            else:
                line = self._lines.get(client, deque())
                # It may have been passed over already.
                if ready in line:
                    line.remove(ready)
                    self._waiting.leave(client)
                    if not line:
                        del self._lines[client]
                self._serve()
            if isinstance(error, TimeoutError):
                raise _too_many() from None
            raise

    def _take_back(self, client: str) -> None:
        self._reading.leave(client)
        self._serve()

    def _serve(self) -> None:
        served = True
        while served:
            served = False
            for client in list(self._lines):
                if self._reading.has_room(client) and (ready := self._next(client)) is not None:
                    self._reading.take(client)
                    ready.set_result(None)
                    served = True

    def _next(self, client: str) -> asyncio.Future[None] | None:
        """Take the first of a client out of its line, and put the others at the round's end."""
        line = self._lines.pop(client)
        found = None
        while line and found is None:
            first = line.popleft()
            self._waiting.leave(client)
            found = None if first.cancelled() else first
        if line:
            self._lines[client] = line
        return found


TURNS: web.AppKey[Turns] = web.AppKey("turns", Turns)
TURN: web.RequestKey[Turn] = web.RequestKey("turn", Turn)
"""The turn of a request, where it needs one; `bodies` gives it back with the end of the body."""


def in_turn(handler: _Handler) -> _Handler:
    """Return the handler of large bodies that waits for its turn first, where the app has some."""

    @wraps(handler)
    async def wait(request: web.Request) -> web.StreamResponse:
        turns = request.app.get(TURNS)
        if turns is None:
            return await handler(request)
        address = front_of(request).client(request).address
        async with turns.taken(client_of(address)) as turn:
            request[TURN] = turn
            return await handler(request)

    return wait


def client_of(address: str | None) -> str:
    """Name the client behind an address; '' where there is none, as on a Unix socket."""
    text = address or ""
    try:
        found = ip_address(text)
    except ValueError:
        return text
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        # What one customer of a network has; each of its addresses costs nothing.
        return str(IPv6Network((int(found), 64), strict=False))
    return text


def _too_many() -> Unavailable:
    return Unavailable(
        "The gateway reads as many bodies of this client at a time as it can.",
        code="too_many_parts_in_flight",
        hint="Send fewer at a time, or the same again in a moment.",
        retry_after=_RETRY_AFTER,
    )
