"""Writes staged chunks into parts of legal size, and sees a file in chunks to its end.

A part is written as soon as all its chunks are there: their pieces are streamed back out of staging
into the store, every chunk compared on the way with what was recorded when it arrived. Then, in
this order, the chunks' digests are written down, the part is recorded, the chunks are marked, and
their pieces are deleted. Whoever dies between two of these steps leaves something that the next one
does again. When all is in parts, a file that completes itself is completed, and at the end its
staging is cleared.

Like the completer, this runs in the background, one task a session and process; a lease keeps two
processes from the same work, and nothing but work depends on it (law 5).
"""

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from gateway.core.budget import MemoryBudget
from gateway.core.chunks.digests import delete_other_digests, write_digests
from gateway.core.chunks.layout import ChunkLayout, gaps, has_bit, lay_out
from gateway.core.chunks.part_writer import PartWriter
from gateway.core.chunks.recovery import CHUNKS_AT_A_TIME, ChunkRecovery, record_part
from gateway.core.chunks.staging import READ_AHEAD, StagedBytesLost, Staging
from gateway.core.chunks.store import Chunk, ChunkStore
from gateway.core.completer import Completer
from gateway.core.content.policy import TAKES_ALL, ContentPolicy
from gateway.core.driving import Drives
from gateway.core.freezer import Freezer
from gateway.core.holding import held
from gateway.core.lifecycle import CLOSED, SETTLED, UNSETTLED
from gateway.core.model import State, UploadSession
from gateway.core.ports import Clock, Leases, SessionStore, Sidecar, Sidecars, Storage
from gateway.core.reconciler import Reconciler, recorded
from gateway.errors import Conflict, GatewayError, NoSuchUpload, StorageFull, Unavailable

log = logging.getLogger(__name__)

_TRIES = 5


@dataclass(frozen=True, slots=True)
class AssemblerOptions:
    """Times in seconds. `patience` bounds a drive that gets nowhere; the sweeper begins another.

    `at_once` bounds the parts that one process writes at the same time.
    """

    lease: float = 10.0
    patience: float = 1200.0
    first_pause: float = 0.5
    longest_pause: float = 30.0
    poll: float = 0.25
    at_once: int = 4


