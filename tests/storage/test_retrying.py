"""What the retrying decorators repeat, what they never repeat, and how a read goes on."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core.model import MultipartUpload, Part, StorageLimits, StoredObject
from gateway.errors import (
    Conflict,
    GatewayError,
    NoSuchObject,
    NoSuchUpload,
    RateLimited,
    StorageFull,
    Unavailable,
    Uncertain,
)
from gateway.storage.retrying import RetryingObjectStore, RetryingStorage, RetryPolicy

UPLOAD = MultipartUpload("bucket", "film", "upload")
PARTS = [Part(n, 1, "a") for n in range(1, 4)]
QUICK = RetryPolicy(attempts=3, first_pause=0.001, longest_pause=0.002, jitter=0.001)
WHOLE = bytes(range(100))


class Faulty:
    """A Storage and ObjectStore in one that fails as often as it is told to."""

    limits = StorageLimits()
    presigner = None

    def __init__(self, *failures: GatewayError, cut_after: int = 0) -> None:
        self.failures = list(failures)
        self.cut_after = cut_after
        self.calls: list[Any] = []

    def _fail(self, *call: Any) -> None:
        self.calls.append(call)
        if self.failures:
            raise self.failures.pop(0)

    async def create(self, *args: Any, **_: Any) -> MultipartUpload:
        self._fail("create", *args)
        return UPLOAD

    async def list_parts(self, upload: MultipartUpload) -> AsyncIterator[Part]:
        self.calls.append(("list_parts", upload))
        for part in PARTS:
            yield part
            if self.failures:
                raise self.failures.pop(0)

    async def complete(self, *args: Any, **_: Any) -> StoredObject:
        self._fail("complete", *args)
        return StoredObject("bucket", "film", 3, "e")

    async def abort(self, upload: MultipartUpload) -> None:
        self._fail("abort", upload)

    async def head(self, bucket: str, key: str) -> StoredObject:
        self._fail("head", bucket, key)
        return StoredObject(bucket, key, 3, "e")

    async def put(self, bucket: str, key: str, body: bytes, *, content_type: str) -> None:
        self._fail("put", bucket, key, body, content_type)

    async def delete(self, bucket: str, key: str) -> None:
        self._fail("delete", bucket, key)

    async def read(self, *_: str, **asked: Any) -> AsyncIterator[bytes]:
        start, stop, if_match = asked["start"], asked["stop"], asked["if_match"]
        self.calls.append(("read", start, stop, if_match))
        content = WHOLE[start:stop]
        if self.failures:
            if self.cut_after:
                yield content[: self.cut_after]
            raise self.failures.pop(0)
        yield content

    async def list(self, bucket: str, prefix: str) -> AsyncIterator[StoredObject]:
        self.calls.append(("list", bucket, prefix))
        # Folder by folder, which is not the order of the keys.
        for index, key in enumerate(("a/1", "a/2", "a-1", "b")):
            if index == self.cut_after and self.failures:
                raise self.failures.pop(0)
            yield StoredObject(bucket, key, 1, "e")


def objects(inner: Any) -> RetryingObjectStore:
    return RetryingObjectStore(inner, QUICK)


async def read(store: RetryingObjectStore, **options: Any) -> bytes:
    return b"".join([block async for block in store.read("bucket", "film", **options)])


async def listed(store: RetryingObjectStore) -> list[str]:
    return [item.key async for item in store.list("bucket", "")]


@pytest.mark.parametrize("failure", [Unavailable("x"), Uncertain("x"), StorageFull("x")])
async def test_create_and_complete_are_sent_once_whatever_happens(failure: GatewayError) -> None:
    inner = Faulty(failure)
    storage = RetryingStorage(inner, QUICK)
    with pytest.raises(type(failure)):
        await storage.create("b", "k", content_type="t", metadata={}, algorithm="crc32")
    inner.failures = [failure]
    with pytest.raises(type(failure)):
        await storage.complete(UPLOAD, PARTS, algorithm="crc32")
    assert [call[0] for call in inner.calls] == ["create", "complete"]


async def test_what_is_idempotent_is_repeated_until_it_succeeds() -> None:
    calls = {
        "head": ("bucket", "film"),
        "delete": ("bucket", "film"),
    }
    for name, arguments in calls.items():
        inner = Faulty(Unavailable("x"), RateLimited("x"))
        await getattr(objects(inner), name)(*arguments)
        assert inner.calls == [(name, *arguments)] * 3
    inner = Faulty(Unavailable("x"))
    await objects(inner).put("bucket", "film", b"x", content_type="t")
    assert inner.calls == [("put", "bucket", "film", b"x", "t")] * 2
    inner = Faulty(Unavailable("x"))
    await RetryingStorage(inner, QUICK).abort(UPLOAD)
    assert inner.calls == [("abort", UPLOAD)] * 2


async def test_patience_ends_with_the_last_error() -> None:
    inner = Faulty(*(Unavailable(f"{n}") for n in range(9)))
    with pytest.raises(Unavailable, match="2"):
        await objects(inner).head("bucket", "film")
    assert len(inner.calls) == 3


@pytest.mark.parametrize(
    "failure",
    [NoSuchObject("x"), Conflict("x"), Unavailable("x", code="clock_skewed", retryable=False)],
)
async def test_what_repeating_cannot_help_is_not_repeated(failure: GatewayError) -> None:
    inner = Faulty(failure)
    with pytest.raises(type(failure)):
        await objects(inner).head("bucket", "film")
    inner.failures = [failure]
    with pytest.raises(type(failure)):
        await read(objects(inner))
    assert len(inner.calls) == 2


async def test_an_error_may_say_when_to_try_again() -> None:
    inner = Faulty(Unavailable("x", retry_after=0.001))
    patient = RetryPolicy(attempts=2, first_pause=60, longest_pause=60)
    await RetryingObjectStore(inner, patient).head("bucket", "film")
    inner.failures = [Unavailable("x", retry_after=0.001)]
    assert await read(RetryingObjectStore(inner, patient)) == WHOLE


async def test_a_list_of_parts_that_broke_off_is_fetched_again_as_a_whole() -> None:
    inner = Faulty(Unavailable("x"))
    storage = RetryingStorage(inner, QUICK)
    assert [part async for part in storage.list_parts(UPLOAD)] == PARTS
    assert len(inner.calls) == 2
    inner.failures = [NoSuchUpload("x")]
    with pytest.raises(NoSuchUpload):
        [part async for part in storage.list_parts(UPLOAD)]
    assert len(inner.calls) == 3


async def test_a_read_goes_on_where_it_was_cut() -> None:
    inner = Faulty(*(Unavailable("x") for _ in range(5)), cut_after=7)
    assert await read(objects(inner), start=10, stop=90, if_match="e") == WHOLE[10:90]
    assert inner.calls == [("read", 10 + 7 * n, 90, "e") for n in range(6)]


async def test_a_read_that_gains_nothing_is_given_up() -> None:
    inner = Faulty(*(Unavailable("x") for _ in range(9)))
    with pytest.raises(Unavailable):
        await read(objects(inner), if_match="e")
    assert len(inner.calls) == 3


async def test_a_read_of_no_certain_version_is_repeated_from_its_start_only() -> None:
    inner = Faulty(Unavailable("x"))
    assert await read(objects(inner)) == WHOLE
    inner = Faulty(Unavailable("x"), cut_after=7)
    with pytest.raises(Unavailable):
        await read(objects(inner))
    assert len(inner.calls) == 1


@pytest.mark.parametrize("cut_after", range(5))
async def test_a_listing_goes_on_where_it_was_cut(cut_after: int) -> None:
    inner = Faulty(Unavailable("x"), Unavailable("x"), cut_after=cut_after)
    assert await listed(objects(inner)) == ["a/1", "a/2", "a-1", "b"]


async def test_a_listing_whose_place_is_lost_fails_and_leaves_nothing_out() -> None:
    class Shrinking(Faulty):
        async def list(self, bucket: str, _: str) -> AsyncIterator[StoredObject]:
            if not self.failures:
                return
            yield StoredObject(bucket, "a", 1, "e")
            raise self.failures.pop(0)

    with pytest.raises(Unavailable):
        await listed(objects(Shrinking(Unavailable("x"))))


async def test_limits_and_presigner_are_those_within() -> None:
    inner = Faulty()
    storage = RetryingStorage(inner, QUICK)
    assert (storage.limits, storage.presigner) == (inner.limits, inner.presigner)
