"""What is known about SeaweedFS 4.48 in particular, so that a newer one that differs is noticed.

The rules that hold for every store are in tests/conformance/test_storage.py; these are the facts
that made some of them necessary.
"""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.model import MultipartUpload, Part, PartToSign, StorageLimits
from gateway.embedded import Seaweed
from gateway.errors import Conflict, NoSuchUpload
from gateway.storage.s3.bucket import ensure_bucket
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.objects import S3ObjectStore
from gateway.storage.s3.options import S3Options
from gateway.storage.s3.presigner import S3Presigner
from gateway.storage.s3.storage import S3Storage
from gateway.storage.s3.xml import PartsPage

LIMITS = StorageLimits(
    part_checksums=frozenset({"crc64nvme", "sha256"}), object_checksums=frozenset({"crc64nvme"})
)
BUCKET = "facts"


class Store:
    def __init__(self, client: S3Client) -> None:
        self.client = client
        self.storage = S3Storage(client, limits=LIMITS)
        self.objects = S3ObjectStore(client)
        self.presigner = S3Presigner(client)

    async def create(self, key: str, algorithm: str = "crc64nvme") -> MultipartUpload:
        return await self.storage.create(
            BUCKET, key, content_type="a/b", metadata={}, algorithm=algorithm
        )

    async def put(self, upload: MultipartUpload, bodies: dict[int, bytes]) -> dict[int, Part]:
        signed = await self.presigner.sign_parts(
            upload,
            [PartToSign(n, len(body)) for n, body in bodies.items()],
            algorithm="crc64nvme",
            expires_in=300,
        )
        gate = asyncio.Semaphore(16)

        async def send(part: Any) -> Part:
            body = bodies[part.number]
            async with (
                gate,
                self.client.http.put(URL(part.url, encoded=True), data=io.BytesIO(body)) as answer,
            ):
                assert answer.status == 200
                return Part(part.number, len(body), answer.headers["etag"].strip('"'))

        parts = await asyncio.gather(*(send(part) for part in signed))
        return {part.number: part for part in parts}

    async def complete(self, upload: MultipartUpload, *parts: Part, **options: Any) -> Any:
        return await self.storage.complete(upload, parts, algorithm="crc64nvme", **options)

    async def page(self, upload: MultipartUpload, marker: int) -> PartsPage:
        return await self.storage._page(upload, marker)


@pytest_asyncio.fixture(scope="module")
async def store(seaweed: Seaweed) -> AsyncIterator[Store]:
    options = S3Options(
        endpoint_url=seaweed.endpoint,
        access_key_id=seaweed.access_key_id,
        secret_access_key=seaweed.secret_access_key,
    )
    async with S3Client(options) as client:
        await ensure_bucket(client, BUCKET)
        yield Store(client)


async def test_part_10000_is_listed_early_and_its_marker_ends_the_list(store: Store) -> None:
    upload = await store.create("many")
    sent = await store.put(upload, dict.fromkeys([*range(1, 1021), 10000], b"x"))
    first = await store.page(upload, 0)
    assert first.truncated
    assert [part.number for part in first.parts[-2:]] == [999, 10_000]
    # Who takes the last number of a page for the marker of the next, as its own
    # NextPartNumberMarker says, loses all parts from 1,000 on.
    assert await store.page(upload, 10_000) == PartsPage((), truncated=False)
    listed = [part async for part in store.storage.list_parts(upload)]
    assert listed == [sent[n] for n in sorted(sent)]
    await store.storage.abort(upload)


async def test_both_uploads_of_a_part_are_listed_and_either_can_be_completed(store: Store) -> None:
    for wanted in (0, 1):
        upload = await store.create("twice")
        uploads = [(await store.put(upload, {1: body}))[1] for body in (b"older", b"newer!")]
        listed = [part async for part in store.storage.list_parts(upload)]
        assert sorted(listed, key=lambda part: part.size) == uploads
        stored = await store.complete(upload, uploads[wanted])
        assert (await store.objects.head(BUCKET, "twice")).size == uploads[wanted].size
        assert stored.checksums


async def test_completing_again_gives_the_same_answer_but_with_a_condition_does_not(
    store: Store,
) -> None:
    upload = await store.create("again")
    part = (await store.put(upload, {1: b"frames"}))[1]
    first = await store.complete(upload, part)
    assert await store.complete(upload, part) == first
    with pytest.raises(Conflict) as caught:
        await store.complete(upload, part, if_none_match=True)
    assert caught.value.code == "key_taken"


async def test_a_wrong_checksum_of_the_whole_is_refused_and_the_upload_stays(
    store: Store,
) -> None:
    upload = await store.create("whole")
    part = (await store.put(upload, {1: b"frames"}))[1]
    value = ALGORITHMS["crc64nvme"].value_of
    with pytest.raises(Conflict) as caught:
        await store.complete(upload, part, checksum=Checksum("crc64nvme", value(b"other")))
    assert caught.value.code == "checksum_refused"
    whole = value(b"frames")
    stored = await store.complete(upload, part, checksum=Checksum("crc64nvme", whole))
    assert stored.checksums == {"crc64nvme": whole}
    described = await store.objects.head(BUCKET, "whole")
    assert described.checksums == {"crc64nvme": whole}


async def test_a_composite_of_sha256_needs_the_checksum_of_every_part(store: Store) -> None:
    upload = await store.create("digest", "sha256")
    part = (await store.put(upload, {1: b"frames"}))[1]
    with pytest.raises(Conflict) as caught:
        await store.storage.complete(upload, [part], algorithm="sha256")
    assert caught.value.code == "parts_refused"
    whole = Part(1, 6, part.etag, ALGORITHMS["sha256"].value_of(b"frames"))
    stored = await store.storage.complete(upload, [whole], algorithm="sha256")
    assert stored.checksums == {}
    assert (await store.objects.head(BUCKET, "digest")).checksums == {}


async def test_an_upload_completed_behind_the_gateways_back_is_unknown_and_its_object_there(
    store: Store,
) -> None:
    upload = await store.create("behind")
    part = (await store.put(upload, {1: b"frames"}))[1]
    await store.complete(upload, part)
    with pytest.raises(NoSuchUpload):
        [found async for found in store.storage.list_parts(upload)]
    await store.storage.abort(upload)
    assert (await store.objects.head(BUCKET, "behind")).etag


async def test_a_part_is_refused_once_its_upload_is_aborted(store: Store) -> None:
    upload = await store.create("late")
    [signed] = await store.presigner.sign_parts(
        upload, [PartToSign(1, 1)], algorithm="crc64nvme", expires_in=60
    )
    await store.storage.abort(upload)
    async with store.client.http.put(URL(signed.url, encoded=True), data=b"x") as answer:
        assert answer.status == 404


async def test_a_list_gives_folders_whole_before_keys_beside_them(store: Store) -> None:
    for key in ("order/a-b", "order/a/b", "order/a.b"):
        await store.objects.put(BUCKET, key, b"x", content_type="a/b")
    listed = [item.key async for item in store.objects.list(BUCKET, "order/")]
    assert listed == ["order/a/b", "order/a-b", "order/a.b"]


async def test_a_checksum_header_can_be_read_by_pages_of_allowed_origins_only(
    store: Store,
) -> None:
    async with aiohttp.ClientSession() as http:
        url = f"{store.client.options.endpoint_url}/{BUCKET}/none"
        async with http.options(
            url,
            headers={"origin": "https://evil.example", "access-control-request-method": "PUT"},
        ) as answer:
            assert "access-control-allow-origin" not in answer.headers
