"""Takes in one chunk: stores it where it belongs, or compares it with the one that came before.

Which session a chunk belongs to, and what becomes of it, others decide.
"""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing, nullcontext, suppress
from dataclasses import dataclass

from gateway.core.budget import MemoryBudget
from gateway.core.checksums import ALGORITHMS
from gateway.core.chunks.digests import PartDigests, delete_digests, write_digests
from gateway.core.chunks.layout import has_bit, lay_out
from gateway.core.chunks.loose import LooseChunk
from gateway.core.chunks.staging import Staging
from gateway.core.chunks.store import Chunk, ChunkStore
from gateway.core.content.policy import TAKES_ALL, ContentPolicy
from gateway.core.lifecycle import require_open
from gateway.core.model import Part, State, UploadSession
from gateway.core.plan import PartLimits
from gateway.core.ports import ObjectStore, PartOutcome, Storage
from gateway.core.relay import RELAY_BYTES, PartRelay
from gateway.core.signer import needs_checksums
from gateway.errors import Conflict, GatewayError, InvalidRequest, TooLarge, Unavailable


@dataclass(slots=True)
class _Bytes:
    """A body that is read without being kept: its size and checksum."""

    size: int
    checksum: str


@dataclass(frozen=True, slots=True)
class ChunkIntake:
    """Takes in chunks for `ChunkedUploads`; raises what `UploadService.put_chunk` does."""

    storage: Storage
    objects: ObjectStore
    chunks: ChunkStore
    staging: Staging
    relay: PartRelay
    budget: MemoryBudget
    policy: ContentPolicy = TAKES_ALL

    @property
    def _limits(self) -> PartLimits:
        return self.policy.within(self.storage.limits.parts)

    async def known(self, session: UploadSession, index: int) -> Chunk | None:
        """Return what is recorded of a chunk."""
        if session.state is State.OPEN and not has_bit(session.progress.chunks, index):
            return None
        return (await self.chunks.chunks_of(session.session_id, [index])).get(index)

    async def take(
        self, session: UploadSession, index: int, body: AsyncIterable[bytes], size: int | None
    ) -> PartOutcome:
        """Store a chunk that is not known yet, and record it."""
        plan, layout = session.chunks, session.layout
        if plan is None:
            raise ValueError("The session has no chunks.")
        is_last = index == plan.total - 1
        if size is not None:
            self._check_size(session, size, is_last=is_last, whole=True)
        straight = layout is not None and layout.per_part == 1 and not needs_checksums(session)
        if straight and size:
            return await self._take_straight(session, plan.total, index, body, size)
        chunk = await self.staging.store(
            session.session_id,
            index,
            body,
            algorithm=session.checksum_algorithm,
            on_size=lambda grown: self._check_size(session, grown, is_last=is_last, whole=False),
            size=size,
        )
        return await self._record(session, chunk, plan.total)

    async def _record(self, session: UploadSession, chunk: Chunk, total: int) -> PartOutcome:
        """Record a staged chunk; one that does not count is deleted again."""
        try:
            self._check_size(session, chunk.size, is_last=chunk.index == total - 1, whole=True)
            outcome = await self.chunks.add_chunk(session.session_id, chunk, total=total)
        except Unavailable:
            # It may be recorded: then its pieces are needed.
            raise
        except GatewayError:
            await self._drop(session, chunk)
            raise
        if outcome is PartOutcome.SAME:
            known = await self.chunks.chunks_of(session.session_id, [chunk.index])
            if chunk.index in known and known[chunk.index].token == chunk.token:
                # A call that was repeated within, or a recovery that found the pieces, was quicker.
                return PartOutcome.STORED
            if chunk.index in known:
                await self._drop(session, chunk)
        return outcome

    async def _drop(self, session: UploadSession, chunk: Chunk) -> None:
        async def one() -> AsyncIterator[Chunk]:
            yield chunk

        try:
            await self.staging.delete_chunks(session.session_id, one())
        except GatewayError:
            # It goes with the session.
            return

    async def _take_straight(
        self,
        session: UploadSession,
        total: int,
        index: int,
        body: AsyncIterable[bytes],
        size: int,
    ) -> PartOutcome:
        """Stream a chunk that is a part by itself into the store."""
        try:
            held = isinstance(body, LooseChunk) and bool(body.held)
            # Whoever holds some of the budget must not ask for more.
            async with nullcontext() if held else self.budget.taken(RELAY_BYTES):
                part, _ = await self.relay.put(session, index + 1, _iterated(body), size=size)
        except (Conflict, InvalidRequest) as error:
            raise _of_chunk(error, index) from error
        checksum = part.checksum
        if checksum is None:
            raise Unavailable("The part has no checksum.", code="part_damaged")
        digest = ALGORITHMS[session.checksum_algorithm].decode(checksum)
        layout_size = session.chunks.size if session.chunks and session.chunks.size else size
        kept = Part(part.number, part.size, part.etag, checksum, relayed=True)
        await write_digests(
            self.staging,
            session.session_id,
            PartDigests(kept, index, layout_size, part.size, digest),
        )
        try:
            return await self.chunks.add_chunk(
                session.session_id, Chunk(index, part.size, checksum), total=total
            )
        except (Conflict, InvalidRequest):
            # Storage must not remember as a chunk what is none; what counts is staged.
            with suppress(GatewayError):
                await delete_digests(self.staging, session.session_id, kept)
            raise

    def _check_size(self, session: UploadSession, size: int, *, is_last: bool, whole: bool) -> None:
        """Raise where a chunk of this size, or one that has grown to it, can be none of the file."""
        plan = session.chunks
        if plan is None:
            return
        known = plan.size or session.progress.chunk_size
        if known is None or plan.total == 1:
            # The first one decides, within what the store takes.
            if whole and size and (plan.total == 1 or not is_last):
                lay_out(plan.total, size, self._limits)
            limits = self._limits
            check_most(size, min(limits.max_part_size, limits.max_size))
            return
        if size > known or (whole and size and not is_last and size != known):
            raise InvalidRequest(
                f"The chunk has {'' if whole else 'at least '}{size} bytes, and chunks of this "
                f"file have {known}.",
                code="chunk_size_mismatch",
                hint="All chunks have one size, but the last, which may be smaller.",
                details={"expected": known},
            )

    async def compare(
        self,
        session: UploadSession,
        index: int,
        known: Chunk | None,
        body: AsyncIterable[bytes],
    ) -> PartOutcome:
        """Read a chunk without storing it, and see whether it is the one that came before."""
        most = known.size if known else self._chunk_length(session, index)
        sent = await _read(body, session.checksum_algorithm, most, index)
        if known is None:
            checksum = await self._checksum_of_stored(session, index, most)
        else:
            checksum = known.checksum
        if (sent.size, sent.checksum) != (most, checksum):
            raise _conflict(index)
        return PartOutcome.SAME

    def _chunk_length(self, session: UploadSession, index: int) -> int:
        """Return the length of a chunk of a file that is complete; Conflict where it is not."""
        plan = session.chunks
        if session.object is None or plan is None or plan.size is None or session.size is None:
            require_open(session)
            raise Unavailable("The chunk is not known at the moment.", retry_after=1)
        if session.state is not State.COMPLETED:
            require_open(session)
        return min(plan.size, session.size - index * plan.size)

    async def _checksum_of_stored(self, session: UploadSession, index: int, size: int) -> str:
        """Compute a chunk's checksum from the finished object, where nothing else remembers it."""
        stored, plan = session.object, session.chunks
        if stored is None or plan is None or plan.size is None:
            raise ValueError("The session has no object.")
        start = index * plan.size
        blocks = self.objects.read(
            stored.bucket, stored.key, start=start, stop=start + size, if_match=stored.etag
        )
        hasher = ALGORITHMS[session.checksum_algorithm].new()
        async with aclosing(blocks):
            async for block in blocks:
                hasher.update(block)
        return hasher.value()


