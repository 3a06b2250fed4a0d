"""What every Storage and ObjectStore must do, shown on real ones through their ports.

A row a store: `s3` is the store under test (the embedded SeaweedFS, or `--s3 URL`), `moto` a quick
fake. A row is exempt by name from what its store cannot do; what is known about one store alone is
in tests/storage/test_seaweedfs.py.
"""

import asyncio
import io
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from rings import no_collections
from servers import S3Target, oracle_for, remove_bucket
from yarl import URL

from gateway.core.checksums import ALGORITHMS, Checksum, combine
from gateway.core.model import MultipartUpload, Part, PartToSign, StorageLimits
from gateway.errors import (
    Conflict,
    InvalidRequest,
    NoSuchObject,
    NoSuchUpload,
    NotFound,
    Unavailable,
    Uncertain,
)
from gateway.storage.s3.bucket import ensure_bucket
from gateway.storage.s3.client import BLOCK_BYTES, S3Client
from gateway.storage.s3.objects import S3ObjectStore
from gateway.storage.s3.options import S3Options
from gateway.storage.s3.presigner import S3Presigner
from gateway.storage.s3.probe import probe
from gateway.storage.s3.storage import S3Storage

MIB = 1024 * 1024
MIN_PART = 5 * MIB
ODD_KEYS = [
    "plain",
    "with space and + plus",
    "naïve/日本語/🎬.mov",
    "a%2Fb/%41",
    "percent%",
    "quote'\"and&amp;<tag>",
    "~!$&'()*+,;=:@",
    "deep/" * 20 + "leaf",
    "k" * 200,
]


@dataclass(frozen=True)
class Row:
    """One store under test."""

    target: S3Target
    client: S3Client
    limits: StorageLimits
    exempt: frozenset[str] = field(default=frozenset())


@dataclass(frozen=True)
class Store:
    """One fresh bucket of it."""

    row: Row
    bucket: str
    storage: S3Storage
    objects: S3ObjectStore
    presigner: S3Presigner

    @property
    def algorithm(self) -> str:
        """An algorithm whose whole-object value the store reports, or any."""
        return next(
            (name for name in ALGORITHMS if name in self.row.limits.object_checksums), "crc32"
        )

    async def create(self, key: str, **options: Any) -> MultipartUpload:
        arguments: dict[str, Any] = {
            "content_type": "application/octet-stream",
            "metadata": {"gw-session": "stamp"},
            "algorithm": self.algorithm,
        }
        return await self.storage.create(self.bucket, key, **(arguments | options))

    async def put_part(
        self, upload: MultipartUpload, number: int, body: bytes, algorithm: str = ""
    ) -> Part:
        algorithm = algorithm or self.algorithm
        status, part = await self.try_part(
            upload, number, body, Checksum(algorithm, ALGORITHMS[algorithm].value_of(body))
        )
        assert status == 200
        return part

    async def try_part(
        self,
        upload: MultipartUpload,
        number: int,
        body: bytes,
        checksum: Checksum | None = None,
        *,
        size: int | None = None,
    ) -> tuple[int, Part]:
        """Send a part as a client does, by its presigned URL and the headers that go with it."""
        value = checksum.value if checksum else None
        [signed] = await self.presigner.sign_parts(
            upload,
            [PartToSign(number, len(body) if size is None else size, value)],
            algorithm=checksum.algorithm if checksum else self.algorithm,
            expires_in=300,
        )
        async with self.row.client.http.put(
            URL(signed.url, encoded=True),
            data=io.BytesIO(body),
            headers=dict(signed.headers),
            skip_auto_headers=["content-type"],
        ) as response:
            etag = response.headers.get("etag", "").strip('"')
            return response.status, Part(number, len(body), etag, value)

    async def upload(self, key: str, *bodies: bytes) -> tuple[MultipartUpload, list[Part]]:
        upload = await self.create(key)
        parts = [await self.put_part(upload, n, body) for n, body in enumerate(bodies, 1)]
        return upload, parts

    async def list_parts(self, upload: MultipartUpload) -> list[Part]:
        return [part async for part in self.storage.list_parts(upload)]

    async def content(self, key: str, **options: Any) -> bytes:
        return b"".join([block async for block in self.objects.read(self.bucket, key, **options)])


