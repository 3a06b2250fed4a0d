"""Tells an observer how calls to a store went: a decorator over any Storage and any ObjectStore.

It knows no metrics library: the composition root hands in a function that counts. Put it inside
the retrying decorator to see every attempt, or outside to see what callers see.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import TypeAlias

from gateway.core.checksums import Checksum
from gateway.core.model import MultipartUpload, Part, StorageLimits, StoredObject
from gateway.core.ports import ObjectStore, Storage
from gateway.errors import GatewayError

Observer: TypeAlias = Callable[[str, str, float], None]
"""Takes an operation (`complete`), its outcome (`ok`, `cancelled`, `error` for what is none of the
gateway's errors, or the code of one, as `no_such_upload`), and how many seconds it took."""


class MeteredStorage(Storage):
    """Times every call."""

    def __init__(self, inner: Storage, observe: Observer) -> None:
        self.presigner = inner.presigner
        self._inner = inner
        self._observe = observe

    @property
    def limits(self) -> StorageLimits:
        """What the store inside can do."""
        return self._inner.limits

    @limits.setter
    def limits(self, limits: StorageLimits) -> None:
        self._inner.limits = limits

    async def create(
        self,
        bucket: str,
        key: str,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        algorithm: str,
    ) -> MultipartUpload:
        """Create, timed."""
        with _timed(self._observe, "create"):
            return await self._inner.create(
                bucket, key, content_type=content_type, metadata=metadata, algorithm=algorithm
            )

    async def put_part(
        self,
        upload: MultipartUpload,
        number: int,
        body: AsyncIterator[bytes],
        *,
        size: int,
        algorithm: str,
        checksum: str | None = None,
    ) -> Part:
        """Put, timed with what its sender takes."""
        with _timed(self._observe, "put_part"):
            return await self._inner.put_part(
                upload, number, body, size=size, algorithm=algorithm, checksum=checksum
            )

    async def list_parts(self, upload: MultipartUpload) -> AsyncGenerator[Part, None]:
        """List, timed to the end of the list, with what its reader does in between."""
        parts = self._inner.list_parts(upload)
        with _timed(self._observe, "list_parts"):
            async with aclosing(parts):
                async for part in parts:
                    yield part

    async def complete(
        self,
        upload: MultipartUpload,
        parts: Sequence[Part],
        *,
        algorithm: str,
        checksum: Checksum | None = None,
        if_none_match: bool = False,
    ) -> StoredObject:
        """Complete, timed."""
        with _timed(self._observe, "complete"):
            return await self._inner.complete(
                upload, parts, algorithm=algorithm, checksum=checksum, if_none_match=if_none_match
            )

    async def abort(self, upload: MultipartUpload) -> None:
        """Abort, timed."""
        with _timed(self._observe, "abort"):
            await self._inner.abort(upload)


class MeteredObjectStore(ObjectStore):
    """Times every call."""

    def __init__(self, inner: ObjectStore, observe: Observer) -> None:
        self._inner = inner
        self._observe = observe

    async def head(self, bucket: str, key: str) -> StoredObject:
        """Describe, timed."""
        with _timed(self._observe, "head"):
            return await self._inner.head(bucket, key)

    async def read(
        self,
        bucket: str,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: str | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Read, timed to the last byte, with what its reader does in between."""
        blocks = self._inner.read(bucket, key, start=start, stop=stop, if_match=if_match)
        with _timed(self._observe, "read"):
            async with aclosing(blocks):
                async for block in blocks:
                    yield block

    async def put(self, bucket: str, key: str, body: bytes, *, content_type: str) -> None:
        """Store, timed."""
        with _timed(self._observe, "put"):
            await self._inner.put(bucket, key, body, content_type=content_type)

    async def delete(self, bucket: str, key: str) -> None:
        """Delete, timed."""
        with _timed(self._observe, "delete"):
            await self._inner.delete(bucket, key)

    async def list(self, bucket: str, prefix: str) -> AsyncGenerator[StoredObject, None]:
        """List, timed to the end of the list, with what its reader does in between."""
        items = self._inner.list(bucket, prefix)
        with _timed(self._observe, "list"):
            async with aclosing(items):
                async for item in items:
                    yield item

    async def list_uploads(self, bucket: str, prefix: str) -> AsyncGenerator[MultipartUpload, None]:
        """List, timed to the end of the list, with what its reader does in between."""
        uploads = self._inner.list_uploads(bucket, prefix)
        with _timed(self._observe, "list_uploads"):
            async with aclosing(uploads):
                async for upload in uploads:
                    yield upload


@contextmanager
def _timed(observe: Observer, operation: str) -> Iterator[None]:
    started = time.perf_counter()
    outcome = "cancelled"
    try:
        yield
        outcome = "ok"
    except GatewayError as error:
        outcome = error.code
        raise
    except Exception:
        outcome = "error"
        raise
    finally:
        observe(operation, outcome, time.perf_counter() - started)
