"""Downloads a completed upload, verified: the file gets its name only after its checksum is right.

Ranges are fetched several at a time, each on the condition that the object is still the same one,
and written in order. Memory is (parallel + 1) ranges of 8 MiB.
"""

import asyncio
import logging
import time
from collections import deque
from http import HTTPStatus
from pathlib import Path
from typing import Final
from unicodedata import category

from gateway.client.api import GatewayClient
from gateway.client.model import Content, ObjectReceipt, Session, unexpected_answer
from gateway.client.options import DownloadOptions
from gateway.client.patience import Patience, backoff
from gateway.client.problems import NETWORK_ERRORS, reason
from gateway.client.progress import Progress
from gateway.client.receipts import DownloadReceipt
from gateway.client.store import Remedy, StoreConnection, StoreRefused
from gateway.client.target import TargetFile
from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.errors import Conflict, Corrupt, Forbidden, Gone, Unavailable

RANGE: Final = 8 << 20
"""Bytes of one request: large enough for full speed, small enough to hold in memory."""

_MAX_NAME: Final = 200
_MAX_REFUSALS: Final = 4

_log = logging.getLogger(__name__)


class Downloader:
    """Downloads files over one client. `progress` describes the download that is under way."""

    def __init__(self, client: GatewayClient, options: DownloadOptions | None = None) -> None:
        self.progress = Progress()
        self._client = client
        self._options = options or DownloadOptions()

    async def download(self, session_id: str, path: Path | None = None) -> DownloadReceipt:
        """Download to `path`: a file, a folder, or None for the session's file name right here.

        Raises NotFound, Conflict (`not_completed`, `quarantined`, `file_exists`,
        `object_changed`), Gone, Corrupt (what came is not what was uploaded; it is thrown away)
        and Unavailable. Interrupted, it leaves a `.part` file that the next try goes on with.
        """
        began = time.monotonic()
        content = await self._client.content(session_id)
        session = await self._client.get(session_id)
        stored = session.object
        if stored is None:
            raise unexpected_answer("a completed session without an object")
        expected = _expected(session, stored)
        destination = _destination(path, session.filename)
        self.progress = Progress(session_id, destination.name, stored.size, "downloading")
        target = await asyncio.to_thread(
            TargetFile.open, destination, session_id, tuple(expected), force=self._options.force
        )
        try:
            async with StoreConnection(
                self._options.parallel, stall_timeout=self._options.stall_timeout
            ) as store:
                run = _Download(
                    self._client,
                    store,
                    session_id=session_id,
                    stored=stored,
                    content=content,
                    options=self._options,
                )
                await run.fill(target, expected, self.progress)
            await asyncio.to_thread(target.publish, force=self._options.force)
        finally:
            target.close()
        self.progress.phase = "done"
        if not expected:
            _log.warning("There is no checksum to verify by; only the size is known to be right.")
        return DownloadReceipt(
            session_id=session_id,
            path=destination,
            size=stored.size,
            bytes_received=run.received,
            seconds=time.monotonic() - began,
            checksum=next(iter(expected.values()), None),
        )


