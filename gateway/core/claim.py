"""A claim on a part that is being relayed: a lease that lives as long as the part's bytes come."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from gateway.core.ports import Lease
from gateway.errors import Conflict, Unavailable


class Claim:
    """A lease on a part that lives as long as its bytes keep coming."""

    def __init__(self, lease: Lease, seconds: float) -> None:
        self.moved = True
        self.whole = False
        self._lease = lease
        self._seconds = seconds

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
        if not await self._lease.renew():
            raise busy()

    async def _renew(self, limit: asyncio.Timeout) -> None:
        while True:
            await asyncio.sleep(self._seconds / 3)
            if not (self.moved or self.whole):
                continue
            self.moved = False
            # Whether it is still ours is asked once more before anything counts.
            with suppress(Unavailable):
                if not await self._lease.renew():
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
