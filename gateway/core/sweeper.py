"""Looks after sessions that nobody else looks after, and is the only one that deletes.

Every gateway process runs one. It takes up completions whose process died, notices what somebody
did to the store behind our back, lets sessions expire, clears what closed ones left in storage,
and rebuilds Redis from the sidecars after it was emptied. All of it can be repeated at any point.
"""

import asyncio
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from gateway.core.chunks.assembler import Assembler
from gateway.core.chunks.leftovers import Leftovers
from gateway.core.chunks.space import StagingSpace
from gateway.core.chunks.staging import Staging
from gateway.core.completer import Completer
from gateway.core.freezer import Freezer
from gateway.core.holding import held
from gateway.core.lifecycle import CLOSED, RECHECK_AFTER, UNSETTLED, Trigger, advance, is_over
from gateway.core.model import MultipartUpload, State, UploadSession
from gateway.core.ports import Clock, Leases, ObjectStore, SessionStore, Sidecar, Sidecars, Storage
from gateway.core.reconciler import Reconciler
from gateway.errors import Conflict, GatewayError, NoSuchUpload, SessionNotFound, Unavailable

log = logging.getLogger(__name__)

_PREFIX = "uploads/"
_OWN_KEY = re.compile(r"uploads/([0-9a-f]{32})/", re.ASCII)
# A session whose completion is under way, or whose look-up failed, is looked at again after this.
_AGAIN = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class SweeperOptions:
    """How often and how much to sweep.

    `interval` is the pause between rounds, `lease` how long a dead sweeper blocks the others, in
    seconds; `batch` are the sessions of one round. `bucket` is that of the gateway's own keys.

    `grace` is how long after its expiry a session still takes parts and is not yet cleared;
    `retention` is how long Redis keeps one that is over.
    """

    bucket: str
    interval: float = 5.0
    lease: float = 30.0
    batch: int = 100
    at_once: int = 8
    grace: timedelta = timedelta(hours=24)
    retention: timedelta = timedelta(days=30)