def check_most(size: int, most: int) -> None:
    """Raise TooLarge (`chunk_too_large`) for more bytes than a chunk may have."""
    if size > most:
        raise TooLarge(
            "The chunk is larger than is taken here.",
            code="chunk_too_large",
            hint=f"Send chunks of at most {most} bytes.",
            details={"max_size": most},
        )


def _conflict(index: int) -> Conflict:
    return Conflict(
        "Other bytes are stored for this chunk.",
        code="chunk_conflict",
        hint="The chunk that came first stays; send another file under another id.",
        details={"chunk_index": index},
    )


def _of_chunk(error: GatewayError, index: int) -> GatewayError:
    """Return what an error about a part says about the chunk that it consists of."""
    if error.code == "part_conflict":
        return _conflict(index)
    if error.code == "part_length_mismatch":
        return InvalidRequest(
            "The chunk has not as many bytes as was said.",
            code="chunk_size_mismatch",
            hint="All chunks have one size, but the last, which may be smaller.",
        )
    return error


async def _read(body: AsyncIterable[bytes], algorithm: str, most: int, index: int) -> _Bytes:
    hasher = ALGORITHMS[algorithm].new()
    size = 0
    async for block in body:
        size += len(block)
        if size > most:
            raise _conflict(index)
        hasher.update(block)
    return _Bytes(size, hasher.value())


async def _iterated(body: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    async for block in body:
        yield block
