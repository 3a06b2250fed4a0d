"""Uploads a stream: bytes that come once, in order, and perhaps nobody knows how many.

    create a session -> read a part into the spool, hashing it -> transfer it -> ...
    -> at the end of the stream complete with its size -> wait until it is verified, compare

Faults of the network are borne as for files, since a part stays in the spool until it is
acknowledged. What nobody can do is read a stream again: whoever is interrupted, or whose producer
fails, has the session aborted, and begins anew. An end of the stream looks the same whether its
producer was done or died; only a declared size or checksum tells, and is compared before
completion.
"""

import asyncio
import logging
import mimetypes
import os
import time
from pathlib import Path
from typing import Final
from uuid import uuid4

from gateway.client.completion import (
    MAX_ROUNDS,
    failed,
    named_parts,
    never_complete,
    require_agreement,
)
from gateway.client.digests import CONTROL
from gateway.client.journal import Journal
from gateway.client.model import COMPLETED, OPEN, Session, unexpected_answer
from gateway.client.patience import Patience
from gateway.client.receipts import UploadReceipt
from gateway.client.spool import Spool
from gateway.client.stream import StreamReader
from gateway.client.stream_parts import SPARE_PLACES, StreamParts
from gateway.client.transfer import Transfer
from gateway.client.workbench import Workbench
from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.errors import Conflict, GatewayError

ABORT_TIMEOUT: Final = 10.0

_log = logging.getLogger(__name__)


class StreamUpload:
    """One stream on its way, its size and checksum compared where they were declared."""

    def __init__(
        self,
        bench: Workbench,
        reader: StreamReader,
        *,
        size: int | None,
        checksum: Checksum | None,
    ) -> None:
        self._bench = bench
        self._reader = reader
        self._size = size
        self._checksum = checksum
        self._began = time.monotonic()
        self._parts: StreamParts | None = None

    async def run(self, name: str) -> UploadReceipt:
        """Upload all that comes; see `Uploader.upload_stream`."""
        session = await self._create(name)
        self._bench.progress.session_id = session.session_id
        places = self._bench.options.parallel + SPARE_PLACES
        spool = Spool(places, session.part_size, self._bench.options.spool_dir)
        self._parts = parts = StreamParts(
            self._bench, self._reader, spool, session, places=places, declared=self._checksum
        )
        try:
            transfer = await self._send(session, parts)
            session = await self._complete(session, parts, transfer)
        except BaseException as error:
            await self._give_up(session, error)
            raise
        return self._finish(session, parts)

    def close(self) -> None:
        """Delete what is spooled; no thread may be reading any more."""
        if self._parts is not None:
            self._parts.spool.close()

    async def _create(self, name: str) -> Session:
        options = self._bench.options
        session = await self._bench.client.create(
            name,
            self._size,
            content_type=options.content_type or mimetypes.guess_type(name)[0],
            part_size=options.part_size,
            checksum=self._checksum,
            metadata=options.metadata,
            idempotency_key=uuid4().hex,
        )
        if session.size != self._size or session.checksum_algorithm not in ALGORITHMS:
            raise unexpected_answer("a session for another file, or with an unknown checksum")
        return session

    async def _send(self, session: Session, parts: StreamParts) -> Transfer:
        patience = Patience(self._bench.options.give_up_after)
        # Nothing outlives this process that a journal could be of use to.
        journal = Journal(Path(os.devnull), None)
        journal.start(session.session_id)
        transfer = Transfer(
            self._bench.sender(session, parts.spool, parts, patience),
            journal,
            parallel=self._bench.options.parallel,
            stored={},
            tally=self._bench.tally,
            # Only an acknowledged part gives its place in the spool to another.
            acknowledge_at=1,
        )
        await transfer.run()
        parts.compare_declared()
        return transfer

    async def _complete(self, session: Session, parts: StreamParts, transfer: Transfer) -> Session:
        client = self._bench.client
        self._bench.progress.size = parts.size
        self._bench.progress.phase = "completing"
        words = [transfer.parts[number] for number in sorted(transfer.parts)]
        for _ in range(MAX_ROUNDS):
            again: float | None = 0.0
            try:
                session, again = await client.complete(
                    session.session_id, parts=words, size=parts.size
                )
            except Conflict as error:
                if named_parts(error):
                    raise _lost(error) from error
                if "state" not in error.details:
                    raise
                session = await client.get(session.session_id)
            if again is not None:
                session = await self._bench.settled(session, again)
            if session.state == COMPLETED:
                return session
            if session.state != OPEN:
                raise failed(session)
        raise never_complete()

    def _finish(self, session: Session, parts: StreamParts) -> UploadReceipt:
        bench = self._bench
        checksums = parts.whole()
        require_agreement(session, checksums)
        bench.progress.phase = "done"
        bench.progress.settled_bytes = parts.size
        return UploadReceipt(
            session_id=session.session_id,
            state=session.state,
            verified_by=session.verified_by,
            size=parts.size,
            parts=parts.count,
            parts_sent=bench.tally.parts,
            bytes_sent=bench.tally.bytes,
            relayed=bench.progress.relayed,
            bytes_relayed=bench.tally.relayed_bytes,
            seconds=time.monotonic() - self._began,
            checksum=checksums.get(session.checksum_algorithm) or checksums.get(CONTROL),
            object=session.raw.get("object"),
        )

    async def _give_up(self, session: Session, error: BaseException) -> None:
        """Abort the session, unless everything is stored and only an answer is missing."""
        session_id = session.session_id
        complete = self._bench.progress.phase not in {"starting", "uploading"}
        if complete and isinstance(error, GatewayError) and error.retryable:
            _log.warning(
                "The whole stream is stored: once the gateway answers, session %s can still be "
                "completed with its size of %d bytes (POST /uploads/%s/complete).",
                session_id,
                self._bench.progress.size,
                session_id,
            )
            return
        try:
            async with asyncio.timeout(ABORT_TIMEOUT):
                await self._bench.client.abort(session_id)
        except Conflict:
            _log.warning("Session %s has come to its end already; see its status.", session_id)
        except (GatewayError, TimeoutError) as problem:
            _log.warning(
                "Session %s could not be aborted (%s); it expires by itself.",
                session_id,
                problem if isinstance(problem, GatewayError) else "no answer in time",
            )
        else:
            self._bench.progress.phase = "aborted"
            _log.info("Aborted session %s.", session_id)


def _lost(error: Conflict) -> Conflict:
    return Conflict(
        f"The store has lost or changed parts of the stream: {error.message}",
        code=error.code,
        hint="A stream cannot be read again. Start again from its beginning.",
        details=error.details,
    )
