"""A gateway's HTTP side without what lies behind it, for tests of wire and rendering alone."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
from aiohttp import web
from samples import NOW, make_session

from gateway.core.model import (
    ChunkedFile,
    Part,
    PartToSign,
    SignedPart,
    StorageLimits,
    StoredObject,
    UploadSession,
)
from gateway.core.ports import PartOutcome, SessionPage
from gateway.core.service import ContentURL
from gateway.telemetry import Metrics
from gateway.web.auth import Authenticator, authenticator
from gateway.web.cors import Cors
from gateway.web.door import Door, DoorTable
from gateway.web.limits import ServerOptions, make_runner
from gateway.web.pipeline import install

TOKEN = "a-token-of-the-tests"
ORIGIN = "https://app.example"
SESSION_ID = make_session().session_id


class FakeService:
    """Answers every verb with what the test put here, and notes the calls."""

    limits = StorageLimits()

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.error: BaseException | None = None
        self.session = make_session()
        self.created = True
        self.loose: FakeLooseChunk | None = None
        self.cursor: str | None = None
        self.known_parts: tuple[Any, ...] = ()
        self.content = b"0123456789"
        self.content_error_after: int | None = None
        self.watching = 0
        self._script: list[UploadSession | BaseException] = []
        self._told = asyncio.Event()

    def now(self) -> Any:
        return NOW

    def _note(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.calls.append((name, args, kwargs))
        if self.error is not None:
            raise self.error

    async def create(self, principal: Any, new: Any) -> tuple[UploadSession, bool]:
        self._note("create", principal, new)
        return self.session, self.created

    async def get(self, principal: Any, session_id: str) -> UploadSession:
        self._note("get", principal, session_id)
        return self.session

    async def find(self, principal: Any, **query: Any) -> SessionPage:
        self._note("find", principal, **query)
        return SessionPage((self.session,), self.cursor)

    async def parts(self, principal: Any, session_id: str) -> tuple[Any, ...]:
        self._note("parts", principal, session_id)
        return self.known_parts

    async def put_part(
        self, principal: Any, session_id: str, number: int, body: Any, **options: Any
    ) -> tuple[UploadSession, Part, PartOutcome]:
        self._note("put_part", principal, session_id, number, **options)
        data = b"".join([block async for block in body])
        return self.session, Part(number, len(data), "etag"), PartOutcome.STORED

    async def sign(
        self,
        principal: Any,
        session_id: str,
        parts: Sequence[Any],
        *,
        expires_in: int | None = None,
    ) -> list[SignedPart]:
        self._note("sign", principal, session_id, parts, expires_in=expires_in)
        return [
            SignedPart(part.number, f"https://s3.example/{part.number}", {}, 10, NOW)
            for part in parts
        ]

    async def sign_first(self, principal: Any, session: Any, count: int) -> list[SignedPart]:
        return await self.sign(
            principal, session.session_id, [PartToSign(n) for n in range(1, count + 1)]
        )

    async def acknowledge(
        self, principal: Any, session_id: str, parts: Sequence[Any]
    ) -> tuple[UploadSession, list[PartOutcome]]:
        self._note("acknowledge", principal, session_id, parts)
        return self.session, [PartOutcome.STORED for _ in parts]

    async def put_chunk(
        self,
        principal: Any,
        file: ChunkedFile,
        index: int,
        body: AsyncIterable[bytes],
        *,
        size: int | None = None,
        wait: float = 10.0,
    ) -> tuple[UploadSession, PartOutcome]:
        self._note("put_chunk", principal, file, index, size=size, wait=wait)
        self.content = b"".join([block async for block in body])
        return self.session, PartOutcome.STORED

    async def stage(self, body: AsyncIterable[bytes]) -> "FakeLooseChunk":
        self._note("stage")
        self.loose = FakeLooseChunk([block async for block in body])
        return self.loose

    async def find_chunked(self, principal: Any, form: str, file_id: str) -> UploadSession:
        self._note("find_chunked", principal, form, file_id)
        return self.session

    async def open_chunked(
        self, principal: Any, file: ChunkedFile, *, chunk_size: int, size: int
    ) -> UploadSession:
        self._note("open_chunked", principal, file, chunk_size=chunk_size, size=size)
        return self.session

    async def report_in_flight(self, principal: Any, session_id: str, in_flight: Any) -> None:
        self._note("report_in_flight", principal, session_id, in_flight)

    async def complete(self, principal: Any, session_id: str, **given: Any) -> UploadSession:
        self._note("complete", principal, session_id, **given)
        return self.session

    async def abort(self, principal: Any, session_id: str) -> None:
        self._note("abort", principal, session_id)

    async def watch(self, principal: Any, session_id: str) -> AsyncGenerator[UploadSession, None]:
        self._note("watch", principal, session_id)
        self.watching += 1
        seen = 0
        try:
            while True:
                for item in self._script[seen:]:
                    seen += 1
                    if isinstance(item, BaseException):
                        raise item
                    yield item
                await self._told.wait()
        finally:
            self.watching -= 1

    def script(self, *items: UploadSession | BaseException) -> None:
        """Let every watcher that comes now see these, and then wait."""
        self._script = list(items)
        self._told = asyncio.Event()

    async def content_url(self, principal: Any, session_id: str) -> ContentURL:
        self._note("content_url", principal, session_id)
        return ContentURL("https://s3.example/object?X-Amz-Signature=abc", NOW, self.session)

    async def read_content(
        self, principal: Any, session_id: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        self._note("read_content", principal, session_id, start, stop)
        for sent, position in enumerate(range(start, len(self.content[:stop]), 4)):
            if self.content_error_after == sent:
                raise ConnectionResetError("the store went away")
            yield self.content[position : min(position + 4, stop or len(self.content))]

    def complete_with(self, content: bytes, **changes: Any) -> None:
        """Let the session have an object of these bytes."""
        self.content = content
        stored = StoredObject(
            "bucket", "key", len(content), "etag-1", {"crc64nvme": "AAAAAAAAAAA="}
        )
        self.session = replace(
            self.session, object=stored, state="completed", size=len(content), **changes
        )


class FakeLooseChunk:
    """A body kept in memory; notes that it was let go."""

    def __init__(self, blocks: list[bytes]) -> None:
        self.blocks = blocks
        self.size = sum(map(len, blocks))
        self.discarded = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for block in self.blocks:
            yield block

    async def discard(self) -> None:
        self.discarded = True


@dataclass
class Serving:
    """A gateway that listens."""

    host: str
    port: int
    client: aiohttp.ClientSession
    metrics: Metrics
    runner: web.AppRunner

    async def raw(self, data: bytes, *, seconds: float = 5.0) -> bytes:
        """Send bytes as they are on a new connection; return all that comes until it closes."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(data)
            async with asyncio.timeout(seconds):
                return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(
    doors: Sequence[Door] = (),
    *,
    routes: Iterable[web.RouteDef] = (),
    options: ServerOptions | None = None,
    auth: Authenticator | None = None,
    token: str | None = TOKEN,
    origins: Iterable[str] = (ORIGIN,),
    app: web.Application | None = None,
) -> AsyncIterator[Serving]:
    """Serve the doors through the whole pipeline; the client sends the token."""
    app = web.Application() if app is None else app
    metrics = Metrics()
    install(
        app,
        DoorTable(doors),
        authenticator=auth or authenticator(token, origins),
        cors=Cors(origins),
        metrics=metrics,
    )
    app.add_routes(routes)
    runner = make_runner(app, options or ServerOptions(shutdown_timeout=2))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with aiohttp.ClientSession(f"http://{host}:{port}", headers=headers) as client:
            yield Serving(host, port, client, metrics, runner)
    finally:
        await runner.cleanup()