@pytest.fixture(scope="module", params=["s3", "moto"])
def target(request: pytest.FixtureRequest) -> S3Target:
    found: S3Target = request.getfixturevalue(
        "moto_server" if request.param == "moto" else request.param
    )
    return found


@pytest_asyncio.fixture(scope="module")
async def row(target: S3Target, request: pytest.FixtureRequest) -> AsyncIterator[Row]:
    options = S3Options(
        endpoint_url=target.endpoint,
        region=target.region,
        access_key_id=target.access_key_id,
        secret_access_key=target.secret_access_key,
    )
    moto = target.access_key_id == "moto"
    async with S3Client(options) as client:
        bucket = f"probe-{uuid.uuid4().hex}"
        await ensure_bucket(client, bucket)
        report = await probe(client, bucket)
        await client.call("delete_bucket", Bucket=bucket)
        assert report.usable, report.findings
        yield Row(
            target,
            client,
            report.limits,
            # moto believes every signature and checksum.
            frozenset({"signatures", "checksums", "unknown uploads"}) if moto else frozenset(),
        )


@pytest.fixture(scope="module")
def sweeper(target: S3Target) -> Iterator[Any]:
    with oracle_for(target) as client:
        yield client


@pytest_asyncio.fixture
async def store(row: Row, sweeper: Any) -> AsyncIterator[Store]:
    bucket = f"test-{uuid.uuid4().hex}"
    assert await ensure_bucket(row.client, bucket)
    presigner = S3Presigner(row.client)
    yield Store(
        row,
        bucket,
        S3Storage(row.client, limits=row.limits, presigner=presigner),
        S3ObjectStore(row.client),
        presigner,
    )
    await asyncio.to_thread(remove_bucket, sweeper, bucket)


# create


async def test_an_upload_is_stamped_and_typed_from_its_creation_on(store: Store) -> None:
    upload = await store.create(
        "film", content_type="video/mp4; x=1", metadata={"gw-session": "s1", "note": "a b=c"}
    )
    part = await store.put_part(upload, 1, b"frames")
    await store.storage.complete(upload, [part], algorithm=store.algorithm)
    described = await store.objects.head(store.bucket, "film")
    assert described.metadata == {"gw-session": "s1", "note": "a b=c"}
    url = await store.presigner.sign_get(
        store.bucket, "film", filename="film.mp4", content_type="video/mp4", expires_in=60
    )
    async with store.row.client.http.get(URL(url, encoded=True)) as response:
        assert (response.status, await response.read()) == (200, b"frames")


async def test_two_uploads_of_one_key_are_two(store: Store) -> None:
    one, other = await store.create("film"), await store.create("film")
    assert one.upload_id != other.upload_id
    await store.put_part(one, 1, b"a")
    assert await store.list_parts(other) == []


async def test_nothing_is_created_in_a_bucket_that_is_not_there(store: Store) -> None:
    with pytest.raises(NotFound) as caught:
        await store.storage.create(
            f"none-{uuid.uuid4().hex}",
            "film",
            content_type="video/mp4",
            metadata={},
            algorithm="crc32",
        )
    assert caught.value.code == "bucket_not_found"


# put_part


