"""CORS for the doors: exact origins, and no credentials but the token that the page itself holds.

A page of an unknown origin gets no CORS header at all, so its browser refuses it the answer. That
protects users' browsers, not the gateway: what callers may do is decided by their credentials.
"""

from collections.abc import Iterable

from aiohttp import hdrs, web

from gateway.web.door import Door

# How long a browser may remember a preflight, in seconds: short enough for a changed setting.
MAX_AGE = 600


class Cors:
    """Which pages elsewhere may call the doors. An origin is compared as the browser sends it."""

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self._origins = frozenset(origins)
        if "*" in self._origins:
            raise ValueError("Origins are exact: name each one.")

    def preflight(self, request: web.Request, door: Door) -> web.Response | None:
        """Answer the question that a browser asks before a call, or None if it is not one.

        An address that nothing is at is none of CORS's business either.
        """
        if (
            request.method != hdrs.METH_OPTIONS
            or hdrs.ORIGIN not in request.headers
            or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers
        ):
            return None
        error = request.match_info.http_exception
        if not isinstance(error, web.HTTPMethodNotAllowed):
            return None
        response = web.Response(status=204)
        if request.headers[hdrs.ORIGIN] in self._origins:
            allowed = sorted(error.allowed_methods)
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = ", ".join(allowed)
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = ", ".join(door.request_headers)
            response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(MAX_AGE)
        return response

    def decorate(self, request: web.Request, response: web.StreamResponse, door: Door) -> None:
        """Add what lets an allowed page read the answer."""
        # The answer depends on it also where it is absent: a cache must not mix the two.
        vary = response.headers.get(hdrs.VARY)
        response.headers[hdrs.VARY] = f"{vary}, Origin" if vary else "Origin"
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or origin not in self._origins:
            return
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        if request.method != hdrs.METH_OPTIONS:
            exposed = ", ".join(door.exposed_headers)
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = exposed
