"""What the store's codes, statuses and silences become, whichever call they meet."""

import asyncio
import re
import socket
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.core.model import StorageLimits
from gateway.errors import (
    Conflict,
    GatewayError,
    Internal,
    InvalidRequest,
    NoSuchObject,
    NoSuchUpload,
    NotFound,
    StorageFull,
    Unavailable,
    Uncertain,
)
from gateway.storage.s3 import errors
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.objects import S3ObjectStore
from gateway.storage.s3.storage import S3Storage

CASES: list[tuple[int, str, type[GatewayError], str]] = [
    (403, "AccessDenied", Unavailable, "storage_denied"),
    (403, "InvalidAccessKeyId", Unavailable, "storage_denied"),
    (403, "SignatureDoesNotMatch", Unavailable, "storage_denied"),
    (400, "ExpiredToken", Unavailable, "storage_denied"),
    (403, "", Unavailable, "storage_denied"),
    (403, "RequestTimeTooSkewed", Unavailable, "clock_skewed"),
    (301, "PermanentRedirect", Unavailable, "storage_misconfigured"),
    (400, "AuthorizationHeaderMalformed", Unavailable, "storage_misconfigured"),
    (501, "NotImplemented", Unavailable, "storage_unsupported"),
    (503, "SlowDown", Unavailable, "storage_unavailable"),
    (500, "InternalError", Unavailable, "storage_unavailable"),
    (500, "", Unavailable, "storage_unavailable"),
    (502, "", Unavailable, "storage_unavailable"),
    (599, "Whatever", Unavailable, "storage_unavailable"),
    (429, "", Unavailable, "storage_unavailable"),
    (400, "RequestTimeout", Unavailable, "storage_unavailable"),
    (507, "", StorageFull, "storage_full"),
    (507, "XMinioStorageFull", StorageFull, "storage_full"),
    (404, "NoSuchBucket", NotFound, "bucket_not_found"),
    (404, "NoSuchKey", NoSuchObject, "no_such_object"),
    (404, "", NoSuchObject, "no_such_object"),
    (404, "NoSuchUpload", NoSuchUpload, "no_such_upload"),
    (412, "PreconditionFailed", Conflict, "object_changed"),
    (400, "SomethingNew", Internal, "storage_unexpected"),
    (418, "", Internal, "storage_unexpected"),
]


@pytest.mark.parametrize(("status", "store_code", "kind", "code"), CASES)
def test_a_code_goes_before_a_status_and_a_status_before_nothing(
    status: int, store_code: str, kind: type[GatewayError], code: str
) -> None:
    error = errors.error_of(status, store_code, operation="Some")
    assert (type(error), error.code) == (kind, code)
    assert error.message
    assert error.hint
    assert error.details == {"operation": "Some", "status": status, "store_code": store_code}


def test_what_an_administrator_has_to_mend_is_not_tried_again() -> None:
    for code in ("RequestTimeTooSkewed", "PermanentRedirect", "NotImplemented", "AccessDenied"):
        assert not errors.error_of(400, code, operation="Some").retryable
    for code in ("SlowDown", "InternalError", "XMinioStorageFull"):
        assert errors.error_of(500, code, operation="Some").retryable


def test_a_code_that_is_none_is_not_repeated() -> None:
    error = errors.error_of(400, "<script>X-Amz-Signature=1", operation="Some")
    assert error.details["store_code"] == ""


