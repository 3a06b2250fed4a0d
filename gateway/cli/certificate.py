"""Looks at the gateway's own certificate as a client would, by shaking hands with itself.

Nothing leaves the process: both ends of the connection are in memory.
"""

import ssl
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.cli.findings import Row
from gateway.config import Settings
from gateway.errors import InvalidRequest
from gateway.web.tls import load_context

_AREA: Final = "settings"
_NAME: Final = "certificate"
_DAY: Final = 86_400
# Renewals are due 30 days before the end (letsencrypt.org/docs/integration-guide); one that is
# later than this has failed.
_SOON_DAYS: Final = 21
_STEPS: Final = 10


def look_at_certificate(settings: Settings) -> list[Row]:
    """Return a row about what is wrong with it, or one that says how long it is good for."""
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None or key is None:
        return []
    try:
        load_context(cert, key)
    except InvalidRequest as error:
        return [Row(_AREA, _NAME, "fail", error.message, error.hint)]
    try:
        ends = _end(cert, key)
    except ssl.SSLCertVerificationError as error:
        return [
            Row(
                _AREA,
                _NAME,
                "fail",
                f"Clients refuse it: {error.verify_message}.",
                f"Renew it; the gateway takes a new {cert} within a minute.",
            )
        ]
    days = int((ends - time.time()) // _DAY)
    if days < _SOON_DAYS:
        level, fix = "warn", "Look why it has not been renewed: that is due 30 days before the end."
    else:
        level, fix = "ok", ""
    rows = [Row(_AREA, _NAME, level, f"It is good for {days} more days.", fix)]
    host = urlsplit(settings.public_url).hostname if settings.public_url else None
    return [*rows, *_look_at_name(cert, key, host), *_look_at_chain(cert, key)]


def _look_at_name(cert: Path, key: Path, host: str | None) -> list[Row]:
    if host is None:
        return []
    try:
        _shake_hands(cert, key, _trusting(cert, host=True), host)
    except ssl.SSLCertVerificationError:
        return [
            Row(
                _AREA,
                "certificate name",
                "warn",
                f"It is not for {host}, the host of public_url.",
                "Get one for that name, unless a proxy in front has it.",
            )
        ]
    return [Row(_AREA, "certificate name", "ok", f"It is for {host}.")]


def _look_at_chain(cert: Path, key: Path) -> list[Row]:
    context = ssl.create_default_context()
    context.check_hostname = False
    try:
        _shake_hands(cert, key, context, "gateway")
    except ssl.SSLCertVerificationError as error:
        return [
            Row(
                _AREA,
                "certificate chain",
                "warn",
                f"This machine does not trust it: {error.verify_message}.",
                "Use the file with the intermediates (fullchain.pem). With an authority of your "
                "own, clients have to trust that one.",
            )
        ]
    return [Row(_AREA, "certificate chain", "ok", "This machine trusts it.")]


def _trusting(cert: Path, *, host: bool) -> ssl.SSLContext:
    """Give a client's context that takes the certificate itself for an authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = host
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cafile=cert)
    return context


def _end(cert: Path, key: Path) -> float:
    """Return the end of its life in seconds since 1970."""
    shown = _shake_hands(cert, key, _trusting(cert, host=False), "gateway")
    return ssl.cert_time_to_seconds(str(shown["notAfter"]))


def _shake_hands(cert: Path, key: Path, trusting: ssl.SSLContext, host: str) -> dict[str, object]:
    """Return the certificate as the client sees it; raises SSLCertVerificationError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = load_context(cert, key).wrap_bio(to_server, to_client, server_side=True)
    client = trusting.wrap_bio(to_client, to_server, server_hostname=host)
    for _ in range(_STEPS):
        done = 0
        for end in (client, server):
            try:
                end.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                continue
        if done == 2:  # noqa: PLR2004 - both ends.
            break
    return dict(client.getpeercert() or {})
