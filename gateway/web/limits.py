"""The web server's own limits: connections, idle time, slow heads, sizes of heads, dead peers.

aiohttp has no defaults for these: an idle connection and half a header stay open for an hour.
Slow bodies are the business of `bodies`. Nothing here limits how many requests one caller makes.

The server is aiohttp's, with its protocol class replaced; what is overridden are the few methods
that asyncio or aiohttp itself call at these moments (seen in aiohttp 3.14).
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import structlog
from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gateway.errors import GatewayError, InvalidRequest, Unavailable
from gateway.web.errors import problem_response, translate

_log = structlog.get_logger()
_TCP_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Limits of one server process; times in seconds, sizes in bytes.

    `dead_peer_timeout` is how long bytes may lie unacknowledged, or a receiver may refuse to take
    more, before the connection is cut (Linux only). `lingering` is how long the rest of a body
    that nobody wants is read on, so that its sender gets to see the answer. A header may be longer
    than a line: beyond this, no door is found to say what is wrong with it.
    """

    header_timeout: float = 15.0
    idle_timeout: float = 75.0
    dead_peer_timeout: float = 120.0
    lingering: float = 5.0
    max_connections: int = 4096
    max_line_size: int = 8190
    max_field_size: int = 16_380
    max_headers: int = 64
    shutdown_timeout: float = 30.0

    def __post_init__(self) -> None:
        positive = (self.header_timeout, self.idle_timeout, self.dead_peer_timeout)
        if min(positive) <= 0 or self.max_connections < 1:
            raise ValueError("Limits of a server are positive.")


def make_runner(app: web.Application, options: ServerOptions) -> web.AppRunner:
    """Return a runner that serves the application within the limits.

    Bodies are handed on as they came (no decompression), and aiohttp's access log is off: the
    pipeline writes one without queries.
    """
    return _BoundedRunner(app, options)


class _BoundedRunner(web.AppRunner):
    def __init__(self, app: web.Application, options: ServerOptions) -> None:
        super().__init__(app, access_log=None, shutdown_timeout=options.shutdown_timeout)
        self._options = options

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        return _BoundedServer(server, self._options)


class _BoundedServer(web.Server):
    def __init__(self, plain: web.Server, options: ServerOptions) -> None:
        super().__init__(_in_our_form(plain.request_handler), request_factory=plain.request_factory)
        self.options = options
        self.open_connections = 0

    def __call__(self) -> RequestHandler:
        return _BoundedConnection(self, loop=self._loop, options=self.options)


# The parser lets 0.9 and 2.0 through, whose messages do not look like this at all.
_VERSIONS = frozenset({HttpVersion10, HttpVersion11})

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def _in_our_form(handler: _Handler) -> _Handler:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        # Before aiohttp looks at it, which repeats the header in its answer, whatever it holds.
        if request.headers.get(hdrs.EXPECT, "").lower() not in {"", "100-continue"}:
            return _plain_answer(translate(web.HTTPExpectationFailed()))
        if request.version not in _VERSIONS:
            response = _plain_answer(_malformed())
            response.force_close()
            return response
        try:
            return await handler(request)
        except web.HTTPException as error:
            # Raised before the pipeline was reached.
            if error.status < 400:  # noqa: PLR2004 - redirections are answers, not errors.
                raise
            return _plain_answer(translate(error))

    return handle


