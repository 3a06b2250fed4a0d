"""Sends one letter to one webhook: a POST within a deadline, to an address that may be called.

The address is looked at when its socket is made, so that what is checked is what is connected to,
however the name was resolved and whatever it resolves to a moment later. Names that are allowed
may lead anywhere. Nothing is followed (redirects), nothing of the environment is used (proxies,
netrc), and of an answer nothing counts but its status.
"""

import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from gateway.core.ports import Clock
from gateway.delivery.addresses import is_public
from gateway.delivery.signing import signed_headers

# What is read of an answer before the connection is closed, so that polite receivers see it taken.
_ANSWER_BYTES: Final = 4096
_OK: Final = range(200, 300)
_MOST_CAUSES: Final = 8


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a webhook is. `url` may hold secrets anywhere behind the host, and is never shown.

    `endpoint_id` names it in Redis: another URL is another endpoint. With `anywhere` its name was
    allowed, and may lead to private addresses.
    """

    url: str = field(repr=False)
    anywhere: bool = False

    @property
    def endpoint_id(self) -> str:
        """Sixteen letters of its URL's digest."""
        return sha256(self.url.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """Scheme, host and port: what people know it by."""
        split = urlsplit(self.url)
        return f"{split.scheme}://{split.netloc.rpartition('@')[2]}"


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """`key` signs. Seconds: `connect` for connecting, TLS included, `total` for all of it.

    `resolver` finds addresses in the place of the system's, `allowed` judges them, and `tls` the
    certificates.
    """

    key: bytes = field(repr=False)
    connect: float = 5.0
    total: float = 15.0
    user_agent: str = "multipart-gateway"
    resolver: AbstractResolver | None = None
    allowed: Callable[[str], bool] = is_public
    tls: ssl.SSLContext | None = None


class Refused(OSError):
    """The address is none that a webhook may have."""


class Webhooks:
    """Sends letters; to be entered before use."""

    def __init__(
        self, endpoints: Sequence[Endpoint], clock: Clock, options: WebhookOptions
    ) -> None:
        self.endpoints = tuple(endpoints)
        self._clock = clock
        self._options = options
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        for anywhere in {endpoint.anywhere for endpoint in self.endpoints}:
            self._sessions[anywhere] = self._open(anywhere=anywhere)
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def send(self, endpoint: Endpoint, event_id: str, body: bytes) -> str:
        """Try once. Return '' for a 2xx, else why not, in a word: `status_500`, `timeout`...

        `address_refused`, `name_unknown`, `tls_failed`, `unreachable` and `no_http` are the others.
        """
        timestamp = int(self._clock.now().timestamp())
        headers = {
            "Content-Type": "application/json",
            **signed_headers(self._options.key, event_id, timestamp, body),
        }
        http = self._sessions[endpoint.anywhere]
        # As it is written: quoting anew would change what may be a signature.
        url = URL(endpoint.url, encoded=True)
        try:
            async with http.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                status = answer.status
                with suppress(aiohttp.ClientError, TimeoutError):
                    await answer.content.read(_ANSWER_BYTES)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _reason(error)
        return "" if status in _OK else f"status_{status}"

    def _open(self, *, anywhere: bool) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=self._options.resolver,
            # Every attempt resolves anew, and connects to what was checked for it.
            use_dns_cache=False,
            force_close=True,
            ssl=self._options.tls or True,
            socket_factory=None if anywhere else self._checked_socket,
        )
        total, connect = self._options.total, self._options.connect
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=total, connect=connect, sock_connect=connect),
            headers={"User-Agent": self._options.user_agent},
            cookie_jar=aiohttp.DummyCookieJar(),
            # An answer that is not read need not be unpacked.
            auto_decompress=False,
            trust_env=False,
        )

    def _checked_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Make the socket for one address, or raise Refused; called just before connecting."""
        family, kind, protocol, _, address = info
        if not self._options.allowed(address[0]):
            raise Refused("This address is not a public one.")
        return socket.socket(family=family, type=kind, proto=protocol)


# In this order: a more special reason comes before those that it is a kind of.
_REASONS: Final[Sequence[tuple[type[BaseException], str]]] = (
    (Refused, "address_refused"),
    (TimeoutError, "timeout"),
    (aiohttp.ClientConnectorDNSError, "name_unknown"),
    (ssl.SSLError, "tls_failed"),
    (ssl.CertificateError, "tls_failed"),
    (aiohttp.ClientConnectorError, "unreachable"),
    (aiohttp.ClientResponseError, "no_http"),
    (aiohttp.InvalidURL, "no_http"),
)


def _reason(error: BaseException) -> str:
    causes: list[BaseException] = []
    cause: BaseException | None = error
    # Libraries wrap a few times; a chain could be a ring.
    while cause is not None and len(causes) < _MOST_CAUSES:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    for kind, reason in _REASONS:
        if any(isinstance(one, kind) for one in causes):
            return reason
    return "unreachable"
