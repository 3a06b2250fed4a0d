"""Where Redis is: one URL, read once, and what goes with it.

    redis://[user:password@]host[:port][/db]           one server
    rediss://...                                       the same over TLS
    unix://[user:password@]/path?db=0                  a socket
    redis+sentinel://[user:password@]host[:port],host[:port].../primary[/db]
    rediss+sentinel://...                              TLS to Sentinels and servers

With Sentinels, user and password are those of the servers. Pure: nothing is connected to.
"""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import parse_url

from gateway.errors import InvalidRequest

_REDIS_PORT: Final = 6379
_SENTINEL_PORT: Final = 26_379
_SENTINEL: Final = "+sentinel"


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """How to reach Redis. Raises InvalidRequest (`invalid_redis_url`) for what cannot be used.

    `password` stands for one in the URL. `ca` is a PEM file of the authority behind the servers'
    certificates; without it, those count that the system trusts.
    """

    url: str = field(repr=False)
    password: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    ca: Path | None = None

    def __post_init__(self) -> None:
        # Read here, so that a bad address fails before anything is opened.
        _ = self.connection, self.sentinels
        if self.ca is not None:
            try:
                ssl.create_default_context(cafile=self.ca)
            except (OSError, ssl.SSLError) as error:
                raise InvalidRequest(
                    f"The certificates in {self.ca} cannot be read.",
                    code="invalid_redis_url",
                    hint="redis_ca names a readable PEM file with the authority's certificate.",
                ) from error

    @property
    def sentinels(self) -> "Sentinels | None":
        """The Sentinels to ask for the primary, or None where the URL names the server itself."""
        scheme, separator, rest = self.url.partition("://")
        if not separator or not scheme.endswith(_SENTINEL):
            return None
        authority, _, path = rest.partition("?")[0].partition("/")
        hosts = authority.rpartition("@")[2].split(",")
        name, _, _ = path.partition("/")
        try:
            found = tuple(_host_and_port(host) for host in hosts)
        except ValueError as error:
            raise _malformed() from error
        if not name:
            raise _malformed()
        return Sentinels(found, unquote(name))

    @property
    def place(self) -> str:
        """Where that is, for people: hosts and ports, or a path, and nothing secret."""
        asked = self.sentinels
        if asked is not None:
            hosts = ", ".join(f"{host}:{port}" for host, port in asked.addresses)
            return f"{asked.name} by the Sentinels {hosts}"
        found = self.connection
        if "path" in found:
            return str(found["path"])
        return f"{found.get('host', 'localhost')}:{found.get('port', _REDIS_PORT)}"

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.url.startswith("rediss")

    @property
    def tls_arguments(self) -> dict[str, Any]:
        """What a TLS connection of redis-py needs to know."""
        return {"ssl_ca_certs": str(self.ca)} if self.ca is not None else {}

    @property
    def connection(self) -> dict[str, Any]:
        """What redis-py's connections to the server take; the host is missing with Sentinels."""
        url = self.url
        scheme = url.partition("://")[0]
        if scheme.endswith(_SENTINEL):
            url = _server_part(url)
        try:
            found: dict[str, Any] = dict(parse_url(url))
        except ValueError as error:
            raise _malformed() from error
        if scheme.endswith(_SENTINEL):
            found.pop("connection_class", None)
            found.pop("host", None)
        if self.password is not None:
            found["password"] = self.password
        return {**found, **(self.tls_arguments if self.tls else {})}


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Who is asked for the primary, and under which name it is known to them."""

    addresses: tuple[tuple[str, int], ...]
    name: str


def _server_part(url: str) -> str:
    """Return what a Sentinel URL says about the servers, as the URL of one without a host."""
    scheme, _, rest = url.partition("://")
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    credentials, at, _ = authority.rpartition("@")
    database = path.partition("/")[2].strip("/")
    if database and not database.isdecimal():
        raise _malformed()
    found = f"{scheme.removesuffix(_SENTINEL)}://{credentials}{at}sentinel/{database or 0}"
    return f"{found}?{query}" if query else found


def _host_and_port(text: str) -> tuple[str, int]:
    split = urlsplit(f"//{text}")
    if not split.hostname or split.path or split.username is not None:
        raise ValueError("This is no host.")
    return split.hostname, split.port or _SENTINEL_PORT


def _malformed() -> InvalidRequest:
    return InvalidRequest(
        "The URL of Redis cannot be used.",
        code="invalid_redis_url",
        hint="It looks like redis://[:password@]host:port/0, rediss://..., unix:///path, or "
        "redis+sentinel://[:password@]host1:26379,host2:26379/mymaster/0.",
    )
