"""What every request passes, in one place, because the order matters.

From the outside in: request id and log context, figures, the Host and Origin check, CORS
preflights, errors turned into answers, authentication, the handler. Headers that every answer
carries are added when it is prepared, so that streams have them too.
"""

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from structlog.contextvars import bind_contextvars

from gateway.errors import GatewayError
from gateway.telemetry import Metrics
from gateway.web.auth import Authenticator, check_host
from gateway.web.cors import Cors
from gateway.web.door import PRINCIPAL, DoorTable
from gateway.web.errors import (
    REQUEST_ID,
    error_headers,
    problem_response,
    status_of,
    translate,
    unexpected,
)
from gateway.web.forwarding import front_of

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)
_CLIENT_GONE = 499  # nginx's number for it; nobody receives it, the log and figures show it.
_QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})

_log = structlog.get_logger()


def install(
    app: web.Application,
    doors: DoorTable,
    *,
    authenticator: Authenticator,
    cors: Cors,
    metrics: Metrics,
) -> None:
    """Mount the doors on the application and put the pipeline before everything it serves."""
    doors.mount(app)
    app.middlewares.extend(middlewares(doors, authenticator, cors, metrics))
    app.on_response_prepare.append(response_headers(doors, cors))


def middlewares(
    doors: DoorTable, authenticator: Authenticator, cors: Cors, metrics: Metrics
) -> list[Middleware]:
    """Return the middlewares in their order, the outermost first."""
    return [
        _observing(metrics),
        _answering(doors),
        _guarding(doors, authenticator, cors),
    ]


def response_headers(
    doors: DoorTable, cors: Cors
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return the signal that completes the headers of every answer."""

    async def complete(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        # What was refused before the pipeline was reached brings its own.
        headers.setdefault("X-Request-Id", request.get(REQUEST_ID, ""))
        headers.setdefault("X-Content-Type-Options", "nosniff")
        # Answers of the API are about now, and to this caller; static files say otherwise.
        headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
        # What runs here in which version is nobody's business.
        headers[hdrs.SERVER] = "gateway"
        door = doors.find(request)
        if door is not None:
            cors.decorate(request, response, door)

    return complete


def new_request_id(request: web.Request) -> str:
    """Return the caller's own request id if it is short and plain, else a new one."""
    given = request.headers.get("X-Request-Id", "")
    return given if _REQUEST_ID.fullmatch(given) else os.urandom(8).hex()


def _observing(metrics: Metrics) -> Middleware:
    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        request[REQUEST_ID] = new_request_id(request)
        # aiohttp runs each request in a task of its own, so the context ends with it.
        bind_contextvars(request_id=request[REQUEST_ID])
        status = _CLIENT_GONE
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            seconds = time.perf_counter() - started
            resource = request.match_info.route.resource
            route = resource.canonical if resource is not None else "unmatched"
            metrics.request(route, request.method, status, seconds)
            log = _log.debug if route in _QUIET_ROUTES else _log.info
            client = front_of(request).client(request)
            log(
                "request",
                method=request.method[:20],
                # Without the query: it may hold what must not be logged. Not decoded: somebody's
                # control characters must not reach the terminal of whoever reads this.
                path=request.rel_url.raw_path[:200],
                status=status,
                ms=round(seconds * 1000, 2),
                remote=client.address,
                # Who handed the request on, where the client is not the peer.
                **({"proxy": client.proxy} if client.proxy else {}),
            )

    return observe


def _answering(doors: DoorTable) -> Middleware:
    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except GatewayError as error:
            return _render(doors, request, error)
        except web.HTTPException as error:
            if error.status < 400:  # noqa: PLR2004 - redirections are answers, not errors.
                raise
            return _render(doors, request, translate(error))
        except ConnectionError:
            # The client has gone away; were it another connection, its port would have said so.
            if request.transport is None or request.transport.is_closing():
                return web.Response(status=_CLIENT_GONE)
            _log.exception("unexpected_error")
            return _render(doors, request, unexpected())
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - the last net: whatever it is, the caller gets an answer.
            _log.exception("unexpected_error")
            return _render(doors, request, unexpected())

    return answer


def _render(doors: DoorTable, request: web.Request, error: GatewayError) -> web.StreamResponse:
    status = status_of(error)
    if status >= 500:  # noqa: PLR2004 - server errors by definition.
        _log.warning(
            "request_failed",
            code=error.code,
            message=error.message,
            cause=repr(error.__cause__) if error.__cause__ else None,
        )
    if request.writer.output_size > 0:
        # An answer is under way and cannot be taken back; cut it, so that nobody takes what has
        # been sent for the whole.
        _log.warning("answer_cut", code=error.code)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=_CLIENT_GONE)
    door = doors.find(request)
    if door is None:
        return problem_response(error, request[REQUEST_ID])
    response = door.render_error(request, error)
    for name, value in error_headers(error).items():
        response.headers.setdefault(name, value)
    return response


def _guarding(doors: DoorTable, authenticator: Authenticator, cors: Cors) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        check_host(request)
        door = doors.find(request)
        if door is None:
            # Health, figures and the upload page, which hold nothing of anybody's.
            return await handler(request)
        answer = cors.preflight(request, door)
        if answer is not None:
            return answer
        authenticator.check_origin(request)
        if request.match_info.http_exception is None and not door.is_public(request):
            principal = door.anonymous(request)
            if principal is None or hdrs.AUTHORIZATION in request.headers:
                principal = authenticator.authenticate(request)
            else:
                authenticator.check_page(request)
            request[PRINCIPAL] = principal
            bind_contextvars(principal=principal.principal_id)
        return await handler(request)

    return guard
