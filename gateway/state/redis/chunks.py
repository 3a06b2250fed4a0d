"""Which chunks are stored, in Redis: exact under concurrency, and never the truth (law 4).

What is known of one session's chunks lies in that session's slot. The sum over all sessions lies in
another, is told of every change afterwards, and may lag behind by a call.
"""

import logging
from collections.abc import Sequence
from typing import Any

from gateway.core.chunks.layout import MAX_CHUNKS
from gateway.core.chunks.store import Chunk, ChunkStore
from gateway.core.lifecycle import SETTLED
from gateway.core.ports import PartOutcome
from gateway.errors import Conflict, InvalidRequest, Unavailable
from gateway.state.redis.client import Client, Script, Word
from gateway.state.redis.errors import unreadable
from gateway.state.redis.keys import Keys
from gateway.state.redis.replies import raise_refusal

log = logging.getLogger(__name__)

_ADD_CHUNKS = Script.load("add_chunks")
_FORGET_CHUNKS = Script.load("forget_chunks")
_MARK_ASSEMBLED = Script.load("mark_assembled")
_MARK_RESTORED = Script.load("mark_restored")
_SUM_STAGED = Script.load("sum_staged")
_FIELDS = 3


class RedisChunkStore(ChunkStore):
    """See `core.chunk_store.ChunkStore`, whose contract this keeps."""

    def __init__(self, client: Client, *, prefix: str = "gw") -> None:
        self._client = client
        self._keys = Keys(prefix)

    async def add_chunk(self, session_id: str, chunk: Chunk, *, total: int) -> PartOutcome:
        """Record one chunk, or find it recorded."""
        reply = await self._add(session_id, [chunk], total, "add")
        match reply[1]:
            case b"+":
                await self._sum(session_id, reply)
                return PartOutcome.STORED
            case b"=":
                return PartOutcome.SAME
            case b"!":
                raise Conflict(
                    "Other bytes are stored for this chunk.",
                    code="chunk_conflict",
                    hint="The chunk that came first stays; send another file under another id.",
                    details={"chunk_index": chunk.index},
                )
        size, last_size = reply[4], reply[5]
        raise InvalidRequest(
            "The chunk is smaller than the last one, or of another size than those before."
            if size < 0
            else f"The chunk has {chunk.size} bytes, and chunks of this file have {size}.",
            code="chunk_size_mismatch",
            hint="All chunks have one size, but the last, which may be smaller.",
            details={"chunk_index": chunk.index, "expected": size if size >= 0 else last_size},
        )

    async def chunks_of(self, session_id: str, indexes: Sequence[int]) -> dict[int, Chunk]:
        """Return those recorded among the indexes."""
        if not indexes:
            return {}
        key = self._keys.chunks(session_id)[1]
        values = await self._client.command("HMGET", key, *indexes)
        return {
            index: _chunk(index, value)
            for index, value in zip(indexes, values, strict=True)
            if value is not None
        }

    async def restore_chunks(
        self, session_id: str, chunks: Sequence[Chunk], *, total: int
    ) -> list[bool]:
        """Record what was found; a frozen session takes no more, and none of them is told of."""
        if not chunks:
            return []
        reply = await self._add(session_id, chunks, total, "restore")
        await self._sum(session_id, reply)
        return [letter in b"+=" for letter in reply[1]]

    async def mark_restored(self, session_id: str) -> None:
        """Note that the record is as complete as storage."""
        keys = self._keys.chunks(session_id)[:1]
        raise_refusal(await self._client.run(_MARK_RESTORED, keys))

    async def mark_assembled(self, session_id: str, number: int, staged_bytes: int) -> None:
        """Note that a part holds its chunks."""
        keys = self._keys.chunks(session_id)
        reply = await self._client.run(_MARK_ASSEMBLED, [keys[0], keys[3]], number, staged_bytes)
        raise_refusal(reply)
        await self._sum(session_id, [b"", b"", *reply[1:]])

    async def forget_chunks(self, session_id: str, number: int, chunks: Sequence[Chunk]) -> None:
        """Forget chunks that were lost."""
        reply = await self._client.run(
            _FORGET_CHUNKS, self._keys.chunks(session_id), number, *_words(chunks)
        )
        raise_refusal(reply)
        await self._sum(session_id, [b"", b"", *reply[1:]])

    async def forget_staged(self, session_id: str) -> None:
        """Take the session out of the sum."""
        await self._client.run(_SUM_STAGED, self._keys.staged, session_id)

    async def staged_bytes(self) -> int:
        """Return the sum over all sessions."""
        total = await self._client.command("GET", self._keys.staged[1])
        try:
            return int(total or 0)
        except ValueError as error:
            raise unreadable() from error

    async def _add(self, session_id: str, chunks: Sequence[Chunk], total: int, how: str) -> Any:
        for chunk in chunks:
            # A bit far outside would make Redis allocate half a gigabyte.
            if not 0 <= chunk.index < min(total, MAX_CHUNKS):
                raise ValueError("There is no such chunk.")
        reply = await self._client.run(
            _ADD_CHUNKS, self._keys.chunks(session_id), total, how, *_words(chunks)
        )
        raise_refusal(reply)
        return reply

    async def _sum(self, session_id: str, reply: Sequence[Any]) -> None:
        # The chunk counts already; the sum is right again with the next one.
        try:
            await self._client.run(_SUM_STAGED, self._keys.staged, session_id, reply[2], reply[3])
            state = await self._client.command("HGET", self._keys.session(session_id), "state")
            if state is None or state.decode() in SETTLED:
                # Its staging is being cleared, or was already: then it would be counted for ever.
                await self.forget_staged(session_id)
        except Unavailable as error:
            log.warning(
                "staged bytes are not summed: %s", error.code, extra={"session_id": session_id}
            )


def _words(chunks: Sequence[Chunk]) -> list[Word]:
    return [
        word for chunk in chunks for word in (chunk.index, chunk.size, chunk.checksum, chunk.token)
    ]


def _chunk(index: int, value: bytes) -> Chunk:
    try:
        size, checksum, token = value.decode("ascii").split(" ", _FIELDS - 1)
        return Chunk(index, int(size), checksum, token)
    except ValueError as error:
        raise unreadable() from error
