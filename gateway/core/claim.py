"""A claim on what somebody sends: a lease that lives as long as the bytes come.

It is no lock (law 5). Whoever holds one asks once more whether it is still theirs before anything
counts, and what counts is compared with what is recorded all the same.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from gateway.core.ports import Lease, Leases
from gateway.errors import Conflict, GatewayError, Unavailable

_TICKS = 3


@dataclass(frozen=True, slots=True)
class ClaimOptions:
    """Times in seconds: `lease` is how long a silent holder keeps others waiting.

    `patience` bounds the wait for another holder; it is longer, so that a silent one is outlived.
    """

    lease: float = 5.0
    patience: float = 10.0
    poll: float = 0.1


class Claim:
    """A lease that lives as long as bytes keep coming.

    Whoever reads them sets `moved` with each block, and `whole` when there are no more to come.
    """

    def __init__(
        self,
        lease: Lease,
        options: ClaimOptions,
        is_free: Callable[[], Awaitable[bool]],
        busy: Callable[[], Conflict],
    ) -> None:
        self.moved = False
        self.whole = False
        self._lease = lease
        self._options = options
        self._is_free = is_free
        self._busy = busy

    @asynccontextmanager
    async def renewed(self) -> AsyncIterator[None]:
        """Renew it inside, and end with `busy` what is done there once it is lost."""
        try:
            async with asyncio.timeout(None) as limit:
                renewal = asyncio.create_task(self._renew(limit))
                try:
                    yield
                finally:
                    renewal.cancel()
        except TimeoutError:
            raise self._busy() from None

    async def keep(self) -> None:
        """Raise `busy` unless the claim is still ours."""
        if not await self._is_ours():
            raise self._busy()

    async def _is_ours(self) -> bool:
        # One that ran out may have been another's in between, who has done it by now.
        return await self._lease.renew() and await self._is_free()

    async def _renew(self, limit: asyncio.Timeout) -> None:
        silent = 0
        while True:
            await asyncio.sleep(self._options.lease / _TICKS)
            silent = 0 if self.moved or self.whole else silent + 1
            self.moved = False
            # A claim on silence runs out, and whoever waits takes it. Only then is it asked for
            # again.
            if 1 <= silent <= _TICKS:
                continue
            # What cannot be told now is asked again; whoever holds the claim asks once more in the end.
            with suppress(GatewayError):
                ours = await (self._is_ours() if silent else self._lease.renew())
                if not ours:
                    limit.reschedule(asyncio.get_running_loop().time())
                    return
            silent = 0


@asynccontextmanager
async def claimed(
    leases: Leases,
    name: str,
    options: ClaimOptions,
    *,
    is_free: Callable[[], Awaitable[bool]],
    busy: Callable[[], Conflict],
) -> AsyncIterator[Claim]:
    """Hold the claim of this name, or raise `busy` where somebody else keeps it.

    `is_free` tells that nobody has done yet what is claimed.
    """
    lease = await _acquire(leases, name, options)
    if lease is None:
        raise busy()
    claim = Claim(lease, options, is_free, busy)
    try:
        async with claim.renewed():
            yield claim
    finally:
        with suppress(Unavailable):
            await lease.release()


async def _acquire(leases: Leases, name: str, options: ClaimOptions) -> Lease | None:
    loop = asyncio.get_running_loop()
    end = loop.time() + options.patience
    while True:
        lease = await leases.acquire(name, seconds=options.lease)
        if lease is not None or loop.time() >= end:
            return lease
        await asyncio.sleep(options.poll)
