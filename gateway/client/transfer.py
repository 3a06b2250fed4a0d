"""Brings the parts of one session into the store that are not safely there, several at a time.

Parts pass through stages: hash the piece of the file; judge what is stored; sign (many parts a
call, each with its checksum bound); send; acknowledge (many parts a call). Hashing runs ahead of
sending by a window of parts whose bytes are not kept, so memory is two blocks of 1 MiB for each
part on the way, whatever the size of parts and file. The second read comes from the page cache:
measured, both reads and the hashing take a tenth of a second of processor time for each GiB.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from gateway.client.api import PartToAcknowledge
from gateway.client.digests import PartDigest
from gateway.client.journal import Journal, PartRecord
from gateway.client.model import StoredPart
from gateway.client.problems import leading
from gateway.client.resume import Verdict, judge
from gateway.client.sender import Job, Sender, conflicting, part_conflict
from gateway.client.store import Remedy
from gateway.errors import Conflict, GatewayError

ACKNOWLEDGE_AFTER: Final = 1.0
ACKNOWLEDGE_AT: Final = 32
SIGN_WINDOW: Final = 0.01
REPORT_EVERY: Final = 1.0
FLUSH_TIMEOUT: Final = 5.0
_WINDOW: Final = 32
_WINDOW_BYTES: Final = 256 << 20
_HASHERS: Final = 2

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Tally:
    """What was really sent: parts that the store took, and their bytes.

    `relayed_bytes` are those of them that went through the gateway.
    """

    parts: int = 0
    bytes: int = 0
    relayed_bytes: int = 0


class Transfer:
    """One pass over the parts of an open session; `run` it once.

    `stored` is what the store holds, `forced` the numbers to send again whatever their checksums
    say. Afterwards `parts` has every part with ETag and checksum, ready for completion.
    """

    def __init__(
        self,
        sender: Sender,
        journal: Journal,
        *,
        parallel: int,
        stored: dict[int, StoredPart],
        tally: Tally,
        forced: Iterable[int] = (),
        acknowledge_at: int = ACKNOWLEDGE_AT,
    ) -> None:
        self.parts: dict[int, PartToAcknowledge] = {}
        self._sender = sender
        self._journal = journal
        self._parallel = parallel
        self._plan = sender.digests.plan
        self._stored = stored
        self._tally = tally
        self._acknowledge_at = acknowledge_at
        self._sending = 0
        self._heard_at = -math.inf
        self._forced = frozenset(forced)
        # What is missing comes first: the network has work while stored parts are compared.
        numbers = range(1, self._plan.last_number + 1)
        self._todo = deque(sorted(numbers, key=lambda number: not self._must_send(number)))
        self._unsettled = set(numbers)
        self._jobs: dict[int, Job] = {}
        self._unsigned: deque[Job] = deque()
        self._ready: asyncio.Queue[Job] = asyncio.Queue()
        self._unacknowledged: dict[int, PartToAcknowledge] = {}
        ahead = max(parallel + 2, min(_WINDOW, _WINDOW_BYTES // self._plan.part_size))
        self._window = asyncio.Semaphore(ahead)
        self._sign_now = asyncio.Event()
        self._some_stored = asyncio.Event()
        self._many_stored = asyncio.Event()
        self._settled = asyncio.Event()
        self._journal_lock = asyncio.Lock()

    async def run(self) -> None:
        """Bring every part into the store and have it acknowledged.

        Raises Conflict (`file_changed`; with `state` in its details when the session is no longer
        open), Gone, Unavailable when nothing went well for too long, and other errors of the
        gateway. Interrupted, it first acknowledges what is stored, within a few seconds.
        """
        self._sender.progress.phase = "uploading"
        self._sender.progress.settled_bytes = 0
        stages = [
            *(self._hash_parts() for _ in range(_HASHERS)),
            self._sign_parts(),
            *(self._send_parts() for _ in range(self._parallel)),
            self._acknowledge_parts(),
            self._report(),
        ]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(stage) for stage in stages]
                await self._settled.wait()
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as errors:
            await self._flush()
            raise leading(errors) from errors
        except asyncio.CancelledError:
            await self._flush()
            raise
        finally:
            self._sender.progress.in_flight.clear()

    def _must_send(self, number: int) -> bool:
        return number not in self._stored or number in self._forced

    def _length(self, number: int) -> int:
        return self._sender.digests.length(number)

    async def _hash_parts(self) -> None:
        while self._todo:
            await self._window.acquire()
            if not self._todo:
                return
            number = self._todo.popleft()
            # In a later round all digests are known, and nothing else would let others run.
            await asyncio.sleep(0)
            stored = self._stored.get(number)
            nameless = stored is not None and stored.checksum is None
            digest = await self._sender.digests.part(number, compare_etag=nameless)
            if digest is None:
                # The stream is shorter than it might have been.
                self._todo.clear()
                self._settle([beyond for beyond in self._unsettled if beyond >= number])
                return
            self._judge(number, digest)

    def _judge(self, number: int, digest: PartDigest) -> None:
        stored = self._stored.get(number)
        entry = self._journal.entry
        verdict = judge(
            stored,
            size=self._length(number),
            checksum=digest.checksum,
            md5=digest.md5,
            record=entry.parts.get(number) if entry is not None else None,
        )
        replace = verdict is Verdict.REPLACE or number in self._forced
        job = Job(number, self._plan.offset(number), self._length(number), digest, replace)
        self._jobs[number] = job
        if stored is None or replace:
            self._unsigned.append(job)
            self._sign_now.set()
            return
        job.windowed = False
        self._window.release()
        self.parts[number] = PartToAcknowledge(
            part_number=number, etag=stored.etag, checksum=digest.checksum
        )
        self._sender.progress.settled_bytes += self._length(number)
        if verdict is Verdict.ACKNOWLEDGE:
            self._to_be_acknowledged(number)
        else:
            self._settle([number])

    async def _sign_parts(self) -> None:
        while True:
            await self._sign_now.wait()
            self._sign_now.clear()
            # Signing only when the senders are about to run dry makes for large batches.
            while self._unsigned and self._ready.qsize() < self._parallel:
                if self._todo and len(self._unsigned) < self._parallel:
                    # In the beginning, a moment more makes one call out of several.
                    await asyncio.sleep(SIGN_WINDOW)
                batch = list(self._unsigned)
                self._unsigned.clear()
                await self._sender.sign(batch)
                for job in batch:
                    self._ready.put_nowait(job)

    async def _send_parts(self) -> None:
        while True:
            job = await self._ready.get()
            if job.windowed:
                job.windowed = False
                self._window.release()
            self._sign_now.set()
            if not self._sending:
                # A time in which there was nothing to send is none in which nothing went well.
                self._sender.patience.renew()
            self._sending += 1
            try:
                etag = await self._sender.send(job)
            finally:
                self._sending -= 1
            self._tally.parts += 1
            self._tally.bytes += job.size
            self._sender.progress.settled_bytes += job.size
            self.parts[job.number] = PartToAcknowledge(
                part_number=job.number, etag=etag, checksum=job.digest.checksum
            )
            if job.recorded:
                self._tally.relayed_bytes += job.size
                self._recorded(job.number)
            else:
                self._to_be_acknowledged(job.number)
            record = PartRecord(etag, job.digest.checksum)
            async with self._journal_lock:
                await asyncio.to_thread(self._journal.add, {job.number: record})

    def _to_be_acknowledged(self, number: int) -> None:
        self._unacknowledged[number] = self.parts[number]
        self._some_stored.set()
        self._hurry()

    def _settle(self, numbers: Iterable[int]) -> None:
        self._unsettled.difference_update(numbers)
        if not self._unsettled:
            self._settled.set()
        self._hurry()

    def _hurry(self) -> None:
        waiting = len(self._unacknowledged)
        # With nothing else left to wait for, the last ones go at once.
        if waiting >= self._acknowledge_at or waiting == len(self._unsettled):
            self._many_stored.set()

    async def _acknowledge_parts(self) -> None:
        while True:
            await self._some_stored.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(ACKNOWLEDGE_AFTER):
                    await self._many_stored.wait()
            self._some_stored.clear()
            self._many_stored.clear()
            batch = dict(self._unacknowledged)
            try:
                await self._sender.client.acknowledge(self._sender.session_id, list(batch.values()))
            except Conflict as error:
                numbers = conflicting(error) & batch.keys()
                if not numbers:
                    raise
                self._send_again(numbers)
                continue
            for number in batch:
                del self._unacknowledged[number]
            self._recorded(*batch)

    def _recorded(self, *numbers: int) -> None:
        """Take note that the gateway knows these parts to be stored."""
        self._heard_at = asyncio.get_running_loop().time()
        for number in numbers:
            # With its URL, a job takes more memory than all else that is known of a part.
            self._jobs.pop(number, None)
        self._sender.digests.settle(numbers)
        self._settle(numbers)

    def _send_again(self, numbers: Iterable[int]) -> None:
        """Other bytes are recorded for these: send ours in their place, and say so when signing."""
        for number in numbers:
            del self._unacknowledged[number]
            job = self._jobs[number]
            job.refused(Remedy.NONE)
            if job.hopeless(Remedy.NONE):
                raise part_conflict(number)
            job.replace, job.signed = True, None
            self._sender.progress.settled_bytes -= job.size
            self._unsigned.append(job)
        self._sign_now.set()
        self._some_stored.set()

    async def _flush(self) -> None:
        """Acknowledge what is stored before leaving, as far as that works at once."""
        batch = list(self._unacknowledged.values())
        if not batch:
            return
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await self._sender.client.acknowledge(self._sender.session_id, batch)
        except (GatewayError, TimeoutError) as error:
            # Nothing is lost: the store lists these parts, and the journal has their checksums.
            _log.info("The last %d parts could not be acknowledged: %s", len(batch), error)

    async def _report(self) -> None:
        """Tell what is on the way, unless acknowledgements come so often that they tell enough."""
        told: dict[int, int] = {}
        while True:
            await asyncio.sleep(REPORT_EVERY)
            if asyncio.get_running_loop().time() - self._heard_at < REPORT_EVERY:
                continue
            in_flight = self._sender.progress.in_flight
            now = {number: count for number, count in in_flight.items() if count}
            if now == told:
                continue
            try:
                await self._sender.client.progress(self._sender.session_id, now)
                told = now
            except GatewayError as error:
                # Only news for those who watch; the next second brings newer.
                _log.debug("Progress could not be reported: %s", error)