async def blocks(body: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize("size", [0, 1, MIN_PART + 1])
async def test_a_part_is_streamed_and_is_what_was_sent(
    store: Store, size: int, *, bound: bool
) -> None:
    body = os.urandom(size)
    value = ALGORITHMS[store.algorithm].value_of(body)
    upload = await store.create("film")
    part = await store.storage.put_part(
        upload,
        1,
        blocks(body),
        size=size,
        algorithm=store.algorithm,
        checksum=value if bound else None,
    )
    assert (part.number, part.size) == (1, size)
    # What a store says about the bytes is the truth about them, or nothing.
    assert part.checksum in {None, value}
    assert await store.list_parts(upload) == [Part(1, size, part.etag)]
    await store.storage.complete(upload, [part], algorithm=store.algorithm)
    assert await store.content("film") == body


async def test_a_part_whose_body_fails_is_not_stored_and_says_why(store: Store) -> None:
    upload = await store.create("film")

    async def failing() -> AsyncIterator[bytes]:
        yield b"x" * MIN_PART
        raise InvalidRequest("The client is gone.", code="body_truncated")

    with pytest.raises(InvalidRequest) as caught:
        await store.storage.put_part(
            upload, 1, failing(), size=2 * MIN_PART, algorithm=store.algorithm
        )
    assert caught.value.code == "body_truncated"
    if "short bodies" not in store.row.exempt:
        assert await store.list_parts(upload) == []


@pytest.mark.parametrize("kind", [InvalidRequest, ConnectionResetError])
async def test_a_part_whose_body_fails_is_let_go_of_at_once(
    store: Store, kind: type[Exception]
) -> None:
    upload = await store.create("film")
    async with no_collections() as watch:

        async def failing() -> AsyncIterator[bytes]:
            witness = watch.witness()
            yield b"x" * MIN_PART
            assert witness
            raise kind("The client is gone.")

        with pytest.raises(kind) as caught:
            await store.storage.put_part(
                upload, 1, failing(), size=2 * MIN_PART, algorithm=store.algorithm
            )
        del caught
        await watch.all_gone()


async def test_a_part_that_is_damaged_on_its_way_is_refused(store: Store) -> None:
    if "checksums" in store.row.exempt:
        return
    upload = await store.create("film")
    with pytest.raises(Unavailable) as caught:
        await store.storage.put_part(
            upload,
            1,
            blocks(b"framez"),
            size=6,
            algorithm=store.algorithm,
            checksum=ALGORITHMS[store.algorithm].value_of(b"frames"),
        )
    assert (caught.value.code, caught.value.retryable) == ("part_damaged", True)
    assert await store.list_parts(upload) == []


async def test_a_part_of_an_upload_that_is_not_there_is_refused(store: Store) -> None:
    if "unknown uploads" in store.row.exempt:
        return
    upload = MultipartUpload(store.bucket, "film", uuid.uuid4().hex)
    with pytest.raises(NoSuchUpload):
        await store.storage.put_part(
            upload, 1, blocks(b"frames"), size=6, algorithm=store.algorithm
        )


# list_parts


async def test_parts_are_listed_by_number_with_size_and_etag(store: Store) -> None:
    upload = await store.create("film")
    sent = {n: await store.put_part(upload, n, b"x" * n) for n in (10_000, 2, 1_000, 999, 1)}
    listed = await store.list_parts(upload)
    assert listed == [Part(n, n, sent[n].etag) for n in (1, 2, 999, 1_000, 10_000)]


async def test_an_upload_without_parts_lists_none(store: Store) -> None:
    assert await store.list_parts(await store.create("film")) == []


async def test_an_unknown_upload_has_no_list(store: Store) -> None:
    with pytest.raises(NoSuchUpload):
        await store.list_parts(MultipartUpload(store.bucket, "film", uuid.uuid4().hex))


async def test_a_part_sent_again_is_listed_with_its_new_etag(store: Store) -> None:
    upload = await store.create("film")
    first = await store.put_part(upload, 1, b"first")
    second = await store.put_part(upload, 1, b"second!")
    listed = await store.list_parts(upload)
    # Some stores keep the older one beside it.
    assert {part.number for part in listed} == {1}
    assert Part(1, 7, second.etag) in listed
    assert set(listed) <= {Part(1, 7, second.etag), Part(1, 5, first.etag)}


# sign


async def test_a_part_url_takes_no_other_size(store: Store) -> None:
    upload = await store.create("film")
    refused = "signatures" not in store.row.exempt
    for size in (0, 5, 7, 6 * MIB):
        status, _ = await store.try_part(upload, 1, b"frames", size=size)
        assert status == (403 if refused else 200)
    assert (await store.list_parts(upload) == []) == refused


@pytest.mark.parametrize("algorithm", ["crc64nvme", "crc32c", "crc32", "sha256"])
async def test_a_part_url_with_a_checksum_takes_no_other_bytes(
    store: Store, algorithm: str
) -> None:
    refused = "checksums" not in store.row.exempt
    assert (algorithm in store.row.limits.part_checksums) == refused
    upload = await store.create("film", algorithm=algorithm)
    checksum = Checksum(algorithm, ALGORITHMS[algorithm].value_of(b"frames"))
    status, _ = await store.try_part(upload, 1, b"framez", checksum)
    assert status == (400 if refused else 200)
    assert (await store.list_parts(upload) == []) == refused
    status, _ = await store.try_part(upload, 1, b"frames", checksum)
    assert status == 200


async def test_a_download_is_saved_under_its_own_name_whatever_that_is(store: Store) -> None:
    name = 'naïve "日本";\\%41.mp4'
    upload, parts = await store.upload("film", b"frames")
    await store.storage.complete(upload, parts, algorithm=store.algorithm)
    url = await store.presigner.sign_get(
        store.bucket, "film", filename=name, content_type="text/plain; charset=utf-8", expires_in=60
    )
    async with store.row.client.http.get(URL(url, encoded=True)) as response:
        assert response.status == 200
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        disposition = response.content_disposition
        assert disposition is not None
        assert disposition.type == "attachment"
        assert disposition.filename == name


# complete


@pytest.mark.parametrize("sizes", [(0,), (1,), (MIN_PART,), (MIN_PART, 1), (MIN_PART, MIN_PART)])
async def test_an_upload_becomes_an_object_of_its_parts(
    store: Store, sizes: tuple[int, ...]
) -> None:
    bodies = [os.urandom(size) for size in sizes]
    upload, parts = await store.upload("film", *bodies)
    stored = await store.storage.complete(
        upload,
        parts,
        algorithm=store.algorithm,
        checksum=combine(store.algorithm, ((part.checksum or "", part.size) for part in parts))
        if store.row.limits.object_checksums
        else None,
    )
    described = await store.objects.head(store.bucket, "film")
    whole = b"".join(bodies)
    assert (described.size, described.etag) == (len(whole), stored.etag)
    assert (stored.bucket, stored.key, stored.size) == (store.bucket, "film", len(whole))
    assert await store.content("film") == whole
    for name in store.row.limits.object_checksums & {store.algorithm}:
        assert described.checksums[name] == ALGORITHMS[name].value_of(whole)


@pytest.mark.parametrize("algorithm", ["crc64nvme", "crc32c", "crc32", "sha256"])
async def test_every_algorithm_of_parts_leads_to_an_object(store: Store, algorithm: str) -> None:
    upload = await store.create("film", algorithm=algorithm)
    bodies = [os.urandom(MIN_PART), b"!"]
    parts = [await store.put_part(upload, n, b, algorithm) for n, b in enumerate(bodies, 1)]
    await store.storage.complete(upload, parts, algorithm=algorithm)
    described = await store.objects.head(store.bucket, "film")
    whole = ALGORITHMS[algorithm].value_of(b"".join(bodies))
    reported = algorithm in store.row.limits.object_checksums
    # A checksum of checksums is no checksum of the object, and is left out.
    assert described.checksums.get(algorithm) == (whole if reported else None)


async def test_parts_may_come_without_checksums(store: Store) -> None:
    upload = await store.create("film")
    status, part = await store.try_part(upload, 1, b"frames")
    assert status == 200
    await store.storage.complete(upload, [part], algorithm=store.algorithm)
    described = await store.objects.head(store.bucket, "film")
    for name in store.row.limits.object_checksums & {store.algorithm}:
        assert described.checksums[name] == ALGORITHMS[name].value_of(b"frames")


async def test_parts_that_are_not_named_do_not_become_part_of_the_object(store: Store) -> None:
    upload, parts = await store.upload("film", b"frames", b"stray")
    await store.storage.complete(upload, parts[:1], algorithm=store.algorithm)
    assert await store.content("film") == b"frames"


async def test_of_a_part_sent_twice_what_is_listed_can_be_completed_and_nothing_else(
    store: Store,
) -> None:
    upload = await store.create("film")
    older = await store.put_part(upload, 1, b"older")
    newer = await store.put_part(upload, 1, b"newer!")
    listed = await store.list_parts(upload)
    if older.etag in {part.etag for part in listed}:
        await store.storage.complete(upload, [older], algorithm=store.algorithm)
        assert await store.content("film") == b"older"
    else:
        with pytest.raises(Conflict):
            await store.storage.complete(upload, [older], algorithm=store.algorithm)
        await store.storage.complete(upload, [newer], algorithm=store.algorithm)
        assert await store.content("film") == b"newer!"


@pytest.mark.parametrize("fault", ["etag", "number", "small", "none", "garbage"])
async def test_a_refused_list_leaves_the_upload_as_it_was(store: Store, fault: str) -> None:
    upload, parts = await store.upload("film", os.urandom(MIN_PART), b"end", b"beyond")
    wrong = {
        "etag": [Part(1, MIN_PART, parts[1].etag)],
        "number": [parts[0], Part(7, 3, parts[1].etag)],
        "small": parts,
        "none": [],
        "garbage": [Part(1, 3, "\x00<")],
    }[fault]
    before = await store.list_parts(upload)
    with pytest.raises(Conflict) as caught:
        await store.storage.complete(upload, wrong, algorithm=store.algorithm)
    assert caught.value.code == "parts_refused"
    assert await store.list_parts(upload) == before
    with pytest.raises(NoSuchObject):
        await store.objects.head(store.bucket, "film")
    await store.storage.complete(upload, parts[:2], algorithm=store.algorithm)


async def test_an_object_in_the_way_is_not_overwritten(store: Store) -> None:
    await store.objects.put(store.bucket, "film", b"foreign", content_type="text/plain")
    upload, parts = await store.upload("film", b"frames")
    with pytest.raises(Conflict) as caught:
        await store.storage.complete(upload, parts, algorithm=store.algorithm, if_none_match=True)
    assert caught.value.code == "key_taken"
    assert await store.content("film") == b"foreign"
    assert len(await store.list_parts(upload)) == 1


async def test_an_aborted_upload_cannot_be_completed(store: Store) -> None:
    upload, parts = await store.upload("film", b"frames")
    await store.storage.abort(upload)
    # moto stumbles over it, and an answer without sense is no answer.
    expected = Uncertain if "unknown uploads" in store.row.exempt else NoSuchUpload
    with pytest.raises(expected):
        await store.storage.complete(upload, parts, algorithm=store.algorithm)
    with pytest.raises(NoSuchObject):
        await store.objects.head(store.bucket, "film")


async def test_a_completed_upload_is_no_longer_listed(store: Store) -> None:
    upload, parts = await store.upload("film", b"frames")
    await store.storage.complete(upload, parts, algorithm=store.algorithm)
    with pytest.raises(NoSuchUpload):
        await store.list_parts(upload)


# abort


async def test_an_abort_removes_the_parts_and_can_be_repeated(store: Store) -> None:
    upload, _ = await store.upload("film", b"frames", b"more")
    await store.storage.abort(upload)
    await store.storage.abort(upload)
    with pytest.raises(NoSuchUpload):
        await store.list_parts(upload)


async def test_an_unknown_upload_is_aborted_already(store: Store) -> None:
    await store.storage.abort(MultipartUpload(store.bucket, "film", uuid.uuid4().hex))


async def test_an_abort_leaves_the_finished_object_of_its_key(store: Store) -> None:
    upload, parts = await store.upload("film", b"frames")
    leftover, _ = await store.upload("film", b"other")
    await store.storage.complete(upload, parts, algorithm=store.algorithm)
    await store.storage.abort(leftover)
    await store.storage.abort(upload)
    assert await store.content("film") == b"frames"


# objects


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_odd_keys_are_kept_as_they_are(store: Store, key: str) -> None:
    upload, parts = await store.upload(key, b"frames")
    assert [part.number for part in await store.list_parts(upload)] == [1]
    await store.storage.complete(upload, parts, algorithm=store.algorithm)
    assert (await store.objects.head(store.bucket, key)).size == 6
    assert await store.content(key) == b"frames"
    assert [item.key async for item in store.objects.list(store.bucket, "")] == [key]
    await store.objects.delete(store.bucket, key)
    with pytest.raises(NoSuchObject):
        await store.objects.head(store.bucket, key)


async def test_a_range_is_read_as_a_slice(store: Store) -> None:
    whole = bytes(range(256)) * 16
    await store.objects.put(store.bucket, "film", whole, content_type="video/mp4")
    for start, stop in [
        (0, None),
        (0, 1),
        (7, 9),
        (4095, None),
        (4000, 9999),
        (5, 5),
        (4096, 5000),
    ]:
        assert await store.content("film", start=start, stop=stop) == whole[start:stop]


async def test_an_empty_object_is_read_as_nothing(store: Store) -> None:
    await store.objects.put(store.bucket, "empty", b"", content_type="text/plain")
    assert await store.content("empty") == b""
    assert await store.content("empty", start=0, stop=10) == b""
    assert (await store.objects.head(store.bucket, "empty")).size == 0


async def test_blocks_are_at_most_a_mebibyte(store: Store) -> None:
    whole = os.urandom(3 * MIB + 1)
    await store.objects.put(store.bucket, "film", whole, content_type="video/mp4")
    blocks = [block async for block in store.objects.read(store.bucket, "film")]
    assert b"".join(blocks) == whole
    assert max(map(len, blocks)) <= BLOCK_BYTES


async def test_a_changed_object_is_not_mixed_with_the_old_one(store: Store) -> None:
    await store.objects.put(store.bucket, "film", b"older", content_type="video/mp4")
    etag = (await store.objects.head(store.bucket, "film")).etag
    assert await store.content("film", start=1, if_match=etag) == b"lder"
    await store.objects.put(store.bucket, "film", b"newer", content_type="video/mp4")
    with pytest.raises(Conflict) as caught:
        await store.content("film", start=1, if_match=etag)
    assert caught.value.code == "object_changed"


async def test_what_is_not_there_is_not_read(store: Store) -> None:
    with pytest.raises(NoSuchObject):
        await store.objects.head(store.bucket, "film")
    with pytest.raises(NoSuchObject):
        await store.content("film")


async def test_an_unfinished_read_releases_its_connection(store: Store) -> None:
    await store.objects.put(store.bucket, "film", os.urandom(8 * MIB), content_type="video/mp4")
    for _ in range(store.row.client.options.max_connections + 1):
        blocks = store.objects.read(store.bucket, "film")
        async with aclosing(blocks):  # type: ignore[type-var] - it is a generator
            assert await anext(blocks)
    assert (await store.objects.head(store.bucket, "film")).size == 8 * MIB


async def test_an_object_is_overwritten_and_deleted_any_number_of_times(store: Store) -> None:
    for body in (b"one", b"two", b"two"):
        await store.objects.put(store.bucket, "note", body, content_type="text/plain")
        assert await store.content("note") == body
    await store.objects.delete(store.bucket, "note")
    await store.objects.delete(store.bucket, "note")
    assert [item async for item in store.objects.list(store.bucket, "")] == []


async def test_a_listing_follows_its_pages_in_order_of_key(store: Store) -> None:
    keys = sorted(f"many/{n:04d}" for n in range(250))
    near = ["many-0001", "many.txt", "manya", "mano"]
    await asyncio.gather(
        *(
            store.objects.put(store.bucket, key, key.encode(), content_type="text/plain")
            for key in [*keys, *near]
        )
    )
    listed = [item async for item in store.objects.list(store.bucket, "many/")]
    assert [item.key for item in listed] == keys
    assert {item.size for item in listed} == {len("many/0000")}
    assert all(item.etag and '"' not in item.etag for item in listed)
    # Over several folders the order is the store's own.
    everything = [item.key async for item in store.objects.list(store.bucket, "many")]
    assert sorted(everything) == sorted([*keys, "many-0001", "many.txt", "manya"])


async def test_unfinished_uploads_are_listed_page_by_page_until_they_end(store: Store) -> None:
    keys = [f"many/{n:02d}" for n in range(55)]
    uploads = {(await store.create(key)) for key in keys}
    twice, other = await store.create("many/07"), await store.create("few")
    completed, parts = await store.upload("many/done", b"end")
    await store.storage.complete(completed, parts, algorithm=store.algorithm)
    await store.storage.abort(await store.create("many/aborted"))

    listed = [one async for one in store.objects.list_uploads(store.bucket, "many/")]
    assert len(listed) == 56
    assert set(listed) == uploads | {twice}
    assert [one async for one in store.objects.list_uploads(store.bucket, "few")] == [other]
    assert [one async for one in store.objects.list_uploads(store.bucket, "none")] == []


# The oracle


async def test_a_client_by_other_people_sees_the_same_object(store: Store, sweeper: Any) -> None:
    bodies = [os.urandom(MIN_PART), b"end"]
    upload, parts = await store.upload("film", *bodies)
    stored = await store.storage.complete(upload, parts, algorithm=store.algorithm)

    def look() -> tuple[bytes, Any]:
        response = sweeper.get_object(store.bucket, "film")
        try:
            return response.read(), sweeper.stat_object(store.bucket, "film")
        finally:
            response.close()
            response.release_conn()

    content, stat = await asyncio.to_thread(look)
    assert content == b"".join(bodies)
    assert (stat.size, stat.etag) == (stored.size, stored.etag)
    assert stat.metadata["x-amz-meta-gw-session"] == "stamp"
