"""Which parts may be presigned, and what their URLs bind (law 7); nothing is asked of the store."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.content.policy import TAKES_ALL, ContentPolicy
from gateway.core.freezer import part_length, refuse_duplicates
from gateway.core.lifecycle import require_open
from gateway.core.model import PartToSign, SignedPart, State, UploadSession
from gateway.core.plan import PartPlan
from gateway.core.ports import Presigner, SessionStore, Storage
from gateway.core.reconciler import recorded
from gateway.errors import Conflict, Internal, InvalidRequest

MAX_PARTS_A_CALL = 1000
"""More would hold up the event loop for longer than a few milliseconds, and none needs more."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs parts for the service; `url_lifetime` is the longest life of a URL in seconds."""

    storage: Storage
    sessions: SessionStore
    url_lifetime: int
    policy: ContentPolicy = TAKES_ALL

    @property
    def presigner(self) -> Presigner:
        """The store's presigner, or Internal `presigning_unsupported`."""
        if self.storage.presigner is None:
            raise Internal("This storage cannot presign.", code="presigning_unsupported")
        return self.storage.presigner

    async def sign(
        self, session: UploadSession, parts: Sequence[PartToSign], *, expires_in: int | None = None
    ) -> list[SignedPart]:
        """Presign PUTs of an open session; raises what `UploadService.sign` does."""
        require_open(session)
        if len(parts) > MAX_PARTS_A_CALL:
            raise InvalidRequest(
                f"At most {MAX_PARTS_A_CALL} parts are signed at a time.",
                code="too_many_parts",
                hint="Ask for the next ones when these are on their way.",
            )
        refuse_duplicates([part.number for part in parts])
        life = self._life(expires_in)
        plan = session.plan
        sized = [_sized(session, plan, part) for part in parts]
        for part in sized:
            self.policy.check_part(plan, part.number, part.size)
        if needs_checksums(session) and any(part.checksum is None for part in sized):
            raise InvalidRequest(
                f"Every part of a {session.checksum_algorithm} session needs its checksum.",
                code="checksum_required",
                hint="Send the checksum of each part, or create the session with a CRC.",
            )
        with recorded():
            await self._check_replacements(session, sized)
        bound = session.checksum_algorithm in self.storage.limits.part_checksums
        return await self.presigner.sign_parts(
            session.upload,
            sized if bound else [PartToSign(part.number, part.size) for part in sized],
            algorithm=session.checksum_algorithm,
            expires_in=life,
        )

    async def sign_first(self, session: UploadSession, count: int) -> list[SignedPart]:
        """Presign the first parts, no checksum bound; none where that cannot be."""
        # A session found again by its idempotency key may be past sending.
        if session.state is not State.OPEN or needs_checksums(session):
            return []
        numbers = range(1, min(count, self.policy.full_parts(session.plan)) + 1)
        return await self.sign(session, [PartToSign(number) for number in numbers])

    def _life(self, expires_in: int | None) -> int:
        if expires_in is None:
            return self.url_lifetime
        if expires_in < 1:
            raise InvalidRequest(
                "expires_in is a whole number of seconds, from 1.",
                hint="Leave it out for the longest life that this gateway gives.",
            )
        return min(self.url_lifetime, expires_in)

    async def _check_replacements(
        self, session: UploadSession, parts: Sequence[PartToSign]
    ) -> None:
        known = [part for part in parts if session.progress.has(part.number)]
        if not known:
            return
        recorded_parts = await self.sessions.parts_of(
            session.session_id, [part.number for part in known]
        )
        conflicts = [
            part.number
            for part in known
            if not part.replace
            and part.checksum is not None
            and part.number in recorded_parts
            and recorded_parts[part.number].checksum not in {None, part.checksum}
        ]
        if conflicts:
            raise Conflict(
                "Other bytes are stored for these parts.",
                code="part_conflict",
                hint="Send replace: true for a part if the new bytes are meant to take its place.",
                details={"parts": conflicts},
            )
        if replaced := [part.number for part in known if part.replace]:
            await self.sessions.allow_replace(session.session_id, replaced)


def needs_checksums(session: UploadSession) -> bool:
    """Tell whether every part needs its checksum.

    A composite is made of the parts' checksums, and a store refuses parts that lack one.
    """
    return not ALGORITHMS[session.checksum_algorithm].combinable


def _sized(session: UploadSession, plan: PartPlan, part: PartToSign) -> PartToSign:
    size = part_length(plan, part.number) if part.size is None else part.size
    if part.size is not None:
        plan.check_length(part.number, size)
    if part.checksum is not None:
        Checksum(session.checksum_algorithm, part.checksum)
    return PartToSign(part.number, size, part.checksum, part.replace)
