"""What an answer to CompleteMultipartUpload may look like, and what is made of it (laws 1 to 3)."""

import asyncio
import socket
import struct
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from lxml import etree

from gateway.core.checksums import Checksum
from gateway.core.model import MultipartUpload, Part, StorageLimits
from gateway.errors import (
    Conflict,
    GatewayError,
    NoSuchUpload,
    NotFound,
    StorageFull,
    Unavailable,
    Uncertain,
)
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.storage import S3Storage

UPLOAD = MultipartUpload("bucket", "film", "upload&id")
PARTS = [Part(1, 3, "aa", "checksum1"), Part(2, 2, "bb", "checksum2")]
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
RESULT = (
    f"<CompleteMultipartUploadResult {NAMESPACE}><Location>here</Location><Key>film</Key>"
    '<ETag>"cc-2"</ETag></CompleteMultipartUploadResult>'
).encode()
DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'


def error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>secret-word</Message></Error>".encode()


async def complete(client: S3Client, **options: Any) -> Any:
    storage = S3Storage(client, limits=options.pop("limits", None))
    return await storage.complete(UPLOAD, PARTS, **({"algorithm": "crc32"} | options))


@pytest.mark.parametrize(
    "body",
    [
        RESULT,
        DECLARATION + RESULT,
        b" \n \r\n\t " * 1000 + DECLARATION + RESULT,
        RESULT.replace(NAMESPACE.encode(), b""),
        RESULT.replace(b'"cc-2"', b"&#34;cc-2&#34;"),
        RESULT.replace(b'"cc-2"', b"cc-2"),
        RESULT.replace(b"<Key>", b"<!-- a comment --><Key>"),
    ],
)
async def test_an_answer_with_an_etag_is_a_success(
    stub: Any, client: S3Client, body: bytes
) -> None:
    stub.say(200, body)
    stored = await complete(client)
    assert (stored.bucket, stored.key, stored.size, stored.etag) == ("bucket", "film", 5, "cc-2")
    assert len(stub.requests) == 1


async def test_white_space_sent_while_the_store_works_does_not_end_the_wait(
    stub: Any, client: S3Client
) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        body = DECLARATION + RESULT
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body) + 5}\r\n\r\n".encode())
        for _ in range(5):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write(body)

    stub.answer = answer
    assert (await complete(client)).etag == "cc-2"


async def test_only_a_checksum_of_the_whole_object_is_taken_from_the_answer(
    stub: Any, client: S3Client
) -> None:
    whole = b"<ChecksumCRC32>AAAAAA==</ChecksumCRC32><ChecksumType>FULL_OBJECT</ChecksumType>"
    stub.say(200, RESULT.replace(b"<Key>", whole + b"<Key>"))
    assert (await complete(client)).checksums == {"crc32": "AAAAAA=="}
    stub.say(200, RESULT.replace(b"<Key>", whole.replace(b"FULL_OBJECT", b"COMPOSITE") + b"<Key>"))
    assert (await complete(client)).checksums == {}
    stub.say(200, RESULT.replace(b"<Key>", b"<ChecksumCRC32>AAAAAA==-2</ChecksumCRC32><Key>"))
    assert (await complete(client)).checksums == {}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"   \n"),
        (200, RESULT[:-20]),
        (200, DECLARATION),
        (200, RESULT.replace(b'<ETag>"cc-2"</ETag>', b"")),
        (200, RESULT.replace(b'"cc-2"', b'""')),
        (200, RESULT.replace(b'"cc-2"', b"")),
        (200, b"<html>a proxy speaks</html>"),
        (200, b'<!DOCTYPE a [<!ENTITY x "cc">]>' + RESULT.replace(b"cc-2", b"&x;")),
        (200, b" " * (2 * 1024 * 1024)),
        (200, error("InternalError")),
        (200, error("SlowDown")),
        (200, error("SomethingNew")),
        (200, error("")),
        (204, b""),
        (400, error("RequestTimeout")),
        (400, error("SomethingNew")),
        (404, error("NoSuchKey")),
        (404, b""),
        (409, error("ConditionalRequestConflict")),
        (500, error("InternalError")),
        (500, RESULT),
        (502, b"<html>a proxy speaks</html>"),
        (503, error("SlowDown")),
        (503, b""),
        (504, b""),
    ],
)
async def test_any_other_answer_is_uncertain(
    stub: Any, client: S3Client, status: int, body: bytes
) -> None:
    stub.say(status, body)
    with pytest.raises(Uncertain) as caught:
        await complete(client)
    assert caught.value.code == "outcome_uncertain"
    assert len(stub.requests) == 1, "a Complete is sent once"


@pytest.mark.parametrize(
    ("store_code", "kind", "code"),
    [
        ("InvalidPart", Conflict, "parts_refused"),
        ("InvalidPartOrder", Conflict, "parts_refused"),
        ("EntityTooSmall", Conflict, "parts_refused"),
        ("MalformedXML", Conflict, "parts_refused"),
        ("InvalidRequest", Conflict, "parts_refused"),
        ("BadDigest", Conflict, "checksum_refused"),
        ("XAmzContentChecksumMismatch", Conflict, "checksum_refused"),
        ("PreconditionFailed", Conflict, "key_taken"),
        ("NoSuchUpload", NoSuchUpload, "no_such_upload"),
        ("NoSuchBucket", NotFound, "bucket_not_found"),
        ("AccessDenied", Unavailable, "storage_denied"),
        ("SignatureDoesNotMatch", Unavailable, "storage_denied"),
        ("RequestTimeTooSkewed", Unavailable, "clock_skewed"),
        ("XMinioStorageFull", StorageFull, "storage_full"),
        ("InsufficientStorage", StorageFull, "storage_full"),
    ],
)
async def test_a_refusal_is_told_by_its_code(
    stub: Any, client: S3Client, store_code: str, kind: type[GatewayError], code: str
) -> None:
    for status in (200, 400):
        stub.say(status, DECLARATION + error(store_code))
        with pytest.raises(kind) as caught:
            await complete(client)
        assert caught.value.code == code
        assert not isinstance(caught.value, Uncertain)
        assert caught.value.hint


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "storage_denied"), (412, "key_taken"), (507, "storage_full")],
)
async def test_a_refusal_without_a_body_is_told_by_its_status(
    stub: Any, client: S3Client, status: int, code: str
) -> None:
    stub.say(status)
    with pytest.raises(GatewayError) as caught:
        await complete(client)
    assert caught.value.code == code


