"""Reading objects from a store that cuts, stalls or answers something else."""

import asyncio
from typing import Any

import pytest

from gateway.errors import Conflict, NoSuchObject, NotFound, Unavailable
from gateway.storage.s3.client import BLOCK_BYTES, S3Client
from gateway.storage.s3.objects import S3ObjectStore


async def read(client: S3Client, **options: Any) -> bytes:
    blocks = S3ObjectStore(client).read("bucket", "film", **options)
    return b"".join([block async for block in blocks])


async def test_a_body_that_ends_early_is_no_shorter_object(stub: Any, client: S3Client) -> None:
    async def cut(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    stub.answer = cut
    with pytest.raises(Unavailable):
        await read(client)


async def test_a_stall_ends_a_read(stub: Any, client: S3Client) -> None:
    async def stall(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()
        await asyncio.sleep(30)

    stub.answer = stall
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable) as caught:
            await read(client)
    assert caught.value.code == "storage_timeout"


async def test_a_slow_reader_is_no_stall(stub: Any, client: S3Client) -> None:
    stub.say(200, bytes(12 * BLOCK_BYTES))
    size = 0
    async for block in S3ObjectStore(client).read("bucket", "film"):
        if size == 0:
            await asyncio.sleep(2 * client.options.read_timeout)
        size += len(block)
    assert size == 12 * BLOCK_BYTES


async def test_a_whole_object_in_the_place_of_a_range_is_refused(
    stub: Any, client: S3Client
) -> None:
    stub.say(200, b"whole")
    with pytest.raises(Unavailable):
        await read(client, start=2)
    stub.say(206, b"whole", content_range="bytes 0-4/5")
    with pytest.raises(Unavailable):
        await read(client, start=2)
    stub.say(206, b"ole", content_range="bytes 2-4/5")
    assert await read(client, start=2) == b"ole"
    assert stub.requests[-1].headers["range"] == "bytes=2-"


async def test_what_was_stored_compressed_is_read_as_it_is(stub: Any, client: S3Client) -> None:
    stub.say(200, b"not really gzip", content_encoding="gzip")
    assert await read(client, if_match="e") == b"not really gzip"
    assert stub.requests[0].headers["accept-encoding"] == "identity"
    assert stub.requests[0].headers["if-match"] == '"e"'


async def test_refusals_of_a_read_are_told(stub: Any, client: S3Client) -> None:
    stub.say(412, b"<Error><Code>PreconditionFailed</Code></Error>")
    with pytest.raises(Conflict):
        await read(client, if_match="e")
    stub.say(404, b"<Error><Code>NoSuchKey</Code></Error>")
    with pytest.raises(NoSuchObject):
        await read(client)
    # A proxy's own, or an answer that was cut: not the store's word.
    stub.say(404, b"<html>")
    with pytest.raises(Unavailable):
        await read(client)
    stub.say(307, b"", location="http://127.0.0.1:1/elsewhere")
    with pytest.raises(Unavailable):
        await read(client)


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (5, 4)])
async def test_a_range_that_is_none_is_a_mistake(client: S3Client, start: int, stop: Any) -> None:
    with pytest.raises(ValueError, match="range"):
        await read(client, start=start, stop=stop)


async def test_a_listing_that_repeats_itself_ends(stub: Any, client: S3Client) -> None:
    stub.say(
        200,
        b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t"
        b"</NextContinuationToken></ListBucketResult>",
        content_type="application/xml",
    )
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable):
            [item async for item in S3ObjectStore(client).list("bucket", "")]
    assert len(stub.requests) == 2


async def test_only_checksums_of_the_whole_object_are_described(
    stub: Any, client: S3Client
) -> None:
    objects = S3ObjectStore(client)
    stub.say(200, x_amz_checksum_crc32="AAAAAA==", x_amz_checksum_type="FULL_OBJECT", ETag='"e"')
    assert (await objects.head("bucket", "film")).checksums == {"crc32": "AAAAAA=="}
    assert stub.requests[0].headers["x-amz-checksum-mode"] == "ENABLED"
    stub.say(200, x_amz_checksum_crc32="AAAAAA==", x_amz_checksum_type="COMPOSITE")
    assert (await objects.head("bucket", "film")).checksums == {}
    stub.say(200, x_amz_checksum_crc32="AAAAAA==-2")
    assert (await objects.head("bucket", "film")).checksums == {}
    stub.say(200, X_Amz_Meta_GW_Session="s1", ETag='W/"e-f"')
    described = await objects.head("bucket", "film")
    assert described.metadata == {"gw-session": "s1"}
    assert described.etag == 'W/"e-f"'


async def test_a_head_says_why_by_its_status_alone(stub: Any, client: S3Client) -> None:
    objects = S3ObjectStore(client)
    stub.say(404)
    with pytest.raises(NoSuchObject):
        await objects.head("bucket", "film")
    for status, code in ((403, "storage_denied"), (503, "storage_unavailable")):
        stub.say(status)
        with pytest.raises(Unavailable) as caught:
            await objects.head("bucket", "film")
        assert caught.value.code == code


async def test_a_head_without_a_length_describes_nothing(stub: Any, client: S3Client) -> None:
    async def silent(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")

    stub.answer = silent
    with pytest.raises(Unavailable):
        await S3ObjectStore(client).head("bucket", "film")


async def test_an_object_is_stored_with_its_digest_and_type(stub: Any, client: S3Client) -> None:
    stub.say(200)
    await S3ObjectStore(client).put("bucket", "note", b"hello", content_type="text/plain")
    [request] = stub.requests
    assert (request.method, request.path, request.body) == ("PUT", "/bucket/note", b"hello")
    assert request.headers["content-md5"] == "XUFAKrxLKna5cZ2REBfFkg=="
    assert request.headers["content-type"] == "text/plain"
    stub.say(503, b"<Error><Code>SlowDown</Code></Error>")
    with pytest.raises(Unavailable):
        await S3ObjectStore(client).put("bucket", "note", b"hello", content_type="text/plain")


async def test_an_empty_object_is_stored(stub: Any, client: S3Client) -> None:
    stub.say(200)
    await S3ObjectStore(client).put("bucket", "note", b"", content_type="text/plain")
    assert stub.requests[0].headers["content-length"] == "0"


async def test_an_object_that_is_gone_is_deleted(stub: Any, client: S3Client) -> None:
    objects = S3ObjectStore(client)
    stub.say(204)
    await objects.delete("bucket", "film")
    stub.say(404, b"<Error><Code>NoSuchKey</Code></Error>")
    await objects.delete("bucket", "film")
    stub.say(404, b"<Error><Code>NoSuchBucket</Code></Error>")
    with pytest.raises(NotFound):
        await objects.delete("bucket", "film")
