"""Errors of the wire turned into ours: the gateway's problem JSON, and a network that fails.

A class follows from the status, since kinds are not on the wire; code, message, hint, retryable
and details are the gateway's own words. What a proxy in between answers in its own format becomes
an error of the same class with a plain message. No message here ever holds an address with its
query, because presigned ones are secrets.
"""

import asyncio
import os
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from gateway.errors import (
    Conflict,
    Corrupt,
    Forbidden,
    GatewayError,
    Gone,
    Internal,
    InvalidRequest,
    NotFound,
    RateLimited,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedType,
)

NETWORK_ERRORS = (aiohttp.ClientError, OSError, asyncio.TimeoutError)

_DISTRUSTED = "For a certificate of your own making, set SSL_CERT_FILE to its PEM file, or to its authority's."
"""Python's ssl reads the variable itself: `ssl.get_default_verify_paths`."""

MAX_RETRY_AFTER = 60.0
"""Seconds: a server that asks for more is asked again after this long all the same."""

_BY_STATUS: dict[int, type[GatewayError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    412: Conflict,
    413: TooLarge,
    415: UnsupportedType,
    429: RateLimited,
    500: Internal,
    507: StorageFull,
}


def error_from(status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
    """Return the error that an answer of 300 or more stands for.

    Every 5xx counts as retryable, whatever it says of itself: the next attempt may reach a process
    that is well, and the number of attempts is bounded.
    """
    problem = _problem(body)
    code = _string(problem, "code")
    details = problem.get("details")
    retryable = problem.get("retryable")
    return _class_of(status, code)(
        _string(problem, "message") or _string(problem, "title") or _plain(status),
        code=code or None,
        hint=_string(problem, "hint") or _plain_hint(status),
        retryable=_passing(status) or retryable is True,
        retry_after=retry_after(headers),
        details=details if isinstance(details, dict) else None,
    )


def unreachable(what: str, error: BaseException) -> Unavailable:
    """Return the error for a server that cannot be reached, or that breaks off."""
    return Unavailable(
        f"{what} cannot be reached: {reason(error)}.",
        code="unreachable",
        hint=_DISTRUSTED
        if isinstance(error, aiohttp.ClientConnectorCertificateError)
        else "Check the address and the network, and that the server runs.",
    )


def reason(error: BaseException) -> str:
    """Say in a few words what the network did, without any address.

    The text of aiohttp's own exceptions is not used: some quote the whole URL, signature included.
    """
    match error:
        case aiohttp.ClientConnectorDNSError():
            words = "its name cannot be resolved"
        case TimeoutError():
            words = "it did not answer in time"
        case aiohttp.ServerDisconnectedError():
            words = "it closed the connection"
        case aiohttp.ClientConnectorError():
            words = _of_os_error(error.os_error)
        case OSError():
            words = _of_os_error(error)
        case _:
            words = f"the connection failed ({type(error).__name__})"
    return words


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that Retry-After asks for, as seconds or as a date; at most a minute."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if text.isdecimal():
        return min(float(text), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), MAX_RETRY_AFTER)


def leading(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error of the group that says most: one of ours before any other.

    A file that changed explains what else went wrong; next comes what no retry can mend.
    """
    flat: list[BaseException] = []
    queue: list[BaseException] = [errors]
    while queue:
        error = queue.pop()
        if isinstance(error, BaseExceptionGroup):
            queue += error.exceptions
        else:
            flat.append(error)
    return min(
        flat,
        key=lambda error: (
            getattr(error, "code", "") != "file_changed",
            not isinstance(error, GatewayError),
            isinstance(error, GatewayError) and error.retryable,
        ),
    )


def _of_os_error(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or 'no reason given'})"
    # asyncio puts an address into its own text.
    return (os.strerror(error.errno) if error.errno else type(error).__name__).lower()


def _problem(body: bytes) -> dict[str, Any]:
    try:
        problem = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _string(problem: dict[str, Any], name: str) -> str:
    value = problem.get(name)
    return value if isinstance(value, str) else ""


def _class_of(status: int, code: str) -> type[GatewayError]:
    if code in {"corrupt", "rejected"}:
        return Corrupt
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Unavailable if status >= HTTPStatus.INTERNAL_SERVER_ERROR else InvalidRequest


def _passing(status: int) -> bool:
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS


def _elsewhere(status: int) -> bool:
    return HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST


def _plain(status: int) -> str:
    if _elsewhere(status):
        return "The server sends this call elsewhere."
    return f"The server answered with status {status}."


def _plain_hint(status: int) -> str:
    if _elsewhere(status):
        return "Use the address that the server redirects to."
    return (
        "Check that the server address is a gateway's."
        if status < HTTPStatus.INTERNAL_SERVER_ERROR
        else ""
    )
