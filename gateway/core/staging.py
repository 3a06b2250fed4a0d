"""Keeps bytes in the store that are on their way into a part: chunks, and bodies that came too early.

A body of unknown length is cut into pieces of known length, since an S3 PUT needs one. All pieces
of a session lie in one folder, `.gateway/staging/<session id>/`:

    <chunk index>-<token>-<piece>                    a piece of one attempt to send one chunk
    <chunk index>-<token>-<piece>-<size>-<checksum>  its last one: the chunk's size, checksum in hex

An attempt is whole when its last piece is there and the sizes add up, so that a list of the folder
alone tells which chunks are whole (law 4). Which of two whole attempts counts, it does not tell.
Nothing here decides when something may be deleted.
"""

import asyncio
import binascii
import re
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.core.budget import Grant, MemoryBudget
from gateway.core.checksums import ALGORITHMS
from gateway.core.chunk_store import Chunk
from gateway.core.ports import Clock, ObjectStore
from gateway.core.space import StagingSpace
from gateway.errors import GatewayError, InvalidRequest, NoSuchObject

PREFIX: Final = ".gateway/staging/"
# Pieces outlive versions of this code: what is staged was cut at this size.
PIECE_BYTES: Final = 1024 * 1024
READ_AHEAD: Final = 2 * PIECE_BYTES
"""Bytes that a reader of pieces holds at most."""

_TYPE: Final = "application/octet-stream"
_AT_ONCE: Final = 16
_DELETED_AT_A_TIME: Final = 500
_PIECE: Final = re.compile(
    r"([0-9]{7})-([0-9a-f]{12})-([0-9]{6})(?:-([0-9]{1,16})-([0-9a-f]{8,64}))?", re.ASCII
)
_LOOSE: Final = "loose/"
_LOOSE_NAME: Final = re.compile(r"([0-9]{8}T[0-9]{6})-[0-9a-f]{12}-[0-9]{6}", re.ASCII)
_LOOSE_TIME: Final = "%Y%m%dT%H%M%S"


class StagedBytesLost(Exception):
    """A piece is gone, or holds other bytes than were put there: the chunk must be sent again."""

    def __init__(self, index: int) -> None:
        super().__init__(f"chunk {index}")
        self.index = index


@dataclass(slots=True)
class Attempt:
    """What a list of the folder tells of one attempt; `chunk` is None unless it is whole."""

    index: int
    token: str
    keys: list[str] = field(default_factory=list)
    chunk: Chunk | None = None


