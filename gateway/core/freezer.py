"""Turns an open session into one whose part list is frozen, or says what is still missing."""

import asyncio
from collections.abc import Sequence

from gateway.core.checksums import Checksum
from gateway.core.completer import LOST, Completer
from gateway.core.content.policy import TAKES_ALL, ContentPolicy
from gateway.core.lifecycle import CLOSED, UNSETTLED, Trigger, advance
from gateway.core.model import Acknowledged, Part, State, UploadSession
from gateway.core.plan import PartPlan, format_ranges, missing, settle_plan
from gateway.core.ports import Clock, PartOutcome, SessionStore, Storage
from gateway.core.reconciler import PARTS_AT_A_TIME, Reconciler
from gateway.errors import Conflict, InvalidRequest, NoSuchUpload

_MAX_ETAG = 256
_TRIES = 5


class Freezer:
    """Records parts, and freezes them for completion."""

    def __init__(
        self,
        *,
        storage: Storage,
        sessions: SessionStore,
        clock: Clock,
        reconciler: Reconciler,
        completer: Completer,
        policy: ContentPolicy = TAKES_ALL,
    ) -> None:
        self._storage = storage
        self._sessions = sessions
        self._clock = clock
        self._reconciler = reconciler
        self._completer = completer
        self._policy = policy

    async def acknowledge(
        self, session: UploadSession, parts: Sequence[Acknowledged]
    ) -> list[PartOutcome]:
        """Record parts that the client says are stored, all or none."""
        refuse_duplicates([part.number for part in parts])
        recorded: list[Part] = []
        plan = session.plan
        for index, part in enumerate(parts):
            if index % PARTS_AT_A_TIME == 0:
                await asyncio.sleep(0)
            self._policy.check_part(plan, part.number, None)
            recorded.append(_recorded(session, part))
        return await self._sessions.add_parts(session.session_id, recorded)

    async def freeze(
        self,
        session: UploadSession,
        parts: Sequence[Acknowledged],
        size: int | None,
        checksum: Checksum | None,
    ) -> UploadSession:
        """Freeze the part list of an open session and begin to complete it, or raise why not."""
        for _ in range(_TRIES):
            if session.state is not State.OPEN:
                return session
            limits = self._policy.within(self._storage.limits.parts)
            plan = settle_plan(session.plan, size, limits)
            if parts:
                await self.acknowledge(session, parts)
            try:
                known = await self._reconciler.reconcile(session)
            except NoSuchUpload:
                return await self.close_or_adopt(session)
            have = [part.number for part in known.parts.parts]
            beyond = [number for number in have if number > plan.last_number]
            if beyond:
                raise InvalidRequest(
                    "Parts are stored beyond the declared size.",
                    code="size_mismatch",
                    hint="Declare the size of all parts together, or abort the session.",
                    details={"parts": format_ranges(beyond)},
                )
            wrong = {*await _wrong_sizes(plan, known.parts.parts), *known.wrong_size}
            lacking = sorted({*missing(plan, have), *wrong})
            if lacking:
                raise _parts_missing(plan, lacking, wrong, known.changed)
            after, event = advance(
                session,
                Trigger.COMPLETE,
                self._clock.now(),
                size=plan.size,
                checksum=checksum or session.checksum,
                error=None,
            )
            try:
                after = await self._sessions.save(after, event, parts_revision=known.parts.revision)
            except Conflict as error:
                if error.code != "session_changed":
                    raise
                session = await self._reconciler.load(session.session_id)
            else:
                self._completer.start(after.session_id, known.parts)
                return after
        raise Conflict(
            "The session keeps changing.",
            code="session_changed",
            hint="Stop sending parts before completing.",
            retryable=True,
            retry_after=1,
        )

    async def close_or_adopt(self, session: UploadSession) -> UploadSession:
        """Settle what NoSuchUpload means by a HEAD (law 1): an object of ours, or a lost upload."""
        if await self._reconciler.find_stamped(session) is not None:
            return await self.adopt(session)
        await self._reconciler.check_store(session)
        after, event = advance(session, Trigger.LOST, self._clock.now(), error=LOST)
        try:
            session = await self._sessions.save(after, event)
        except Conflict as error:
            session = await self._follow(session, error)
        if session.state in CLOSED:
            # Whoever hears that it is gone must not find it open when Redis is emptied next.
            await self._reconciler.remember(session)
        return session

    async def adopt(self, session: UploadSession) -> UploadSession:
        """Take over an object that was completed behind our back, and verify it."""
        try:
            session = await self._reconciler.recall_completion(session)
            after, event = advance(session, Trigger.COMPLETE, self._clock.now())
            session = await self._sessions.save(after, event)
        except Conflict as error:
            session = await self._follow(session, error)
        if session.state in UNSETTLED:
            self._completer.start(session.session_id)
        return session

    async def _follow(self, session: UploadSession, error: Conflict) -> UploadSession:
        """Return what somebody made of the session who was quicker, or raise where it is open.

        The object, or the missing upload, may well be their doing: a completion in another process.
        """
        if error.code not in {"session_changed", "session_not_open"}:
            raise error
        session = await self._reconciler.load(session.session_id)
        if session.state is State.OPEN:
            raise error
        return session


def part_length(plan: PartPlan, number: int) -> int:
    """Return how many bytes a part has, or InvalidRequest for a number outside the plan."""
    # Until its file's size is known, a part is taken to be full; ListParts corrects the last one.
    length = plan.part_length(number)
    return plan.part_size if length is None else length


def refuse_duplicates(numbers: Sequence[int]) -> None:
    """Raise InvalidRequest `duplicate_part` where a number comes twice."""
    if len(set(numbers)) < len(numbers):
        raise InvalidRequest(
            "A part number comes twice in one call.",
            code="duplicate_part",
            hint="Send each part number once.",
        )


def _recorded(session: UploadSession, part: Acknowledged) -> Part:
    size = part_length(session.plan, part.number)
    etag = part.etag.strip().removeprefix('"').removesuffix('"')
    if not etag or len(etag) > _MAX_ETAG or not etag.isprintable():
        raise InvalidRequest(
            f"The etag of part {part.number} is not one.",
            code="invalid_etag",
            hint="Send the ETag header that the store answered the PUT with.",
        )
    if part.checksum is not None:
        Checksum(session.checksum_algorithm, part.checksum)
    return Part(part.number, size, etag, part.checksum)


async def _wrong_sizes(plan: PartPlan, parts: Sequence[Part]) -> set[int]:
    wrong: set[int] = set()
    for index, part in enumerate(parts):
        if index % PARTS_AT_A_TIME == 0:
            await asyncio.sleep(0)
        if not plan.fits(part.number, part.size):
            wrong.add(part.number)
    return wrong


def _parts_missing(
    plan: PartPlan, lacking: Sequence[int], wrong_size: set[int], changed: Sequence[int]
) -> Conflict:
    count = f"{len(lacking)} part{'s are' if len(lacking) > 1 else ' is'}"
    hint = "Send these parts, then complete again."
    if wrong_size:
        hint += (
            f" Of {plan.size} bytes, every part has {plan.part_size}, but the last, number "
            f"{plan.last_number}, which has {plan.part_length(plan.last_number)}."
        )
    return Conflict(
        f"{count} missing{' or stored with another length' if wrong_size else ''}.",
        code="parts_missing",
        hint=hint,
        details={
            "missing": format_ranges(lacking),
            "wrong_size": format_ranges(wrong_size),
            "changed": format_ranges(changed),
        },
    )
