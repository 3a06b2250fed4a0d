"""Follows a session over as many connections as it takes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, Protocol

from gateway.client.events import ServerEvent
from gateway.client.model import SETTLED, Session, read_session
from gateway.client.patience import backoff
from gateway.errors import GatewayError, Internal

_MAX_RECONNECTS: Final = 100


class _Client(Protocol):
    async def get(self, session_id: str) -> Session: ...

    def events(
        self, session_id: str, *, last_event_id: str | None = None
    ) -> AsyncGenerator[ServerEvent, None]: ...


async def follow(client: _Client, session_id: str) -> AsyncGenerator[Session, None]:
    """Yield the session now and after every change, until it is settled.

    A stream of events ends with the gateway's process, or after an hour: then another is opened.
    Raises as `GatewayClient.get` does, and what breaks 100 connections in a row.
    """
    session = await client.get(session_id)
    yield session
    last_id: str | None = None
    failures = 0
    while session.state not in SETTLED:
        try:
            async with aclosing(client.events(session_id, last_event_id=last_id)) as events:
                async for event in events:
                    last_id = event.event_id or last_id
                    failures = 0
                    # A progress event holds only what changes while the state does not.
                    session = read_session({**session.raw, **event.data})
                    yield session
        except GatewayError as error:
            failures += 1
            passing = error.retryable or isinstance(error, Internal)
            if not passing or failures > _MAX_RECONNECTS:
                raise
        if session.state not in SETTLED:
            await asyncio.sleep(backoff(max(failures, 1)))
            session = await client.get(session_id)
            yield session
