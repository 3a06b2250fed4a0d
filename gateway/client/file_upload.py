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
from typing import Self
from uuid import uuid4

from gateway.client.completion import (
    MAX_ROUNDS,
    agrees,
    failed,
    named_parts,
    never_complete,
    require_agreement,
)
from gateway.client.digests import CONTROL, FileDigests
from gateway.client.fingerprint import fingerprint
from gateway.client.journal import Journal, state_directory
from gateway.client.model import COMPLETED, OPEN, Session, StoredPart, unexpected_answer
from gateway.client.patience import Patience
from gateway.client.receipts import UploadReceipt
from gateway.client.resume import find_session
from gateway.client.source import SourceFile
from gateway.client.transfer import Transfer
from gateway.client.workbench import Workbench
from gateway.core.checksums import ALGORITHMS
from gateway.errors import Conflict, Gone

_log = logging.getLogger(__name__)


class FileUpload:
    """One file on its way: what has to be let go of at the end, and the rounds until then."""

    def __init__(self, bench: Workbench, source: SourceFile, mark: str, journal: Journal) -> None:
        self._bench = bench
        self._client = bench.client
        self._source = source
        self._options = bench.options
        self._progress = bench.progress
        self._tally = bench.tally
        self._fingerprint = mark
        self._journal = journal
        self._patience = Patience(bench.options.give_up_after)
        self._began = time.monotonic()
        self._sync: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, bench: Workbench, source: SourceFile) -> Self:
        """Open the journal of this file. Raises Conflict (`upload_running`)."""
        mark = await asyncio.to_thread(fingerprint, source)
        directory = bench.options.state_dir or state_directory()
        journal = await asyncio.to_thread(Journal.open, directory, bench.client.server, mark)
        return cls(bench, source, mark, journal)

    async def close(self) -> None:
        """Let go of the journal, which stays unless the upload has ended."""
        await asyncio.to_thread(self._journal.close)
        if self._sync is not None:
            await self._sync

    async def run(self) -> UploadReceipt:
        """Upload what is missing, complete, and compare; see `Uploader.upload`."""
        session = await find_session(
            self._client, self._journal.entry, self._fingerprint, self._source.size
        )
        if session is not None and session.state != OPEN:
            self._progress.session_id = session.session_id
            session = await self._bench.settled(session, 1.0)
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
        return await self._rounds(await self._create(), is_new=True)

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

    async def _rounds(self, session: Session, *, is_new: bool = False) -> UploadReceipt:
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
        for number in range(MAX_ROUNDS):
            try:
                # Of a session made just now, nobody needs to ask what is stored.
                begins = is_new and number == 0
                stored = {} if begins else await self._client.parts(session.session_id)
                session = await self._round(session, digests, stored, forced)
                forced = []
            except Conflict as error:
                forced = named_parts(error)
                if not forced and "state" not in error.details:
                    raise
                session = await self._client.get(session.session_id)
            if session.state != OPEN:
                session = await self._bench.settled(session, 0.0)
            if session.state != OPEN:
                return await self._finish(session, digests)
        raise never_complete()

    async def _round(
        self,
        session: Session,
        digests: FileDigests,
        stored: dict[int, StoredPart],
        forced: list[int],
    ) -> Session:
        sender = self._bench.sender(session, self._source, digests, self._patience)
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
        return session if again is None else await self._bench.settled(session, again)

    async def _finish(self, session: Session, digests: FileDigests) -> UploadReceipt:
        """Compare what is stored with the file, and close the books."""
        if session.state != COMPLETED:
            await asyncio.to_thread(self._journal.remove)
            raise failed(session)
        checksums = await digests.whole()
        await asyncio.to_thread(self._source.check)
        await asyncio.to_thread(self._journal.remove)
        require_agreement(session, checksums)
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
            relayed=self._progress.relayed,
            bytes_relayed=self._tally.relayed_bytes,
            seconds=time.monotonic() - self._began,
            checksum=checksums.get(session.checksum_algorithm) or checksums.get(CONTROL),
            object=session.raw.get("object"),
        )

    async def _holds_this_file(self, session: Session) -> bool:
        """Tell whether a session completed earlier is this file's, by checksums alone."""
        digests = self._digests(session)
        agreed = agrees(session, await digests.whole())
        if agreed is None:
            entry = self._journal.entry
            known = entry.parts if entry and entry.session_id == session.session_id else {}
            numbers = range(1, digests.plan.last_number + 1)
            agreed = known.keys() >= set(numbers) and all(
                [
                    known[number].checksum == (await digests.part(number)).checksum
                    for number in numbers
                ]
            )
        return agreed

    def _digests(self, session: Session) -> FileDigests:
        return FileDigests(self._source, self._bench.readers, session)
