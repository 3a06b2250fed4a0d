"""A claim on a part that is being relayed: a lease that lives as long as the part's bytes come."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from gateway.core.ports import Lease
from gateway.errors import Conflict, Unavailable

_TICKS = 3


class Claim:
    """A lease on a part that lives as long as its bytes keep coming.

    Whoever reads them sets `moved` with each block, and `whole` when there are no more to come.
    """

    def __init__(
        self, lease: Lease, seconds: float, is_free: Callable[[], Awaitable[bool]]
    ) -> None:
        """Claim with a lease of so many seconds; `is_free` tells that nobody has stored the part."""
        self.moved = False
        self.whole = False
        self._lease = lease
        self._seconds = seconds
        self._is_free = is_free

    @asynccontextmanager
    async def renewed(self) -> AsyncIterator[None]:
        """Renew it inside, and end what is done there with Conflict `part_busy` once it is lost."""
        try:
            async with asyncio.timeout(None) as limit:
                renewal = asyncio.create_task(self._renew(limit))
                try:
                    yield
                finally:
                    renewal.cancel()
        except TimeoutError:
            raise busy() from None

    async def keep(self) -> None:
        """Raise Conflict `part_busy` unless the claim is still ours."""
        if not await self._is_ours():
            raise busy()

    async def _is_ours(self) -> bool:
        # One that ran out may have been another's in between, and the part may be theirs by now.
        return await self._lease.renew() and await self._is_free()

    async def _renew(self, limit: asyncio.Timeout) -> None:
        silent = 0
        while True:
            await asyncio.sleep(self._seconds / _TICKS)
            silent = 0 if self.moved or self.whole else silent + 1
            self.moved = False
            # A claim on silence runs out, and whoever waits for the part takes it. Only then is it
            # asked for again.
            if silent in range(1, _TICKS + 1):
                continue
            silent = 0
            # Whether it is still ours is asked once more before anything counts.
            with suppress(Unavailable):
                if not await self._is_ours():
                    limit.reschedule(asyncio.get_running_loop().time())
                    return


def busy() -> Conflict:
    """Return the error for a part that another sender is at."""
    return Conflict(
        "Somebody else is sending this part.",
        code="part_busy",
        hint="Wait until it is stored, or send it again if it is not.",
        retryable=True,
        retry_after=1,
    )