class Assembler:
    """Assembles files in the background, each once a process."""

    def __init__(
        self,
        *,
        storage: Storage,
        sessions: SessionStore,
        chunks: ChunkStore,
        sidecars: Sidecars,
        staging: Staging,
        leases: Leases,
        clock: Clock,
        reconciler: Reconciler,
        recovery: ChunkRecovery,
        freezer: Freezer,
        completer: Completer,
        budget: MemoryBudget,
        options: AssemblerOptions | None = None,
        policy: ContentPolicy = TAKES_ALL,
    ) -> None:
        self._storage = storage
        self._sessions = sessions
        self._chunks = chunks
        self._sidecars = sidecars
        self._staging = staging
        self._leases = leases
        self._clock = clock
        self._reconciler = reconciler
        self._recovery = recovery
        self._freezer = freezer
        self._completer = completer
        self._budget = budget
        self._options = options or AssemblerOptions()
        self._policy = policy
        self._drives = Drives("assembling", self._options.patience)
        self._again: set[str] = set()
        self._writer = PartWriter(storage, chunks, staging)
        self._slots = asyncio.Semaphore(self._options.at_once)

    def start(self, session_id: str) -> asyncio.Task[None]:
        """Begin to drive the session, or return the task that does so already.

        The task ends when there is nothing to do but to wait for chunks, or nothing at all; its own
        errors are logged, not raised.
        """
        # A drive that is about to end looks once more.
        self._again.add(session_id)
        return self._drives.start(session_id, lambda limit: self._drive_noted(session_id, limit))

    async def close(self) -> None:
        """Stop all work; sessions stay where they are, and leases are released."""
        await self._drives.close()

    def lay_out(self, total: int, size: int) -> ChunkLayout:
        """Decide which chunks make up which part, within what the store and the policy allow."""
        return lay_out(total, size, self._policy.within(self._storage.limits.parts))

    async def learn(self, session: UploadSession) -> UploadSession:
        """Save the sizes that the chunks have shown, so that no part is written without a plan.

        Storage is told of the size of chunks before this returns: with Redis lost, it is the same.
        """
        for _ in range(_TRIES):
            after = self._learned(session)
            if after is None:
                return session
            try:
                with recorded():
                    saved = await self._sessions.save(after)
            except Conflict as error:
                if error.code != "session_changed":
                    raise
                session = await self._reconciler.load(session.session_id)
                continue
            if session.layout is None:
                await self._reconciler.restate(session.session_id)
            return replace(saved, progress=session.progress)
        raise Conflict(
            "The session keeps changing.",
            code="session_changed",
            hint="Send the same request again.",
            retryable=True,
            retry_after=1,
        )

    def has_work(self, session: UploadSession) -> bool:
        """Tell whether a drive would find something to do."""
        if session.chunks is None:
            return False
        if session.state is State.OPEN:
            layout = session.layout
            if layout is None:
                return session.progress.chunk_size is not None
            return self._is_assembled(session) or next(_ready(session, layout), None) is not None
        # Of a closed one the parts have to go first, which is the sweeper's.
        return session.state not in CLOSED and not session.storage_cleared

    async def clear(self, session: UploadSession) -> None:
        """Delete what a settled session has in staging, and note that it was done."""
        session_id = session.session_id
        if session.state not in SETTLED:
            raise Conflict("Only settled sessions are cleared.", code="wrong_state")
        await self._staging.clear(session_id)
        await self._chunks.forget_staged(session_id)
        cleared = replace(
            session,
            storage_cleared=True,
            version=session.version + 1,
            updated_at=self._clock.now(),
        )
        parts = (await self._sessions.parts(session_id)).parts
        await self._sidecars.write(Sidecar(cleared, parts))
        await self._sessions.save(cleared)

    async def leave_nothing(self, session_id: str) -> None:
        """Delete what was staged for a session that was closed in the meantime."""
        session = await self._reconciler.load(session_id)
        if session.state in CLOSED:
            with suppress(GatewayError):
                await self._staging.clear(session_id)

    async def _drive_noted(self, session_id: str, limit: asyncio.Timeout) -> None:
        try:
            await self._drive(session_id, limit)
        finally:
            # Whoever asks from now on begins another drive.
            self._again.discard(session_id)

    async def _drive(self, session_id: str, limit: asyncio.Timeout) -> None:
        pause = self._options.first_pause
        while True:
            self._again.discard(session_id)
            try:
                session = await self._reconciler.load(session_id)
                if not self.has_work(session):
                    if session_id in self._again:
                        continue
                    return
                name = f"{session_id}:assemble"
                async with held(self._leases, name, seconds=self._options.lease) as ours:
                    moved = False
                    if ours:
                        with recorded():
                            moved = await self._advance(session_id, limit)
                if moved:
                    pause = self._options.first_pause
                    continue
                if not ours:
                    await asyncio.sleep(self._options.poll)
                    continue
            except Conflict as error:
                if error.code not in {"session_changed", "session_not_open"}:
                    raise
                # Somebody was quicker: look again at what is left to do.
                pause = self._options.first_pause
            except (Unavailable, StorageFull) as error:
                log.info("assembling waits: %s", error.code, extra={"session_id": session_id})
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - only jitter
            pause = min(pause * 2, self._options.longest_pause)

    async def _advance(self, session_id: str, limit: asyncio.Timeout) -> bool:
        """Do what there is to do now, and tell whether it was anything."""
        # Whoever had the lease until now may have left nothing.
        session = await self._reconciler.load(session_id)
        if session.state is State.OPEN:
            return await self._advance_open(await self.learn(session), limit)
        if session.state in UNSETTLED:
            await asyncio.wait({self._completer.start(session_id)})
            return (await self._reconciler.load(session_id)).state not in UNSETTLED
        if self.has_work(session):
            await self.clear(session)
        return True

    async def _advance_open(self, session: UploadSession, limit: asyncio.Timeout) -> bool:
        layout = session.layout
        if layout is None:
            return False
        if not session.progress.received_parts:
            # Whoever saved the plan may have died before storage knew it.
            await self._reconciler.restate(session.session_id)
        moved = False
        try:
            for number in _ready(session, layout):
                async with self._slots, self._budget.taken(READ_AHEAD):
                    await self._assemble_safely(session, layout, number)
                limit.reschedule(asyncio.get_running_loop().time() + self._options.patience)
                moved = True
            session = await self._reconciler.load(session.session_id)
            if session.state is State.OPEN and self._is_assembled(session):
                await self._freezer.freeze(session, (), None, None)
                moved = True
        except NoSuchUpload:
            await self._freezer.close_or_adopt(session)
            return True
        except Conflict as error:
            if error.code != "parts_missing":
                raise
            await self._find_lost(session, layout)
            return True
        return moved

    async def _assemble_safely(
        self, session: UploadSession, layout: ChunkLayout, number: int
    ) -> None:
        try:
            await self._assemble(session, layout, number)
        except StagedBytesLost as error:
            # Perhaps the part was written, and Redis has forgotten: then storage knows.
            await self._recovery.recover(session)
            session = await self._reconciler.load(session.session_id)
            if not has_bit(session.progress.assembled, number - 1):
                await self._forget(session, number, range(error.index, error.index + 1))

    async def _assemble(self, session: UploadSession, layout: ChunkLayout, number: int) -> None:
        session_id = session.session_id
        indexes = layout.chunks_of(number)
        digests = await self._writer.digests(session, layout, number)
        etag = await self._writer.write(session, indexes, digests.part)
        digests = replace(digests, part=replace(digests.part, etag=etag))
        try:
            await write_digests(self._staging, session_id, digests)
            await record_part(self._sessions, session, digests)
            await delete_other_digests(self._staging, session_id, digests.part)
        except Conflict as error:
            if error.code == "session_not_open":
                await self.leave_nothing(session_id)
            raise
        await self._chunks.mark_assembled(session_id, number, digests.part.size)
        await self._staging.delete_chunks(session_id, self._writer.recorded(session_id, indexes))

    async def _find_lost(self, session: UploadSession, layout: ChunkLayout) -> None:
        """Let chunks be sent again whose part the store has lost."""
        kept = {part.number for part in (await self._sessions.parts(session.session_id)).parts}
        for number in range(1, layout.part_count + 1):
            if number not in kept:
                await self._forget(session, number, layout.chunks_of(number))

    async def _forget(self, session: UploadSession, number: int, indexes: range) -> None:
        """Forget those of the chunks that are no longer in staging."""
        log.warning(
            "chunks of part %s were lost in the store, and have to be sent again",
            number,
            extra={"session_id": session.session_id},
        )
        for start in range(0, len(indexes), CHUNKS_AT_A_TIME):
            some = indexes[start : start + CHUNKS_AT_A_TIME]
            known = await self._chunks.chunks_of(session.session_id, some)
            lost = [
                chunk for chunk in known.values() if not await self._writer.is_whole(session, chunk)
            ]
            lost += [Chunk(index, 0, "") for index in some if index not in known]
            await self._chunks.forget_chunks(session.session_id, number, lost)

    def _learned(self, session: UploadSession) -> UploadSession | None:
        """Return the session with the sizes that its chunks have shown, or None for no change."""
        plan, progress = session.chunks, session.progress
        if plan is None or progress.chunk_size is None or session.state is not State.OPEN:
            return None
        layout = session.layout or self.lay_out(plan.total, progress.chunk_size)
        last = progress.last_chunk_size
        size = session.size if last is None else layout.file_size(last)
        if session.layout is not None and size == session.size:
            return None
        return replace(
            session,
            chunks=replace(plan, size=layout.size),
            part_size=layout.part_size,
            size=size,
            version=session.version + 1,
            updated_at=self._clock.now(),
        )

    def _is_assembled(self, session: UploadSession) -> bool:
        """Tell whether only completing is left to do, and wanted."""
        layout, plan = session.layout, session.chunks
        return (
            layout is not None
            and plan is not None
            and plan.completes_itself
            and session.size is not None
            # A store that has refused the parts would refuse them again: somebody has to ask.
            and session.error is None
            and next(gaps(session.progress.assembled, layout.part_count), None) is None
        )


def _ready(session: UploadSession, layout: ChunkLayout) -> Iterator[int]:
    return layout.ready(session.progress.chunks, session.progress.assembled)