class _Download:
    """One object on its way into one file."""

    def __init__(
        self,
        client: GatewayClient,
        store: StoreConnection,
        *,
        session_id: str,
        stored: ObjectReceipt,
        content: Content,
        options: DownloadOptions,
    ) -> None:
        self.received = 0
        self._client = client
        self._store = store
        self._session_id = session_id
        self._object = stored
        self._content = content
        self._parallel = options.parallel
        self._patience = Patience(options.give_up_after)
        self._signing = asyncio.Lock()
        self._progress = Progress()

    async def fill(
        self, target: TargetFile, expected: dict[str, Checksum], progress: Progress
    ) -> None:
        """Write the object into the file, and verify it."""
        self._progress = progress

        def on_block(size: int) -> None:
            progress.settled_bytes += size

        await asyncio.to_thread(target.resume, self._object.size, on_block)
        resumed = target.position
        if resumed:
            _log.warning("Going on after %d bytes that are here already.", resumed)
        await self._fetch_into(target)
        if _wrong(await asyncio.to_thread(target.checksums), expected) and resumed:
            # What an earlier try left may be bad, after a power failure say: all once more.
            _log.warning("What was here already does not fit; downloading everything anew.")
            await asyncio.to_thread(target.restart)
            progress.settled_bytes = 0
            await self._fetch_into(target)
        if wrong := _wrong(await asyncio.to_thread(target.checksums), expected):
            await asyncio.to_thread(target.discard)
            raise Corrupt(
                f"The bytes that came do not have the upload's {wrong} checksum; "
                "they were thrown away.",
                hint="Try again; if it happens again, tell the gateway's operator.",
            )

    async def _fetch_into(self, target: TargetFile) -> None:
        starts = iter(range(target.position, self._object.size, RANGE))
        fetching: deque[asyncio.Task[bytes]] = deque()

        def fetch_more() -> None:
            start = next(starts, None)
            if start is not None:
                fetching.append(asyncio.create_task(self._fetch(start)))

        try:
            for _ in range(self._parallel):
                fetch_more()
            while fetching:
                data = await fetching[0]
                fetching.popleft()
                fetch_more()
                await asyncio.to_thread(target.append, data)
                self._progress.settled_bytes += len(data)
        finally:
            for task in fetching:
                task.cancel()
            await asyncio.gather(*fetching, return_exceptions=True)
            self._progress.in_flight.clear()

    async def _fetch(self, start: int) -> bytes:
        stop = min(start + RANGE, self._object.size)
        failures = refusals = 0
        while True:
            url = await self._url()
            try:
                data = await self._fetch_once(url, start, stop)
            except StoreRefused as refused:
                if refused.status == HTTPStatus.PRECONDITION_FAILED:
                    raise _changed() from None
                if refused.remedy is not Remedy.WAIT:
                    refusals += 1
                    if refused.remedy is Remedy.ASK_GATEWAY or refusals > _MAX_REFUSALS:
                        raise _hopeless(refused) from None
                    await self._sign_again(url)
                failures += 1
                await self._wait(failures, f"The store is unwell ({refused})", refused.retry_after)
            except NETWORK_ERRORS as error:
                failures += 1
                await self._wait(failures, f"The store fails: {reason(error)}", None)
            else:
                self._patience.renew()
                self._progress.trouble = ""
                self.received += len(data)
                # The bytes stay in flight for the display until they are written in order.
                self._progress.in_flight.pop(start, None)
                return data

    async def _fetch_once(self, url: str, start: int, stop: int) -> bytes:
        buffer = bytearray()
        async with self._store.get(url, start=start, stop=stop, etag=self._object.etag) as blocks:
            async for block in blocks:
                buffer += block
                self._progress.in_flight[start] = len(buffer)
                self._progress.moved_bytes += len(block)
        if len(buffer) != stop - start:
            raise ConnectionResetError("The answer ended early.")
        return bytes(buffer)

    async def _url(self) -> str:
        if self._client.clock.now() >= self._content.expires_at:
            await self._sign_again(self._content.url)
        return self._content.url

    async def _sign_again(self, old: str) -> None:
        async with self._signing:
            # Another range may have seen to it while this one waited for its turn.
            if self._content.url == old:
                self._content = await self._client.content(self._session_id)

    async def _wait(self, failures: int, what: str, asked: float | None) -> None:
        if not self._progress.trouble:
            _log.warning("%s. Trying on until it works.", what)
        self._progress.trouble = what
        if self._patience.lost:
            raise Unavailable(
                f"{what}, for too long.",
                code="unreachable",
                hint="Start the download again when the store is back: it goes on where it was.",
            )
        await asyncio.sleep(max(backoff(failures), asked or 0.0))


def _expected(session: Session, stored: ObjectReceipt) -> dict[str, Checksum]:
    """Return what to verify by: the quickest of the object's checksums, and the declared one."""
    found: dict[str, Checksum] = {}
    for name in ALGORITHMS:
        if name in stored.checksums:
            found[name] = Checksum(name, stored.checksums[name])
            break
    if session.checksum is not None:
        found.setdefault(session.checksum.algorithm, session.checksum)
    return found


def _wrong(values: dict[str, str], expected: dict[str, Checksum]) -> str:
    return ", ".join(name for name in expected if values[name] != expected[name].value)


def _destination(path: Path | None, filename: str) -> Path:
    if path is None or path.is_dir():
        return (path or Path()) / _safe_name(filename)
    return path


def _safe_name(filename: str) -> str:
    """Return a name that stays in its folder, whatever the session says its file is called."""
    last = filename.replace("\\", "/").rpartition("/")[2]
    clean = "".join("_" if category(char) in {"Cc", "Cs", "Zl", "Zp"} else char for char in last)
    # A hidden file could be the configuration of something.
    clean = clean.lstrip(".") or "download"
    while len(clean.encode()) > _MAX_NAME:
        clean = clean[:-1]
    return clean


def _changed() -> Conflict:
    return Conflict(
        "The object in the store is not the one that was uploaded any more.",
        code="object_changed",
        hint="Somebody has overwritten it; tell the gateway's operator.",
    )


def _hopeless(refused: StoreRefused) -> Gone | Forbidden:
    if refused.remedy is Remedy.ASK_GATEWAY:
        return Gone(f"The store has no such object ({refused}).", code="object_gone")
    return Forbidden(
        f"The store keeps refusing to give the object ({refused}).",
        code="store_refused",
        hint="Check the clock and the credentials of the gateway (gateway doctor).",
    )
