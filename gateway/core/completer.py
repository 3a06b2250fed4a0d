"""Drives sessions from `completing` to their end: Complete, law 1, the checksum pass, one event.

Whoever starts it may go away; a session left behind is taken up by the sweeper of any gateway
process. Every step can be repeated: before each attempt the key is asked whether the object is
there already, and every change of state is a compare-and-swap. The lease only keeps two processes
from doing the same work twice.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from gateway.core.content.inspection import inspect
from gateway.core.content.policy import TAKES_ALL, ContentPolicy
from gateway.core.driving import Drives
from gateway.core.holding import held
from gateway.core.lifecycle import UNSETTLED, Trigger, advance
from gateway.core.model import Part, Problem, State, StoredObject, UploadSession
from gateway.core.ports import (
    Clock,
    Leases,
    ObjectStore,
    PartList,
    SessionStore,
    Sidecar,
    Sidecars,
    Storage,
)
from gateway.core.reconciler import Reconciler, is_stamped, recorded
from gateway.core.verifier import verify
from gateway.errors import (
    Conflict,
    NoSuchObject,
    NoSuchUpload,
    StorageFull,
    Unavailable,
)

A = TypeVar("A")
B = TypeVar("B")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CompleterOptions:
    """Times in seconds. `patience` bounds a drive that gets nowhere; the sweeper begins another.

    It is longer than one Complete may take. `at_once` bounds completions and verifications.
    """

    lease: float = 10.0
    patience: float = 1200.0
    first_pause: float = 0.5
    longest_pause: float = 30.0
    poll: float = 0.5
    at_once: int = 8
    lost_after: int = 3


class Completer:
    """Completes and verifies sessions in the background, each once a process."""

    def __init__(
        self,
        *,
        storage: Storage,
        objects: ObjectStore,
        sessions: SessionStore,
        sidecars: Sidecars,
        leases: Leases,
        clock: Clock,
        reconciler: Reconciler,
        options: CompleterOptions | None = None,
        policy: ContentPolicy = TAKES_ALL,
    ) -> None:
        self._storage = storage
        self._objects = objects
        self._sessions = sessions
        self._sidecars = sidecars
        self._leases = leases
        self._clock = clock
        self._reconciler = reconciler
        self._options = options or CompleterOptions()
        self._policy = policy
        self._drives = Drives("completion", self._options.patience)
        self._slots = asyncio.Semaphore(self._options.at_once)

    def start(self, session_id: str, known: PartList | None = None) -> asyncio.Task[None]:
        """Begin to drive the session, or return the task that does so already.

        `known` are its parts as they were frozen just now, for whoever has read them anyhow.
        The task ends when the session is settled or open again, or when patience is at its end;
        its own errors are logged, not raised.
        """
        return self._drives.start(session_id, lambda limit: self._drive(session_id, known, limit))

    async def close(self) -> None:
        """Stop all work; sessions stay where they are, and leases are released."""
        await self._drives.close()

    async def _drive(self, session_id: str, known: PartList | None, limit: asyncio.Timeout) -> None:
        pause = self._options.first_pause
        lost = 0
        interrupted = False
        while True:
            try:
                session = await self._reconciler.load(session_id)
                if session.state not in UNSETTLED:
                    if interrupted:
                        # Somebody was quicker: what this process put into the sidecar is older.
                        await self._reconciler.restate(session_id)
                    return
                # A slot is for work alone: one that waits must not stand in the way of others.
                lease = held(self._leases, session_id, seconds=self._options.lease)
                async with self._slots, lease as ours:
                    if ours:
                        interrupted = True
                        last_try = lost + 1 >= self._options.lost_after
                        with recorded():
                            await self._advance(session_id, known, limit, last_try=last_try)
                        interrupted = False
                        pause, lost = self._options.first_pause, 0
                        continue
                await asyncio.sleep(self._options.poll)
                continue
            except NoSuchUpload:
                lost += 1
            except Conflict as error:
                if error.code != "session_changed":
                    raise
                # Somebody was quicker: look again at what is left to do.
                pause = self._options.first_pause
            except (Unavailable, StorageFull) as error:
                log.info("completion waits: %s", error.code, extra={"session_id": session_id})
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - only jitter
            pause = min(pause * 2, self._options.longest_pause)

    async def _advance(
        self, session_id: str, known: PartList | None, limit: asyncio.Timeout, *, last_try: bool
    ) -> None:
        # Whoever had the lease until now may have left nothing to do.
        session = await self._reconciler.load(session_id)
        if session.state not in UNSETTLED:
            return
        parts = (await self._sessions.parts(session_id, known=known)).parts
        if session.state is State.COMPLETING:
            try:
                session = await self._complete(session, parts)
            except NoSuchUpload:
                # Somebody else's Complete may be on its way still, so one answer decides nothing.
                if not last_try:
                    raise
                session = await self._settle(session, Trigger.LOST, error=LOST)
        if session.state is State.VERIFYING:
            await self._verify(session, parts, limit)

    async def _complete(self, session: UploadSession, parts: tuple[Part, ...]) -> UploadSession:
        """Complete, and return the session in its next state."""
        _, stored = await _both(
            self._sidecars.write(Sidecar(session, parts)), self._reconciler.find_object(session)
        )
        outcome: StoredObject | Problem
        if stored is None:
            outcome = await self._request(session, parts)
        else:
            outcome = stored if is_stamped(session.session_id, stored) else _KEY_TAKEN
        if isinstance(outcome, Problem):
            return await self._settle(session, Trigger.REFUSED, error=outcome)
        after, event = advance(session, Trigger.STORED, self._clock.now(), object=outcome)
        return await self._sessions.save(after, event)

    async def _request(
        self, session: UploadSession, parts: tuple[Part, ...]
    ) -> StoredObject | Problem:
        """Send one Complete; return the object that came of it, or why the store refuses."""
        # The whole-object checksum is not sent along: stores that know it would refuse a mismatch,
        # others would not, and a mismatch is to end the same way everywhere (law 11).
        try:
            return await self._storage.complete(
                session.upload,
                parts,
                algorithm=session.checksum_algorithm,
                if_none_match=self._storage.limits.conditional_complete,
            )
        except Conflict as error:
            # Some stores refuse what they have done already: the key knows (law 1).
            stored = await self._reconciler.find_object(session)
            if stored is not None and is_stamped(session.session_id, stored):
                return stored
            if stored is not None:
                return _KEY_TAKEN
            return Problem(error.code, error.message, error.hint)
        except NoSuchUpload:
            stored = await self._reconciler.find_stamped(session)
            if stored is None:
                raise
            return stored

    async def _verify(
        self, session: UploadSession, parts: tuple[Part, ...], limit: asyncio.Timeout
    ) -> None:
        last = 0.0
        loop = asyncio.get_running_loop()

        async def report(verified_bytes: int) -> None:
            nonlocal last
            if loop.time() - last >= self._options.poll:
                last = loop.time()
                # Terabytes take hours, which is no reason to begin again as long as bytes come...
                limit.reschedule(last + self._options.patience)
                # ...and neither is a figure that could not be shown.
                with suppress(Unavailable):
                    await self._sessions.report_verified(session.session_id, verified_bytes)

        try:
            stored = await self._objects.head(session.upload.bucket, session.upload.key)
            verdict = await verify(
                session,
                parts,
                stored,
                objects=self._objects,
                limits=self._storage.limits,
                on_progress=report,
            )
            # Bytes that are not the client's say nothing about its file: corrupt comes first.
            refusal = (
                None
                if verdict.problem
                else await inspect(self._policy, session, stored, self._objects)
            )
        except NoSuchObject:
            await self._settle(session, Trigger.MISMATCH, error=_VANISHED, parts=parts)
            return
        outcome = Trigger.REJECT if refusal else Trigger.VERIFIED
        await self._settle(
            session,
            Trigger.MISMATCH if verdict.problem else outcome,
            parts=parts,
            error=verdict.problem or refusal,
            verified_by=verdict.verified_by,
            size=stored.size if session.size is None else session.size,
            object=StoredObject(
                stored.bucket,
                stored.key,
                stored.size,
                stored.etag,
                verdict.checksums,
                stored.metadata,
            ),
        )

    async def _settle(
        self,
        session: UploadSession,
        trigger: Trigger,
        *,
        parts: tuple[Part, ...] | None = None,
        **changes: object,
    ) -> UploadSession:
        after, event = advance(session, trigger, self._clock.now(), **changes)
        # Storage first: were Redis lost in between, the truth would already be there. A session
        # that is open again is written too, or its refused list would be completed later on.
        await self._sidecars.write(Sidecar(after, parts))
        return await self._sessions.save(after, event)


async def _both(one: Awaitable[A], other: Awaitable[B]) -> tuple[A, B]:
    """Return what both give. Where one fails, the other is waited for: no write comes late."""
    first, second = await asyncio.gather(one, other, return_exceptions=True)
    if isinstance(first, BaseException):
        raise first
    if isinstance(second, BaseException):
        raise second
    return first, second


_KEY_TAKEN = Problem(
    "key_taken",
    "Another object lies under this key; it is left alone.",
    "Create a new session with another key.",
)
LOST = Problem(
    "upload_lost",
    "The store no longer knows this multipart upload, and there is no object.",
    "Somebody, or a lifecycle rule, aborted it. Create a new session and send the file again.",
)
_VANISHED = Problem(
    "object_missing",
    "The object was completed, but is gone from the store.",
    "Somebody deleted it. Create a new session and send the file again.",
)
