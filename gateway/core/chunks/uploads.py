"""Takes files in chunks, as the older chunk APIs send them, and decides what each chunk means.

A chunk that is acknowledged is durable: it lies whole in staging, or in its part. Which bytes a
chunk has is decided by the first one that came; the same again is a success that counts once, also
when the file is complete, and other bytes are a conflict. What becomes of chunks is the assembler's.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from gateway.core.access import Principal
from gateway.core.budget import MemoryBudget
from gateway.core.checksums import Checksum
from gateway.core.chunks.assembler import Assembler
from gateway.core.chunks.intake import ChunkIntake, check_most
from gateway.core.chunks.layout import has_all, has_bit
from gateway.core.chunks.loose import LooseChunk
from gateway.core.chunks.staging import Staging
from gateway.core.chunks.store import ChunkStore
from gateway.core.content.policy import TAKES_ALL, ContentPolicy
from gateway.core.creation import Creator
from gateway.core.lifecycle import CLOSED, UNSETTLED, require_open
from gateway.core.model import (
    ChunkedFile,
    ChunkPlan,
    NewUpload,
    State,
    UploadSession,
)
from gateway.core.ports import Clock, ObjectStore, PartOutcome, SessionStore, Storage
from gateway.core.reconciler import Reconciler, recorded
from gateway.core.relay import PartRelay
from gateway.errors import (
    Conflict,
    InvalidRequest,
    SessionNotFound,
)

# A sweeper looks after what was to be assembled when this process dies.
_ATTEND_AFTER: Final = timedelta(seconds=30)
# While the first chunk of a file makes its session, those that come with it wait so long.
_CREATION_PATIENCE: Final = 10.0
_CREATION_PAUSE: Final = 0.05
_TRIES: Final = 5


class ChunkedUploads:
    """The verbs of files in chunks, for the service."""

    def __init__(
        self,
        *,
        storage: Storage,
        objects: ObjectStore,
        sessions: SessionStore,
        chunks: ChunkStore,
        staging: Staging,
        clock: Clock,
        reconciler: Reconciler,
        creator: Creator,
        relay: PartRelay,
        assembler: Assembler,
        budget: MemoryBudget,
        policy: ContentPolicy = TAKES_ALL,
    ) -> None:
        self._storage = storage
        self._sessions = sessions
        self._staging = staging
        self._intake = ChunkIntake(storage, objects, chunks, staging, relay, budget, policy)
        self._clock = clock
        self._reconciler = reconciler
        self._creator = creator
        self._assembler = assembler
        self._policy = policy

    async def put(
        self,
        principal: Principal,
        file: ChunkedFile,
        index: int,
        body: AsyncIterable[bytes],
        *,
        size: int | None,
        wait: float,
    ) -> tuple[UploadSession, PartOutcome]:
        """Store a chunk; see `UploadService.put_chunk`."""
        file.check_index(index)
        session = await self._begun(
            principal,
            file,
            NewUpload(filename=file.filename, content_type=file.content_type),
            ChunkPlan(file.total_chunks, completes_itself=file.completes_itself),
        )
        _check_same_file(session, file)
        if session.state in CLOSED:
            require_open(session)
        session_id = session.session_id
        known = await self._intake.known(session, index)
        if known is None and session.state in UNSETTLED:
            # Redis has lost its digest; once the file is complete, its bytes can be asked.
            await asyncio.wait({self._assembler.start(session_id)}, timeout=wait)
            session = await self._reconciler.load(session_id)
        if known is not None or session.state is not State.OPEN:
            outcome = await self._intake.compare(session, index, known, body)
        else:
            try:
                with recorded():
                    outcome = await self._intake.take(session, index, body, size)
            except Conflict as error:
                if error.code == "session_not_open":
                    await self._assembler.leave_nothing(session_id)
                raise
        if isinstance(body, LooseChunk):
            # What is waited for below needs memory too.
            await body.discard()
        session = await self._assembler.learn(await self._reconciler.load(session_id))
        return await self._follow(session, index, wait), outcome

    async def open(
        self, principal: Principal, file: ChunkedFile, *, chunk_size: int, size: int
    ) -> UploadSession:
        """Make the session of a file before its first chunk; see `UploadService.open_chunked`."""
        layout = self._assembler.lay_out(file.total_chunks, chunk_size)
        plan = ChunkPlan(file.total_chunks, chunk_size, completes_itself=file.completes_itself)
        session = await self._begun(
            principal,
            file,
            NewUpload(
                filename=file.filename,
                size=size,
                content_type=file.content_type,
                part_size=layout.part_size,
            ),
            plan,
        )
        _check_same_file(session, file)
        if session.layout != layout or session.size != size:
            raise _id_taken()
        return session

    async def stage(self, body: AsyncIterable[bytes]) -> LooseChunk:
        """Take in a body whose chunk is not known yet; see `UploadService.stage`."""
        most = self._policy.within(self._storage.limits.parts).max_part_size
        return await self._staging.stage_loose(body, lambda size: check_most(size, most))

    async def complete(
        self, session: UploadSession, size: int | None, checksum: Checksum | None, wait: float
    ) -> UploadSession:
        """Complete an open session as soon as it is assembled; return it after `wait` s at most.

        Raises Conflict `chunks_missing` with their ranges from 0, or why the store refused the
        parts; InvalidRequest `size_mismatch`.
        """
        session_id = session.session_id
        session = await self._wish(session, size, checksum)
        if session.state is State.OPEN:
            await self._attend(session_id)
            await asyncio.wait({self._assembler.start(session_id)}, timeout=wait)
            session = await self._reconciler.load(session_id)
        if session.state is State.OPEN:
            if session.error is not None:
                raise Conflict(
                    session.error.message, code=session.error.code, hint=session.error.hint
                )
            if not session.has_all_chunks:
                raise _chunks_missing(session)
        return session

    async def _wish(
        self, session: UploadSession, size: int | None, checksum: Checksum | None
    ) -> UploadSession:
        """Save that an open session is to be completed, so that nobody has to ask again."""
        for _ in range(_TRIES):
            plan = session.chunks
            if session.state is not State.OPEN or plan is None:
                return session
            if not session.has_all_chunks:
                # A Redis that fell back in time knows less than storage.
                session = await self._reconciler.recover_chunks(session)
                if not session.has_all_chunks:
                    raise _chunks_missing(session)
            session = await self._assembler.learn(session)
            if size is not None and size != session.size:
                raise InvalidRequest(
                    "This is not the size of all chunks together.",
                    code="size_mismatch",
                    hint=f"The chunks have {session.size} bytes.",
                )
            wanted = replace(
                session,
                chunks=replace(session.chunks or plan, completes_itself=True),
                checksum=checksum or session.checksum,
                error=None,
            )
            if wanted == session:
                return session
            after = replace(wanted, version=session.version + 1, updated_at=self._clock.now())
            try:
                with recorded():
                    saved = await self._sessions.save(after)
            except Conflict as error:
                if error.code != "session_changed":
                    raise
                session = await self._reconciler.load(session.session_id)
                continue
            await self._reconciler.restate(session.session_id)
            return replace(saved, progress=session.progress)
        raise Conflict(
            "The session keeps changing.",
            code="session_changed",
            hint="Stop sending chunks before completing.",
            retryable=True,
            retry_after=1,
        )

    async def _begun(
        self, principal: Principal, file: ChunkedFile, new: NewUpload, plan: ChunkPlan
    ) -> UploadSession:
        """Find the session of a file, or make it with the first chunk that comes."""
        session_id = chunked_id(principal, file.form, file.file_id)
        loop = asyncio.get_running_loop()
        end = loop.time() + _CREATION_PATIENCE
        while True:
            try:
                return await self._reconciler.load(session_id)
            except SessionNotFound:
                pass
            try:
                session, _ = await self._creator.create(
                    principal, new, session_id=session_id, chunks=plan
                )
            except Conflict as error:
                if error.code != "creation_in_flight" or loop.time() >= end:
                    raise
                await asyncio.sleep(_CREATION_PAUSE)
            else:
                return session

    async def _follow(self, session: UploadSession, index: int, wait: float) -> UploadSession:
        """Let the assembler begin where there is something to do, and wait for the end of the file."""
        session_id, plan = session.session_id, session.chunks
        ends = plan is not None and plan.completes_itself and session.has_all_chunks
        if not (ends or self._makes_ready(session, index)):
            return session
        if session.state is State.OPEN:
            await self._attend(session_id)
        elif session.state not in UNSETTLED and session.storage_cleared:
            return session
        task = self._assembler.start(session_id)
        if ends and (session.state is State.OPEN or session.state in UNSETTLED):
            await asyncio.wait({task}, timeout=wait)
            return await self._reconciler.load(session_id)
        return session

    def _makes_ready(self, session: UploadSession, index: int) -> bool:
        if session.state is not State.OPEN:
            return False
        layout, plan = session.layout, session.chunks
        if layout is None or plan is None:
            return False
        progress = session.progress
        # With the first chunk that tells the size, the last one may be a part by itself.
        for chunk in {index, plan.total - 1}:
            number = layout.number_of(chunk)
            if not has_bit(progress.assembled, number - 1) and has_all(
                progress.chunks, layout.chunks_of(number)
            ):
                return True
        return False

    async def _attend(self, session_id: str) -> None:
        await self._sessions.schedule(session_id, self._clock.now() + _ATTEND_AFTER)


def chunked_id(principal: Principal, form: str, file_id: str) -> str:
    """Return the id of the session of a file, which its sender names differently."""
    # With two separators, it is none of those that an idempotency key makes.
    text = f"{principal.principal_id}\0{form}\0{file_id}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _check_same_file(session: UploadSession, file: ChunkedFile) -> None:
    if session.chunks is None or session.chunks.total != file.total_chunks:
        raise Conflict(
            "The file was begun with another number of chunks.",
            code="total_chunks_changed",
            hint="Send the same total_chunks with every chunk; another file needs another id.",
            details={"total_chunks": session.chunks.total if session.chunks else None},
        )
    if session.filename != file.filename:
        raise _id_taken()


def _id_taken() -> Conflict:
    return Conflict(
        "Another file was begun under this id.",
        code="file_id_taken",
        hint="Send the same file name with every chunk; another file needs another id.",
    )


def _chunks_missing(session: UploadSession) -> Conflict:
    total = session.chunks.total if session.chunks else 0
    count = total - session.progress.received_chunks
    return Conflict(
        f"{count} chunk{'s are' if count > 1 else ' is'} missing.",
        code="chunks_missing",
        hint="Send these chunks, then complete again. They are counted from 0.",
        details={"missing": session.missing_chunks},
    )
