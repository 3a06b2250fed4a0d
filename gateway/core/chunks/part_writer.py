"""Writes one part out of staged chunks, each compared on the way with what was recorded of it.

It records nothing and deletes nothing: that is the assembler's.
"""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from hashlib import md5

from gateway.core.checksums import ALGORITHMS
from gateway.core.chunks.digests import PartDigests
from gateway.core.chunks.layout import ChunkLayout
from gateway.core.chunks.recovery import CHUNKS_AT_A_TIME
from gateway.core.chunks.staging import StagedBytesLost, Staging
from gateway.core.chunks.store import Chunk, ChunkStore
from gateway.core.model import Part, UploadSession
from gateway.core.ports import Storage
from gateway.errors import Unavailable


@dataclass(frozen=True, slots=True)
class PartWriter:
    """Writes parts; whoever calls it takes READ_AHEAD bytes of memory for each."""

    storage: Storage
    chunks: ChunkStore
    staging: Staging

    async def digests(
        self, session: UploadSession, layout: ChunkLayout, number: int
    ) -> PartDigests:
        """Gather the digests of a part's chunks; the part has its checksum, and no ETag yet."""
        algorithm = ALGORITHMS[session.checksum_algorithm]
        indexes = layout.chunks_of(number)
        raw = bytearray()
        page: list[tuple[str, int]] = []
        pages: list[tuple[str, int]] = []
        last_size = 0
        total = 0

        def turn() -> None:
            if algorithm.combinable and page:
                pages.append((algorithm.combine(page), sum(size for _, size in page)))
            page.clear()

        async for chunk in self.recorded(session.session_id, indexes):
            raw += base64.b64decode(chunk.checksum)
            page.append((chunk.checksum, chunk.size))
            last_size = chunk.size
            total += chunk.size
            if len(page) == CHUNKS_AT_A_TIME:
                turn()
        turn()
        checksum = algorithm.combine(pages) if algorithm.combinable else None
        if checksum is None:
            # Such a checksum cannot be put together, and the store wants it before the bytes.
            checksum = await self._hash(session, indexes)
        part = Part(number, total, "", checksum, relayed=True)
        return PartDigests(part, indexes.start, layout.size, last_size, bytes(raw))

    async def _hash(self, session: UploadSession, indexes: range) -> str:
        hasher = ALGORITHMS[session.checksum_algorithm].new()
        async with aclosing(self._checked(session, indexes)) as blocks:
            async for block in blocks:
                hasher.update(block)
        return hasher.value()

    async def write(self, session: UploadSession, indexes: range, part: Part) -> str:
        """Stream the chunks into the part, and return its ETag."""
        limits = self.storage.limits
        # A store that checks nothing itself still tells by its ETag what it has got.
        by_etag = (
            limits.part_etag_is_md5 and session.checksum_algorithm not in limits.part_checksums
        )
        source = _Source(self._checked(session, indexes), hashed=by_etag)
        try:
            stored = await self.storage.put_part(
                session.upload,
                part.number,
                source.blocks(),
                size=part.size,
                algorithm=session.checksum_algorithm,
                checksum=part.checksum,
            )
        except Exception:
            if source.failure is not None:
                raise source.failure from None
            raise
        finally:
            await source.close()
        if stored.checksum not in {None, part.checksum} or (
            by_etag and stored.etag != source.md5()
        ):
            raise Unavailable(
                "The part was damaged on its way to the store.",
                code="part_damaged",
                hint="The gateway writes it again.",
            )
        return stored.etag

    async def _checked(self, session: UploadSession, indexes: range) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of chunks, each compared with its recorded checksum at its end."""
        algorithm = ALGORITHMS[session.checksum_algorithm]
        hasher = algorithm.new()
        left: int | None = None
        chunks = self.recorded(session.session_id, indexes)
        async with aclosing(self.staging.read(session.session_id, chunks)) as pieces:
            async for chunk, data in pieces:
                left = chunk.size if left is None else left
                hasher.update(data)
                left -= len(data)
                if left == 0:
                    if hasher.value() != chunk.checksum:
                        raise StagedBytesLost(chunk.index)
                    hasher, left = algorithm.new(), None
                yield data

    async def recorded(self, session_id: str, indexes: range) -> AsyncGenerator[Chunk, None]:
        """Yield the records of chunks in order, some at a time; one that is missing is lost."""
        for start in range(0, len(indexes), CHUNKS_AT_A_TIME):
            some = indexes[start : start + CHUNKS_AT_A_TIME]
            found = await self.chunks.chunks_of(session_id, some)
            for index in some:
                if index not in found:
                    raise StagedBytesLost(index)
                yield found[index]

    async def is_whole(self, session: UploadSession, chunk: Chunk) -> bool:
        """Tell whether a chunk lies in staging as it was recorded, by reading it."""
        if not chunk.token:
            return False

        async def one() -> AsyncIterator[Chunk]:
            yield chunk

        hasher = ALGORITHMS[session.checksum_algorithm].new()
        try:
            async with aclosing(self.staging.read(session.session_id, one())) as pieces:
                async for _, data in pieces:
                    hasher.update(data)
        except StagedBytesLost:
            return False
        return hasher.value() == chunk.checksum


class _Source:
    """The body of a part: keeps what its bytes' source raised, which HTTP clients may not hand on."""

    def __init__(self, source: AsyncGenerator[bytes, None], *, hashed: bool) -> None:
        self.failure: BaseException | None = None
        self._source = source
        self._md5 = md5(usedforsecurity=False) if hashed else None

    def md5(self) -> str:
        return self._md5.hexdigest() if self._md5 else ""

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        try:
            async for block in self._source:
                if self._md5 is not None:
                    self._md5.update(block)
                yield block
        except (GeneratorExit, asyncio.CancelledError):
            raise
        except BaseException as error:
            self.failure = error
            raise ConnectionAbortedError from error

    async def close(self) -> None:
        # Where it is still running, the request that runs it was cancelled, and ends it.
        with suppress(RuntimeError):
            await self._source.aclose()
