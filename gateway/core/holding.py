"""Holds a lease for as long as a piece of work takes. It saves work and no more (law 5)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from gateway.core.ports import Leases
from gateway.errors import Unavailable


@asynccontextmanager
async def held(leases: Leases, name: str, *, seconds: float) -> AsyncIterator[bool]:
    """Yield True with the lease, renewed until the end, or False while another holder has it.

    `seconds` is how long a holder that dies keeps others waiting. A renewal or release that fails
    is no failure of the work: at worst, somebody else does it too.
    """
    lease = await leases.acquire(name, seconds=seconds)
    if lease is None:
        yield False
        return

    async def renew() -> None:
        while True:
            await asyncio.sleep(seconds / 3)
            with suppress(Unavailable):
                await lease.renew()

    renewal = asyncio.create_task(renew())
    try:
        yield True
    finally:
        renewal.cancel()
        with suppress(Unavailable):
            await lease.release()
