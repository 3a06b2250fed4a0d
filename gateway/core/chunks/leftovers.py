"""Clears staging of what nobody knows of any more, once a day over all gateways.

A process that dies while it stages a chunk, or between storing one and finding its session closed,
leaves pieces that no session's end deletes. Only what certainly has no use is deleted: loose chunks
older than a day, and folders of sessions that are settled. A folder whose session is unknown stays.
"""

import asyncio
import logging
from datetime import timedelta
from typing import Final

from gateway.core.chunks.staging import Staging
from gateway.core.lifecycle import SETTLED
from gateway.core.ports import Leases
from gateway.core.reconciler import Reconciler
from gateway.errors import GatewayError, SessionNotFound

log = logging.getLogger(__name__)

_DAY: Final = timedelta(days=1)
_LOOK_AGAIN: Final = 3600.0


class Leftovers:
    """Sweeps staging as a whole, beside the sweeper, who looks after sessions."""

    def __init__(self, staging: Staging, leases: Leases, reconciler: Reconciler) -> None:
        self._staging = staging
        self._leases = leases
        self._reconciler = reconciler

    async def run(self) -> None:
        """Sweep once a day, unless another gateway has, until cancelled."""
        while True:
            try:
                # Never released: it runs out when the next sweep is due.
                if await self._leases.acquire("leftovers", seconds=_DAY.total_seconds()):
                    await self.sweep()
            except GatewayError as error:
                log.warning("leftovers are not swept: %s", error.code)
            except Exception:
                log.exception("sweeping leftovers crashed")
            await asyncio.sleep(_LOOK_AGAIN)

    async def sweep(self) -> None:
        """Delete what has no use; can be repeated at any point."""
        await self._staging.sweep_loose(_DAY)
        async for session_id in self._staging.session_ids():
            try:
                session = await self._reconciler.load(session_id)
            except SessionNotFound:
                log.warning("staged bytes of an unknown session", extra={"session_id": session_id})
                continue
            # One that still has to be cleared is the sweeper's, who notes that it was done.
            if session.state in SETTLED and (session.storage_cleared or session.chunks is None):
                await self._staging.clear(session_id)
