"""The same file sent in each of the four forms, so that one test asks all of them the same."""

import asyncio
import itertools
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar
from urllib.parse import urlsplit

import orjson
from older import MIB, Answer, Older, cut, some_bytes

BOUNDARY = "----a-boundary"
_SEEDS = itertools.count(1)


class Sender(ABC):
    """A client that sends one file of three chunks in one form."""

    size: ClassVar[int] = 100_000
    members: ClassVar[frozenset[str]] = frozenset({"detail"})

    def __init__(self, older: Older) -> None:
        self.older = older
        self.data = some_bytes(2 * self.size + 1234, seed=next(_SEEDS))
        self.chunks = cut(self.data, self.size)
        self.id = str(uuid.uuid4())

    async def begin(self) -> None:  # noqa: B027 - two of the forms have nothing to begin.
        """Create the session, where the form wants that."""

    @abstractmethod
    def request(self, index: int, chunk: bytes) -> tuple[str, str, dict[str, str], bytes]:
        """Return method, path, headers and body of one chunk."""

    @abstractmethod
    async def received(self) -> int:
        """Return how many distinct chunks the gateway says that it has."""

    @abstractmethod
    async def complete(self) -> Answer:
        """Say that all is there, and wait."""

    async def send(self, index: int, chunk: bytes | None = None) -> Answer:
        """Send a chunk, by default the right one."""
        body = self.chunks[index] if chunk is None else chunk
        method, path, headers, data = self.request(index, body)
        return await self.older.call(method, path, data=data, headers=headers)

    async def raw(
        self, index: int, *, stop: int | None = None, **headers: str
    ) -> tuple[int, dict[str, Any]] | None:
        """Send a chunk by a socket of one's own; None where there was no answer.

        `headers` come in the place of the right ones. With `stop`, so many bytes of the body are
        left out, and nothing more is sent.
        """
        method, path, right, body = self.request(index, self.chunks[index])
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        head = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **right, **names}
        lines = [f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in head.items() if v)]
        sent = body[: len(body) - stop] if stop else body
        whole = "\r\n".join(lines).encode() + b"\r\n\r\n" + sent
        return await exchange(self.older, whole, end=stop is not None)

    def assert_refused(self, answer: Answer | None, status: int) -> str:
        """Assert that it is an error in the form's own words, and return what it says."""
        assert answer is not None
        assert answer[0] == status, answer
        assert set(answer[1]) - {"missing_chunks", "missing_parts"} == self.members
        text = answer[1].get("detail") or answer[1]["message"]
        assert isinstance(text, str)
        assert text
        return text

    async def assert_completes(self) -> None:
        """Send what is missing, and assert that the file is whole."""
        for index in range(len(self.chunks)):
            status, answer = await self.send(index)
            assert status == 200, answer
        assert await self.received() == len(self.chunks)
        status, answer = await self.complete()
        assert status == 200, answer
        await self.older.assert_verified(self.data)


class SenderA(Sender):
    """Form A."""

    def fields(self, index: int) -> dict[str, str]:
        """Return the fields of a chunk."""
        return {
            "file_id": self.id,
            "chunk_index": str(index),
            "total_chunks": "3",
            "filename": "a.bin",
        }

    path: ClassVar[str] = "/upload-chunk"

    def request(self, index: int, chunk: bytes) -> tuple[str, str, dict[str, str], bytes]:
        return "POST", self.path, FORM, form(self.fields(index), chunk)

    async def received(self) -> int:
        status = await self.older.status_a(self.id)
        if status["status"] == "completed":
            return 3
        return int(status.get("received_chunks", 0))

    async def complete(self) -> Answer:
        # Any chunk again waits for the end.
        status, answer = await self.send(0)
        assert answer["status"] == "completed"
        return status, answer


class SenderB(SenderA):
    """Form B."""

    path: ClassVar[str] = "/administration/upload/chunk/"

    def fields(self, index: int) -> dict[str, str]:
        return {
            "upload_id": self.id,
            "chunk_index": str(index),
            "total_chunks": "3",
            "file_name": "a.bin",
        }

    async def received(self) -> int:
        status = await self.older.status_b(self.id)
        if status["status"] == "completed":
            return 3
        return int(status.get("received_chunks", 0))

    async def complete(self) -> Answer:
        return await self.older.complete_b(self.id)


class SenderC(Sender):
    """Form C, whose parts are those of the store."""

    size = 5 * MIB
    members = frozenset(
        ("type", "title", "status", "code", "message", "hint", "retryable", "request_id", "details")
    )

    async def begin(self) -> None:
        self.id = (await self.older.create_c(self.data, part_size=self.size))["session_id"]

    def request(self, index: int, chunk: bytes) -> tuple[str, str, dict[str, str], bytes]:
        return "PUT", f"/uploads/{self.id}/part/{index}", {}, chunk

    async def received(self) -> int:
        status, session = await self.older.call("GET", f"/uploads/{self.id}")
        assert status == 200
        return int(session["received_parts"])

    async def complete(self) -> Answer:
        return await self.older.call("POST", f"/uploads/{self.id}/complete")


class SenderD(Sender):
    """Form D, with parts smaller than the store's."""

    members = frozenset({"detail", "code"})

    async def begin(self) -> None:
        session = await self.older.create_d(len(self.data), part_size=self.size)
        self.id = session["session_id"]

    def request(self, index: int, chunk: bytes) -> tuple[str, str, dict[str, str], bytes]:
        return "PUT", f"/uploads/sessions/{self.id}/parts/{index + 1}", {}, chunk

    async def received(self) -> int:
        return int((await self.older.get_d(self.id))["received_parts_count"])

    async def complete(self) -> Answer:
        return await self.older.complete_d(self.id)


class LargeSenderD(SenderD):
    """Form D, with parts that go through to the store."""

    size = 5 * MIB


FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def field(name: str, value: bytes, *, filename: str = "") -> bytes:
    """Return one field of a form, with the boundary before it."""
    file = f'; filename="{filename}"' if filename else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + value + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def form(fields: Mapping[str, str], chunk: bytes) -> bytes:
    """Return a form as bytes, its file last."""
    parts = [field(name, value.encode()) for name, value in fields.items()]
    return b"".join(parts) + field("chunk", chunk, filename="blob") + END


async def exchange(older: Older, request: bytes, *, end: bool) -> tuple[int, dict[str, Any]] | None:
    """Send bytes on a connection of their own, and perhaps its end; return the answer, if any."""
    address = urlsplit(older.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        with suppress(ConnectionError):
            writer.write(request)
            await writer.drain()
            if end:
                writer.write_eof()
        async with asyncio.timeout(30):
            return await read_answer(reader)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]] | None:
    """Read one answer in JSON, or None where the connection ends without one."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(lines[0].split()[1]), orjson.loads(body)
