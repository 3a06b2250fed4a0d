"""The bytes of one part on their way out: read in threads, one block ahead of the network.

Memory is two blocks, whatever the part's size. While reading, the bytes are hashed once more, and
before the last block leaves, the result is compared with the one that was made before signing: so
a file that changes between hashing and sending is noticed here, also where the store does not
verify checksums, and the store never gets the part's last byte.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor

from gateway.client.digests import CONTROL
from gateway.client.source import BLOCK
from gateway.client.supply import PartSource
from gateway.core.checksums import ALGORITHMS
from gateway.errors import GatewayError


class PartBody:
    """An async iterable over the blocks of one part; `close` it when it is no longer read.

    A failure to read is kept in `error`, since an HTTP client reports it as its own.
    """

    def __init__(
        self, source: PartSource, executor: Executor, *, offset: int, size: int, control: str
    ) -> None:
        self.error: GatewayError | None = None
        self._source = source
        self._executor = executor
        self._offset = offset
        self._end = offset + size
        self._control = control
        self._hasher = ALGORITHMS[CONTROL].new()
        self._next: asyncio.Future[bytes] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            self._prefetch()
            while self._next is not None:
                block = await self._next
                self._next = None
                if self._offset < self._end:
                    self._prefetch()
                yield block
        except GatewayError as error:
            self.error = error
            raise

    def close(self) -> None:
        """Forget the block that was read ahead; the thread that reads it ends by itself."""
        ahead, self._next = self._next, None
        # An error nobody asks for would be reported as one that was lost.
        if ahead is not None and not ahead.cancel() and not ahead.cancelled():
            ahead.exception()

    def _prefetch(self) -> None:
        start = self._offset
        self._offset = min(start + BLOCK, self._end)
        self._next = asyncio.get_running_loop().run_in_executor(
            self._executor, self._read, start, self._offset - start
        )

    def _read(self, offset: int, length: int) -> bytes:
        block = self._source.read(offset, length)
        self._hasher.update(block)
        if offset + length == self._end:
            self._source.check()
            if self._hasher.value() != self._control:
                raise self._source.changed()
        return block
