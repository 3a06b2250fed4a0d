"""Makes sessions: which rules a new upload must keep, and in which order it comes to be.

The session is announced, and then storage comes first: multipart upload, then sidecar, then Redis.
A crash in between leaves an orphaned upload, whose key names its session: the sweeper looks for it
when the announcement is due. A retry with the same idempotency key finds or makes the same session,
and lets the sweeper clear what the first try left.
"""

import hashlib
import json
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import timedelta

from gateway.core.access import Principal
from gateway.core.checksums import PREFERENCE
from gateway.core.content.policy import TAKES_ALL, ContentPolicy
from gateway.core.events import EventType
from gateway.core.lifecycle import RECHECK_AFTER, event_for
from gateway.core.model import ChunkPlan, NewUpload, State, UploadSession
from gateway.core.plan import plan_parts
from gateway.core.ports import Clock, Leases, SessionStore, Sidecar, Sidecars, Storage
from gateway.core.reconciler import Reconciler
from gateway.core.sweeper import Sweeper, key_prefix
from gateway.core.verifier import STAMP
from gateway.errors import Conflict, Forbidden, GatewayError, InvalidRequest, SessionNotFound

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_SHOWN_NAME = 100
# Longer than any create takes, so that a crashed one does not block its retry for long.
_CREATION_LEASE = 30.0


@dataclass(frozen=True, slots=True)
class CreatorOptions:
    """Where objects go, and how long sessions live.

    `client_keys` lets clients name bucket and key. `session_lifetime` ends an hour before the
    store itself deletes unfinished uploads, where it does (laws.md, leftovers).
    """

    bucket: str
    session_lifetime: timedelta = timedelta(days=7)
    client_keys: bool = False


