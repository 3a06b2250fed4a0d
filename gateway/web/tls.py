"""The gateway's own certificate: loaded, checked, and replaced while the server runs.

Certificates are renewed every few weeks by programs that know nothing of us. What is served is
therefore looked at once a minute, and whenever somebody asks. New connections get the new
certificate, those that are open go on with what they have, and a file that is half written or does
not fit its key changes nothing: the last good pair is served until the next look.

Nothing is promised about client certificates, ciphers beyond the platform's choice, or HSTS, which
is for whoever knows all that runs under the host name.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import structlog
from aiohttp import web

from gateway.errors import InvalidRequest

LOOK_SECONDS = 60.0
"""How often the files are looked at."""

_HINT = (
    "tls_cert names a PEM file with the certificate and the intermediates after it, tls_key one "
    "with its private key, without a passphrase; the gateway must be able to read both."
)

_Stamp = tuple[tuple[int, int, int], ...]

log = structlog.get_logger(__name__)


def load_context(cert: Path, key: Path) -> ssl.SSLContext:
    """Return a server's context for TLS 1.2 and newer with this certificate.

    Raises InvalidRequest `invalid_certificate`; nothing of the files is in it.
    """
    for path in (cert, key):
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise _unusable(f"{path} cannot be read: {error.strerror}.") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Nothing else is spoken here, whatever a client would like better.
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without the last argument the library would ask the terminal for a passphrase.
        context.load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _unusable(f"The key in {key} is not that of the certificate in {cert}.") from None
        raise _unusable(
            f"{cert} and {key} are not a certificate and its private key in PEM, or the key has a "
            "passphrase."
        ) from error
    except OSError as error:
        raise _unusable(f"{cert} or {key} cannot be read: {error.strerror}.") from error
    return context


class Certificate:
    """The certificate that a server shows; `context` is for the server, and stays the same one."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Load it. Raises InvalidRequest `invalid_certificate`."""
        self._cert = cert
        self._key = key
        self._seen = self._stamp()
        self._current = load_context(cert, key)
        self.context = self._current
        # Called for every handshake, with or without a name: loading into the one context would
        # leave it broken where the new files are.
        self.context.sni_callback = self._choose

    def reload(self) -> None:
        """Load the files again; where they are not usable, say so and go on with the last ones."""
        self._seen = self._stamp()
        try:
            self._current = load_context(self._cert, self._key)
        except InvalidRequest as error:
            log.warning("certificate not reloaded", reason=error.message, hint=error.hint)
        else:
            log.info("certificate reloaded", path=str(self._cert))

    def reload_if_changed(self) -> None:
        """Look at the files' times and sizes, and load them again where they are others."""
        if self._stamp() != self._seen:
            self.reload()

    async def watch(self, every: float = LOOK_SECONDS) -> None:
        """Look once in so many seconds, until cancelled."""
        while True:
            await asyncio.sleep(every)
            self.reload_if_changed()

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._current

    def _stamp(self) -> _Stamp:
        # Files in Kubernetes are links to links; what they lead to is looked at.
        found = []
        for path in (self._cert, self._key):
            try:
                status = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)


class TLSSite(web.SockSite):
    """A listening socket whose clients have only so long for their handshake.

    aiohttp leaves them a minute, in which they count as no connection yet.
    """

    __slots__ = ("_handshake_timeout",)

    def __init__(
        self,
        runner: web.BaseRunner,
        listening: socket.socket,
        *,
        certificate: Certificate,
        handshake_timeout: float,
        backlog: int,
    ) -> None:
        super().__init__(runner, listening, ssl_context=certificate.context, backlog=backlog)
        self._handshake_timeout = handshake_timeout

    async def start(self) -> None:
        """Begin to accept."""
        await web.BaseSite.start(self)
        server: Callable[[], asyncio.Protocol] | None = self._runner.server
        assert server is not None  # noqa: S101 - for the type checker: the runner is set up.
        self._server = await asyncio.get_running_loop().create_server(
            server,
            sock=self._sock,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=self._handshake_timeout,
        )


def _unusable(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_certificate", hint=_HINT)