class _BoundedConnection(RequestHandler):
    """One client's connection."""

    __slots__ = ("_counted", "_header_timer", "_options", "_server")

    def __init__(
        self, server: _BoundedServer, *, loop: asyncio.AbstractEventLoop, options: ServerOptions
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=cast("Any", None),
            auto_decompress=False,
            keepalive_timeout=options.idle_timeout,
            lingering_time=options.lingering,
            max_line_size=options.max_line_size,
            max_field_size=options.max_field_size,
            max_headers=options.max_headers,
        )
        self._server = server
        self._options = options
        self._counted = False
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._server.open_connections >= self._options.max_connections:
            _log.warning("too_many_connections", limit=self._options.max_connections)
            _refuse(
                cast("asyncio.Transport", transport),
                Unavailable(
                    "The gateway has as many connections as it takes.",
                    code="too_many_connections",
                    hint="Try again in a few seconds.",
                ),
            )
            return
        self._server.open_connections += 1
        self._counted = True
        _detect_dead_peer(transport, self._options.dead_peer_timeout)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_header_timer()
        if not self._counted:
            return
        self._counted = False
        self._server.open_connections -= 1
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._counted:
            return
        super().data_received(data)
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            # The frame that it has passed holds it, and the bytes: a ring, which would keep them
            # until the next full collection.
            self._messages[-1][0].exc.__traceback__ = None
        # aiohttp waits for a head exactly while it has a waiter and no message.
        waiting = self._waiter is not None and not self._waiter.done() and not self._messages
        if not waiting:
            self._stop_header_timer()
        elif self._header_timer is None and data:
            self._header_timer = self._loop.call_later(
                self._options.header_timeout, self._header_too_slow
            )

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature.
    ) -> web.StreamResponse:
        """Answer what could not be parsed, or escaped everything else, in the native form."""
        if request.writer.output_size > 0:
            raise ConnectionError("An answer is under way and cannot be taken back.")
        response = _plain_answer(_parse_error(status, exc))
        # What follows on this connection cannot be trusted to be a request.
        response.force_close()
        if status >= 500:  # noqa: PLR2004 - server errors by definition.
            _log.error("unexpected_error", exc_info=exc)
        else:
            # Not the parser's words, which quote what came: behind a body that was longer than its
            # Content-Length said, that is the rest of somebody's file.
            _log.info("malformed_request", reason=type(exc).__name__)
        return response

    def _header_too_slow(self) -> None:
        self._header_timer = None
        if self.transport is not None:
            _refuse(
                self.transport,
                InvalidRequest(
                    "The head of the request arrives too slowly.",
                    code="request_timeout",
                    hint="Send the whole head at once.",
                    retryable=True,
                ),
            )
        self.force_close()

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


def _parse_error(status: int, exc: BaseException | None) -> GatewayError:
    if status >= 500:  # noqa: PLR2004 - server errors by definition.
        return translate(web.HTTPInternalServerError())
    if isinstance(exc, LineTooLong):
        return InvalidRequest(
            "The head of the request is too large.",
            code="headers_too_large",
            hint="Shorten the address or the headers.",
        )
    # The parser's own words repeat what was sent, which may be a secret.
    return _malformed()


def _malformed() -> InvalidRequest:
    return InvalidRequest(
        "This is no well-formed HTTP request.",
        code="malformed_request",
        hint="Use an HTTP client; framing and headers are checked strictly.",
    )


def _plain_answer(error: GatewayError) -> web.Response:
    request_id = os.urandom(8).hex()
    response = problem_response(error, request_id)
    response.headers["X-Request-Id"] = request_id
    response.headers[hdrs.SERVER] = "gateway"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    return response


def _refuse(transport: asyncio.Transport, error: GatewayError) -> None:
    """Write an answer without a request, and close."""
    response = _plain_answer(error)
    body = cast("bytes", response.body)
    response.headers[hdrs.CONTENT_LENGTH] = str(len(body))
    response.headers[hdrs.CONNECTION] = "close"
    head = f"HTTP/1.1 {response.status} {response.reason}\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in response.headers.items()
    )
    transport.write(head.encode("ascii") + b"\r\n" + body)
    transport.close()


def _detect_dead_peer(transport: asyncio.BaseTransport, timeout: float) -> None:
    sock = transport.get_extra_info("socket")
    if sock is None or _TCP_USER_TIMEOUT is None:
        return
    # A Unix socket has no such option, and no peer that could vanish unseen.
    if sock.family in {socket.AF_INET, socket.AF_INET6}:
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, int(timeout * 1000))
