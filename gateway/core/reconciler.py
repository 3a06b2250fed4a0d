"""Brings what Redis remembers in line with what storage holds, which is the truth (law 4)."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from gateway.core.chunks.recovery import ChunkRecovery
from gateway.core.lifecycle import recorded_event
from gateway.core.model import MultipartUpload, Part, State, StoredObject, UploadSession
from gateway.core.ports import ObjectStore, PartList, SessionStore, Sidecar, Sidecars, Storage
from gateway.core.verifier import STAMP
from gateway.errors import (
    Conflict,
    Internal,
    NoSuchObject,
    NoSuchUpload,
    SessionNotFound,
    Unavailable,
)

PARTS_AT_A_TIME = 500
"""Work on so many parts takes milliseconds; then others get their turn of the event loop."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The recorded parts as the store confirms them.

    `wrong_size` are numbers stored with a length that the plan does not allow, `changed` those
    recorded with one ETag and stored with another: both are no longer recorded.
    """

    parts: PartList
    wrong_size: tuple[int, ...]
    changed: tuple[int, ...]


class Reconciler:
    """Finds sessions, their parts and their objects again."""

    def __init__(
        self,
        storage: Storage,
        objects: ObjectStore,
        sessions: SessionStore,
        sidecars: Sidecars,
        recovery: ChunkRecovery | None = None,
    ) -> None:
        """`recovery` is for sessions in chunks; a core without it leaves them as Redis knows them."""
        self._storage = storage
        self._objects = objects
        self._sessions = sessions
        self._sidecars = sidecars
        self._recovery = recovery

    async def load(self, session_id: str) -> UploadSession:
        """Return the session, out of its sidecar where Redis has lost it, or SessionNotFound."""
        try:
            session = await self._sessions.get(session_id)
        except SessionNotFound:
            session = await self.recall(await self._sidecars.read(session_id))
        if session.chunks is None or session.state is not State.OPEN:
            return session
        return session if session.progress.chunks_known else await self.recover_chunks(session)

    async def recover_chunks(self, session: UploadSession) -> UploadSession:
        """Record what storage knows of an open session's chunks, and return it as it is then."""
        if self._recovery is not None:
            with recorded():
                try:
                    await self._recovery.recover(session)
                except Conflict as error:
                    # Whoever froze or closed it meanwhile knew all of them.
                    if error.code != "session_not_open":
                        raise
                return await self._sessions.get(session.session_id)
        return session

    async def recall(self, sidecar: Sidecar, *, unlisted: bool = False) -> UploadSession:
        """Record what a sidecar says of a session that Redis has lost, and return it as it is.

        With `unlisted` also without its parts, where the store cannot list them.
        """
        session = sidecar.session
        parts: Sequence[Part] = sidecar.parts or ()
        if session.state is State.OPEN:
            # Together with the session: a part that is unknown for a moment could be overwritten.
            try:
                parts = await self._found_in_store(session)
            except Unavailable:
                if not unlisted:
                    raise
        with recorded():
            await self._sessions.add(session, recorded_event(session), parts=parts)
            return await self._sessions.get(session.session_id)

    async def _found_in_store(self, session: UploadSession) -> Sequence[Part]:
        """Return the parts that the store lists and the plan allows; what chunks are in, they say."""
        listed: dict[int, Part] = {}
        if session.chunks is None:
            # Whoever needs a lost upload next finds out, and decides what that means.
            with suppress(NoSuchUpload):
                async for part in self._storage.list_parts(session.upload):
                    if len(listed) % PARTS_AT_A_TIME == 0:
                        await asyncio.sleep(0)
                    listed[part.number] = part
        plan = session.plan
        return [part for part in listed.values() if plan.fits(part.number, part.size)]

    async def reconcile(self, session: UploadSession) -> Reconciled:
        """Heal the recorded parts of an open session from ListParts.

        The record is read before the list, so that a part acknowledged meanwhile is not taken for
        lost. Raises NoSuchUpload, which proves nothing (law 1).
        """
        before = await self._sessions.parts(session.session_id)
        recorded = {part.number: part for part in before.parts}
        listed: defaultdict[int, list[Part]] = defaultdict(list)
        async for part in self._storage.list_parts(session.upload):
            if len(listed) % PARTS_AT_A_TIME == 0:
                await asyncio.sleep(0)
            listed[part.number].append(part)

        found: list[Part] = []
        lost = [part for number, part in recorded.items() if number not in listed]
        wrong_size: list[int] = []
        changed: list[int] = []
        plan = session.plan
        for index, (number, entries) in enumerate(listed.items()):
            if index % PARTS_AT_A_TIME == 0:
                await asyncio.sleep(0)
            record = recorded.get(number)
            entry = _pick(record, entries)
            if entry is not None and plan.fits(entry.number, entry.size):
                # A part of chunks counts when their digests are known: `recover_chunks` adds it.
                if (record is None and session.chunks is None) or (
                    record is not None and record.size != entry.size
                ):
                    found.append(entry)
                continue
            (changed if entry is None else wrong_size).append(number)
            if record is not None:
                lost.append(record)
        if found or lost:
            await self._sessions.heal_parts(session.session_id, found=found, lost=lost)
        known = await self._sessions.parts(session.session_id, known=before)
        return Reconciled(known, tuple(wrong_size), tuple(changed))

    async def restate(self, session_id: str) -> None:
        """Write the sidecar anew from what is recorded, after a write that came too late.

        One that is ahead of the record stays: then Redis has fallen back in time, and the sidecar
        alone remembers what a completion froze (see `recall_completion`).
        """
        session = await self.load(session_id)
        with suppress(SessionNotFound, Internal):
            if (await self._sidecars.read(session_id)).session.version > session.version:
                return
        parts = None if session.state is State.OPEN else tuple(await self._known(session))
        await self._sidecars.write(Sidecar(session, parts))

    async def check_store(self, session: UploadSession) -> None:
        """Raise Unavailable unless this is the store in which the session was made.

        Asked before an upload is taken for lost: a store put in the place of another, by mistake
        or after a failure, knows no upload, and every session would be closed within minutes.
        """
        try:
            await self._sidecars.read(session.session_id)
        except SessionNotFound as error:
            raise Unavailable(
                "The store knows neither this upload nor the gateway's own record of it.",
                code="storage_misconfigured",
                hint="Look whether this is the bucket and the store that the upload was begun in.",
                retryable=False,
            ) from error

    async def recall_completion(self, session: UploadSession) -> UploadSession:
        """Bring back what a completion froze and a Redis that fell back in time has forgotten.

        For an open session whose object is there already: without the client's word of that time
        it would be verified against less, and a corrupt one come back as completed.
        """
        try:
            sidecar = await self._sidecars.read(session.session_id)
        except SessionNotFound:
            return session
        if sidecar.session.version <= session.version or sidecar.session.state is State.OPEN:
            return session
        if sidecar.parts:
            frozen = set(sidecar.parts)
            other = [part for part in await self._known(session) if part not in frozen]
            await self._sessions.heal_parts(session.session_id, found=(), lost=other)
            await self._sessions.add_parts(session.session_id, sidecar.parts)
        return replace(session, size=sidecar.session.size, checksum=sidecar.session.checksum)

    async def remember(self, session: UploadSession) -> None:
        """Let storage know that a session is closed, so that this outlives Redis."""
        await self._sidecars.write(Sidecar(session))

    async def find_object(self, session: UploadSession) -> StoredObject | None:
        """Return whatever object lies under the session's key now, ours or not."""
        return await self._head(session.upload)

    async def find_stamped(self, session: UploadSession) -> StoredObject | None:
        """Return the session's own object: the HEAD that laws 1 and 2 ask for."""
        return await self.find_stamped_by(session.session_id, session.upload)

    async def find_stamped_by(
        self, session_id: str, upload: MultipartUpload
    ) -> StoredObject | None:
        """Return the object that this multipart upload of a session has become."""
        stored = await self._head(upload)
        return stored if stored and is_stamped(session_id, stored) else None

    async def _head(self, upload: MultipartUpload) -> StoredObject | None:
        try:
            return await self._objects.head(upload.bucket, upload.key)
        except NoSuchObject:
            return None

    async def _known(self, session: UploadSession) -> Sequence[Part]:
        return (await self._sessions.parts(session.session_id)).parts


@contextmanager
def recorded() -> Iterator[None]:
    """Let nobody take a session for unknown that Redis has lost since it was loaded.

    It comes back from its sidecar with the next call: Unavailable says so, where SessionNotFound
    would make its client begin anew.
    """
    try:
        yield
    except SessionNotFound as error:
        raise lost_just_now() from error


def lost_just_now() -> Unavailable:
    """Return the error for what Redis knew at the beginning of a call, and not at its end."""
    return Unavailable(
        "Redis has lost what it knew of this session just now.",
        code="redis_unavailable",
        hint="Send the same request again: the session comes back from the store.",
        retry_after=1,
    )


def is_stamped(session_id: str, stored: StoredObject) -> bool:
    """Tell whether the object was made by this session's multipart upload."""
    return stored.metadata.get(STAMP) == session_id


def _pick(record: Part | None, entries: Sequence[Part]) -> Part | None:
    # A store may list a number twice; the recorded ETag names the bytes that were acknowledged.
    if record is None:
        return entries[-1]
    for entry in entries:
        if entry.etag == record.etag:
            return entry
    return None
