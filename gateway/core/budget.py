"""One budget of memory for all buffers of a process: whoever wants more than is left waits in line.

It counts what was promised and does not watch the process: small objects, sockets and libraries
come on top. Whoever holds some of it must not ask for more, or two could wait for each other.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.errors import Unavailable

DEFAULT_BUDGET = 64 * 1024 * 1024
"""Sixty-four buffers of 1 MiB, which leaves most of 512 MiB to everything else."""
_WAIT = 30.0
_RETRY_AFTER = 2.0


@dataclass(frozen=True, slots=True)
class BudgetFigures:
    """What a budget is at: bytes taken and the most ever taken, callers waiting, and those refused."""

    total: int
    taken: int
    peak: int
    waiting: int
    refused: int


@dataclass(slots=True)
class Grant:
    """Bytes of the budget, to be given back once."""

    size: int
    _budget: "MemoryBudget"
    _returned: bool = False

    def give_back(self) -> None:
        """Return the bytes; again is no mistake."""
        if not self._returned:
            self._returned = True
            self._budget._take_back(self.size)  # noqa: SLF001 - the two are one thing.


@dataclass(slots=True, eq=False)
class _Waiter:
    size: int
    ready: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class MemoryBudget:
    """Hands out bytes of `total` in the order in which they are asked for."""

    def __init__(self, total: int = DEFAULT_BUDGET) -> None:
        if total < 1:
            raise ValueError("A budget has at least one byte.")
        self._total = total
        self._taken = 0
        self._peak = 0
        self._refused = 0
        self._line: deque[_Waiter] = deque()

    @property
    def figures(self) -> BudgetFigures:
        """The figures of this moment."""
        return BudgetFigures(self._total, self._taken, self._peak, len(self._line), self._refused)

    @asynccontextmanager
    async def taken(self, size: int, *, wait: float = _WAIT) -> AsyncGenerator[None, None]:
        """Hold `size` bytes inside; raises what `take` does."""
        grant = await self.take(size, wait=wait)
        try:
            yield
        finally:
            grant.give_back()

    def take_now(self, size: int) -> Grant | None:
        """Take `size` bytes without waiting, or None where somebody else comes first."""
        size = min(size, self._total)
        if self._line or self._taken + size > self._total:
            return None
        self._hand_out(size)
        return Grant(size, self)

    async def take(self, size: int, *, wait: float = _WAIT) -> Grant:
        """Take `size` bytes, all of the budget at most, within `wait` seconds.

        Raises Unavailable `memory_budget_exhausted`, retryable.
        """
        grant = self.take_now(size)
        if grant is not None:
            return grant
        size = min(size, self._total)
        waiter = _Waiter(size)
        self._line.append(waiter)
        try:
            async with asyncio.timeout(wait):
                await waiter.ready
        except BaseException as error:
            self._leave(waiter)
            if isinstance(error, TimeoutError):
                self._refused += 1
                raise Unavailable(
                    "The gateway holds as many bytes in memory as it may.",
                    code="memory_budget_exhausted",
                    hint="Send less at a time, or the same again in a moment.",
                    retry_after=_RETRY_AFTER,
                ) from None
            raise
        return Grant(size, self)

    def _hand_out(self, size: int) -> None:
        self._taken += size
        self._peak = max(self._peak, self._taken)

    def _take_back(self, size: int) -> None:
        self._taken -= size
        self._serve()

    def _leave(self, waiter: _Waiter) -> None:
        if waiter.ready.done() and not waiter.ready.cancelled():
            # It was served at the moment at which it gave up.
            self._take_back(waiter.size)
        else:
            # It may have been passed over already, or have stood before others that ask for less.
            if waiter in self._line:
                self._line.remove(waiter)
            self._serve()

    def _serve(self) -> None:
        while self._line and self._taken + self._line[0].size <= self._total:
            waiter = self._line.popleft()
            if waiter.ready.cancelled():
                continue
            self._hand_out(waiter.size)
            waiter.ready.set_result(None)
