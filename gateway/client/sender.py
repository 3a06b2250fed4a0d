"""Signs parts and sends them, each until the store has it or there is no hope.

What helps after a failure is decided by `store.Remedy`: waiting, another signature, reading the
file again, or asking the gateway what became of the session. Only the part concerned is signed or
sent again. Failures of the network and of a store that is unwell are borne as long as anything
goes well now and then (`Patience`); refusals of one part have a bound of their own. Where only the
gateway reaches the store (`Route`), parts go through it, with the same checksums, and the gateway's
refusals are answered in the same ways.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Final, TypeVar

from gateway.client.api import GatewayClient, PartToSign
from gateway.client.body import PartBody
from gateway.client.digests import PartDigest
from gateway.client.model import CLOSED, OPEN, Session, SignedPart, unexpected_answer
from gateway.client.patience import Patience, backoff
from gateway.client.problems import NETWORK_ERRORS, reason
from gateway.client.progress import Progress
from gateway.client.relay import RelayConnection, RelayRefused
from gateway.client.route import Route
from gateway.client.store import Remedy, StoreConnection, StoreRefused
from gateway.client.supply import PartDigests, PartSource
from gateway.core.checksums import Checksum
from gateway.errors import (
    Conflict,
    Corrupt,
    Forbidden,
    GatewayError,
    Gone,
    InvalidRequest,
    StorageFull,
    Unavailable,
)

_SIGN_ROUNDS: Final = 3
# A URL is used only if it lives that much longer, to allow for the way to the store.
_MARGIN: Final = timedelta(seconds=10)
# How often one part may be refused in each way before it is the fault, and not the weather.
_BOUNDS: Final = {
    Remedy.SIGN_AGAIN: 4,
    Remedy.READ_AGAIN: 5,
    Remedy.ASK_GATEWAY: 3,
    Remedy.NONE: 2,
}
# A line that breaks this often within one part is given up like one that is down.
_MAX_BREAKS: Final = 100
_SIGN_AGAIN_EVERY: Final = 3

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(slots=True)
class Job:
    """One part to be sent, and what has befallen it so far.

    `recorded` is true when the gateway, which has relayed it, knows that it is stored.
    """

    number: int
    offset: int
    size: int
    digest: PartDigest
    replace: bool
    signed: SignedPart | None = None
    windowed: bool = True
    recorded: bool = False
    failures: int = 0
    refusals: dict[Remedy, int] = field(default_factory=dict)

    def refused(self, remedy: Remedy) -> int:
        """Count a refusal of this kind; return how many there have been."""
        self.refusals[remedy] = self.refusals.get(remedy, 0) + 1
        return self.refusals[remedy]

    def hopeless(self, remedy: Remedy) -> bool:
        """Tell whether this kind of refusal has come too often."""
        return self.refusals.get(remedy, 0) > _BOUNDS[remedy]


@dataclass(frozen=True, slots=True)
class Sender:
    """Signs and sends parts of one session; all parts share its tools and its patience."""

    client: GatewayClient
    store: StoreConnection
    relay: RelayConnection
    route: Route
    source: PartSource
    executor: Executor
    digests: PartDigests
    progress: Progress
    patience: Patience
    session_id: str
    algorithm: str

    async def sign(self, jobs: Sequence[Job]) -> None:
        """Sign all these parts in one call, each with its checksum bound.

        Where another client has recorded other bytes meanwhile, ours are to replace them. What is
        relayed needs no signature. Raises Conflict (`state` in its details) when the session takes
        no parts any more, and Gone.
        """
        if self.route.relayed:
            return
        by_number = {job.number: job for job in jobs}
        sized = self.digests.plan.size is None
        for _ in range(_SIGN_ROUNDS):
            try:
                signed = await self.client.sign(
                    self.session_id, [_to_sign(job, sized=sized) for job in jobs]
                )
            except Conflict as error:
                numbers = conflicting(error) & by_number.keys()
                if not numbers:
                    raise
                for number in numbers:
                    by_number[number].replace = True
                continue
            for part in signed:
                if part.part_number in by_number:
                    by_number[part.part_number].signed = part
            if any(job.signed is None or job.signed.size != job.size for job in jobs):
                raise unexpected_answer("other parts than were asked for")
            return
        raise part_conflict(jobs[0].number)

    async def send(self, job: Job) -> str:
        """Send one part until the store has it, and return its ETag."""
        while True:
            if not self.route.relayed and self._lacks_signature(job):
                await self.sign([job])
            # Another part may have found out while this one was being signed.
            relayed = self.route.relayed
            try:
                etag = await (self._put_relayed(job) if relayed else self._put_direct(job))
            except RelayRefused as refused:
                await self._after_relay_refusal(job, refused.error)
            except StoreRefused as refused:
                self.route.store_answered()
                await self._after_refusal(job, refused)
            except NETWORK_ERRORS as error:
                if relayed:
                    await self._after_failure(job, f"The gateway fails: {reason(error)}")
                else:
                    await self._after_store_failure(job, error)
            else:
                self.patience.renew()
                if self.progress.trouble:
                    self.progress.trouble = ""
                    _log.warning("%s takes parts again.", "The gateway" if relayed else "The store")
                return etag

    def _lacks_signature(self, job: Job) -> bool:
        return job.signed is None or self.client.clock.now() + _MARGIN >= job.signed.expires_at

    async def _put_direct(self, job: Job) -> str:
        if job.signed is None:
            raise unexpected_answer("no signed part")
        put, signed = self.store.put, job.signed
        etag = await self._put(job, lambda body, on_block: put(signed, body, on_block))
        self.route.store_answered()
        return etag

    async def _put_relayed(self, job: Job) -> str:
        checksum = Checksum(self.algorithm, job.digest.checksum)
        part = await self._put(
            job,
            lambda body, on_block: self.relay.put(
                self.session_id,
                job.number,
                body,
                on_block,
                size=job.size,
                checksum=checksum,
                replace=job.replace,
            ),
        )
        if part.checksum not in {None, checksum.value}:
            raise unexpected_answer("another part than was sent")
        job.recorded = True
        return part.etag

    async def _put(
        self, job: Job, send: Callable[[PartBody | None, Callable[[int], None]], Awaitable[_T]]
    ) -> _T:
        in_flight = self.progress.in_flight
        in_flight[job.number] = 0

        def on_block(size: int) -> None:
            in_flight[job.number] = in_flight.get(job.number, 0) + size
            self.progress.moved_bytes += size

        body = (
            PartBody(
                self.source,
                self.executor,
                offset=job.offset,
                size=job.size,
                control=job.digest.control,
            )
            if job.size
            else None
        )
        try:
            return await send(body, on_block)
        except NETWORK_ERRORS:
            if body is not None and body.error is not None:
                raise body.error from None
            # Bytes that went through show that the line is alive, if not well.
            if in_flight.get(job.number) and job.failures < _MAX_BREAKS:
                self.patience.renew()
            raise
        finally:
            if body is not None:
                body.close()
            in_flight.pop(job.number, None)

    async def _after_store_failure(self, job: Job, error: BaseException) -> None:
        url = job.signed.url if job.signed is not None else ""
        if url and await self.route.avoids_store(url, self._gateway_reaches_store):
            self.progress.trouble = ""
            return
        await self._after_failure(job, f"The store fails: {reason(error)}")
        # A store that closes the connection at once may be refusing an expired URL.
        if job.failures % _SIGN_AGAIN_EVERY == 0:
            job.signed = None

    async def _gateway_reaches_store(self) -> bool:
        return await self.client.reaches_store(self.session_id)

    async def _after_relay_refusal(self, job: Job, error: GatewayError) -> None:
        if error.code == "part_conflict":
            # Another client has recorded other bytes meanwhile: ours are to replace them.
            job.replace = True
            job.refused(Remedy.NONE)
            if job.hopeless(Remedy.NONE):
                raise part_conflict(job.number)
        elif error.code == "digest_mismatch":
            count = job.refused(Remedy.READ_AGAIN)
            if job.hopeless(Remedy.READ_AGAIN):
                raise _damaged(f"The gateway keeps refusing part {job.number} ({error.code}).")
            await self.digests.check(job.number)
            await asyncio.sleep(backoff(count))
        elif error.retryable:
            await self._after_failure(job, f"The gateway cannot relay now ({error.code})", error)
        else:
            raise error

    async def _after_refusal(self, job: Job, refused: StoreRefused) -> None:
        remedy = refused.remedy
        if remedy is Remedy.WAIT:
            await self._after_failure(job, f"The store is unwell ({refused})", refused)
            return
        count = job.refused(remedy)
        if remedy is Remedy.ASK_GATEWAY:
            await self._ask_gateway()
        if job.hopeless(remedy):
            raise _hopeless(job.number, refused)
        _log.info("The store refused part %d (%s): %s.", job.number, refused, remedy.value)
        if remedy is Remedy.READ_AGAIN:
            # Either the file has changed since it was hashed, or bytes are damaged on the way.
            await self.digests.check(job.number)
        elif remedy is Remedy.SIGN_AGAIN:
            job.signed = None
        if count > 1:
            await asyncio.sleep(backoff(count))

    async def _after_failure(
        self, job: Job, what: str, refused: StoreRefused | GatewayError | None = None
    ) -> None:
        job.failures += 1
        if not self.progress.trouble:
            _log.warning("%s. Trying on until it works.", what)
        self.progress.trouble = what
        if self.patience.lost:
            if _is_full(refused):
                raise StorageFull(
                    "The store has no room left.",
                    hint="Free some space, and start the upload again: it goes on where it was.",
                )
            raise Unavailable(
                f"{what}, for too long.",
                code="unreachable",
                hint="Start the upload again when it is back: it goes on where it was.",
            )
        asked = refused.retry_after if refused is not None else None
        await asyncio.sleep(max(backoff(job.failures), asked or 0.0))

    async def _ask_gateway(self) -> None:
        """Raise what the gateway knows about a session whose upload the store does not know."""
        # Listing the parts makes the gateway look into the store.
        await self.client.parts(self.session_id)
        session = await self.client.get(self.session_id)
        if session.state != OPEN:
            raise not_open(session)


def not_open(session: Session) -> GatewayError:
    """Return the error for a session that takes no parts any more, its state in the details."""
    details = {"state": session.state, "session_id": session.session_id}
    if session.state in CLOSED:
        why = (session.error or {}).get("message") or f"The upload was {session.state}."
        return Gone(why, hint="Start again: the file is sent from its beginning.", details=details)
    return Conflict(
        f"The session is {session.state}, no longer open.",
        code="session_not_open",
        details=details,
    )


def conflicting(error: Conflict) -> set[int]:
    """Return the part numbers that a `part_conflict` names; none for any other conflict."""
    numbers = error.details.get("parts") if error.code == "part_conflict" else None
    return {int(number) for number in numbers} if isinstance(numbers, list) else set()


def part_conflict(number: int) -> Conflict:
    """Return the error for a part that others keep recording with other bytes."""
    return Conflict(
        f"Part {number} keeps being recorded with other bytes.",
        code="part_conflict",
        hint="Let only one client at a time upload this file.",
    )


def _to_sign(job: Job, *, sized: bool) -> PartToSign:
    entry = PartToSign(part_number=job.number, checksum=job.digest.checksum)
    if sized:
        # The gateway cannot know how long the last part is.
        entry["size"] = job.size
    if job.replace:
        entry["replace"] = True
    return entry


def _hopeless(number: int, refused: StoreRefused) -> GatewayError:
    what = f"The store keeps refusing part {number} ({refused})."
    if refused.remedy is Remedy.READ_AGAIN:
        return _damaged(what)
    if refused.remedy is Remedy.SIGN_AGAIN:
        return Forbidden(
            what,
            code="store_refused",
            hint="Check the clock and the credentials of the gateway (gateway doctor), and that no "
            "proxy in between changes requests.",
        )
    return InvalidRequest(
        what, code="store_refused", hint="The store or a proxy before it does not take such parts."
    )


def _damaged(what: str) -> Corrupt:
    return Corrupt(
        what,
        code="damaged_on_the_way",
        hint="Something between this machine and the store damages bytes; try another network.",
    )


def _is_full(refused: StoreRefused | GatewayError | None) -> bool:
    if isinstance(refused, StoreRefused):
        return refused.status == HTTPStatus.INSUFFICIENT_STORAGE
    return isinstance(refused, StorageFull)
