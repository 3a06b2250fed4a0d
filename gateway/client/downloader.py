"""Downloads a completed upload, verified: a file gets its name only after its checksum is right.

Ranges are fetched several at a time, each on the condition that the object is still the same one,
and written in order. Memory is (parallel + 1) ranges of 8 MiB. Where only the gateway reaches the
store (`route`), they come through it. Into a stream the same bytes go in
the same order, but they are gone before they can be verified: the outcome says what they were.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final, Self

from gateway.client.api import GatewayClient
from gateway.client.destination import destination
from gateway.client.model import Content, ObjectReceipt, Session, unexpected_answer
from gateway.client.options import DownloadOptions
from gateway.client.patience import Patience, backoff
from gateway.client.problems import NETWORK_ERRORS, reason
from gateway.client.progress import Progress
from gateway.client.receipts import DownloadReceipt
from gateway.client.relay import RelayConnection, RelayRefused
from gateway.client.route import Route
from gateway.client.store import RANGE_IGNORED, Remedy, StoreConnection, StoreRefused
from gateway.client.stream import in_thread
from gateway.client.target import TargetFile, TargetStream, Writable
from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.errors import (
    Conflict,
    Corrupt,
    Forbidden,
    GatewayError,
    Gone,
    InvalidRequest,
    Unavailable,
)

RANGE: Final = 8 << 20
"""Bytes of one request: large enough for full speed, small enough to hold in memory."""

_MAX_REFUSALS: Final = 4
_PASSES: Final = 2

_log = logging.getLogger(__name__)


class Downloader:
    """Downloads files over one client. `progress` describes the download that is under way."""

    def __init__(self, client: GatewayClient, options: DownloadOptions | None = None) -> None:
        self.progress = Progress()
        self._client = client
        self._options = options or DownloadOptions()

    async def download(self, session_id: str, path: Path | str | None = None) -> DownloadReceipt:
        """Download to `path`: a file, a folder, or None for the session's file name right here.

        Raises NotFound, Conflict (`not_completed`, `quarantined`, `file_exists`,
        `object_changed`), Gone, Corrupt (what came is not what was uploaded; it is thrown away)
        and Unavailable. Interrupted, it leaves a `.part` file that the next try goes on with.
        """
        began = time.monotonic()
        order = await _Order.read(self._client, session_id)
        place = destination(None if path is None else Path(path), order.session.filename)
        self.progress = order.progress(place.name)
        target = await asyncio.to_thread(
            TargetFile.open, place, session_id, order.names, force=self._options.force
        )
        try:
            run = _Download(self._client, order, self._options, self.progress)
            async with run.connected():
                await run.fill(target)
            await asyncio.to_thread(target.publish, force=self._options.force)
        finally:
            await asyncio.to_thread(target.close)
        return self._receipt(order, run, place, began)

    async def download_to(self, session_id: str, writer: Writable) -> DownloadReceipt:
        """Write the upload's bytes, in order, to a file-like object in binary mode.

        They are written as they come, before they can be verified: only the return of this call
        says that they were right, and Corrupt that they were not. Nothing is resumed. The writer is
        left open; it is written to in a thread, at most `parallel` + 1 ranges ahead.

        Raises what `download` raises, and Conflict (`cannot_write`) where the writer fails.
        """
        began = time.monotonic()
        order = await _Order.read(self._client, session_id)
        self.progress = order.progress(order.session.filename)
        target = TargetStream(writer, order.names)
        run = _Download(self._client, order, self._options, self.progress)
        async with run.connected():
            await run.pass_on(target)
        return self._receipt(order, run, None, began)

    def _receipt(
        self, order: "_Order", run: "_Download", path: Path | None, began: float
    ) -> DownloadReceipt:
        self.progress.phase = "done"
        if not order.expected:
            _log.warning("There is no checksum to verify by; only the size is known to be right.")
        return DownloadReceipt(
            session_id=order.session.session_id,
            path=path,
            size=order.stored.size,
            bytes_received=run.received,
            relayed=self.progress.relayed,
            bytes_relayed=run.relayed,
            seconds=time.monotonic() - began,
            checksum=next(iter(order.expected.values()), None),
        )


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be downloaded: where it is, and what it must be."""

    content: Content
    session: Session
    stored: ObjectReceipt
    expected: Mapping[str, Checksum]

    @classmethod
    async def read(cls, client: GatewayClient, session_id: str) -> Self:
        content = await client.content(session_id)
        session = await client.get(session_id)
        if session.object is None:
            raise unexpected_answer("a completed session without an object")
        return cls(content, session, session.object, _expected(session, session.object))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.expected)

    def progress(self, name: str) -> Progress:
        return Progress(self.session.session_id, name, self.stored.size, "downloading")

    def wrong(self, values: Mapping[str, str]) -> str:
        """Name the checksums that are not what they should be."""
        return ", ".join(
            name for name, checksum in self.expected.items() if values[name] != checksum.value
        )


