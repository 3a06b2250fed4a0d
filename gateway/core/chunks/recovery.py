"""Finds the chunks of an open session again when Redis has lost them (law 4).

Storage knows two kinds: chunks in a part that the store still lists with the ETag that was written
down with their digests, and whole attempts in staging. Nothing is deleted here, and nothing that is
recorded is changed: what was lost in storage, whoever needs it finds out.
"""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from itertools import pairwise

from gateway.core.chunks.digests import PartDigests, read_digests
from gateway.core.chunks.staging import Staging
from gateway.core.chunks.store import Chunk, ChunkStore
from gateway.core.model import UploadSession
from gateway.core.ports import SessionStore, Storage
from gateway.errors import Conflict, NoSuchUpload

log = logging.getLogger(__name__)

CHUNKS_AT_A_TIME = 500
"""So many chunks are looked at together: never all of a file."""


class ChunkRecovery:
    """Records what storage knows of a session's chunks."""

    def __init__(
        self, storage: Storage, sessions: SessionStore, chunks: ChunkStore, staging: Staging
    ) -> None:
        self._storage = storage
        self._sessions = sessions
        self._chunks = chunks
        self._staging = staging

    async def recover(self, session: UploadSession) -> None:
        """Record the parts and chunks found, then that all are. Can be repeated at any point."""
        if session.chunks is None:
            return
        assembled = await self._recover_parts(session)
        batch: list[Chunk] = []
        async with aclosing(self._staged(session)) as found:
            async for chunk in found:
                if any(chunk.index in indexes for indexes in assembled):
                    # The part was written, and its pieces were just not deleted yet.
                    continue
                batch.append(chunk)
                if len(batch) == CHUNKS_AT_A_TIME:
                    await self._restore(session, batch)
                    batch = []
        await self._restore(session, batch)
        await self._chunks.mark_restored(session.session_id)

    async def _recover_parts(self, session: UploadSession) -> list[range]:
        """Record parts whose digests are known, and return the chunks in them as joined ranges."""
        listed: set[tuple[int, int, str]] = set()
        with suppress(NoSuchUpload):
            # Whoever needs a lost upload next finds out, and decides what that means.
            async for part in self._storage.list_parts(session.upload):
                listed.add((part.number, part.size, part.etag))
        found: list[range] = []
        async with aclosing(_of_listed(self._staging, session, listed)) as told:
            async for digests in told:
                count = digests.count(session.checksum_algorithm)
                await self._recover_part(session, digests, count)
                found.append(range(digests.first, digests.first + count))
        return _joined(found)

    async def _recover_part(self, session: UploadSession, digests: PartDigests, count: int) -> None:
        session_id = session.session_id
        staged = 0
        for start in range(0, count, CHUNKS_AT_A_TIME):
            chunks = digests.chunks(session.checksum_algorithm, start, start + CHUNKS_AT_A_TIME)
            await self._restore(session, chunks)
            # A Redis that fell back in time takes them for staged.
            known = await self._chunks.chunks_of(session_id, [chunk.index for chunk in chunks])
            staged += sum(chunk.size for chunk in known.values() if chunk.token)
        await record_part(self._sessions, session, digests)
        await self._chunks.mark_assembled(session_id, digests.part.number, staged)

    async def _restore(self, session: UploadSession, chunks: list[Chunk]) -> None:
        if session.chunks is not None and chunks:
            await self._chunks.restore_chunks(
                session.session_id, chunks, total=session.chunks.total
            )

    async def _staged(self, session: UploadSession) -> AsyncGenerator[Chunk, None]:
        """Yield the chunks that lie whole in staging, one an index.

        Whole attempts with different bytes are passed over: nobody knows which one was confirmed
        to its sender, and to have a chunk sent again is better than a wrong one in the file.
        """
        index = -1
        whole: list[Chunk] = []
        attempts = self._staging.attempts(session.session_id, session.checksum_algorithm)
        async with aclosing(attempts):
            async for attempt in attempts:
                if attempt.index != index:
                    if chosen := _chosen(session, whole):
                        yield chosen
                    index, whole = attempt.index, []
                if attempt.chunk is not None and _fits(session, attempt.chunk):
                    whole.append(attempt.chunk)
        if chosen := _chosen(session, whole):
            yield chosen


async def record_part(sessions: SessionStore, session: UploadSession, digests: PartDigests) -> None:
    """Record the part that holds chunks: what the chunks say goes before what was known of it."""
    session_id, part = session.session_id, digests.part
    try:
        await sessions.add_parts(session_id, [part])
    except Conflict as error:
        if error.code != "part_conflict":
            raise
        await sessions.allow_replace(session_id, [part.number])
        await sessions.add_parts(session_id, [part])


async def _of_listed(
    staging: Staging, session: UploadSession, listed: set[tuple[int, int, str]]
) -> AsyncGenerator[PartDigests, None]:
    """Yield what is said of parts that the store lists, one a number.

    A store may list a number twice. Where both were told of, with different chunks, nobody knows
    which one counts, as with whole attempts in staging.
    """
    chosen: PartDigests | None = None
    sure = True
    async with aclosing(read_digests(staging, session.session_id)) as told:
        async for digests in told:
            part = digests.part
            if (part.number, part.size, part.etag) not in listed:
                continue
            if chosen is not None and chosen.part.number == part.number:
                sure = sure and chosen.digests == digests.digests
                continue
            if chosen is not None and sure:
                yield chosen
            chosen, sure = digests, True
    if chosen is not None and sure:
        yield chosen


def _fits(session: UploadSession, chunk: Chunk) -> bool:
    plan = session.chunks
    if plan is None or chunk.index >= plan.total:
        return False
    if plan.size is None:
        return True
    is_last = chunk.index == plan.total - 1
    return chunk.size <= plan.size if is_last else chunk.size == plan.size


def _chosen(session: UploadSession, whole: list[Chunk]) -> Chunk | None:
    if len({(chunk.size, chunk.checksum) for chunk in whole}) > 1:
        log.warning(
            "chunk %s was staged with different bytes, and has to be sent again",
            whole[0].index,
            extra={"session_id": session.session_id},
        )
        return None
    return whole[0] if whole else None


def _joined(ranges: list[range]) -> list[range]:
    """Join ranges that touch: a file's parts mostly make up one."""
    ordered = sorted(ranges, key=lambda indexes: indexes.start)
    starts = [ordered[0].start] if ordered else []
    stops: list[int] = []
    for before, after in pairwise(ordered):
        if after.start != before.stop:
            stops.append(before.stop)
            starts.append(after.start)
    stops += [ordered[-1].stop] if ordered else []
    return [range(start, stop) for start, stop in zip(starts, stops, strict=True)]
