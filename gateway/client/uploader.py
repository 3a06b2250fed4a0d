"""Uploads a file so that any interruption costs at most the parts that were on their way.

    find the session of an earlier try (journal, else fingerprint), or create one
    -> transfer the parts that are not safely stored  (`transfer`, `sender`)
    -> complete, and wait until the gateway has verified the object
    -> compare its checksum with the file's

The gateway may answer a completion by naming parts to send again; then the middle is repeated, a
bounded number of times. Nothing here ever aborts a session: what was stored stays for the next try.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from uuid import uuid4

from gateway.client.api import GatewayClient
from gateway.client.digests import CONTROL, FileDigests
from gateway.client.fingerprint import fingerprint
from gateway.client.journal import Journal, state_directory
from gateway.client.model import COMPLETED, OPEN, SETTLED, Session, unexpected_answer
from gateway.client.patience import Patience
from gateway.client.progress import Progress
from gateway.client.resume import find_session
from gateway.client.sender import Sender, conflicting, not_open
from gateway.client.source import SourceFile
from gateway.client.store import StoreConnection
from gateway.client.transfer import Tally, Transfer
from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.plan import MAX_PART_NUMBER, parse_ranges
from gateway.errors import Conflict, Corrupt, GatewayError, Gone, InvalidRequest, Unavailable

MAX_PARALLEL: Final = 64
MAX_ROUNDS: Final = 8
SETTLE_LIMIT: Final = 900.0
_POLL_AT_MOST: Final = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """How to upload. Sizes are in bytes, times in seconds.

    `give_up_after` is how long nothing at all may go well with the store; the gateway is tried for
    as long as the client's `retry_for` says. `stall_timeout` is how long one connection may stand
    still. `state_dir` is where journals lie, by default what `state_directory` returns.
    """

    parallel: int = 4
    part_size: int | None = None
    metadata: Mapping[str, str] | None = None
    content_type: str | None = None
    give_up_after: float = 300.0
    stall_timeout: float = 60.0
    state_dir: Path | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.parallel <= MAX_PARALLEL:
            raise InvalidRequest(
                f"parallel must lie between 1 and {MAX_PARALLEL}.",
                hint="4 suits most lines; more helps on fast ones with long delays.",
            )


@dataclass(frozen=True, slots=True)
class UploadReceipt:
    """What came of an upload.

    `parts_sent` and `bytes_sent` count what the store took in this run, `seconds` its duration.
    `checksum` is that of the whole file as computed here, `object` what the gateway says of the
    stored one, as it came.
    """

    session_id: str
    state: str
    verified_by: str | None
    size: int
    parts: int
    parts_sent: int
    bytes_sent: int
    seconds: float
    checksum: Checksum | None
    object: Mapping[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        """Return the receipt ready for JSON; the checksum is {"algorithm", "value"}."""
        checksum = self.checksum
        return {
            "session_id": self.session_id,
            "state": self.state,
            "verified_by": self.verified_by,
            "size": self.size,
            "parts": self.parts,
            "parts_sent": self.parts_sent,
            "bytes_sent": self.bytes_sent,
            "seconds": round(self.seconds, 3),
            "checksum": checksum and {"algorithm": checksum.algorithm, "value": checksum.value},
            "object": self.object,
        }


class Uploader:
    """Uploads files over one client.

    `progress` and `sent` describe the upload that is under way, or the last one.
    """

    def __init__(self, client: GatewayClient, options: UploadOptions | None = None) -> None:
        self.progress = Progress()
        self.sent = Tally()
        self._client = client
        self._options = options or UploadOptions()

    async def upload(self, path: Path | str) -> UploadReceipt:
        """Upload one file, going on where an earlier try was interrupted.

        Raises InvalidRequest (`file_unreadable`), Conflict (`file_changed`, `upload_running`),
        Corrupt, Gone, Unavailable (`unreachable`: start again later), and the gateway's errors.
        Cancelled, it acknowledges what is stored and leaves the session for the next try.
        """
        source = await asyncio.to_thread(SourceFile.open, Path(path))
        self.progress = Progress(name=source.name, size=source.size)
        self.sent = Tally()
        readers = ThreadPoolExecutor(self._options.parallel + 2, thread_name_prefix="gateway-read")
        store = StoreConnection(self._options.parallel, stall_timeout=self._options.stall_timeout)
        upload = None
        try:
            async with store:
                tools = _Tools(
                    self._client, store, source, readers, self._options, self.progress, self.sent
                )
                upload = await _Upload.start(tools)
                return await upload.run()
        finally:
            source.stop()
            # No thread may be reading when the descriptor is given back.
            await asyncio.to_thread(readers.shutdown, cancel_futures=True)
            source.close()
            if upload is not None:
                await upload.close()


@dataclass(frozen=True, slots=True)
class _Tools:
    client: GatewayClient
    store: StoreConnection
    source: SourceFile
    readers: ThreadPoolExecutor
    options: UploadOptions
    progress: Progress
    tally: Tally


class _Upload:
    """One file on its way: what has to be let go of at the end, and the rounds until then."""

    def __init__(self, tools: "_Tools", mark: str, journal: Journal) -> None:
        self._client = tools.client
        self._store = tools.store
        self._source = tools.source
        self._readers = tools.readers
        self._options = tools.options
        self._progress = tools.progress
        self._fingerprint = mark
        self._journal = journal
        self._patience = Patience(tools.options.give_up_after)
        self._tally = tools.tally
        self._began = time.monotonic()
        self._sync: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, tools: "_Tools") -> Self:
        mark = await asyncio.to_thread(fingerprint, tools.source)
        directory = tools.options.state_dir or state_directory()
        journal = await asyncio.to_thread(Journal.open, directory, tools.client.server, mark)
        return cls(tools, mark, journal)

    async def close(self) -> None:
        await asyncio.to_thread(self._journal.close)
        if self._sync is not None:
            await self._sync

    async def run(self) -> UploadReceipt:
        session = await find_session(
            self._client, self._journal.entry, self._fingerprint, self._source.size
        )
        if session is not None and session.state != OPEN:
            self._progress.session_id = session.session_id
            session = await self._settled(session, 1.0)
            if session.state == COMPLETED and await self._holds_this_file(session):
                _log.info("Session %s had been completed already.", session.session_id)
                return await self._finish(session, self._digests(session))
        if session is not None and session.state == OPEN:
            try:
                return await self._rounds(session)
            except Gone:
                # Aborted by somebody's wish it stays aborted; an upload that the store has lost
                # since the last try is only begun anew, as long as nothing was sent in this one.
                if self._tally.parts or not await self._is_lost(session):
                    raise
                _log.warning("The store has lost session %s; beginning anew.", session.session_id)
        return await self._rounds(await self._create())

    async def _is_lost(self, session: Session) -> bool:
        error = (await self._client.get(session.session_id)).raw.get("error")
        return isinstance(error, Mapping) and error.get("code") == "upload_lost"

    async def _create(self) -> Session:
        options = self._options
        session = await self._client.create(
            self._source.name,
            self._source.size,
            content_type=options.content_type or self._source.content_type,
            part_size=options.part_size,
            metadata=options.metadata,
            fingerprint=self._fingerprint,
            idempotency_key=uuid4().hex,
        )
        if session.size != self._source.size or session.checksum_algorithm not in ALGORITHMS:
            raise unexpected_answer("a session for another file, or with an unknown checksum")
        return session

    async def _rounds(self, session: Session) -> UploadReceipt:
        self._progress.session_id = session.session_id
        entry = self._journal.entry
        if entry is None or entry.session_id != session.session_id:
            if self._sync is not None:
                await self._sync
            await asyncio.to_thread(self._journal.start, session.session_id)
            # Parts need not wait for the disk: until it is done, the fingerprint does.
            self._sync = asyncio.create_task(asyncio.to_thread(self._journal.sync))
        digests = self._digests(session)
        forced: list[int] = []
        for _ in range(MAX_ROUNDS):
            try:
                session = await self._round(session, digests, forced)
                forced = []
            except Conflict as error:
                forced = _named(error)
                if not forced and "state" not in error.details:
                    raise
                session = await self._client.get(session.session_id)
            if session.state != OPEN:
                session = await self._settled(session, 0.0)
            if session.state != OPEN:
                return await self._finish(session, digests)
        raise Unavailable(
            "The gateway keeps asking for parts that have been sent.",
            code="never_complete",
            hint="Start the upload again; if that does not help, ask the gateway's operator.",
        )

    async def _round(self, session: Session, digests: FileDigests, forced: list[int]) -> Session:
        sender = Sender(
            client=self._client,
            store=self._store,
            source=self._source,
            executor=self._readers,
            digests=digests,
            progress=self._progress,
            patience=self._patience,
            session_id=session.session_id,
        )
        stored = await self._client.parts(session.session_id)
        if stored:
            _log.warning(
                "Going on with session %s: %d of %d parts are stored; comparing them.",
                session.session_id,
                len(stored),
                digests.plan.last_number,
            )
        transfer = Transfer(
            sender,
            self._journal,
            parallel=self._options.parallel,
            stored=stored,
            tally=self._tally,
            forced=forced,
        )
        self._patience.renew()
        await transfer.run()
        if self._source.doubtful:
            await digests.check_all()
        await asyncio.to_thread(self._source.check)
        self._progress.phase = "completing"
        parts = [transfer.parts[number] for number in sorted(transfer.parts)]
        session, again = await self._client.complete(session.session_id, parts=parts)
        return session if again is None else await self._settled(session, again)

    async def _settled(self, session: Session, again: float) -> Session:
        """Wait until the gateway has done with the session, or has opened it again."""
        patience = Patience(max(SETTLE_LIMIT, self._options.give_up_after))
        while session.state not in SETTLED and session.state != OPEN:
            self._progress.phase = session.state
            self._progress.fraction = session.fraction
            if patience.lost:
                raise Unavailable(
                    f"The gateway has been {session.state} for long without getting on.",
                    code="unreachable",
                    hint="It goes on by itself; look at it later with gateway status, or start the "
                    "upload again to hear how it ended.",
                )
            await asyncio.sleep(min(again, _POLL_AT_MOST))
            again = max(1.0, again)
            latest = await self._client.get(session.session_id)
            if (latest.state, latest.fraction) != (session.state, session.fraction):
                patience.renew()
            session = latest
        return session

    async def _finish(self, session: Session, digests: FileDigests) -> UploadReceipt:
        """Compare what is stored with the file, and close the books."""
        if session.state != COMPLETED:
            await asyncio.to_thread(self._journal.remove)
            raise _failed(session)
        checksums = await digests.whole()
        await asyncio.to_thread(self._source.check)
        await asyncio.to_thread(self._journal.remove)
        if _agrees(session, checksums) is False:
            raise Corrupt(
                "The object in the store has another checksum than the file.",
                hint=f"Do not use session {session.session_id}; tell the gateway's operator.",
                details={"session": dict(session.raw)},
            )
        self._progress.phase = "done"
        self._progress.settled_bytes = self._source.size
        return UploadReceipt(
            session_id=session.session_id,
            state=session.state,
            verified_by=session.verified_by,
            size=self._source.size,
            parts=digests.plan.last_number,
            parts_sent=self._tally.parts,
            bytes_sent=self._tally.bytes,
            seconds=time.monotonic() - self._began,
            checksum=checksums.get(session.checksum_algorithm) or checksums.get(CONTROL),
            object=session.raw.get("object"),
        )

    async def _holds_this_file(self, session: Session) -> bool:
        """Tell whether a session completed earlier is this file's, by checksums alone."""
        digests = self._digests(session)
        agrees = _agrees(session, await digests.whole())
        if agrees is None:
            entry = self._journal.entry
            known = entry.parts if entry and entry.session_id == session.session_id else {}
            numbers = range(1, digests.plan.last_number + 1)
            agrees = known.keys() >= set(numbers) and all(
                [
                    known[number].checksum == (await digests.part(number)).checksum
                    for number in numbers
                ]
            )
        return agrees

    def _digests(self, session: Session) -> FileDigests:
        return FileDigests(self._source, self._readers, session)


def _agrees(session: Session, checksums: Mapping[str, Checksum]) -> bool | None:
    """Compare the object's checksums with the file's; None where there is none to compare."""
    told = session.object.checksums if session.object is not None else {}
    common = told.keys() & checksums.keys()
    return all(told[name] == checksums[name].value for name in common) if common else None


def _named(error: Conflict) -> list[int]:
    """Return the parts that a refused completion wants sent again."""
    if error.code != "parts_missing":
        return sorted(conflicting(error))
    ranges = error.details.get("missing")
    if not isinstance(ranges, str):
        raise unexpected_answer("no ranges of missing parts") from error
    return parse_ranges(ranges, maximum=MAX_PART_NUMBER)


def _failed(session: Session) -> GatewayError:
    problem = session.error or {}
    if session.state in {"corrupt", "rejected"}:
        return Corrupt(
            problem.get("message") or f"The upload ended {session.state}.",
            code=session.state if session.state == "rejected" else None,
            hint=problem.get("hint") or "Start the upload again; it makes a new session.",
            details={"session": dict(session.raw)},
        )
    return not_open(session)
