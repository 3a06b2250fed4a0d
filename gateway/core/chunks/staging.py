"""Keeps bytes in the store that are on their way into a part: chunks, and bodies that came too early.

How they lie there says `pieces`. Nothing here decides when something may be deleted.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing, nullcontext, suppress
from datetime import timedelta
from typing import Final

from gateway.core.budget import MemoryBudget
from gateway.core.checksums import ALGORITHMS
from gateway.core.chunks.loose import LOOSE, LooseChunk, came_before, loose_prefix
from gateway.core.chunks.pieces import (
    PIECE_BYTES,
    PREFIX,
    Attempt,
    Piece,
    PieceName,
    folder_of,
    piece_keys,
)
from gateway.core.chunks.space import StagingSpace
from gateway.core.chunks.store import Chunk
from gateway.core.model import check_session_id
from gateway.core.ports import Clock, ObjectStore
from gateway.errors import GatewayError, InvalidRequest, NoSuchObject, SessionNotFound

READ_AHEAD: Final = 2 * PIECE_BYTES
"""Bytes that a reader of pieces holds at most."""

_TYPE: Final = "application/octet-stream"
_AT_ONCE: Final = 16
_DELETED_AT_A_TIME: Final = 500


class StagedBytesLost(Exception):
    """A piece is gone, or holds other bytes than were put there: the chunk must be sent again."""

    def __init__(self, index: int) -> None:
        super().__init__(f"chunk {index}")
        self.index = index


class Staging:
    """The staging prefix of one bucket."""

    def __init__(
        self,
        objects: ObjectStore,
        bucket: str,
        budget: MemoryBudget,
        space: StagingSpace,
        clock: Clock,
    ) -> None:
        self._objects = objects
        self._bucket = bucket
        self._budget = budget
        self._space = space
        self._clock = clock

    async def store(
        self,
        session_id: str,
        index: int,
        body: AsyncIterable[bytes],
        *,
        algorithm: str,
        on_size: Callable[[int], None],
        size: int | None = None,
    ) -> Chunk:
        """Store a chunk in pieces, and return it when it is durable.

        `on_size` hears of every growth and may raise; `size` is what is expected, for the memory
        that it takes. Whatever is raised, what was stored is deleted again. Raises InvalidRequest
        `chunk_empty`, StorageFull `staging_full`, Unavailable, and what the body raises.
        """
        token = secrets.token_hex(6)
        start = f"{folder_of(session_id)}{index:07d}-{token}-"
        hasher = ALGORITHMS[algorithm].new()
        keys: list[str] = []
        total = 0
        held = isinstance(body, LooseChunk) and bool(body.held)
        expected = PIECE_BYTES if size is None else max(1, min(size, PIECE_BYTES))
        try:
            # What a loose chunk holds in memory was counted when it came; to ask for more could mean
            # to wait for others that do the same.
            async with nullcontext() if held else self._budget.taken(expected):
                piece = Piece()
                async for block in body:
                    total += len(block)
                    on_size(total)
                    hasher.update(block)
                    for full in piece.fill(block):
                        await self._put(keys, f"{start}{len(keys):06d}", full)
                _check_not_empty(total)
                end = f"{len(keys):06d}-{total}-{hasher.digest().hex()}"
                await self._put(keys, start + end, piece.rest())
        except BaseException:
            # Should this not work either, it goes with the session.
            with suppress(GatewayError):
                await self.delete(keys)
            self._space.release(keys)
            raise
        self._space.release(keys)
        return Chunk(index, total, hasher.value(), token)

    async def stage_loose(
        self, body: AsyncIterable[bytes], on_size: Callable[[int], None]
    ) -> LooseChunk:
        """Take in a body that nobody knows the owner of yet; raises what `store` does."""
        start = loose_prefix(self._clock.now(), secrets.token_hex(6))
        keys: list[str] = []
        total = 0
        grant = await self._budget.take(PIECE_BYTES)
        try:
            piece = Piece()
            async for block in body:
                total += len(block)
                on_size(total)
                for full in piece.fill(block):
                    await self._put(keys, f"{start}{len(keys):06d}", full)
            rest = piece.rest()
            if not keys:
                loose = LooseChunk(self, rest, [], total)
                loose.keep(grant)
                return loose
            await self._put(keys, f"{start}{len(keys):06d}", rest)
        except BaseException:
            grant.give_back()
            with suppress(GatewayError):
                await self.delete(keys)
            self._space.release(keys)
            raise
        grant.give_back()
        self._space.release(keys)
        return LooseChunk(self, b"", keys, total)

    async def read(
        self, session_id: str, chunks: AsyncIterable[Chunk]
    ) -> AsyncGenerator[tuple[Chunk, bytes], None]:
        """Yield the bytes of chunks, one after the other, piece by piece, some read ahead.

        At most READ_AHEAD bytes are held, for which the caller takes the memory. Raises
        StagedBytesLost for a piece that is gone or too short.
        """
        ahead: deque[tuple[Chunk, int, asyncio.Task[bytes]]] = deque()
        pieces = _pieces(session_id, chunks)
        waiting = await anext(pieces, None)
        reading = 0
        try:
            while waiting is not None or ahead:
                while waiting is not None and len(ahead) < _AT_ONCE:
                    chunk, key, size = waiting
                    if ahead and reading + size > READ_AHEAD:
                        break
                    ahead.append((chunk, size, asyncio.create_task(self._read(chunk, key, size))))
                    reading += size
                    waiting = await anext(pieces, None)
                chunk, size, task = ahead[0]
                data = await task
                ahead.popleft()
                yield chunk, data
                reading -= size
        finally:
            for _, _, task in ahead:
                task.cancel()
            await asyncio.gather(*(task for _, _, task in ahead), return_exceptions=True)
            await pieces.aclose()

    async def has(self, session_id: str, chunk: Chunk) -> bool:
        """Tell whether the pieces of a chunk begin and end there; those between are not asked for."""
        keys = list(piece_keys(session_id, chunk))
        with suppress(NoSuchObject):
            for key in {keys[0], keys[-1]}:
                await self._objects.head(self._bucket, key)
            return True
        return False

    async def delete_chunks(self, session_id: str, chunks: AsyncIterable[Chunk]) -> None:
        """Delete the pieces of chunks."""
        keys: list[str] = []
        async for chunk in chunks:
            for key in piece_keys(session_id, chunk):
                keys.append(key)
                if len(keys) == _AT_ONCE:
                    await self.delete(keys)
                    keys = []
        await self.delete(keys)

    async def delete(self, keys: list[str]) -> None:
        """Delete objects, a few at a time."""
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            await asyncio.gather(*(self._objects.delete(self._bucket, key) for key in some))

    async def attempts(self, session_id: str, algorithm: str) -> AsyncGenerator[Attempt, None]:
        """Yield what lies there, attempt by attempt, in order of index."""
        folder = folder_of(session_id)
        attempt: Attempt | None = None
        items = self._objects.list(self._bucket, folder)
        async with aclosing(items):
            async for item in items:
                name = PieceName.parse(item.key.removeprefix(folder), algorithm)
                if name is None:
                    continue
                if attempt is None or (attempt.index, attempt.token) != (name.index, name.token):
                    if attempt is not None:
                        yield attempt
                    attempt = Attempt(name.index, name.token)
                attempt.take(name, item.key, item.size)
        if attempt is not None:
            yield attempt

    async def clear(self, session_id: str) -> None:
        """Delete all that lies in the folder of a session."""
        await self._clear(folder_of(session_id), lambda _: True)

    async def sweep_loose(self, older_than: timedelta) -> None:
        """Delete loose chunks that were left lying."""
        limit = self._clock.now() - older_than
        await self._clear(LOOSE, lambda name: came_before(name, limit))

    async def session_ids(self) -> AsyncGenerator[str, None]:
        """Yield the sessions that have anything here."""
        last = ""
        items = self._objects.list(self._bucket, PREFIX)
        async with aclosing(items):
            async for item in items:
                session_id = item.key.removeprefix(PREFIX).partition("/")[0]
                if session_id != last:
                    last = session_id
                    with suppress(SessionNotFound):
                        yield check_session_id(session_id)

    async def put_object(self, session_id: str, name: str, body: bytes) -> None:
        """Store a small object of the session's, beside its pieces."""
        await self._objects.put(
            self._bucket, folder_of(session_id) + name, body, content_type="application/json"
        )

    async def names(self, session_id: str, start: str) -> AsyncGenerator[str, None]:
        """Yield the names in a session's folder that begin so."""
        folder = folder_of(session_id)
        items = self._objects.list(self._bucket, folder + start)
        async with aclosing(items):
            async for item in items:
                yield item.key.removeprefix(folder)

    async def get_object(self, session_id: str, name: str, *, limit: int) -> bytes:
        """Read a small object of the session's; NoSuchObject, or its first `limit` bytes."""
        body = bytearray()
        async with aclosing(self.read_object(folder_of(session_id) + name)) as blocks:
            async for block in blocks:
                body += block
                if len(body) >= limit:
                    break
        return bytes(body)

    def read_object(self, key: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of an object of the staging prefix."""
        return self._objects.read(self._bucket, key)

    async def _put(self, keys: list[str], key: str, body: bytes) -> None:
        # Also a call that failed may have stored it.
        keys.append(key)
        await self._space.reserve(key, len(body))
        await self._objects.put(self._bucket, key, body, content_type=_TYPE)

    async def _read(self, chunk: Chunk, key: str, size: int) -> bytes:
        body = bytearray()
        try:
            async with aclosing(self.read_object(key)) as blocks:
                async for block in blocks:
                    body += block
        except NoSuchObject as error:
            raise StagedBytesLost(chunk.index) from error
        if len(body) != size:
            raise StagedBytesLost(chunk.index)
        return bytes(body)

    async def _clear(self, folder: str, chosen: Callable[[str], bool]) -> None:
        keys: list[str] = []
        items = self._objects.list(self._bucket, folder)
        async with aclosing(items):
            async for item in items:
                if item.key.startswith(folder) and chosen(item.key.removeprefix(folder)):
                    keys.append(item.key)
                if len(keys) == _DELETED_AT_A_TIME:
                    # Behind the list: the page that comes next begins where the last one ended.
                    await self.delete(keys)
                    keys = []
        await self.delete(keys)


def _check_not_empty(size: int) -> None:
    if not size:
        raise InvalidRequest(
            "The chunk is empty.",
            code="chunk_empty",
            hint="Every chunk has at least one byte.",
        )


async def _pieces(
    session_id: str, chunks: AsyncIterable[Chunk]
) -> AsyncGenerator[tuple[Chunk, str, int], None]:
    async for chunk in chunks:
        left = chunk.size
        for key in piece_keys(session_id, chunk):
            yield chunk, key, min(left, PIECE_BYTES)
            left -= PIECE_BYTES
