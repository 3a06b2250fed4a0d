"""Opening the sockets that the gateway listens on, before anything else is started.

A port that is taken or not allowed is thus a clear error at once, and one set of sockets can be
shared by several worker processes: a connection waits in it for whichever worker is free, and
none is lost when one of them ends.
"""

import errno
import socket

from gateway.errors import InvalidRequest, Unavailable

_BACKLOG = 1024


def listen(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets for every address of the host, all on the same port.

    Port 0 takes a free one. Raises InvalidRequest `invalid_host`, and Unavailable `port_taken` or
    `port_denied`; nothing is left open then.
    """
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise InvalidRequest(
            f"{host} is not an address of this machine: {error}.",
            code="invalid_host",
            hint="Listen on 127.0.0.1, ::1, 0.0.0.0 or :: (--host, GW_HOST).",
        ) from error
    sockets: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((item[0], item[4]) for item in found):
            chosen = sockets[0].getsockname()[1] if sockets else port
            sockets.append(_open(family, (address[0], chosen, *address[2:])))
    except OSError as error:
        for opened in sockets:
            opened.close()
        raise _refused(host, port, error) from error
    return sockets


def url_of(sockets: list[socket.socket], *, scheme: str = "http") -> str:
    """Return the address under which this machine reaches the first of the sockets."""
    host, port = sockets[0].getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound.
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _open(family: socket.AddressFamily, address: tuple[str | int, ...]) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # An address of each family has a socket of its own.
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(address)
        opened.listen(_BACKLOG)
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened


def _refused(host: str, port: int, error: OSError) -> Unavailable | InvalidRequest:
    if error.errno == errno.EADDRINUSE:
        return Unavailable(
            f"Port {port} on {host} is taken.",
            code="port_taken",
            hint="End what listens there, or choose another port (--port, GW_PORT).",
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return Unavailable(
            f"Listening on port {port} is not allowed.",
            code="port_denied",
            hint="Ports below 1024 need a privilege; choose another one (--port, GW_PORT).",
            retryable=False,
        )
    return InvalidRequest(
        f"{host} cannot be listened on: {error.strerror}.",
        code="invalid_host",
        hint="Listen on 127.0.0.1, ::1, 0.0.0.0 or :: (--host, GW_HOST).",
    )
