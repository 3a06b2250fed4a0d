"""What an observer is told about calls to a store."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from gateway.core.model import MultipartUpload, Part, StorageLimits, StoredObject
from gateway.errors import NoSuchObject, NoSuchUpload
from gateway.storage.metered import MeteredObjectStore, MeteredStorage

UPLOAD = MultipartUpload("bucket", "film", "upload")
OBJECT = StoredObject("bucket", "film", 3, "e")


class Inner:
    limits = StorageLimits()
    presigner = None

    async def create(self, *_: Any, **__: Any) -> MultipartUpload:
        return UPLOAD

    async def list_parts(self, _: MultipartUpload) -> AsyncIterator[Part]:
        yield Part(1, 1, "a")
        raise NoSuchUpload("x")

    async def complete(self, *_: Any, **__: Any) -> StoredObject:
        return OBJECT

    async def abort(self, _: MultipartUpload) -> None:
        raise ZeroDivisionError

    async def head(self, *_: Any) -> StoredObject:
        raise NoSuchObject("x")

    async def put(self, *_: Any, **__: Any) -> None:
        return None

    async def delete(self, *_: Any) -> None:
        return None

    async def read(self, *_: Any, **__: Any) -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async def list(self, *_: Any) -> AsyncIterator[StoredObject]:
        yield OBJECT


async def test_every_call_is_told_with_its_outcome_and_time() -> None:
    seen: list[tuple[str, str]] = []

    def observe(operation: str, outcome: str, seconds: float) -> None:
        assert 0 <= seconds < 5
        seen.append((operation, outcome))

    inner: Any = Inner()
    storage = MeteredStorage(inner, observe)
    objects = MeteredObjectStore(inner, observe)
    await storage.create("b", "k", content_type="t", metadata={}, algorithm="crc32")
    with pytest.raises(NoSuchUpload):
        [part async for part in storage.list_parts(UPLOAD)]
    assert await storage.complete(UPLOAD, [], algorithm="crc32") == OBJECT
    with pytest.raises(ZeroDivisionError):
        await storage.abort(UPLOAD)
    with pytest.raises(NoSuchObject):
        await objects.head("b", "k")
    assert [block async for block in objects.read("b", "k")] == [b"a", b"b"]
    blocks: Any = objects.read("b", "k")
    async with aclosing(blocks):
        await anext(blocks)
    await objects.put("b", "k", b"", content_type="t")
    await objects.delete("b", "k")
    assert [item async for item in objects.list("b", "")] == [OBJECT]
    assert seen == [
        ("create", "ok"),
        ("list_parts", "no_such_upload"),
        ("complete", "ok"),
        ("abort", "error"),
        ("head", "no_such_object"),
        ("read", "ok"),
        ("read", "cancelled"),
        ("put", "ok"),
        ("delete", "ok"),
        ("list", "ok"),
    ]
    assert (storage.limits, storage.presigner) == (inner.limits, inner.presigner)