class Sweeper:
    """One loop a process; see the module's docstring."""

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
        freezer: Freezer,
        completer: Completer,
        assembler: Assembler,
        staging: Staging,
        space: StagingSpace,
        leftovers: Leftovers,
        options: SweeperOptions,
    ) -> None:
        self._storage = storage
        self._objects = objects
        self._sessions = sessions
        self._sidecars = sidecars
        self._leases = leases
        self._clock = clock
        self._reconciler = reconciler
        self._freezer = freezer
        self._completer = completer
        self._assembler = assembler
        self._staging = staging
        self._space = space
        self._leftovers = leftovers
        self._options = options

    async def run(self) -> None:
        """Sweep until cancelled. A round that fails is logged, and the next one tries again."""
        leftovers = asyncio.create_task(self._leftovers.run())
        try:
            while True:
                try:
                    await self._space.refresh()
                    await self.sweep()
                except GatewayError as error:
                    log.warning("sweep failed: %s", error.code)
                except Exception:
                    log.exception("sweep crashed")
                await asyncio.sleep(self._options.interval)
        finally:
            leftovers.cancel()

    async def sweep(self) -> int:
        """Rebuild if Redis was emptied, then attend to what is due; return how many sessions.

        One process sweeps at a time; in the others this returns 0.
        """
        async with held(self._leases, "sweep", seconds=self._options.lease) as ours:
            if not ours:
                return 0
            if not await self._sessions.is_marked():
                await self._rebuild_if_possible()
            return await self._attend_due()

    async def _rebuild_if_possible(self) -> None:
        try:
            await self.rebuild()
        except Unavailable as error:
            # The next round begins again; what is due in the meantime is attended.
            log.warning("rebuild failed: %s", error.code)

    async def _attend_due(self) -> int:
        due = await self._sessions.due(self._clock.now(), self._options.batch)
        slots = asyncio.Semaphore(self._options.at_once)

        async def one(session_id: str) -> None:
            async with slots:
                await self._attend_safely(session_id)

        await asyncio.gather(*(one(session_id) for session_id in due))
        return len(due)

    async def rebuild(self) -> int:
        """Record every session that has a sidecar and is not known; return how many were looked at.

        But for those that were over longer than `retention` ago: they come back when asked for.

        Sessions are found one by one without it, too, but not by their fingerprint, and unfinished
        completions would wait for somebody to ask. Announcements are gone, so that uploads without
        a session are looked for as well.
        """
        count = 0
        batch: list[str] = []
        async for session_id in self._sidecars.ids():
            batch.append(session_id)
            count += 1
            if len(batch) == self._options.at_once:
                await asyncio.gather(*map(self._recall, batch))
                batch.clear()
            if count % self._options.batch == 0:
                # A hundred thousand sidecars take minutes, and completions do not wait for them.
                await self._attend_due()
        await asyncio.gather(*map(self._recall, batch))
        with _where_listed():
            await self._recall_creations()
        await self._sessions.mark()
        return count

    async def clear(self, session: UploadSession) -> UploadSession:
        """Delete what a closed session left in storage, and note that it was done."""
        if session.state not in CLOSED:
            raise Conflict("Only closed sessions are cleared.", code="wrong_state")
        # Were Redis lost while the parts go, the session must not come back as an open one.
        await self._reconciler.remember(session)
        await self._delete(session.session_id, session.upload)
        with _where_listed():
            await self.clear_unrecorded(session.session_id)
        if session.chunks is not None:
            await self._assembler.clear(session)
            return await self._sessions.get(session.session_id)
        # The tail of one that grew at its end.
        await self._staging.clear(session.session_id)
        cleared = replace(
            session,
            storage_cleared=True,
            version=session.version + 1,
            updated_at=self._clock.now(),
        )
        await self._sidecars.write(Sidecar(cleared))
        return await self._sessions.save(cleared)

    async def clear_unrecorded(
        self, session_id: str, *, but: MultipartUpload | None = None
    ) -> None:
        """Delete what a creation left that died before anybody recorded its session (fault 3).

        `but` is the upload of the session. Only under keys of our making, which hold the session's
        id and so are nobody else's; MinIO does not list these, and deletes them after a day.
        """
        prefix = key_prefix(session_id)
        async for upload in self._objects.list_uploads(self._options.bucket, prefix):
            # A store that passes over the prefix must not cost others their uploads.
            if upload != but and upload.key.startswith(prefix):
                await self._delete(session_id, upload)

    async def _delete(self, session_id: str, upload: MultipartUpload) -> None:
        """Abort a multipart upload: the one function that deletes.

        Precondition, by law 2: a HEAD of its key just now found no object that carries the
        session's stamp. A stamped object is left alone, and so is its upload.
        """
        if await self._reconciler.find_stamped_by(session_id, upload) is None:
            await self._storage.abort(upload)
        else:
            log.warning(
                "a multipart upload has become an object; it is kept",
                extra={"session_id": session_id},
            )

    async def _recall_creations(self) -> None:
        """Announce uploads without a session again, and delete those whose session has another."""
        at = self._clock.now() + RECHECK_AFTER
        async for upload in self._objects.list_uploads(self._options.bucket, _PREFIX):
            made = _OWN_KEY.match(upload.key)
            if made is None:
                continue
            session_id = made[1]
            try:
                session = await self._reconciler.load(session_id)
                if session.upload != upload:
                    await self._delete(session_id, upload)
            except SessionNotFound:
                # Perhaps it is being made at this moment.
                await self._sessions.announce(session_id, at)
            except GatewayError as error:
                log.warning("not looked after: %s", error.code, extra={"session_id": session_id})
                if isinstance(error, Unavailable):
                    raise

    async def _recall(self, session_id: str) -> None:
        try:
            if await self._is_recorded(session_id):
                return
            sidecar = await self._sidecars.read(session_id)
            if not self._is_history(sidecar.session):
                # One upload that cannot be listed must not keep all others from coming back.
                await self._reconciler.recall(sidecar, unlisted=True)
        except GatewayError as error:
            log.warning("not rebuilt: %s", error.code, extra={"session_id": session_id})
            if isinstance(error, Unavailable) and not await self._is_recorded(session_id):
                raise  # Storage or Redis is down: the next round begins again.

    def _is_history(self, session: UploadSession) -> bool:
        """Tell whether Redis had every right to forget it: years of them would fill it again."""
        gone_by = self._clock.now() - self._options.retention
        return is_over(session, self._options.grace) and session.updated_at < gone_by

    async def _is_recorded(self, session_id: str) -> bool:
        try:
            await self._sessions.get(session_id)
        except SessionNotFound:
            return False
        return True

    async def _attend_safely(self, session_id: str) -> None:
        try:
            await self._attend(session_id)
        except GatewayError as error:
            log.info("sweep passes over: %s", error.code, extra={"session_id": session_id})
            await self._sessions.schedule(session_id, self._clock.now() + _AGAIN)
        except Exception:
            # It must not come first in every round, and keep others from their turn.
            log.exception("sweep crashed", extra={"session_id": session_id})
            await self._sessions.schedule(session_id, self._clock.now() + _AGAIN)

    async def _attend(self, session_id: str) -> None:
        now = self._clock.now()
        try:
            session = await self._reconciler.load(session_id)
        except SessionNotFound:
            # Only here: one that goes missing later was lost with Redis, and comes back.
            await self._attend_unknown(session_id)
            return
        if session.state in UNSETTLED:
            await self._sessions.schedule(session_id, now + _AGAIN)
            self._completer.start(session_id)
        elif session.state is State.OPEN:
            await self._attend_open(session)
        elif session.state in CLOSED and not session.storage_cleared:
            await self.clear(session)
        elif session.chunks is not None and not session.storage_cleared:
            await self._assembler.clear(session)
        else:
            await self._sessions.schedule(session_id, None)

    async def _attend_unknown(self, session_id: str) -> None:
        """Look after an id that is due and has no session: its creation has died."""
        async with held(self._leases, session_id, seconds=self._options.lease) as ours:
            if ours:
                await self.clear_unrecorded(session_id)
            # Otherwise a retry of that creation is under way.
            again = None if ours else self._clock.now() + _AGAIN
            await self._sessions.schedule(session_id, again)

    async def _attend_open(self, session: UploadSession) -> None:
        now = self._clock.now()
        if await self._reconciler.find_stamped(session) is not None:
            await self._freezer.adopt(session)
            return
        if now >= session.expires_at + self._options.grace:
            after, event = advance(session, Trigger.EXPIRE, now)
            await self.clear(await self._sessions.save(after, event))
            return
        try:
            await self._reconciler.reconcile(session)
        except NoSuchUpload:
            session = await self._freezer.close_or_adopt(session)
            if session.state in CLOSED:
                await self.clear(session)
            return
        again = RECHECK_AFTER
        if self._assembler.has_work(session):
            again = _AGAIN
            self._assembler.start(session.session_id)
        await self._sessions.schedule(
            session.session_id, min(now + again, session.expires_at + self._options.grace)
        )


@contextmanager
def _where_listed() -> Iterator[None]:
    """Go on where the store lists no unfinished uploads for us: it would refuse for ever."""
    try:
        yield
    except Unavailable as error:
        if error.code not in {"storage_denied", "storage_unsupported"}:
            raise
        log.warning("uploads without a session are not looked for: %s", error.code)


def key_prefix(session_id: str) -> str:
    """Return what keys of the gateway's making begin with for a session, and for no other."""
    return f"{_PREFIX}{session_id}/"
