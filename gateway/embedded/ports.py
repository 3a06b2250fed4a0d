"""Choosing loopback ports for servers that cannot be handed an open socket.

A port found free here may be taken before the server binds it; the launcher then sees the server
exit and chooses again.
"""

import contextlib
import secrets
import socket
from collections.abc import Sequence

from gateway.errors import InvalidRequest, Unavailable

LOOPBACK = "127.0.0.1"

# Below the range from which kernels take the source ports of outgoing connections (32768 and up
# on Linux, 49152 and up elsewhere). A server that is down for a moment could otherwise lose its
# port to a client, even to a client that is calling that very port: TCP then connects the socket
# to itself.
LOWEST, HIGHEST = 20_000, 32_767
ATTEMPTS = 200


def free_port(preferred: int = 0) -> int:
    """Return `preferred` if a server could listen on it on loopback, or else a port that is free.

    0 means any. Raises InvalidRequest for a number that is no port.
    """
    return free_ports([preferred])[0]


def free_ports(preferred: Sequence[int]) -> list[int]:
    """Like `free_port` for several at once, all different."""
    with contextlib.ExitStack() as held:
        return [held.enter_context(_hold_one(port)).getsockname()[1] for port in preferred]


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    held = _hold(port)
    if held is None:
        return False
    held.close()
    return True


def _hold_one(preferred: int) -> socket.socket:
    if not 0 <= preferred <= 65_535:  # noqa: PLR2004 - the highest port number there is.
        raise InvalidRequest(
            f"{preferred} is not a port number.",
            code="invalid_port",
            hint="Ports go from 1 to 65535; 0 lets us choose.",
        )
    held = _hold(preferred) if preferred else None
    for _ in range(ATTEMPTS):
        if held is not None:
            return held
        held = _hold(LOWEST + secrets.randbelow(HIGHEST - LOWEST + 1))
    raise Unavailable(
        "No free port was found on this machine.",
        code="no_free_port",
        hint=f"Something holds nearly every port from {LOWEST} to {HIGHEST}.",
    )


def _hold(port: int) -> socket.socket | None:
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As the servers do: otherwise the remains of closed connections would make the port of a
        # server that was just stopped look taken.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((LOOPBACK, port))
        held.listen(1)
    except OSError:
        held.close()
        return None
    return held