def xml(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>the secret-word</Message></Error>".encode()


Call = Callable[[S3Client], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "create": lambda c: S3Storage(c).create(
        "bucket", "film", content_type="a/b", metadata={}, algorithm="crc32"
    ),
    "head": lambda c: S3ObjectStore(c).head("bucket", "film"),
    "put": lambda c: S3ObjectStore(c).put("bucket", "film", b"x", content_type="a/b"),
    "delete": lambda c: S3ObjectStore(c).delete("bucket", "film"),
    "list": lambda c: anext(S3ObjectStore(c).list("bucket", "")),  # type: ignore[call-overload]
    "read": lambda c: anext(S3ObjectStore(c).read("bucket", "film")),  # type: ignore[call-overload]
}


@pytest.mark.parametrize("name", CALLS)
async def test_every_call_tells_what_the_store_said_once(
    stub: Any, client: S3Client, name: str
) -> None:
    # The answer to a HEAD has no body, so that only the status is left.
    cases = [(403, "AccessDenied", "storage_denied"), (503, "SlowDown", "storage_unavailable")]
    if name != "head":
        cases.append((404, "NoSuchBucket", "bucket_not_found"))
        cases.append((507, "XMinioStorageFull", "storage_full"))
    for status, store_code, code in cases:
        stub.requests = []
        stub.say(status, b"" if name == "head" else xml(store_code), content_type="application/xml")
        with pytest.raises(GatewayError) as caught:
            await CALLS[name](client)
        assert caught.value.code == code
        assert len(stub.requests) == 1
        assert "Signature=" not in "".join(traceback.format_exception(caught.value))


async def _stall(_: Any, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def _nonsense(_: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(b"no HTTP at all\r\n\r\n")


@pytest.mark.parametrize("name", CALLS)
async def test_every_call_ends_where_the_store_says_nothing_or_nonsense(
    stub: Any, client: S3Client, name: str
) -> None:
    for answer in (None, _stall, _nonsense):
        stub.answer = answer
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable) as caught:
                await CALLS[name](client)
        assert not isinstance(caught.value, Uncertain)
        assert caught.value.retryable
        assert "Signature=" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", CALLS)
async def test_every_call_ends_where_no_store_is(stub: Any, name: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with S3Client(stub.options(endpoint_url=url)) as client:
            with pytest.raises(Unavailable):
                await CALLS[name](client)


async def test_a_whole_call_is_bounded_however_busy_the_line_is(stub: Any) -> None:
    async def trickle(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    stub.answer = trickle
    async with S3Client(stub.options(call_timeout=0.5)) as client:
        for name in ("create", "list"):
            async with asyncio.timeout(3):
                with pytest.raises(Unavailable) as caught:
                    await CALLS[name](client)
            assert caught.value.code == "storage_timeout"


async def test_metadata_that_headers_cannot_carry_is_the_callers_mistake(
    stub: Any, client: S3Client
) -> None:
    with pytest.raises(InvalidRequest):
        await S3Storage(client).create(
            "bucket", "film", content_type="a/b", metadata={"a": "é"}, algorithm="crc32"
        )
    assert stub.requests == []


async def test_an_upload_without_an_id_is_none(stub: Any, client: S3Client) -> None:
    stub.say(200, b"<InitiateMultipartUploadResult></InitiateMultipartUploadResult>")
    with pytest.raises(Unavailable):
        await CALLS["create"](client)


@pytest.mark.parametrize(
    ("algorithm", "parts", "whole", "declared"),
    [
        ("crc32", {"crc32"}, {"crc32"}, ("CRC32", "FULL_OBJECT")),
        ("crc32", {"crc32"}, set(), ("CRC32", "COMPOSITE")),
        ("sha256", {"sha256"}, set(), ("SHA256", "COMPOSITE")),
        ("crc64nvme", {"crc64nvme"}, {"crc64nvme"}, ("CRC64NVME", "FULL_OBJECT")),
        ("crc64nvme", {"crc64nvme"}, set(), ("CRC64NVME", None)),
        ("crc64nvme", set(), set(), (None, None)),
    ],
)
async def test_checksums_are_declared_as_far_as_the_store_can(  # noqa: PLR0917 - a table.
    stub: Any, client: S3Client, algorithm: str, parts: set[str], whole: set[str], declared: Any
) -> None:
    stub.say(200, b"<R><UploadId>u</UploadId></R>", content_type="application/xml")
    limits = StorageLimits(part_checksums=frozenset(parts), object_checksums=frozenset(whole))
    await S3Storage(client, limits=limits).create(
        "bucket", "film", content_type="a/b", metadata={"gw-session": "s"}, algorithm=algorithm
    )
    [request] = stub.requests
    sent = request.headers
    assert (sent.get("x-amz-checksum-algorithm"), sent.get("x-amz-checksum-type")) == declared
    assert sent["x-amz-meta-gw-session"] == "s"
    assert re.match("AWS4-HMAC-SHA256 ", sent["authorization"])
