"""The verbs: everything a door can ask for, and every rule about who may ask for it when.

A method takes a principal first, changes nothing when it raises, and may be repeated. It does not
promise that the store is reached: signing and status never talk to it.

The module is longer than others: a verb that is not here would be a second place for rules.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.core.access import READ, WRITE, Principal, authorize
from gateway.core.appender import Appender
from gateway.core.budget import MemoryBudget
from gateway.core.checksums import Checksum
from gateway.core.chunks.loose import LooseChunk
from gateway.core.chunks.uploads import ChunkedUploads, chunked_id
from gateway.core.completer import Completer
from gateway.core.content.inspection import judged
from gateway.core.content.policy import TAKES_ALL, ContentPolicy
from gateway.core.creation import Creator
from gateway.core.freezer import Freezer, part_length
from gateway.core.health import Check, check
from gateway.core.lifecycle import (
    CLOSED,
    SETTLED,
    UNSETTLED,
    Trigger,
    advance,
    require_open,
    require_parts,
)
from gateway.core.model import (
    Acknowledged,
    ChunkedFile,
    NewUpload,
    Part,
    PartToSign,
    SignedPart,
    State,
    StorageLimits,
    StoredObject,
    UploadSession,
    check_file_id,
    check_session_id,
)
from gateway.core.ports import (
    Clock,
    ObjectStore,
    PartOutcome,
    SessionPage,
    SessionQuery,
    SessionStore,
    Storage,
)
from gateway.core.reconciler import Reconciled, Reconciler, lost_just_now, recorded
from gateway.core.relay import RELAY_BYTES, PartRelay
from gateway.core.signer import MAX_PARTS_A_CALL, Signer
from gateway.core.sweeper import Sweeper
from gateway.errors import (
    Conflict,
    GatewayError,
    InvalidRequest,
    NoSuchUpload,
)

_WATCH_PAUSE = 0.5


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """What the settings decide; times in seconds."""

    bucket: str
    url_lifetime: int = 900
    check_timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class ContentURL:
    """A short-lived URL of a verified object."""

    url: str
    expires_at: datetime
    session: UploadSession


class UploadService:
    """The verbs over the ports. All state is behind the ports; any number may run side by side."""

    def __init__(
        self,
        *,
        storage: Storage,
        objects: ObjectStore,
        sessions: SessionStore,
        clock: Clock,
        reconciler: Reconciler,
        creator: Creator,
        signer: Signer,
        relay: PartRelay,
        chunked: ChunkedUploads,
        appender: Appender,
        budget: MemoryBudget,
        freezer: Freezer,
        completer: Completer,
        sweeper: Sweeper,
        options: ServiceOptions,
        policy: ContentPolicy = TAKES_ALL,
    ) -> None:
        self._storage = storage
        self._objects = objects
        self._sessions = sessions
        self._clock = clock
        self._reconciler = reconciler
        self._creator = creator
        self._signer = signer
        self._relay = relay
        self._chunked = chunked
        self._appender = appender
        self._budget = budget
        self._freezer = freezer
        self._completer = completer
        self._sweeper = sweeper
        self._options = options
        self._policy = policy

    @property
    def limits(self) -> StorageLimits:
        """What the store can do."""
        return self._storage.limits

    @property
    def policy(self) -> ContentPolicy:
        """Which files are taken; doors that see the bytes ask it before they pass the first on."""
        return self._policy

    def now(self) -> datetime:
        """Return the server's time, by which clients judge when a URL expires."""
        return self._clock.now()

    async def create(self, principal: Principal, new: NewUpload) -> tuple[UploadSession, bool]:
        """Create a session, or find the one made with the same idempotency key (then False).

        Raises InvalidRequest, TooLarge, UnsupportedType, Forbidden `key_not_allowed`; with an
        idempotency key InvalidRequest `idempotency_mismatch` for another request, and Conflict
        `creation_in_flight` while the first one is under way.
        """
        authorize(principal, WRITE)
        return await self._creator.create(principal, new)

    async def get(self, principal: Principal, session_id: str) -> UploadSession:
        """Return the session with its live progress."""
        return await self._load(principal, READ, session_id)

    async def find(
        self,
        principal: Principal,
        *,
        states: frozenset[State] | None = None,
        fingerprint: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> SessionPage:
        """Return a page of the caller's own sessions, newest first."""
        authorize(principal, READ)
        return await self._sessions.find(
            SessionQuery(principal.principal_id, states, fingerprint, cursor, limit)
        )

    async def parts(self, principal: Principal, session_id: str) -> tuple[Part, ...]:
        """Return the parts known, after reconciling an open session with the store."""
        session = await self._load(principal, READ, session_id)
        with recorded():
            if session.state is State.OPEN:
                return (await self._reconcile(session)).parts.parts
            return (await self._sessions.parts(session_id)).parts

    async def sign(
        self,
        principal: Principal,
        session_id: str,
        parts: Sequence[PartToSign],
        *,
        expires_in: int | None = None,
    ) -> list[SignedPart]:
        """Presign PUTs, binding size and checksum; asking again is free.

        `expires_in` is the life in seconds, from 1, of which a client wants no more than it will
        use; never longer than `url_lifetime`, which it is without. Raises Conflict `part_conflict`
        where another checksum is recorded for a part and the request does not say `replace`; what
        require_open raises; InvalidRequest.
        """
        session = await self._load(principal, WRITE, session_id)
        require_parts(session)
        return await self._signer.sign(session, parts, expires_in=expires_in)

    async def sign_first(
        self, principal: Principal, session: UploadSession, count: int
    ) -> list[SignedPart]:
        """Presign the first parts of a new session, no checksum bound; none where each needs one."""
        authorize(principal, WRITE, session)
        return await self._signer.sign_first(session, count)

    async def acknowledge(
        self, principal: Principal, session_id: str, parts: Sequence[Acknowledged]
    ) -> tuple[UploadSession, list[PartOutcome]]:
        """Record parts that the client says are stored; sizes are checked before completion.

        Raises Conflict `part_conflict` for other bytes, and then records none of the call.
        """
        session = await self._load(principal, WRITE, session_id)
        require_parts(session)
        require_open(session)
        with recorded():
            outcomes = await self._freezer.acknowledge(session, parts)
        return await self._reconciler.load(session_id), outcomes

    async def put_part(
        self,
        principal: Principal,
        session_id: str,
        number: int,
        body: AsyncIterator[bytes],
        *,
        size: int | None = None,
        checksums: Sequence[Checksum] = (),
        replace: bool = False,
    ) -> tuple[UploadSession, Part, PartOutcome]:
        """Relay a part to the store and record it; see `PartRelay.put` for what it raises.

        A file whose first bytes are refused raises UnsupportedType `content_not_allowed`.
        The body is read only once it is this part's turn, and not at all where the head is refused.
        """
        session = await self._load(principal, WRITE, session_id)
        require_parts(session)
        require_open(session)
        if number == 1 and self._policy.first_bytes(session.filename, session.content_type):
            body = judged(
                self._policy,
                session.filename,
                session.content_type,
                body,
                size=session.size,
                whole=session.plan.part_count == 1,
            )
        try:
            with recorded():
                # Not inside the relay: whoever else uses that holds its memory already.
                async with self._budget.taken(RELAY_BYTES):
                    part, outcome = await self._relay.put(
                        session, number, body, size=size, checksums=checksums, replace=replace
                    )
        except NoSuchUpload:
            require_open(await self._freezer.close_or_adopt(session))
            raise
        return await self._reconciler.load(session_id), part, outcome

    async def append(
        self,
        principal: Principal,
        session_id: str,
        offset: int,
        body: AsyncIterator[bytes],
        *,
        last: bool = False,
    ) -> int:
        """Append bytes at the offset that is durable, and return the new one.

        See `Appender.append` for what it keeps and what it raises.
        """
        session = await self._load(principal, WRITE, session_id)
        require_parts(session)
        require_open(session)
        try:
            with recorded():
                return await self._appender.append(session, offset, body, last=last)
        except NoSuchUpload:
            require_open(await self._freezer.close_or_adopt(session))
            raise

    async def offset(self, principal: Principal, session_id: str) -> int:
        """Return how many bytes of a stream are durable: where the next append begins."""
        session = await self._load(principal, READ, session_id)
        require_parts(session)
        if session.state is State.OPEN:
            return await self._appender.offset(session)
        if session.state in CLOSED:
            require_open(session)
        # Nothing was completed before all of it was durable.
        return session.size or 0

    async def put_chunk(
        self,
        principal: Principal,
        file: ChunkedFile,
        index: int,
        body: AsyncIterable[bytes],
        *,
        size: int | None = None,
        wait: float = 10.0,
    ) -> tuple[UploadSession, PartOutcome]:
        """Store one chunk of a file, counted from 0, and return once it is durable.

        The session is made with the first chunk that comes. `size` is the chunk's length where it
        is known; large chunks then go straight into their parts. The chunk that makes a file whole
        which completes itself waits up to `wait` seconds for the settled session, and so does every
        chunk that is sent again after it.

        Raises InvalidRequest `chunk_index_out_of_range`, `chunk_empty`, `chunk_size_mismatch`;
        Conflict `chunk_conflict`, `total_chunks_changed`, `file_id_taken`, and what require_open
        raises; TooLarge `chunk_too_large`, `file_too_large`; UnsupportedType; StorageFull
        `staging_full`; Unavailable `memory_budget_exhausted`; and what the body raises. Nothing is
        counted then.
        """
        authorize(principal, WRITE)
        if index == 0 and self._policy.first_bytes(file.filename, file.content_type):
            blocks = judged(
                self._policy,
                file.filename,
                file.content_type,
                body,
                size=None,
                whole=file.total_chunks == 1,
            )
            if isinstance(body, LooseChunk):
                # It can be read again, and is to be known for one that holds its memory already.
                async with aclosing(blocks):
                    await anext(blocks, None)
            else:
                body = blocks
        try:
            return await self._chunked.put(principal, file, index, body, size=size, wait=wait)
        except NoSuchUpload:
            session_id = chunked_id(principal, file.form, file.file_id)
            session = await self._reconciler.load(session_id)
            require_open(await self._freezer.close_or_adopt(session))
            raise

    async def open_chunked(
        self, principal: Principal, file: ChunkedFile, *, chunk_size: int, size: int
    ) -> UploadSession:
        """Make the session of a file whose plan is known before its first chunk, or find it again.

        `size` is the file's, `chunk_size` that of two chunks or more; their length is then the
        caller's to look after. Raises TooLarge `chunk_too_large`, `file_too_large`; UnsupportedType;
        Conflict `file_id_taken`, `total_chunks_changed` for another file or plan under its id.
        """
        authorize(principal, WRITE)
        return await self._chunked.open(principal, file, chunk_size=chunk_size, size=size)

    async def find_chunked(self, principal: Principal, form: str, file_id: str) -> UploadSession:
        """Return the session of a file in chunks, or raise SessionNotFound."""
        session_id = chunked_id(principal, form, check_file_id(file_id))
        return await self._load(principal, READ, session_id)

    async def stage(self, body: AsyncIterable[bytes]) -> LooseChunk:
        """Take in a chunk whose file is not known yet, to be handed to `put_chunk` as its body.

        At most 1 MiB of it is held in memory, until it is stored. Whoever asked discards it,
        whatever happens. Raises
        TooLarge `chunk_too_large`, StorageFull, Unavailable, and what the body raises.
        """
        return await self._chunked.stage(body)

    async def report_in_flight(
        self, principal: Principal, session_id: str, in_flight: Mapping[int, int]
    ) -> None:
        """Take a client's claim of bytes on the way, each capped at its part's length."""
        session = await self._load(principal, WRITE, session_id)
        require_parts(session)
        require_open(session)
        if len(in_flight) > MAX_PARTS_A_CALL:
            raise InvalidRequest(
                f"At most {MAX_PARTS_A_CALL} parts are in flight.", code="too_many_parts"
            )
        plan = session.plan
        claims = {
            number: min(claim, part_length(plan, number)) for number, claim in in_flight.items()
        }
        with recorded():
            await self._sessions.report_in_flight(session_id, claims)

    async def complete(
        self,
        principal: Principal,
        session_id: str,
        *,
        parts: Sequence[Acknowledged] = (),
        size: int | None = None,
        checksum: Checksum | None = None,
        wait: float = 10.0,
    ) -> UploadSession:
        """Complete and verify; return the session, settled or still on its way after `wait` s.

        Any number of times. Raises Conflict `parts_missing` (details `missing`, `wrong_size`,
        `changed` as ranges), `part_conflict`, or what the store's refusal was; Gone; InvalidRequest
        `size_required`, `size_mismatch`. A file in chunks is assembled first, in the phase
        `assembling`, or raises Conflict `chunks_missing` (details `missing`, ranges from 0).
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + wait
        session = await self._load(principal, WRITE, session_id)
        if session.state is State.OPEN and session.chunks is not None:
            if parts:
                require_parts(session)
            session = await self._chunked.complete(session, size, checksum, wait)
            if session.state is State.OPEN:
                return session
        elif session.state is State.OPEN:
            with recorded():
                session = await self._freezer.freeze(session, parts, size, checksum)
        if session.state in UNSETTLED:
            left = max(0.0, end - loop.time())
            await asyncio.wait({self._completer.start(session_id)}, timeout=left)
            session = await self._reconciler.load(session_id)
        if session.state is State.OPEN:
            problem = session.error
            if problem is None:
                # The completion was forgotten before anything of it was written to storage.
                raise lost_just_now()
            raise Conflict(problem.message, code=problem.code, hint=problem.hint)
        if session.state in CLOSED:
            require_open(session)
        return session

    async def abort(self, principal: Principal, session_id: str) -> None:
        """Abort and delete the parts; a session that is closed already is a success.

        Raises Conflict `session_completed`, `session_busy`...: an object is never deleted here.
        """
        session = await self._load(principal, WRITE, session_id)
        if session.state in CLOSED:
            if not session.storage_cleared:
                await self._reconciler.remember(session)
            return
        require_open(session)
        with recorded():
            if await self._reconciler.find_stamped(session) is not None:
                # Completed behind our back: it is a finished object now, and not ours to destroy.
                session = await self._freezer.adopt(session)
                require_open(session)
            after, event = advance(session, Trigger.ABORT, self._clock.now())
            session = await self._sessions.save(after, event)
        try:
            await self._sweeper.clear(session)
        except GatewayError:
            # What cannot be cleared now, the sweeper clears. But storage has to know before this
            # is answered, or with Redis lost the session would come back as an open one.
            await self._reconciler.remember(session)

    async def watch(
        self, principal: Principal, session_id: str
    ) -> AsyncGenerator[UploadSession, None]:
        """Yield the session at once and after every change, until it is settled.

        Looks twice a second: cheap beside an upload, and it survives a restart of Redis.
        """
        last: UploadSession | None = None
        while True:
            session = await self._load(principal, READ, session_id)
            if last is None or session != last or session.progress != last.progress:
                yield session
                last = session
            if session.state in SETTLED:
                return
            await asyncio.sleep(_WATCH_PAUSE)

    async def content_url(self, principal: Principal, session_id: str) -> ContentURL:
        """Presign a download of a completed session's object."""
        session = await self._load(principal, READ, session_id)
        _require_content(session)
        lifetime = self._options.url_lifetime
        expires_at = self._clock.now() + timedelta(seconds=lifetime)
        url = await self._signer.presigner.sign_get(
            session.upload.bucket,
            session.upload.key,
            filename=session.filename,
            content_type=session.content_type,
            expires_in=lifetime,
        )
        return ContentURL(url, expires_at, session)

    async def read_content(
        self, principal: Principal, session_id: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield bytes [start, stop) of a completed session's object, and of no other version."""
        session = await self._load(principal, READ, session_id)
        stored = _require_content(session)
        blocks = self._objects.read(
            stored.bucket, stored.key, start=start, stop=stop, if_match=stored.etag
        )
        async with aclosing(blocks):
            async for block in blocks:
                yield block

    async def check(self) -> dict[str, Check]:
        """Ask Redis and the store whether they are well, each within a bound."""
        return await check(
            self._sessions, self._objects, self._options.bucket, self._options.check_timeout
        )

    async def _load(self, principal: Principal, scope: str, session_id: str) -> UploadSession:
        session = await self._reconciler.load(check_session_id(session_id))
        authorize(principal, scope, session)
        return session

    async def _reconcile(self, session: UploadSession) -> Reconciled:
        try:
            return await self._reconciler.reconcile(session)
        except NoSuchUpload:
            session = await self._freezer.close_or_adopt(session)
            require_open(session)
            raise


def _require_content(session: UploadSession) -> StoredObject:
    if session.state is State.COMPLETED and session.object:
        return session.object
    if session.state in CLOSED:
        require_open(session)
    if session.state in {State.CORRUPT, State.REJECTED}:
        raise Conflict(
            "The object failed its check and is in quarantine.",
            code="quarantined",
            hint=session.error.message if session.error else "",
        )
    raise Conflict(
        "The upload is not completed yet.",
        code="not_completed",
        hint="Complete the session, and wait until its state is completed.",
    )
