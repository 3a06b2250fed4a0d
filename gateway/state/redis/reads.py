"""Reads sessions, and shares round trips between those who ask at the same time.

The status and sign paths read a session per request. While one read is on the way, the others that
arrive are gathered and sent together, which costs a fraction of as many single commands. A read is
always sent after it was asked for, so nobody sees anything older than their own call.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.errors import SessionNotFound
from gateway.state.redis.client import Client, Script
from gateway.state.redis.errors import translate
from gateway.state.redis.keys import Keys

_GET = Script.load("get")
# More would hold up the event loop when their replies are parsed.
_AT_A_TIME = 100
# Whoever has a reply goes on with its request at once: a hundred sign requests in a row would hold
# up the event loop for 30 ms.
_ANSWERED_AT_A_TIME = 20
# With two on the way, one is answered while Redis works on the other.
_TRIPS = 2


class SessionReads:
    """Runs `get.lua`. Every reader waits for the client's deadline at most, and may be cancelled."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._waiting: dict[str, list[asyncio.Future[Any]]] = {}
        self._trips = 0
        # The loop itself holds tasks weakly only.
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self, session_id: str) -> Any:
        """Return the reply of `get.lua`, or raise SessionNotFound, Unavailable, Internal."""
        reply = await (self._read_shared if self._trips else self._read_alone)(session_id)
        if isinstance(reply, Exception):
            raise reply
        if reply is None:
            raise SessionNotFound
        return reply

    async def read_each(self, session_ids: Sequence[str]) -> list[Any]:
        """Return a reply, None or an error for each, in one round trip."""
        return await self._client.run_each(_GET, [self._keys.status(one) for one in session_ids])

    async def _read_alone(self, session_id: str) -> Any:
        self._trips += 1
        try:
            return await self._client.run(_GET, self._keys.status(session_id))
        finally:
            self._trips -= 1
            self._start_trip()

    async def _read_shared(self, session_id: str) -> Any:
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(session_id, []).append(future)
        self._start_trip()
        try:
            async with asyncio.timeout(self._client.deadline):
                return await future
        except TimeoutError as error:
            raise translate(error) from error

    def _start_trip(self) -> None:
        if self._waiting and self._trips < _TRIPS:
            self._trips += 1
            task = asyncio.get_running_loop().create_task(self._make_trips())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _make_trips(self) -> None:
        """Answer everybody who waits, and whoever comes in the meantime after that."""
        try:
            while self._waiting:
                taken = {one: self._waiting.pop(one) for one in list(self._waiting)[:_AT_A_TIME]}
                await self._answer(taken)
        finally:
            self._trips -= 1

    async def _answer(self, taken: Mapping[str, Sequence[asyncio.Future[Any]]]) -> None:
        replies: Sequence[Any]
        try:
            replies = await self.read_each(list(taken))
        except Exception as error:  # noqa: BLE001 - it is handed on, to everybody who waits.
            # Whoever waits gets it, a mistake of ours too; it must not end as a silent wait.
            replies = [error] * len(taken)
        answered = 0
        for futures, reply in zip(taken.values(), replies, strict=True):
            for future in futures:
                if not future.done():
                    future.set_result(reply)
                    answered += 1
                    if answered % _ANSWERED_AT_A_TIME == 0:
                        await asyncio.sleep(0)
