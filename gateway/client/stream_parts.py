"""The parts of a stream, made as its bytes come: each hashed, and spooled until it is stored."""

import asyncio
from collections.abc import Iterable
from typing import Final

from gateway.client.digests import CONTROL, PartDigest
from gateway.client.model import Session
from gateway.client.spool import Spool
from gateway.client.stream import StreamReader
from gateway.client.workbench import Workbench
from gateway.core.checksums import ALGORITHMS, Checksum, Hasher, combine
from gateway.core.plan import PartPlan
from gateway.errors import Corrupt, TooLarge

SPARE_PLACES: Final = 2
"""Places in the spool beside one for each part on its way: one is being filled, one is ready."""


class StreamParts:
    """The parts of a stream as they come, each with its digests and its place in the spool.

    `size` and `count` are those of what has come so far.
    """

    def __init__(
        self,
        bench: Workbench,
        reader: StreamReader,
        spool: Spool,
        session: Session,
        *,
        places: int,
        declared: Checksum | None,
    ) -> None:
        self.spool = spool
        self.size = 0
        self._bench = bench
        self._reader = reader
        self._plan = session.plan()
        self._algorithm = session.checksum_algorithm
        self._declared = declared
        self._whole = None if declared is None else ALGORITHMS[declared.algorithm].new()
        self._free = asyncio.Semaphore(places)
        self._turn = asyncio.Lock()
        self._known: dict[int, tuple[PartDigest, int]] = {}
        self._ended = False
        self._failure: Exception | None = None

    @property
    def plan(self) -> PartPlan:
        """Where each part lies; without a size, all that the store takes are possible."""
        return self._plan

    @property
    def count(self) -> int:
        """How many parts have come."""
        return len(self._known)

    async def part(self, number: int, *, compare_etag: bool = False) -> PartDigest | None:
        """Read the next part as soon as there is room for it; None after the end.

        Parts must be asked for in order. Raises TooLarge (`stream_too_large`), Corrupt
        (`stream_mismatch`), and what the stream and the spool raise.
        """
        del compare_etag
        async with self._turn:
            if self._failure is not None:
                raise self._failure
            try:
                return await self._next(number)
            except Exception as error:
                # Whoever waits for the part after this one must not read on.
                self._failure = error
                raise

    async def check(self, number: int) -> None:
        """Read a part from the spool again. Raises Corrupt (`spool_damaged`)."""
        digest, length = self._known[number]
        names = tuple(dict.fromkeys((self._algorithm, CONTROL)))
        hashers = {name: ALGORITHMS[name].new() for name in names}
        start = self._plan.offset(number)
        loop = asyncio.get_running_loop()
        for position in range(0, length, 1 << 20):
            block = await loop.run_in_executor(
                self._bench.readers,
                self.spool.read,
                start + position,
                min(1 << 20, length - position),
            )
            for hasher in hashers.values():
                hasher.update(block)
        if self._digest(hashers) != digest:
            raise self.spool.changed()

    def length(self, number: int) -> int:
        """Return the bytes of a part that has come."""
        return self._known[number][1]

    def settle(self, numbers: Iterable[int]) -> None:
        """Give the places of acknowledged parts to others."""
        for number in numbers:
            self.spool.give_back(number)
            self._free.release()

    def compare_declared(self) -> None:
        """Raise Corrupt (`stream_mismatch`) unless all that came is what was declared."""
        if self._plan.size is not None and self.size != self._plan.size:
            raise _mismatch(f"It has {self.size} bytes, and {self._plan.size} were declared.")
        if self._declared and self._whole and self._whole.value() != self._declared.value:
            raise _mismatch(f"Its {self._declared.algorithm} is {self._whole.value()}.")

    def whole(self) -> dict[str, Checksum]:
        """Return the checksums of all that came, by algorithm, out of those of the parts."""
        known = [self._known[number] for number in range(1, self.count + 1)]
        found: dict[str, Checksum] = {}
        if ALGORITHMS[self._algorithm].combinable:
            words = ((digest.checksum, length) for digest, length in known)
            found[self._algorithm] = combine(self._algorithm, words)
        found[CONTROL] = combine(CONTROL, ((digest.control, length) for digest, length in known))
        return found

    async def _next(self, number: int) -> PartDigest | None:
        if self._ended:
            return None
        if number != self.count + 1:
            raise RuntimeError("A stream gives its parts in order.")
        await self._free.acquire()
        self.spool.take(number)
        digest, length = await self._fill(number)
        if not length and number > 1:
            self.spool.give_back(number)
            return None
        self._known[number] = digest, length
        if number == self._plan.last_number:
            await self._require_end()
        return digest

    async def _fill(self, number: int) -> tuple[PartDigest, int]:
        names = tuple(dict.fromkeys((self._algorithm, CONTROL)))
        hashers = {name: ALGORITHMS[name].new() for name in names}
        everything = [*hashers.values(), *([self._whole] if self._whole else [])]
        limit = self._plan.part_length(number)
        limit = self._plan.part_size if limit is None else limit
        position = 0
        loop = asyncio.get_running_loop()

        def keep(start: int, block: bytes) -> None:
            for hasher in everything:
                hasher.update(block)
            self.spool.write(number, start, block)

        while position < limit:
            block = await self._reader.read(limit - position)
            if not block:
                self._ended = True
                break
            await loop.run_in_executor(self._bench.readers, keep, position, block)
            position += len(block)
            self.size += len(block)
            self._bench.progress.read_bytes = self.size
        if self._ended and self._plan.size is not None:
            self.compare_declared()
        return self._digest(hashers), position

    async def _require_end(self) -> None:
        self._ended = True
        if not await self._reader.read(1):
            return
        if self._plan.size is not None:
            raise _mismatch(f"It has more than the {self._plan.size} bytes that were declared.")
        raise TooLarge(
            f"The stream is longer than {self._plan.max_parts} parts of "
            f"{self._plan.part_size} bytes.",
            code="stream_too_large",
            hint="Use a larger part size (--part-size), or declare the size (--size) to have the "
            "gateway choose one.",
        )

    def _digest(self, hashers: dict[str, Hasher]) -> PartDigest:
        return PartDigest(hashers[self._algorithm].value(), hashers[CONTROL].value())


def _mismatch(what: str) -> Corrupt:
    return Corrupt(
        f"The stream is not what was declared. {what}",
        code="stream_mismatch",
        hint="Look whether its producer has failed; nothing was completed.",
    )
