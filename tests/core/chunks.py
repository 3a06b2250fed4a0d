"""Files in chunks, for tests: how one is cut, sent and looked for."""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field, replace

from stack import Stack

from gateway.core.access import Principal
from gateway.core.composition import Core, compose
from gateway.core.model import ChunkedFile, State, UploadSession
from gateway.core.plan import MIB, PartLimits
from gateway.core.ports import PartOutcome

ALICE = Principal("alice")
# Three of these make a part, so that four of them make two.
CHUNK = 2 * MIB
SMALL_PARTS = PartLimits(min_part_size=5 * MIB, max_part_size=6 * MIB)


async def body_of(data: bytes, block: int = 64 * 1024) -> AsyncGenerator[bytes, None]:
    """Yield bytes as a socket would."""
    for start in range(0, len(data), block):
        yield data[start : start + block]


@dataclass
class File:
    """A file of random bytes, and what its client says of it."""

    data: bytes
    chunk: int = CHUNK
    form: str = "a"
    file_id: str = field(default_factory=lambda: f"file-{os.urandom(8).hex()}")
    completes_itself: bool = True

    @property
    def count(self) -> int:
        return max(1, -(-len(self.data) // self.chunk))

    @property
    def said(self) -> ChunkedFile:
        return ChunkedFile(
            self.form,
            self.file_id,
            self.count,
            "film.mp4",
            completes_itself=self.completes_itself,
        )

    def piece(self, index: int) -> bytes:
        return self.data[index * self.chunk : (index + 1) * self.chunk]


def with_small_parts(stack: Stack) -> None:
    """Let parts hold no more than 6 MiB."""
    stack.ports.storage.limits = replace(stack.ports.storage.limits, parts=SMALL_PARTS)


def another_gateway(stack: Stack) -> Core:
    """Return another process's core over the same servers."""
    return compose(stack.ports, stack.options)


async def send(
    core: Core, file: File, index: int, data: bytes | None = None, *, wait: float = 30
) -> tuple[UploadSession, PartOutcome]:
    """Send one chunk of the file, or other bytes in its place."""
    body = body_of(file.piece(index) if data is None else data)
    return await core.service.put_chunk(ALICE, file.said, index, body, wait=wait)


async def send_all(
    core: Core, file: File, indexes: Iterable[int] | None = None, *, at_once: int = 1
) -> UploadSession:
    """Send chunks in the order given, and return the session as the last answer shows it."""
    slots = asyncio.Semaphore(at_once)

    async def one(index: int) -> UploadSession:
        async with slots:
            return (await send(core, file, index))[0]

    order = range(file.count) if indexes is None else indexes
    return (await asyncio.gather(*(one(index) for index in order)))[-1]


async def staged(stack: Stack, session_id: str) -> list[str]:
    """List what lies in the session's staging folder."""
    bucket = stack.options.creator.bucket
    prefix = f".gateway/staging/{session_id}/"

    def names() -> list[str]:
        found = stack.oracle.list_objects(bucket, prefix, recursive=True)
        return [str(item.object_name).removeprefix(prefix) for item in found]

    return await asyncio.to_thread(names)


async def until_clear(stack: Stack, session_id: str) -> UploadSession:
    """Let the gateway work until the session is settled and its staging was cleared."""
    async with asyncio.timeout(60):
        while True:
            session = await stack.core.service.get(ALICE, session_id)
            if session.storage_cleared:
                return session
            if session.state is State.OPEN or not session.storage_cleared:
                await stack.ports.sessions.schedule(session_id, stack.ports.clock.now())
                await stack.core.sweeper.sweep()
            await asyncio.wait({stack.core.assembler.start(session_id)})