async def hang_up(_: Any, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def reset(_: Any, writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def cut(_: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + RESULT)


async def stall(_: Any, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def stall_in_the_body(_: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n   ")
    await writer.drain()
    await asyncio.sleep(30)


async def endless(_: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


async def nonsense(_: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(b"no HTTP at all\r\n\r\n")


@pytest.mark.parametrize(
    "answer", [hang_up, reset, cut, stall, stall_in_the_body, endless, nonsense]
)
async def test_an_answer_lost_on_its_way_is_uncertain_within_bounded_time(
    stub: Any, client: S3Client, answer: Callable[..., Awaitable[None]]
) -> None:
    stub.answer = answer
    async with asyncio.timeout(5):
        with pytest.raises(Uncertain):
            await complete(client)
    assert len(stub.requests) == 1, "a Complete is sent once"


async def test_a_store_that_is_not_there_had_no_chance_to_do_it(stub: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with S3Client(stub.options(endpoint_url=url)) as client:
            with pytest.raises(Unavailable) as caught:
                await complete(client)
    assert not isinstance(caught.value, Uncertain)


async def test_neither_errors_nor_their_causes_repeat_a_signature_or_the_stores_words(
    stub: Any, client: S3Client
) -> None:
    for answer in (hang_up, cut, stall, nonsense):
        stub.answer = answer
        with pytest.raises(Uncertain) as caught:
            await complete(client)
        text = "".join(traceback.format_exception(caught.value)) + repr(caught.value.details)
        assert "Signature=" not in text
        assert "secret-word" not in text
    stub.say(403, error("AccessDenied"))
    with pytest.raises(Unavailable) as denied:
        await complete(client)
    assert "secret-word" not in "".join(traceback.format_exception(denied.value))


async def test_the_list_is_sent_in_order_with_quoted_etags(stub: Any, client: S3Client) -> None:
    stub.say(200, RESULT)
    storage = S3Storage(client)
    parts = [Part(2, 1, 'b"&<>', "c2"), Part(1, 5, "a-a", "c1")]
    await storage.complete(UPLOAD, parts, algorithm="crc32")
    [request] = stub.requests
    assert (request.method, request.path) == ("POST", "/bucket/film")
    assert request.query["uploadId"] == "upload&id"
    assert "if-none-match" not in request.headers
    root = etree.fromstring(request.body)
    sent = [(p.findtext("{*}PartNumber"), p.findtext("{*}ETag")) for p in root]
    assert sent == [("1", '"a-a"'), ("2", '"b"&<>"')]


async def test_checksums_of_parts_are_sent_where_the_object_has_a_composite_one(
    stub: Any, client: S3Client
) -> None:
    stub.say(200, RESULT)
    limits = StorageLimits(
        part_checksums=frozenset({"crc32", "sha256"}), object_checksums=frozenset({"crc32"})
    )
    await complete(client, algorithm="sha256", limits=limits)
    await complete(client, algorithm="crc32", limits=limits)
    await complete(client, algorithm="crc32c", limits=limits)
    root = etree.fromstring(stub.requests[0].body)
    assert [p.findtext("{*}ChecksumSHA256") for p in root] == ["checksum1", "checksum2"]
    assert all(b"Checksum" not in request.body for request in stub.requests[1:])


async def test_the_checksum_of_the_whole_and_the_condition_travel_as_signed_headers(
    stub: Any, client: S3Client
) -> None:
    stub.say(200, RESULT)
    whole = Checksum("crc32", "AAAAAA==")
    full = StorageLimits(part_checksums=frozenset({"crc32"}), object_checksums=frozenset({"crc32"}))
    await complete(client, checksum=whole, if_none_match=True, limits=full)
    await complete(client, checksum=whole)
    with_it, without = (request.headers for request in stub.requests)
    assert with_it["if-none-match"] == "*"
    assert with_it["x-amz-checksum-crc32"] == whole.value
    assert with_it["x-amz-checksum-type"] == "FULL_OBJECT"
    signed = stub.requests[0].query["X-Amz-SignedHeaders"]
    assert signed == "host;x-amz-checksum-crc32;x-amz-checksum-type"
    assert "x-amz-checksum-crc32" not in without, "the store is not known to keep it"


@pytest.mark.parametrize("parts", [[], [Part(1, 1, "\x00")], [Part(1, 1, "é")], [Part(1, 1, "")]])
async def test_a_list_that_no_store_would_take_is_not_sent(
    stub: Any, client: S3Client, parts: list[Part]
) -> None:
    with pytest.raises(Conflict) as caught:
        await S3Storage(client).complete(UPLOAD, parts, algorithm="crc32")
    assert caught.value.code == "parts_refused"
    assert stub.requests == []
