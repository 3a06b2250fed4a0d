"""Relays the bytes of one part from a client to the store, with the guarantees of a direct part.

Before a byte is forwarded a claim on the part is taken, so that of two senders one waits, and then
has its bytes compared with what the other one stored. The last block is held back until the length,
the client's digests and the claim were found to be right: whatever is refused was left short, and
the store keeps nothing of it. The checksum of what arrived is computed on the way, compared with
the store's own, and recorded.

The claim is a lease, renewed only while bytes arrive: a sender that has fallen silent is evicted by
whoever comes next. It is no lock (law 5): should a store take a part seconds after the claim
on it was lost, the record keeps the ETag that was acknowledged, and completion notices.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.claim import Claim, ClaimOptions, claimed
from gateway.core.content.policy import TAKES_ALL, ContentPolicy
from gateway.core.freezer import part_length
from gateway.core.incoming import MD5, Incoming
from gateway.core.model import Part, UploadSession
from gateway.core.ports import Leases, PartOutcome, SessionStore, Storage
from gateway.core.signer import needs_checksums
from gateway.errors import Conflict, InvalidRequest, Unavailable

RELAY_BYTES = 512 * 1024
"""What one part on its way takes at most, in the buffers of two sockets."""
_DAMAGED = "part_damaged"


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """`at_once` bounds the parts that one process relays at the same time.

    `patience` bounds the wait for a turn, in seconds.
    """

    at_once: int = 64
    patience: float = 10.0
    claim: ClaimOptions = field(default_factory=ClaimOptions)


class PartRelay:
    """Relays parts for the service; any number of gateways may do so side by side."""

    def __init__(
        self,
        *,
        storage: Storage,
        sessions: SessionStore,
        leases: Leases,
        options: RelayOptions | None = None,
        policy: ContentPolicy = TAKES_ALL,
    ) -> None:
        self._storage = storage
        self._sessions = sessions
        self._leases = leases
        self._options = options or RelayOptions()
        self._policy = policy
        self._turns = asyncio.Semaphore(self._options.at_once)
        # Until a store is seen to tell checksums by itself, its ETag is the answer to bind to.
        self._tells_checksums = False

    async def put(
        self,
        session: UploadSession,
        number: int,
        body: AsyncIterator[bytes],
        *,
        size: int | None = None,
        checksums: Sequence[Checksum] = (),
        replace: bool = False,
    ) -> tuple[Part, PartOutcome]:
        """Store a part of an open session and record it, or find the same bytes stored before.

        `size` is how many bytes the client promises, None for as many as the plan wants;
        `checksums` are its digests of them, each of which has to be right. Other bytes than those
        stored raise Conflict `part_conflict`, unless `replace`, and nothing is changed. Raises
        InvalidRequest `part_number_out_of_range`, `part_length_mismatch`, `length_required`,
        `digest_mismatch`, `checksum_required`; TooLarge `file_too_large`; Conflict `part_busy`
        (retryable) while another sender is at it; Unavailable `too_many_parts_in_flight`; and what
        the body raises.
        """
        length = _promised_length(session, number, size)
        self._policy.check_part(session.plan, number, length)
        if needs_checksums(session) and all(
            checksum.algorithm != session.checksum_algorithm for checksum in checksums
        ):
            raise InvalidRequest(
                f"Every part of a {session.checksum_algorithm} session needs its checksum.",
                code="checksum_required",
                hint=f"Send it in the header {ALGORITHMS[session.checksum_algorithm].header}.",
            )
        async with self._turn():
            incoming = Incoming(session, body, length, checksums)
            known = await self._stored(session, number)

            async def is_free() -> bool:
                stored = await self._stored(session, number)
                return stored is None or (known is not None and stored.etag == known.etag)

            if known is None or replace:
                async with claimed(
                    self._leases,
                    f"{session.session_id}:part-{number}",
                    self._options.claim,
                    is_free=is_free,
                    busy=_busy,
                ) as claim:
                    known = await self._stored(session, number)
                    if known is None or replace:
                        return await self._forward(
                            session, number, incoming, claim, replace=replace
                        )
            return await self._compare(session, known, incoming)

    async def _stored(self, session: UploadSession, number: int) -> Part | None:
        """Return the part that is recorded and may not be replaced.

        Raises SessionNotFound where Redis has lost the session: then the store may hold a part that
        was confirmed, and nobody knows of it until the session is back.
        """
        session_id = session.session_id
        if not (await self._sessions.get(session_id)).progress.has(number):
            return None
        known = (await self._sessions.parts_of(session_id, [number])).get(number)
        if known is None or await self._sessions.may_replace(session_id, number):
            return None
        return known

    async def _forward(
        self,
        session: UploadSession,
        number: int,
        incoming: Incoming,
        claim: Claim,
        *,
        replace: bool,
    ) -> tuple[Part, PartOutcome]:
        incoming.claim = claim
        try:
            stored = await self._send(session, number, incoming)
        except Unavailable as error:
            if error.code == _DAMAGED and not replace:
                # The store may list it from now on: the bytes that come next take its place.
                await self._sessions.allow_replace(session.session_id, [number])
            raise
        await claim.keep()
        checksum = incoming.value(session.checksum_algorithm)
        part = Part(number, incoming.length, stored.etag, checksum, relayed=not incoming.vouched)
        try:
            [outcome] = await self._sessions.add_parts(session.session_id, [part])
        except Conflict as error:
            if error.code != "part_conflict" or not replace:
                raise
            # Not before it is needed: whoever came in between could use up the permission.
            await self._sessions.allow_replace(session.session_id, [number])
            [outcome] = await self._sessions.add_parts(session.session_id, [part])
        return part, outcome

    async def _send(self, session: UploadSession, number: int, incoming: Incoming) -> Part:
        """Stream the bytes into the store, and raise Unavailable where it holds others now."""
        by_etag = self._storage.limits.part_etag_is_md5 and not self._tells_checksums
        if by_etag:
            incoming.hash_also(MD5)
        if not incoming.length:
            # A store is sent no body at all then, and so would not ask for it.
            async for _ in incoming.blocks():
                pass
        stored = await self._storage.put_part(
            session.upload,
            number,
            incoming.blocks(),
            size=incoming.length,
            algorithm=session.checksum_algorithm,
            checksum=incoming.promised(session.checksum_algorithm),
        )
        checksum = incoming.value(session.checksum_algorithm)
        self._tells_checksums = self._tells_checksums or stored.checksum is not None
        told = checksum if stored.checksum is None else stored.checksum
        if told != checksum or (
            by_etag and stored.checksum is None and stored.etag != incoming.md5()
        ):
            raise Unavailable(
                "The part was damaged on its way to the store.",
                code=_DAMAGED,
                hint="Send the same part again.",
            )
        return stored

    async def _compare(
        self, session: UploadSession, known: Part, incoming: Incoming
    ) -> tuple[Part, PartOutcome]:
        """Read the bytes without forwarding any, and see whether they are the stored ones."""
        by_etag = known.checksum is None and self._storage.limits.part_etag_is_md5
        if by_etag:
            incoming.hash_also(MD5)
        async for _ in incoming.blocks():
            pass
        checksum = incoming.value(session.checksum_algorithm)
        same = incoming.md5() == known.etag if by_etag else checksum == known.checksum
        if not same:
            raise Conflict(
                "Other bytes are stored for this part."
                if by_etag or known.checksum is not None
                else "A part is stored already, and nothing tells whether these are its bytes.",
                code="part_conflict",
                hint="Send replace=true if the new bytes are meant to take its place.",
                details={"parts": [known.number]},
            )
        part = known
        if known.checksum is None or (known.relayed and incoming.vouched):
            part = Part(
                known.number, known.size, known.etag, checksum, relayed=not incoming.vouched
            )
        [outcome] = await self._sessions.add_parts(session.session_id, [part])
        return part, outcome

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._options.patience):
                await self._turns.acquire()
        except TimeoutError:
            raise Unavailable(
                "The gateway relays as many parts as it can.",
                code="too_many_parts_in_flight",
                hint="Send fewer parts at a time, or send them to the store by presigned URLs.",
                retry_after=2,
            ) from None
        try:
            yield
        finally:
            self._turns.release()


def _promised_length(session: UploadSession, number: int, size: int | None) -> int:
    if size is None:
        if session.size is None:
            raise InvalidRequest(
                "How many bytes the part has must be known before they come.",
                code="length_required",
                hint="Send Content-Length.",
            )
        return part_length(session.plan, number)
    session.plan.check_length(number, size)
    return size


def _busy() -> Conflict:
    return Conflict(
        "Somebody else is sending this part.",
        code="part_busy",
        hint="Wait until it is stored, or send it again if it is not.",
        retryable=True,
        retry_after=1,
    )
