"""Who a request really came from, and under which address, when proxies stand in front.

Only what a trusted proxy says counts. Of the hops that it names, the right-most one that is not
itself trusted is the client: what stands further left was written by whoever that is, and may be
anything. From everybody else these headers are nothing but text, and the client is the peer.

One of the two headers is believed, never both: a proxy that writes one of them passes the other on
as it came from the client.

The path is never rewritten, and Host is the header of that name; X-Forwarded-Host is not read.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

from aiohttp import hdrs, web

Address = IPv4Address | IPv6Address

_MAX_HOPS = 32
# Longer ones are not read: unclosed quotes would take the parser time that grows with the square.
_MAX_FORWARDED = 1024
_SCHEMES = frozenset({"http", "https"})
# One pair of RFC 7239: a token, and a token or a quoted string.
_PAIR = re.compile(r'\s*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^\s";,]*)\s*(?:;|$)')
_ELEMENT = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^",])+')


@dataclass(frozen=True, slots=True)
class Front:
    """What stands before the gateway.

    `public_url` is scheme, host and perhaps port, without a slash at its end. `trusted` are
    networks or addresses. Raises ValueError for what is none.
    """

    public_url: str | None = None
    trusted: tuple[str, ...] = ()
    header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"

    def __post_init__(self) -> None:
        for network in self.trusted:
            ip_network(network)


FRONT: web.AppKey["FrontReader"] = web.AppKey("front")


@dataclass(frozen=True, slots=True)
class Client:
    """Whom a request came from: `address` as text, and `scheme` only where a proxy told it.

    `proxy` is the peer where that is another one. On a Unix socket there is no address.
    """

    address: str | None
    scheme: str | None = None
    proxy: str | None = None


class FrontReader:
    """Reads requests by one `Front`."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self._networks = tuple(ip_network(network) for network in front.trusted)

    def client(self, request: web.BaseRequest) -> Client:
        """Tell who sent the request."""
        peer = request.remote
        address = _address(peer or "")
        if address is None or not self._trusts(address):
            return Client(peer)
        forwarded = self.front.header == "forwarded"
        read = _read_forwarded if forwarded else _read_x_forwarded
        hops, scheme = read(request)
        client = address
        for hop in reversed(hops[-_MAX_HOPS:]):
            found = _address(hop)
            if found is None:
                # The last one that is known has to do: `unknown`, a name, or nonsense.
                break
            client = found
            if not self._trusts(found):
                break
        return Client(str(client), scheme, proxy=peer if client != address else None)

    def absolute(self, request: web.Request, path: str) -> str:
        """Return the path with the gateway's address before it, as far as that is known.

        Without `public_url` and without a proxy that tells the scheme it stays a path, which a
        client takes for one of the address that it called.
        """
        if self.front.public_url is not None:
            return self.front.public_url + path
        scheme, host = self.client(request).scheme, request.headers.get(hdrs.HOST)
        # A request of HTTP/1.0 may have no Host.
        return f"{scheme}://{host}{path}" if scheme and host else path

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


_NOBODY = FrontReader(Front())


def front_of(request: web.Request) -> FrontReader:
    """Return the application's reader; without one, nothing stands in front."""
    return request.app.get(FRONT, _NOBODY)


def comes_from_elsewhere(request: web.BaseRequest) -> bool:
    """Tell whether anybody says that the request came from another machine; for those who ask.

    True is no proof, and False neither: not every proxy tells.
    """
    hops = [*_read_x_forwarded(request)[0], *_read_forwarded(request)[0]]
    return any((address := _address(hop)) is not None and not address.is_loopback for hop in hops)


def _read_x_forwarded(request: web.BaseRequest) -> tuple[Sequence[str], str | None]:
    hops = _listed(request.headers.getall("X-Forwarded-For", ()))
    schemes = _listed(request.headers.getall("X-Forwarded-Proto", ()))
    return hops, _scheme(schemes[-1]) if schemes else None


def _read_forwarded(request: web.BaseRequest) -> tuple[Sequence[str], str | None]:
    elements = [
        _pairs(element)
        for value in request.headers.getall(hdrs.FORWARDED, ())
        if len(value) <= _MAX_FORWARDED
        for element in _ELEMENT.findall(value)
    ]
    scheme = _scheme(elements[-1].get("proto", "")) if elements else None
    # An element that cannot be read stands in the way of what is left of it.
    return [element.get("for", "") for element in elements], scheme


def _pairs(element: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    position = 0
    while position < len(element):
        match = _PAIR.match(element, position)
        if match is None:
            return {}
        value = match[2]
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        pairs[match[1].lower()] = value
        position = match.end()
    return pairs


def _listed(values: Iterable[str]) -> list[str]:
    return [item.strip() for value in values for item in value.split(",")]


def _scheme(text: str) -> str | None:
    text = text.strip().lower()
    return text if text in _SCHEMES else None


def _address(text: str) -> Address | None:
    """Read `192.0.2.1`, `2001:db8::1`, `[2001:db8::1]:4711` or `192.0.2.1:4711`; None for others."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    # A zone (%eth0) means nothing to others.
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # A socket of both families shows IPv4 peers like this.
    if isinstance(found, IPv6Address) and found in IPv6Network("::ffff:0:0/96"):
        return found.ipv4_mapped
    return found
