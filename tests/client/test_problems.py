"""Errors of the wire in our own tree, and what never gets into them."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway import errors
from gateway.client.problems import (
    MAX_RETRY_AFTER,
    error_from,
    leading,
    reason,
    retry_after,
    unreachable,
)
from gateway.web.errors import STATUSES, problem, status_of

SECRET_URL = "http://127.0.0.1:9/b/k?X-Amz-Signature=secret"


@pytest.mark.parametrize("kind", sorted(errors.KINDS))
def test_every_kind_survives_the_way_from_gateway_to_client(kind: str) -> None:
    classes = {
        found.kind: found for found in vars(errors).values() if hasattr(found, "default_code")
    }
    sent = next(
        found
        for found in _all(errors.GatewayError)
        if found.kind == kind and found.__init__ is errors.GatewayError.__init__
    )("What happened.", hint="What to do.", details={"parts": [3]})
    body = orjson.dumps(problem(sent, "request-1"))
    got = error_from(status_of(sent), CIMultiDict(), body)
    assert got.kind == kind
    assert classes[kind].kind == kind
    assert (got.code, got.message, got.hint, got.details) == (
        sent.code,
        sent.message,
        sent.hint,
        sent.details,
    )
    assert got.retryable is (sent.retryable or STATUSES[kind] >= 500)


def _all(root: type[errors.GatewayError]) -> list[type[errors.GatewayError]]:
    found = [] if root is errors.GatewayError else [root]
    for child in root.__subclasses__():
        found += _all(child)
    return found


@given(st.integers(300, 599), st.binary(max_size=200))
def test_any_answer_at_all_becomes_an_error_with_words(status: int, body: bytes) -> None:
    error = error_from(status, CIMultiDict(), body)
    assert error.message
    assert error.code
    assert error.retryable == (status >= 500 or status == 429)


def test_an_answer_of_a_proxy_is_worded_plainly() -> None:
    error = error_from(502, CIMultiDict({"Retry-After": "7"}), b"<html>Bad Gateway</html>")
    assert isinstance(error, errors.Unavailable)
    assert error.retry_after == 7
    assert "502" in error.message
    assert "<" not in error.message


def test_retry_after_takes_seconds_and_dates_and_is_bounded() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert retry_after(CIMultiDict({"Retry-After": "3"})) == 3
    assert retry_after(CIMultiDict({"Retry-After": "86400"})) == MAX_RETRY_AFTER
    by_date = retry_after(CIMultiDict({"Retry-After": format_datetime(soon, usegmt=True)}))
    assert by_date is not None
    assert 25 < by_date <= 30
    assert retry_after(CIMultiDict({"Retry-After": "Sat, 01 Jan 2000 00:00:00 GMT"})) == 0
    assert retry_after(CIMultiDict({"Retry-After": "tomorrow"})) is None
    assert retry_after(CIMultiDict()) is None


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ConnectionTimeoutError(f"Connection timeout to host {SECRET_URL}"),
        aiohttp.InvalidURL(SECRET_URL),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError(SECRET_URL),
        OSError(111, f"Connect call failed ({SECRET_URL})"),
        OSError(SECRET_URL),
        TimeoutError(SECRET_URL),
    ],
)
def test_no_address_gets_into_the_reason(error: BaseException) -> None:
    words = reason(error)
    assert words
    assert "http" not in words
    assert "secret" not in words


async def test_a_refused_connection_is_called_that() -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await http.get("http://127.0.0.1:1/")
    assert reason(caught.value) == "connection refused"


def test_a_changed_file_outweighs_what_follows_from_it() -> None:
    changed = errors.Conflict("The file changed.", code="file_changed")
    group = BaseExceptionGroup(
        "",
        [
            asyncio.CancelledError(),
            BaseExceptionGroup("", [errors.Unavailable("No."), changed]),
            ValueError("a mistake"),
        ],
    )
    assert leading(group) is changed
    assert isinstance(
        leading(BaseExceptionGroup("", [errors.Unavailable("No."), errors.Gone("Gone.")])),
        errors.Gone,
    )


def test_a_certificate_that_is_not_trusted_is_told_from_a_server_that_is_not_there() -> None:
    key = aiohttp.client_reqrep.ConnectionKey(
        "up.example",
        443,
        is_ssl=True,
        ssl=True,
        proxy=None,
        proxy_auth=None,
        proxy_headers_hash=None,
    )
    distrust = ssl.SSLCertVerificationError(1, "self-signed certificate")
    distrust.reason = "CERTIFICATE_VERIFY_FAILED"  # As OpenSSL sets it.
    found = unreachable("The gateway", aiohttp.ClientConnectorCertificateError(key, distrust))
    assert "SSL_CERT_FILE" in found.hint
    assert "SSL_CERT_FILE" not in unreachable("The gateway", ConnectionRefusedError()).hint
