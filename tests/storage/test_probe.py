"""What the probe finds out about real stores and about faulty ones."""

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import minio
import pytest
from servers import S3Target

from gateway.core.checksums import PREFERENCE
from gateway.core.model import StorageLimits
from gateway.storage.s3.bucket import bucket_exists, ensure_bucket, put_cors
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.findings import Level
from gateway.storage.s3.options import S3Options
from gateway.storage.s3.probe import _part_limits, probe

ORIGIN = "https://app.example.com"


def options(target: S3Target, **changes: Any) -> S3Options:
    values: dict[str, Any] = {
        "endpoint_url": target.endpoint,
        "region": target.region,
        "access_key_id": target.access_key_id,
        "secret_access_key": target.secret_access_key,
    }
    return S3Options(**(values | changes))


def levels(report: Any) -> dict[str, Level]:
    return {finding.name: finding.level for finding in report.findings}


async def test_a_store_passes_for_what_it_does(
    s3: S3Target, bucket: str, oracle: minio.Minio
) -> None:
    async with S3Client(options(s3)) as client:
        report = await probe(client, bucket)
    assert report.usable
    assert set(levels(report).values()) == {Level.OK}
    assert report.limits.part_checksums == set(PREFERENCE)
    assert report.limits.object_checksums == {"crc64nvme", "crc32c", "crc32"}
    assert report.limits.conditional_complete
    # It runs at every start; SeaweedFS takes a third of a second.
    assert report.seconds < 5
    left = await asyncio.to_thread(lambda: list(oracle.list_objects(bucket, recursive=True)))
    uploads = await asyncio.to_thread(lambda: oracle._list_multipart_uploads(bucket).uploads)
    assert (left, uploads) == ([], [])


async def test_a_store_that_believes_everything_is_found_out(moto_server: S3Target) -> None:
    async with S3Client(options(moto_server)) as client:
        await ensure_bucket(client, "believer")
        report = await probe(client, "believer")
    assert report.usable
    assert report.limits.part_checksums == frozenset()
    assert report.limits.object_checksums == frozenset()
    found = levels(report)
    assert found["part checksums"] == found["object checksums"] == Level.WARN
    assert found["signed size"] == Level.WARN
    assert all(f.fix for f in report.findings if f.level is not Level.OK)


async def test_origins_are_asked_for_as_a_browser_does(s3: S3Target, bucket: str) -> None:
    async with S3Client(options(s3)) as client:
        report = await probe(client, bucket, origins=[ORIGIN])
        assert levels(report)[f"CORS for {ORIGIN}"] is Level.WARN
        assert report.usable, "other clients than pages can upload"
        await put_cors(client, bucket, [ORIGIN])
        report = await probe(client, bucket, origins=[ORIGIN, "https://other.example.com"])
    assert levels(report)[f"CORS for {ORIGIN}"] is Level.OK
    assert levels(report)["CORS for https://other.example.com"] is Level.WARN


async def test_a_public_endpoint_that_is_out_of_reach_is_only_a_warning(
    s3: S3Target, bucket: str
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        public = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with S3Client(options(s3, public_endpoint_url=public)) as client:
            report = await probe(client, bucket, origins=[ORIGIN])
    assert levels(report)[f"CORS for {ORIGIN}"] is Level.WARN
    assert report.usable


async def test_wrong_credentials_and_missing_buckets_are_told_with_what_to_do(
    s3: S3Target, bucket: str
) -> None:
    async with S3Client(options(s3, secret_access_key="wrong")) as client:
        report = await probe(client, bucket)
    assert not report.usable
    assert report.findings[-1].fix
    async with S3Client(options(s3)) as client:
        report = await probe(client, "no-such-bucket-here")
    assert levels(report)["bucket"] is Level.FAIL
    assert not report.usable


async def test_a_store_that_is_not_there_is_a_finding(s3: S3Target) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with S3Client(options(s3, endpoint_url=url)) as client:
            report = await probe(client, "bucket")
    assert levels(report) == {"store": Level.FAIL}
    assert report.limits == StorageLimits()


@pytest.mark.parametrize(
    ("minutes", "level"), [(0, Level.OK), (5, Level.WARN), (16, Level.FAIL), (-16, Level.FAIL)]
)
async def test_a_wrong_clock_is_found_without_a_signature(
    stub: Any, client: S3Client, minutes: int, level: Level
) -> None:
    then = datetime.now(UTC) + timedelta(minutes=minutes)

    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(
            f"HTTP/1.1 403 X\r\nDate: {format_datetime(then, usegmt=True)}\r\n"
            "Content-Length: 0\r\n\r\n".encode()
        )

    stub.answer = answer
    report = await probe(client, "bucket")
    assert report.findings[0].name == "clock"
    assert report.findings[0].level is level
    assert stub.requests[0].query == {}
    assert "authorization" not in stub.requests[0].headers


async def test_a_store_that_fails_on_the_way_is_not_usable(stub: Any, client: S3Client) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        status = 200 if request.method == "HEAD" else 503
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())

    stub.answer = answer
    report = await probe(client, "bucket")
    assert not report.usable
    assert levels(report)["bucket"] is Level.OK
    assert report.limits.part_checksums == frozenset()


async def test_what_the_probe_could_not_remove_is_told(stub: Any, client: S3Client) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        status, body = (200, b"<R><UploadId>u</UploadId></R>")
        if request.method == "DELETE":
            status = 403
        elif request.method == "PUT":
            status = 400
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        )
        writer.write(b"" if request.method == "HEAD" else body)

    stub.answer = answer
    report = await probe(client, "bucket")
    assert levels(report)["clean-up"] is Level.WARN
    assert levels(report)["parts"] is Level.FAIL


async def test_r2_is_known_to_want_equal_parts() -> None:
    url = "https://0123456789abcdef.r2.cloudflarestorage.com"
    limits = _part_limits(S3Client(S3Options(endpoint_url=url, region="auto")))
    assert limits.equal_parts
    assert limits.max_object_size < 5 * 1024**4


async def test_a_bucket_is_made_once(s3: S3Target, oracle: minio.Minio) -> None:
    name = f"made-{datetime.now(UTC).timestamp():.0f}"
    async with S3Client(options(s3)) as client:
        assert not await bucket_exists(client, name)
        made = await asyncio.gather(*(ensure_bucket(client, name) for _ in range(3)))
        assert any(made)
        assert await bucket_exists(client, name)
        assert not await ensure_bucket(client, name)
    await asyncio.to_thread(oracle.remove_bucket, name)