class LooseChunk(AsyncIterable[bytes]):
    """A body that came before anybody knew whose it is; read it once or more, then discard it.

    Up to one piece is held in memory, more of it lies in the store.
    """

    def __init__(self, staging: "Staging", held: bytes, keys: list[str], size: int) -> None:
        self.size = size
        self.held = held
        self._staging = staging
        self._keys = keys
        self._grant: Grant | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._blocks()

    async def discard(self) -> None:
        """Let go of it. What cannot be deleted now is swept a day later."""
        if self._grant is not None:
            self._grant.give_back()
            self._grant = None
        self.held = b""
        keys, self._keys = self._keys, []
        with suppress(GatewayError):
            await self._staging.delete(keys)

    def keep(self, grant: Grant) -> None:
        """Hold on to the memory that the piece takes, until it is discarded."""
        self._grant = grant

    async def _blocks(self) -> AsyncGenerator[bytes, None]:
        if self.held:
            yield self.held
        for key in self._keys:
            async with aclosing(self._staging.read_object(key)) as blocks:
                async for block in blocks:
                    yield block


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
        start = f"{_folder(session_id)}{index:07d}-{token}-"
        hasher = ALGORITHMS[algorithm].new()
        keys: list[str] = []
        total = 0
        held = isinstance(body, LooseChunk) and bool(body.held)
        expected = PIECE_BYTES if size is None else max(1, min(size, PIECE_BYTES))
        try:
            # What a loose chunk holds in memory was counted when it came.
            async with self._budget.taken(1 if held else expected):
                piece = _Piece()
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
        now = self._clock.now().astimezone(UTC).strftime(_LOOSE_TIME)
        start = f"{PREFIX}{_LOOSE}{now}-{secrets.token_hex(6)}-"
        keys: list[str] = []
        total = 0
        grant = await self._budget.take(PIECE_BYTES)
        try:
            piece = _Piece()
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
        folder = _folder(session_id)
        attempt: Attempt | None = None
        sizes = 0
        items = self._objects.list(self._bucket, folder)
        async with aclosing(items):
            async for item in items:
                name = _PIECE.fullmatch(item.key.removeprefix(folder))
                if name is None:
                    continue
                index, token, number, size, checksum = name.groups()
                if attempt is None or (attempt.index, attempt.token) != (int(index), token):
                    if attempt is not None:
                        yield attempt
                    attempt, sizes = Attempt(int(index), token), 0
                in_order = int(number) == len(attempt.keys)
                attempt.keys.append(item.key)
                sizes += item.size
                if in_order and size is not None and int(size) == sizes:
                    attempt.chunk = _chunk(attempt, int(size), checksum, algorithm)
        if attempt is not None:
            yield attempt

    async def clear(self, session_id: str) -> None:
        """Delete all that lies in the folder of a session."""
        await self._clear(_folder(session_id), lambda _: True)

    async def sweep_loose(self, older_than: timedelta) -> None:
        """Delete loose chunks that were left lying."""
        limit = (self._clock.now() - older_than).astimezone(UTC).replace(tzinfo=None)

        def is_old(name: str) -> bool:
            made = _LOOSE_NAME.fullmatch(name)
            if made is None:
                return False
            with suppress(ValueError):
                # The names are in UTC, like the limit.
                return datetime.strptime(made[1], _LOOSE_TIME) < limit  # noqa: DTZ007
            return False

        await self._clear(f"{PREFIX}{_LOOSE}", is_old)

    async def put_object(self, session_id: str, name: str, body: bytes) -> None:
        """Store a small object of the session's, beside its pieces."""
        await self._objects.put(
            self._bucket, _folder(session_id) + name, body, content_type="application/json"
        )

    async def names(self, session_id: str, start: str) -> AsyncGenerator[str, None]:
        """Yield the names in a session's folder that begin so."""
        folder = _folder(session_id)
        items = self._objects.list(self._bucket, folder + start)
        async with aclosing(items):
            async for item in items:
                yield item.key.removeprefix(folder)

    async def get_object(self, session_id: str, name: str, *, limit: int) -> bytes:
        """Read a small object of the session's; NoSuchObject, or its first `limit` bytes."""
        body = bytearray()
        async with aclosing(self.read_object(_folder(session_id) + name)) as blocks:
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


class _Piece:
    """A buffer that gives its bytes away when it is full and more come."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._size = 0

    def fill(self, block: bytes) -> Iterator[bytes]:
        """Take in a block; yield what was full before it."""
        rest = memoryview(block)
        while rest:
            if self._size == PIECE_BYTES:
                yield self.rest()
            taken = rest[: PIECE_BYTES - self._size]
            # Blocks are taken as they are wherever that is possible.
            self._blocks.append(block if len(taken) == len(block) else bytes(taken))
            self._size += len(taken)
            rest = rest[len(taken) :]

    def rest(self) -> bytes:
        """Return what is in it, and be empty."""
        whole = self._blocks[0] if len(self._blocks) == 1 else b"".join(self._blocks)
        self._blocks, self._size = [], 0
        return whole


def piece_keys(session_id: str, chunk: Chunk) -> Iterator[str]:
    """Yield the keys of a chunk's pieces in order."""
    start = f"{_folder(session_id)}{chunk.index:07d}-{chunk.token}-"
    last = -(-chunk.size // PIECE_BYTES) - 1
    for number in range(last):
        yield f"{start}{number:06d}"
    checksum = binascii.a2b_base64(chunk.checksum).hex()
    yield f"{start}{last:06d}-{chunk.size}-{checksum}"


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


def _folder(session_id: str) -> str:
    return f"{PREFIX}{session_id}/"


def _chunk(attempt: Attempt, size: int, checksum: str, algorithm: str) -> Chunk | None:
    try:
        digest = bytes.fromhex(checksum)
    except ValueError:
        return None
    if not size or len(digest) != ALGORITHMS[algorithm].digest_size:
        return None
    value = binascii.b2a_base64(digest, newline=False).decode("ascii")
    return Chunk(attempt.index, size, value, attempt.token)