class Creator:
    """Creates sessions for the service."""

    def __init__(
        self,
        *,
        storage: Storage,
        sessions: SessionStore,
        sidecars: Sidecars,
        leases: Leases,
        clock: Clock,
        reconciler: Reconciler,
        sweeper: Sweeper,
        options: CreatorOptions,
        policy: ContentPolicy = TAKES_ALL,
    ) -> None:
        self._storage = storage
        self._sessions = sessions
        self._sidecars = sidecars
        self._leases = leases
        self._clock = clock
        self._reconciler = reconciler
        self._sweeper = sweeper
        self._options = options
        self._policy = policy

    async def create(
        self,
        principal: Principal,
        new: NewUpload,
        *,
        session_id: str | None = None,
        chunks: ChunkPlan | None = None,
    ) -> tuple[UploadSession, bool]:
        """Create a session, or find the one made with the same idempotency key (then False).

        A session in chunks has an id that is derived already, and is the same whatever is asked.
        """
        limits = self._policy.within(self._storage.limits.parts)
        part_size = plan_parts(new.size, limits, part_size=new.part_size).part_size
        self._policy.admit(new.filename, new.content_type, new.size)
        algorithm = self._algorithm(new)
        self._check_place(new)
        if session_id is None and new.idempotency_key is None:
            session_id = secrets.token_hex(16)
            return await self._make(principal, new, session_id, part_size, algorithm), True

        session_id = session_id or _derived_id(principal, new.idempotency_key or "")
        lease = await self._leases.acquire(session_id, seconds=_CREATION_LEASE)
        try:
            with suppress(SessionNotFound):
                session = await self._reconciler.load(session_id)
                if chunks is None:
                    session = _same_request(session, new)
                if session.state is State.OPEN and lease is not None:
                    # The try before this one may have died when it had made the session. What
                    # cannot be cleared now goes when the session is closed.
                    with suppress(GatewayError):
                        await self._sweeper.clear_unrecorded(session_id, but=session.upload)
                return session, False
            if lease is None:
                raise Conflict(
                    "The first request with this Idempotency-Key is still under way.",
                    code="creation_in_flight",
                    hint="Send the same request again in a second.",
                    retryable=True,
                    retry_after=1,
                )
            made = await self._make(principal, new, session_id, part_size, algorithm, chunks=chunks)
            return made, True
        finally:
            if lease is not None:
                await lease.release()

    async def _make(
        self,
        principal: Principal,
        new: NewUpload,
        session_id: str,
        part_size: int,
        algorithm: str,
        *,
        chunks: ChunkPlan | None = None,
    ) -> UploadSession:
        now = self._clock.now()
        # Far later than any creation lasts: then the sweeper looks whether this one was finished.
        is_first = await self._sessions.announce(session_id, now + RECHECK_AFTER)
        upload = await self._storage.create(
            new.bucket or self._options.bucket,
            new.key or object_key(session_id, new.filename),
            content_type=new.content_type,
            metadata={STAMP: session_id},
            algorithm=algorithm,
        )
        session = UploadSession(
            session_id=session_id,
            owner=principal.principal_id,
            state=State.OPEN,
            version=1,
            filename=new.filename,
            content_type=new.content_type,
            size=new.size,
            part_size=part_size,
            checksum_algorithm=algorithm,
            upload=upload,
            created_at=now,
            updated_at=now,
            expires_at=now + self._options.session_lifetime,
            checksum=new.checksum,
            fingerprint=new.fingerprint,
            metadata=dict(new.metadata),
            request_digest=_digest(new),
            chunks=chunks,
        )
        # Storage first: a session that Redis has lost the next moment is still found.
        await self._sidecars.write(Sidecar(session))
        recorded = await self._sessions.add(session, event_for(session, EventType.CREATED))
        if recorded.upload != session.upload:
            # This creation outlived its lease, and a retry of it was quicker. Nobody will ever
            # send a part to the upload made here; the sidecar must name the other one.
            await self._reconciler.restate(session_id)
        if not is_first:
            await self._sweeper.clear_unrecorded(session_id, but=recorded.upload)
        return recorded

    def _algorithm(self, new: NewUpload) -> str:
        usable = [name for name in PREFERENCE if name in self._storage.limits.part_checksums]
        wanted = new.checksum_algorithm
        if wanted is None:
            return usable[0] if usable else PREFERENCE[0]
        if usable and wanted not in usable:
            raise InvalidRequest(
                f"This store cannot check {wanted}.",
                code="checksum_unsupported",
                hint=f"Use one of {', '.join(usable)}, or leave it out.",
            )
        return wanted

    def _check_place(self, new: NewUpload) -> None:
        named = new.key is not None or new.bucket not in {None, self._options.bucket}
        if named and not self._options.client_keys:
            raise Forbidden(
                "Clients may not choose the bucket or the key here.",
                code="key_not_allowed",
                hint="Leave bucket and key out; the setting client_keys allows them.",
            )
        if new.key is not None and new.key.startswith(".gateway/"):
            raise InvalidRequest("Keys under .gateway/ are the gateway's own.", code="invalid_key")


def object_key(session_id: str, filename: str) -> str:
    """Return the key of a session's object: the id, so that it can be traced, and a safe name.

    The true file name is in the sidecar; what the key shows of it is only for people's eyes.
    """
    safe = _UNSAFE.sub("_", filename)[-_SHOWN_NAME:].strip("._")
    return f"{key_prefix(session_id)}{safe or 'file'}"


def _derived_id(principal: Principal, idempotency_key: str) -> str:
    text = f"{principal.principal_id}\0{idempotency_key}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _digest(new: NewUpload) -> str:
    values = {
        field.name: getattr(new, field.name)
        for field in fields(new)
        if field.name != "idempotency_key"
    }
    values["metadata"] = dict(new.metadata)
    values["checksum"] = [new.checksum.algorithm, new.checksum.value] if new.checksum else None
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _same_request(session: UploadSession, new: NewUpload) -> UploadSession:
    if session.request_digest != _digest(new):
        raise InvalidRequest(
            "This Idempotency-Key was used for another request.",
            code="idempotency_mismatch",
            hint="Make a new key for every new upload.",
        )
    return session
