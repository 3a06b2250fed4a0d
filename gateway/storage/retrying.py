"""Repeats what may be repeated: a decorator over any Storage and any ObjectStore.

Only idempotent calls are repeated, after a jittered and growing pause, and only for errors that
say that the same call may succeed later. CompleteMultipartUpload and CreateMultipartUpload pass
through once: repeating the one can turn a success into NoSuchUpload, the other leaves orphans.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

import stamina

from gateway.core.checksums import Checksum
from gateway.core.model import MultipartUpload, Part, StorageLimits, StoredObject
from gateway.core.ports import ObjectStore, Storage
from gateway.errors import GatewayError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try; `seconds` bounds all attempts and pauses of one call.

    Pauses start at `first_pause` seconds and double up to `longest_pause`; up to `jitter` seconds
    are added to each at random. An error's own `retry_after` goes before.
    """

    attempts: int = 4
    seconds: float = 30.0
    first_pause: float = 0.1
    longest_pause: float = 3.0
    jitter: float = 0.2

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what the call returns, once it succeeds; raise its last error otherwise."""
        async for attempt in stamina.retry_context(
            on=_again,
            attempts=self.attempts,
            timeout=self.seconds,
            wait_initial=self.first_pause,
            wait_max=self.longest_pause,
            wait_jitter=self.jitter,
        ):
            with attempt:
                return await call()
        raise AssertionError("The last attempt returns or raises.")  # pragma: no cover

    async def pause(self, failures: int, error: GatewayError) -> None:
        """Wait as long as before the next attempt after so many failures in a row."""
        grown = min(self.longest_pause, self.first_pause * 2 ** (failures - 1))
        jitter = random.uniform(0, self.jitter)  # noqa: S311 - only jitter
        await asyncio.sleep(error.retry_after or grown + jitter)


class RetryingStorage(Storage):
    """Repeats list_parts and abort."""

    def __init__(self, inner: Storage, policy: RetryPolicy | None = None) -> None:
        self.presigner = inner.presigner
        self._inner = inner
        self._policy = policy or RetryPolicy()

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
        """Create once."""
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
        """Put once: the body is gone afterwards."""
        return await self._inner.put_part(
            upload, number, body, size=size, algorithm=algorithm, checksum=checksum
        )

    async def list_parts(self, upload: MultipartUpload) -> AsyncGenerator[Part, None]:
        """Yield a list that came whole: it is fetched to its end, at most 10,000 parts, first."""

        async def fetch() -> list[Part]:
            return [part async for part in self._inner.list_parts(upload)]

        for part in await self._policy.run(fetch):
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
        """Complete once."""
        return await self._inner.complete(
            upload, parts, algorithm=algorithm, checksum=checksum, if_none_match=if_none_match
        )

    async def abort(self, upload: MultipartUpload) -> None:
        """Abort, again where that fails."""
        await self._policy.run(lambda: self._inner.abort(upload))


class RetryingObjectStore(ObjectStore):
    """Repeats every call, and resumes a read where it was cut."""

    def __init__(self, inner: ObjectStore, policy: RetryPolicy | None = None) -> None:
        self._inner = inner
        self._policy = policy or RetryPolicy()

    async def head(self, bucket: str, key: str) -> StoredObject:
        """Describe an object."""
        return await self._policy.run(lambda: self._inner.head(bucket, key))

    async def read(
        self,
        bucket: str,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: str | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Yield bytes, going on where a read was cut; every byte gained allows all attempts anew.

        Without `if_match` nothing tells whether the rest is of the same object, so that a read
        that has given bytes already is not resumed.
        """
        position = start
        failures = 0
        while True:
            resumed = position
            # Every implementation is a generator, and has to be closed with this one.
            blocks = self._inner.read(bucket, key, start=position, stop=stop, if_match=if_match)
            try:
                async with aclosing(blocks):
                    async for block in blocks:
                        position += len(block)
                        yield block
            except GatewayError as error:
                failures = 1 if position > resumed else failures + 1
                mixable = position > start and if_match is None
                if not _again(error) or mixable or failures >= self._policy.attempts:
                    raise
                await self._policy.pause(failures, error)
            else:
                return

    async def put(self, bucket: str, key: str, body: bytes, *, content_type: str) -> None:
        """Store a small object."""
        await self._policy.run(
            lambda: self._inner.put(bucket, key, body, content_type=content_type)
        )

    async def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        await self._policy.run(lambda: self._inner.delete(bucket, key))

    async def list(self, bucket: str, prefix: str) -> AsyncGenerator[StoredObject, None]:
        """Yield objects; after a failure the listing starts over, up to where it was.

        Every store has its own order (SeaweedFS sorts folder by folder), so the place is found by
        the key given last. Where that was deleted meanwhile, the failure is raised.
        """
        last = ""
        failures = 0
        failure: GatewayError | None = None
        while True:
            resumed = last
            given = not last
            items = self._inner.list(bucket, prefix)
            try:
                async with aclosing(items):
                    async for item in items:
                        if given:
                            last = item.key
                            yield item
                        given = given or item.key == last
            except GatewayError as error:
                failures = 1 if last != resumed else failures + 1
                if not _again(error) or failures >= self._policy.attempts:
                    raise
                failure = error
                await self._policy.pause(failures, error)
            else:
                if not given and failure is not None:
                    raise failure
                return

    async def list_uploads(self, bucket: str, prefix: str) -> AsyncGenerator[MultipartUpload, None]:
        """Yield uploads; after a failure the listing starts over, and passes over those given."""
        given: set[MultipartUpload] = set()
        failures = 0
        while True:
            uploads = self._inner.list_uploads(bucket, prefix)
            try:
                async with aclosing(uploads):
                    async for upload in uploads:
                        if upload not in given:
                            given.add(upload)
                            yield upload
            except GatewayError as error:
                failures += 1
                if not _again(error) or failures >= self._policy.attempts:
                    raise
                await self._policy.pause(failures, error)
            else:
                return


def _again(error: Exception) -> bool | float:
    """Tell whether to try again, or after how many seconds."""
    if not isinstance(error, GatewayError) or not error.retryable:
        return False
    return error.retry_after or True
