"""Progress as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

A stream begins with the session as it is, unless the client says by Last-Event-ID that it knows
that. Every event carries the whole present, so one that was missed is not missed for long. A
stream that breaks for any reason, our shutdown among them, just ends without `end`: connect again.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import orjson
import structlog
from aiohttp import hdrs, web
from aiohttp_sse import EventSourceResponse

from gateway.core.lifecycle import SETTLED
from gateway.core.model import UploadSession
from gateway.doors.native import answers
from gateway.doors.native.render import progress_document
from gateway.errors import GatewayError, Unavailable

# How soon a client should connect again, in milliseconds.
_RETRY = b"retry: 2000\r\n\r\n"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Bounds of event streams: how many at once in this process, and times in seconds.

    `send_timeout` is how long a client may leave an event lying.
    """

    limit: int = 1000
    longest: float = 3600.0
    ping: float = 15.0
    send_timeout: float = 60.0


class EventStreams:
    """All event streams of one door."""

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        # A stream is known by the timeout that ends it, sooner where there is a reason.
        self._running: set[asyncio.Timeout] = set()
        self._stopped = False

    def stop(self) -> None:
        """End every stream now, and start no more."""
        self._stopped = True
        for stream in self._running:
            _end(stream)

    async def serve(
        self,
        request: web.Request,
        sessions: AsyncGenerator[UploadSession, None],
        document: Callable[[UploadSession], answers.Session],
    ) -> web.StreamResponse:
        """Send the sessions as they come. Errors before the first one are raised."""
        if self._stopped or len(self._running) >= self._options.limit:
            raise Unavailable(
                "No more event streams can be opened now.",
                code="too_many_streams",
                hint="Ask for the status every few seconds instead, or try again.",
                retry_after=5,
            )
        response = EventSourceResponse(
            ping_interval=self._options.ping, send_timeout=self._options.send_timeout
        )
        response.headers[hdrs.CACHE_CONTROL] = "no-store"
        stream = asyncio.timeout(self._options.longest)
        try:
            async with stream, aclosing(sessions):
                self._running.add(stream)
                first = await anext(sessions)
                await response.prepare(request)
                # Also flushes the head where nothing else is to be said for a while.
                await response.write(_RETRY)
                watching = asyncio.create_task(self._end_when_gone(response, stream))
                try:
                    known = request.headers.get("Last-Event-ID")
                    await _send(response, first, sessions, document, known)
                finally:
                    self._running.discard(stream)
                    response.stop_streaming()
                    await asyncio.wait([watching])
        except (TimeoutError, ConnectionResetError):
            # The stream's time is up, or nobody listens any more.
            if not response.prepared:
                raise
        except GatewayError as error:
            if not response.prepared:
                raise
            _log.warning("event_stream_ended", code=error.code)
        finally:
            self._running.discard(stream)
        return response

    async def _end_when_gone(self, response: EventSourceResponse, stream: asyncio.Timeout) -> None:
        # Pings stop when nobody takes them; the session itself may not change for days.
        await response.wait()
        if stream in self._running:
            _end(stream)


def _end(stream: asyncio.Timeout) -> None:
    if not stream.expired():
        stream.reschedule(asyncio.get_running_loop().time())


async def _send(
    response: EventSourceResponse,
    first: UploadSession,
    sessions: AsyncIterator[UploadSession],
    document: Callable[[UploadSession], answers.Session],
    known: str | None,
) -> None:
    async def tell(
        name: str, session: UploadSession, data: answers.Session | answers.Progress
    ) -> None:
        await response.send(orjson.dumps(data).decode(), id=_event_id(session), event=name)

    before = first
    if _event_id(first) != known:
        await tell("status", first, document(first))
    if first.state in SETTLED:
        await tell("end", first, document(first))
        return
    async for session in sessions:
        if before.version != session.version:
            await tell("status", session, document(session))
        else:
            await tell("progress", session, progress_document(session))
        if session.state in SETTLED:
            await tell("end", session, document(session))
            return
        before = session


def _event_id(session: UploadSession) -> str:
    progress = session.progress
    figures = [
        session.version,
        progress.received_parts,
        progress.received_bytes,
        progress.in_flight_bytes,
        progress.verified_bytes,
    ]
    if session.chunks is not None:
        figures += [progress.received_chunks, progress.staged_bytes]
    return "-".join(map(str, figures))
