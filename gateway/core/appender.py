"""Appends a stream of bytes to an upload at an offset, for protocols that know no parts.

What arrives is gathered until a part is full, and the part is relayed; the rest becomes the tail.
The offset is what is durable, and nothing else: bytes that are only in memory are lost with the
process, and were never acknowledged.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.core.budget import Grant, MemoryBudget
from gateway.core.claim import Claim, ClaimOptions, claimed
from gateway.core.lifecycle import require_open
from gateway.core.model import State, UploadSession
from gateway.core.plan import MIB
from gateway.core.ports import Leases
from gateway.core.reconciler import Reconciler
from gateway.core.relay import PartRelay
from gateway.core.tail import Segment, Stand, Tail, offset_mismatch
from gateway.errors import Conflict, GatewayError, InvalidRequest, NoSuchUpload

log = logging.getLogger(__name__)

SEGMENT_BYTES: Final = 8 * MIB
"""More of a part is not held in memory: what comes then is staged."""
_STEP: Final = MIB
_TRIES: Final = 4
_PAUSE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Appender:
    """Appends for the service: one sender a session at a time, over any number of gateways."""

    relay: PartRelay
    tail: Tail
    leases: Leases
    reconciler: Reconciler
    budget: MemoryBudget
    options: ClaimOptions = field(default_factory=ClaimOptions)

    async def offset(self, session: UploadSession) -> int:
        """Return how many bytes are durable: where the next append begins."""
        stand, left = await self._stand(session)
        # Whoever wrote the last part may have died before these were deleted, and nobody appends
        # to a whole file again.
        await self.tail.delete(session, [one for one in left if one.end <= stand.boundary])
        return stand.offset

    async def append(
        self,
        session: UploadSession,
        offset: int,
        body: AsyncIterator[bytes],
        *,
        last: bool = False,
    ) -> int:
        """Append to an open session at its offset, and return the new one when it is durable.

        `last` says that the file ends here, where its size is not known otherwise. A body that
        breaks off is kept as far as it came, and then its error is raised. Raises Conflict
        `offset_mismatch` (details `offset`) for any other offset, and `append_busy` while another
        sender is at it; InvalidRequest `size_mismatch` for bytes beyond the file's size, which are
        not kept; and what relaying and staging raise.
        """
        session_id = session.session_id
        writer: _Writer | None = None

        async def is_free() -> bool:
            if writer is None:
                return True
            stand, left = await self.tail.stand(await self.reconciler.load(session_id))
            # Others may have begun at the same offset: then both lie there, and one is left over.
            return stand == writer.stand and all(one.end <= stand.boundary for one in left)

        async with claimed(
            self.leases, f"{session_id}:append", self.options, is_free=is_free, busy=_busy
        ) as claim:
            session = await self.reconciler.load(session_id)
            require_open(session)
            stand, left = await self._stand(session)
            if offset != stand.offset:
                raise offset_mismatch(stand.offset)
            await self.tail.delete(session, left)
            writer = _Writer(self, session, stand, claim)
            try:
                failure = await writer.take_all(body)
                # What broke off has not come to its end.
                await writer.flush(last=last and failure is None)
            finally:
                writer.release()
            if failure is not None:
                raise failure
            return writer.stand.offset

    async def _stand(self, session: UploadSession) -> tuple[Stand, list[Segment]]:
        stand, left = await self.tail.stand(session)
        if any(segment.end > stand.offset for segment in left):
            # Behind a gap: a Redis that fell back in time has forgotten a part, and the store not.
            with suppress(NoSuchUpload):
                await self.reconciler.reconcile(session)
            return await self.tail.stand(await self.reconciler.load(session.session_id))
        return stand, left


class _Writer:
    """Gathers one append's bytes; `stand` is what is durable so far."""

    def __init__(
        self, appender: Appender, session: UploadSession, stand: Stand, claim: Claim
    ) -> None:
        self.stand = stand
        self._session = session
        self._claim = claim
        self._relay = appender.relay
        self._reconciler = appender.reconciler
        self._tail = appender.tail
        self._budget = appender.budget
        # Behind a part that is not full there is nothing.
        has_ended = stand.boundary < stand.parts * session.part_size
        self._end = stand.boundary if has_ended else session.size
        self._buffer: list[bytes] = []
        self._held = 0
        self._grants: list[Grant] = []

    async def take_all(self, body: AsyncIterator[bytes]) -> GatewayError | None:
        """Take what comes; return the error of a body that broke off."""
        iterator = aiter(body)
        while True:
            try:
                block = await anext(iterator, b"")
            except GatewayError as error:
                return error
            if not block:
                return None
            self._claim.moved = True
            end = self._end
            if end is not None and self.stand.offset + self._held + len(block) > end:
                return InvalidRequest(
                    "The bytes go beyond the end of the file.",
                    code="size_mismatch",
                    hint=f"The file has {end} bytes.",
                )
            await self._take(block)

    async def flush(self, *, last: bool) -> None:
        """Make durable what is held: as the last part, or as a segment of the tail."""
        self._claim.whole = True
        empty = self.stand.offset == self._held == self.stand.parts == 0
        if (last and self._gathered) or (empty and (last or self._session.size == 0)):
            await self._write_part(self._gathered)
        elif self._held:
            await self._write_segment()

    def release(self) -> None:
        """Let go of what is held, and give its memory back."""
        for grant in self._grants:
            grant.give_back()
        self._grants, self._buffer, self._held = [], [], 0

    @property
    def _gathered(self) -> int:
        """How many bytes there are of the part that is not written yet."""
        return self.stand.offset - self.stand.boundary + self._held

    @property
    def _wanted(self) -> int:
        """How many bytes that part has in the end."""
        size = self._session.size
        left = self._session.part_size if size is None else size - self.stand.boundary
        return min(self._session.part_size, left)

    async def _take(self, block: bytes) -> None:
        rest = memoryview(block)
        while rest:
            memory = await self._memory()
            room = min(self._wanted - self._gathered, SEGMENT_BYTES - self._held, memory)
            taken, rest = bytes(rest[:room]), rest[room:]
            self._buffer.append(taken)
            self._held += len(taken)
            if self._gathered == self._wanted:
                await self._write_part(self._wanted)
            elif self._held == SEGMENT_BYTES:
                await self._write_segment()

    async def _memory(self) -> int:
        """Return for how many bytes more there is memory; take some where there is none."""
        room = len(self._grants) * _STEP - self._held
        if room:
            return room
        # Whoever holds memory does not wait for more: what is held goes to the store first.
        grant = self._budget.take_now(_STEP)
        if grant is None and self._held:
            await self._write_segment()
        self._grants.append(grant or await self._budget.take(_STEP))
        return _STEP

    async def _write_part(self, size: int) -> None:
        number = self.stand.parts + 1
        for tried in range(1, _TRIES + 1):
            try:
                await self._relay.put(self._session, number, self._bytes(), size=size)
                break
            except GatewayError as error:
                if not error.retryable or tried == _TRIES:
                    raise
                log.info("a part is sent again: %s", error.code)
            await asyncio.sleep(_PAUSE * 2**tried)
        segments = self.stand.segments
        self.release()
        self.stand = Stand(number, self.stand.boundary + size)
        await self._tail.delete(self._session, segments)

    async def _write_segment(self) -> None:
        await self._claim.keep()
        segment = await self._tail.write(self._session, self.stand.offset, self._buffer)
        self.release()
        session = await self._reconciler.load(self._session.session_id)
        if session.state is not State.OPEN:
            # What came too late is in no file, and nobody would ever clear it.
            await self._tail.delete(session, [segment])
            require_open(session)
        self.stand = replace(self.stand, segments=(*self.stand.segments, segment))
        try:
            await self._claim.keep()
        except Conflict:
            # The write took longer than the claim, and what others wrote since was confirmed.
            await self._tail.delete(session, [segment])
            raise

    async def _bytes(self) -> AsyncGenerator[bytes, None]:
        """Yield a part: the tail as it was staged, then what is held."""
        for segment in self.stand.segments:
            async with aclosing(self._tail.read(self._session, segment)) as blocks:
                async for block in blocks:
                    yield block
        for block in self._buffer:
            yield block


def _busy() -> Conflict:
    return Conflict(
        "Somebody else is appending to this upload.",
        code="append_busy",
        hint="Ask for the offset in a moment, and go on from there.",
        retryable=True,
        retry_after=1,
    )
