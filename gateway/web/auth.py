"""Turns a request's credentials into a Principal. Knows who calls, not what they may do.

With a token configured, every caller sends it as a bearer token, and it stands for one principal.
Without one, the gateway serves its own machine alone: then whoever reaches it is that principal,
and what has to be kept out is a web page that makes a browser on this machine call: its Host
(DNS rebinding) and its Origin give it away.
"""

import hashlib
import hmac
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from gateway.core.access import Principal
from gateway.errors import Forbidden, InvalidRequest, Unauthenticated
from gateway.web.forwarding import comes_from_elsewhere

# Both ways of running know one caller. It has one name, so that giving a loopback gateway a token
# does not lose its sessions from sight.
LOCAL = Principal("local")


class Authenticator(Protocol):
    """Decides about every request to a door. Raises Unauthenticated or Forbidden."""

    def check_origin(self, request: web.Request) -> None:
        """Refuse a request that must not even be looked at; called for whatever a door owns."""

    def check_page(self, request: web.Request) -> None:
        """Refuse what a foreign page made a browser send; for calls that need no credentials."""

    def authenticate(self, request: web.Request) -> Principal:
        """Return who calls."""


class TokenAuthenticator:
    """One static bearer token for one principal, compared in constant time.

    `origins` are pages elsewhere that may call where no token is needed (the CORS setting).
    """

    def __init__(
        self, token: str, principal: Principal = LOCAL, *, origins: Iterable[str] = ()
    ) -> None:
        if not token:
            raise ValueError("A token must not be empty.")
        self._digest = _digest(token)
        self._principal = principal
        self._origins = frozenset(origins)

    def check_origin(self, request: web.Request) -> None:
        """Let everything pass: a page elsewhere does not know the token."""

    def check_page(self, request: web.Request) -> None:
        """Raise Forbidden `origin_not_allowed` for a page of an unknown origin.

        A name proves nothing, the gateway's own included: whoever owns a name can let it lead here
        for a moment (DNS rebinding), and then Host and Origin of a foreign page agree.
        """
        host = request.headers.get(hdrs.HOST, "")
        _check_origin(request, self._origins, same_host=is_loopback_host(host) or _is_address(host))

    def authenticate(self, request: web.Request) -> Principal:
        """Return the principal, or raise Unauthenticated (`unauthenticated`, `invalid_token`)."""
        values = request.headers.getall(hdrs.AUTHORIZATION, [])
        if not values:
            raise Unauthenticated(
                "This gateway needs a token.",
                hint="Send the header Authorization: Bearer TOKEN.",
            )
        scheme, _, token = values[0].partition(" ")
        if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated(
                "The Authorization header is not a bearer token.",
                hint="Send exactly one header Authorization: Bearer TOKEN.",
            )
        # Digests have one length, so the time says nothing about the token's either.
        if not hmac.compare_digest(_digest(token.strip()), self._digest):
            raise Unauthenticated(
                "The token is not valid.",
                code="invalid_token",
                hint="Compare it with the one that the gateway was started with.",
            )
        return self._principal


class LoopbackAuthenticator:
    """No token: callers on this machine only, and no foreign web page among them.

    `origins` are pages elsewhere that may call all the same (the CORS setting).
    """

    def __init__(self, origins: Iterable[str] = (), principal: Principal = LOCAL) -> None:
        self._origins = frozenset(origins)
        self._principal = principal

    def check_origin(self, request: web.Request) -> None:
        """Raise Forbidden unless Host names this machine and Origin, if sent, is allowed."""
        host = request.headers.get(hdrs.HOST, "")
        if not is_loopback_host(host):
            raise Forbidden(
                "Without a token, this gateway answers to loopback names only.",
                code="host_not_allowed",
                hint="Call it as localhost or 127.0.0.1, or start it with a token.",
            )
        # A proxy on this machine that names itself in Host would let in the whole world.
        if comes_from_elsewhere(request):
            raise Forbidden(
                "Without a token, this gateway answers to this machine only.",
                code="host_not_allowed",
                hint="Start it with a token, which a proxy that knows its users can add.",
            )
        _check_origin(request, self._origins)

    def check_page(self, request: web.Request) -> None:
        """Let pass what `check_origin` has: it has looked at the same."""

    def authenticate(self, request: web.Request) -> Principal:
        """Return the one principal there is; a token that is sent all the same is not looked at."""
        self.check_origin(request)
        return self._principal


def authenticator(token: str | None, origins: Iterable[str] = ()) -> Authenticator:
    """Return what the settings ask for: a token's authenticator, or the loopback one."""
    return TokenAuthenticator(token, origins=origins) if token else LoopbackAuthenticator(origins)


def check_host(request: web.Request) -> None:
    """Raise InvalidRequest unless there is exactly one Host that can be one (RFC 9112, 3.2)."""
    hosts = request.headers.getall(hdrs.HOST, [])
    # HTTP/1.0 came without; nothing of ours depends on the name then.
    if not hosts and request.version < (1, 1):
        return
    if len(hosts) != 1 or _hostname(hosts[0]) is None:
        raise InvalidRequest(
            "A request has exactly one Host header, with a host name and perhaps a port.",
            code="invalid_host",
            hint="Leave the header to your HTTP client.",
        )


def is_loopback_host(host: str) -> bool:
    """Tell whether a Host header names this machine: localhost, 127.0.0.0/8 or [::1]."""
    name = _hostname(host)
    if name is None:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _check_origin(request: web.Request, origins: frozenset[str], *, same_host: bool = True) -> None:
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None or origin in origins:
        return
    host = request.headers.get(hdrs.HOST, "").lower()
    # A page that the gateway served itself names the same host; proxies may add TLS.
    if not same_host or origin.lower() not in {f"http://{host}", f"https://{host}"}:
        raise Forbidden(
            "Pages of this origin may not call this gateway.",
            code="origin_not_allowed",
            hint="Add the origin to the setting cors_origins, or make it the public_url.",
        )


def _is_address(host: str) -> bool:
    try:
        ip_address(_hostname(host) or "")
    except ValueError:
        return False
    return True


def _hostname(host: str) -> str | None:
    if not host or any(char in host for char in "/\\@?# \t,"):
        return None
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # Raises where it is none.
    except ValueError:
        return None
    return parts.hostname.rstrip(".") if parts.hostname else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