@dataclass(slots=True)
class _Troubles:
    """What has befallen one range so far."""

    failures: int = 0
    refusals: int = 0


class _Download:
    """One object on its way into one file."""

    def __init__(
        self,
        client: GatewayClient,
        order: _Order,
        options: DownloadOptions,
        progress: Progress,
    ) -> None:
        self.received = 0
        self.relayed = 0
        self._client = client
        stall, connect = options.stall_timeout, options.connect_timeout
        self._store = StoreConnection(
            options.parallel, stall_timeout=stall, connect_timeout=connect
        )
        self._relay = RelayConnection(
            client, options.parallel, stall_timeout=stall, connect_timeout=connect
        )
        self._route = Route(options.relay, progress)
        self._order = order
        self._object = order.stored
        self._content = order.content
        self._parallel = options.parallel
        self._patience = Patience(options.give_up_after)
        self._signing = asyncio.Lock()
        self._progress = progress

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Hold connections for as long as the block lasts."""
        async with self._store, self._relay:
            yield

    async def fill(self, target: TargetFile) -> None:
        """Write the object into the file, and verify it; what is wrong is fetched once more."""

        def on_block(size: int) -> None:
            self._progress.settled_bytes += size

        if self._order.expected:
            await asyncio.to_thread(target.resume, self._object.size, on_block)
        else:
            # Nothing could tell whether what an earlier try left is right.
            await asyncio.to_thread(target.restart)
        if target.position:
            _log.warning("Going on after %d bytes that are here already.", target.position)
        wrong = ""
        for _ in range(_PASSES):
            async with aclosing(self._ranges(target.position)) as ranges:
                async for data in ranges:
                    await asyncio.to_thread(target.append, data)
            wrong = self._order.wrong(target.checksums())
            if not wrong:
                return
            # What an earlier try left may be bad, after a power failure say, or a bit was flipped.
            _log.warning("The bytes do not have the upload's %s checksum.", wrong)
            await asyncio.to_thread(target.restart)
            self._progress.settled_bytes = 0
        await asyncio.to_thread(target.discard)
        raise Corrupt(
            f"The bytes that came do not have the upload's {wrong} checksum; "
            "they were thrown away.",
            hint="Try again; if it happens again, tell the gateway's operator.",
        )

    async def pass_on(self, target: TargetStream) -> None:
        """Write the object to a stream, and say at the end whether it was right."""
        async with aclosing(self._ranges(0)) as ranges:
            async for data in ranges:
                # Whoever reads may never read on; a thread of the pool could not be left behind.
                await in_thread(partial(target.append, data))
        if wrong := self._order.wrong(target.checksums()):
            raise Corrupt(
                f"The bytes that were written do not have the upload's {wrong} checksum.",
                hint="Throw away what was made of them, and try again; if it happens again, tell "
                "the gateway's operator.",
            )

    async def _ranges(self, position: int) -> AsyncGenerator[bytes, None]:
        """Yield all ranges from a position on, in order, with some being fetched ahead."""
        starts = iter(range(position, self._object.size, RANGE))
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
                yield data
                self._progress.settled_bytes += len(data)
        finally:
            for task in fetching:
                task.cancel()
            await asyncio.gather(*fetching, return_exceptions=True)
            self._progress.in_flight.clear()

    async def _fetch(self, start: int) -> bytes:
        stop = min(start + RANGE, self._object.size)
        troubles = _Troubles()
        while True:
            relayed = self._route.relayed
            content = self._content if relayed else await self._fresh()
            try:
                data = await self._fetch_once(content.url, start, stop, relayed=relayed)
            except RelayRefused as refused:
                await self._after_relay_refusal(troubles, refused.error)
            except StoreRefused as refused:
                self._route.store_answered()
                await self._after_refusal(troubles, refused, content)
            except NETWORK_ERRORS as error:
                if not relayed and await self._route.avoids_store(content.url, self._relay_works):
                    continue
                side = "gateway" if relayed else "store"
                await self._wait(troubles, f"The {side} fails: {reason(error)}", None)
            else:
                self._patience.renew()
                self._progress.trouble = ""
                self.received += len(data)
                if relayed:
                    self.relayed += len(data)
                else:
                    self._route.store_answered()
                # The bytes stay in flight for the display until they are written in order.
                self._progress.in_flight.pop(start, None)
                return data

    async def _after_refusal(
        self, troubles: "_Troubles", refused: StoreRefused, content: Content
    ) -> None:
        if refused.status == HTTPStatus.PRECONDITION_FAILED:
            raise _changed() from None
        if refused.code == RANGE_IGNORED:
            troubles.refusals += 1
            if troubles.refusals > _MAX_REFUSALS:
                raise _without_ranges() from None
        elif refused.remedy is not Remedy.WAIT:
            troubles.refusals += 1
            if refused.remedy is Remedy.ASK_GATEWAY or troubles.refusals > _MAX_REFUSALS:
                raise _hopeless(refused) from None
            await self._sign_again(content)
        await self._wait(troubles, f"The store is unwell ({refused})", refused.retry_after)

    async def _after_relay_refusal(self, troubles: "_Troubles", error: GatewayError) -> None:
        if not error.retryable:
            raise error from None
        await self._wait(
            troubles, f"The gateway cannot relay now ({error.code})", error.retry_after
        )

    async def _fetch_once(self, url: str, start: int, stop: int, *, relayed: bool) -> bytes:
        buffer = bytearray()
        session_id, etag = self._order.session.session_id, self._object.etag
        async with (
            self._relay.get(session_id, start=start, stop=stop, etag=etag)
            if relayed
            else self._store.get(url, start=start, stop=stop, etag=etag)
        ) as blocks:
            async for block in blocks:
                buffer += block
                self._progress.in_flight[start] = len(buffer)
                self._progress.moved_bytes += len(block)
        if len(buffer) != stop - start:
            raise ConnectionResetError("The answer ended early.")
        return bytes(buffer)

    async def _relay_works(self) -> bool:
        return await self._relay.reaches_store(self._order.session.session_id, self._object.etag)

    async def _fresh(self) -> Content:
        content = self._content
        if self._client.clock.now() >= content.expires_at:
            await self._sign_again(content)
        return self._content

    async def _sign_again(self, old: Content) -> None:
        async with self._signing:
            # Another range may have seen to it while this one waited for its turn. The address
            # does not tell: signed within the same second it is the same.
            if self._content is old:
                self._content = await self._client.content(self._order.session.session_id)

    async def _wait(self, troubles: "_Troubles", what: str, asked: float | None) -> None:
        troubles.failures += 1
        if not self._progress.trouble:
            _log.warning("%s. Trying on until it works.", what)
        self._progress.trouble = what
        if self._patience.lost:
            raise Unavailable(
                f"{what}, for too long.",
                code="unreachable",
                hint="Start the download again when it is back: it goes on where it was.",
            )
        await asyncio.sleep(max(backoff(troubles.failures), asked or 0.0))


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


def _changed() -> Conflict:
    return Conflict(
        "The object in the store is not the one that was uploaded any more.",
        code="object_changed",
        hint="Somebody has overwritten it; tell the gateway's operator.",
    )


def _without_ranges() -> InvalidRequest:
    return InvalidRequest(
        "The store answers every range with the whole object.",
        code="ranges_ignored",
        hint="Large objects are fetched in ranges: look for a proxy before the store that drops "
        "the Range header.",
    )


def _hopeless(refused: StoreRefused) -> Gone | Forbidden:
    if refused.remedy is Remedy.ASK_GATEWAY:
        return Gone(f"The store has no such object ({refused}).", code="object_gone")
    return Forbidden(
        f"The store keeps refusing to give the object ({refused}).",
        code="store_refused",
        hint="Check the clock and the credentials of the gateway (gateway doctor).",
    )
