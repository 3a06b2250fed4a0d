"""Bytes from whatever produces them: a file-like object, or an async iterable of blocks.

An ordinary `read` blocks, and nobody knows for how long: a pipe's producer may think for hours. So
it runs in a thread of its own that does not hold up the end of the process, and a caller that is
cancelled does not wait for it; what such a read still takes from the object is lost.
"""

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, TypeAlias, TypeVar

from gateway.client.source import BLOCK
from gateway.errors import InvalidRequest

_T = TypeVar("_T")


class Readable(Protocol):
    """A file-like object in binary mode; `read` may also be a coroutine function."""

    def read(self, size: int, /) -> Any:
        """Return at most `size` bytes, and none only at the end."""


StreamSource: TypeAlias = "Readable | AsyncIterable[bytes]"
"""What can be uploaded as a stream; both are read once, from where they are."""


class StreamReader:
    """Reads a stream in blocks of a known size, however its producer cuts it.

    Raises InvalidRequest (`stream_unreadable`) for what is none.
    """

    def __init__(self, source: StreamSource) -> None:
        if not (callable(getattr(source, "read", None)) or isinstance(source, AsyncIterable)):
            raise InvalidRequest(
                f"A stream cannot be read from {type(source).__name__}.",
                code="stream_unreadable",
                hint="Give a file-like object that is open for reading, or an async iterable.",
            )
        self._blocks = _blocks(source)
        self._rest = memoryview(b"")

    async def read(self, most: int) -> bytes:
        """Return as many bytes as asked for, at most 1 MiB; fewer only at the end of the stream.

        Raises InvalidRequest (`stream_unreadable`), and whatever an async iterable raises.
        """
        wanted = min(most, BLOCK)
        piece, self._rest = self._rest[:wanted], self._rest[wanted:]
        if len(piece) == wanted:
            return bytes(piece)
        gathered = bytearray(piece)
        while len(gathered) < wanted:
            block = await anext(self._blocks, None)
            if block is None:
                break
            take = wanted - len(gathered)
            gathered += block[:take]
            self._rest = memoryview(block)[take:]
        return bytes(gathered)

    async def close(self) -> None:
        """Stop reading. The source itself stays open: it belongs to the caller."""
        await self._blocks.aclose()


async def in_thread(work: Callable[[], _T]) -> _T:
    """Run something that may block for ever in a thread that nobody waits for at the end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(value: _T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(value)  # type: ignore[arg-type]  # None is given only with an error
        elif isinstance(error, StopIteration):
            # A future cannot hold one.
            done.set_exception(RuntimeError("The stream raised StopIteration."))
        else:
            done.set_exception(error)

    def run() -> None:
        value, error = None, None
        try:
            value = work()
        except BaseException as caught:  # noqa: BLE001 - it is raised where it is awaited
            error = caught
        # The loop may have ended while this was blocked.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, name="gateway-stream", daemon=True).start()
    return await done


async def _blocks(source: StreamSource) -> AsyncGenerator[bytes, None]:
    read = getattr(source, "read", None)
    if callable(read):
        one = read if inspect.iscoroutinefunction(read) else _blocking(read)
        while block := _bytes(await one(BLOCK)):
            yield block
    elif isinstance(source, AsyncIterable):
        async for piece in source:
            if block := _bytes(piece):
                yield block


def _blocking(read: Callable[[int], Any]) -> Callable[[int], Awaitable[bytes]]:
    ended = False

    def gather(size: int) -> bytes:
        nonlocal ended
        gathered = bytearray()
        # A pipe gives 64 KiB at a time; going to the thread and back for each would cost more.
        while not ended and len(gathered) < size:
            try:
                block = _bytes(read(size - len(gathered)))
            except (OSError, ValueError) as error:
                why = (error.strerror if isinstance(error, OSError) else None) or str(error)
                raise InvalidRequest(
                    f"The stream cannot be read: {why}.",
                    code="stream_unreadable",
                    hint="Look at what produces it; then start again from its beginning.",
                ) from error
            # A terminal says so once only; the next read would wait for more.
            ended = not block
            gathered += block
        return bytes(gathered)

    async def read_block(size: int) -> bytes:
        return await in_thread(lambda: gather(size))

    return read_block


def _bytes(block: object) -> bytes:
    # What a read must not return: text of a file opened without "b", None of one that never waits.
    if not isinstance(block, bytes | bytearray | memoryview):
        raise InvalidRequest(
            f"The stream gives {type(block).__name__} and not bytes.",
            code="stream_unreadable",
            hint='Open files with "rb", and in blocking mode; encode text.',
        )
    return bytes(block)
