"""A store that says whatever a test wants it to say, byte by byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio

from gateway.storage.s3.client import S3Client
from gateway.storage.s3.options import S3Options


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class StubStore:
    """Answers each request with what `answer` writes; without one it hangs up at once."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    answer: Callable[[Request, asyncio.StreamWriter], Awaitable[None]] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def options(self, **changes: Any) -> S3Options:
        """Options for a client of this store that does not wait long."""
        values: dict[str, Any] = {
            "endpoint_url": self.endpoint,
            "access_key_id": "key-id",
            "secret_access_key": "secret-word",
            "connect_timeout": 2.0,
            "read_timeout": 0.3,
            "call_timeout": 5.0,
            "complete_timeout": 0.5,
        }
        return S3Options(**(values | changes))

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer everything with this."""

        async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(reply(status, body, **headers))

        self.answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request, let it be answered, and hang up."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            if headers.get("expect") == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            split = urlsplit(target)
            query = {k: v[0] for k, v in parse_qs(split.query, keep_blank_values=True).items()}
            request = Request(method, split.path, query, headers, body)
            self.requests.append(request)
            if self.answer is not None:
                await self.answer(request, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client has gone, which tests do on purpose.
        finally:
            writer.close()


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return an HTTP answer; a header's name is written with underscores."""
    fields = {"content-length": str(len(body)), "connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body


@pytest_asyncio.fixture(scope="module")
async def stub_server() -> AsyncIterator[StubStore]:
    store = StubStore()
    server = await asyncio.start_server(store.serve, "127.0.0.1", 0)
    store.port = server.sockets[0].getsockname()[1]
    yield store
    server.close()
    await server.wait_closed()


@pytest.fixture
def stub(stub_server: StubStore) -> StubStore:
    stub_server.requests = []
    stub_server.answer = None
    return stub_server


@pytest_asyncio.fixture(scope="module")
async def client(stub_server: StubStore) -> AsyncIterator[S3Client]:
    """Give a client of the stub; opening one takes a quarter of a second."""
    async with S3Client(stub_server.options()) as opened:
        yield opened
