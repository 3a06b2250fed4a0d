"""Background work on sessions, one task a session and process: begun, guarded, ended.

What is driven, and which lease keeps other processes from the same work, is the driver's business.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.errors import GatewayError

log = logging.getLogger(__name__)


class Drives:
    """The tasks of one driver. `work` is its name in the log, such as `completion`.

    `patience` bounds in seconds a drive that gets nowhere; a drive that gets on moves the limit.
    """

    def __init__(self, work: str, patience: float) -> None:
        self._work = work
        self._patience = patience
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(
        self, session_id: str, drive: Callable[[asyncio.Timeout], Coroutine[Any, Any, None]]
    ) -> asyncio.Task[None]:
        """Begin to drive the session, or return the task that does so already.

        Its own errors are logged, not raised.
        """
        task = self._tasks.get(session_id)
        if task is None or task.done():
            name = f"{self._work} {session_id}"
            task = asyncio.create_task(self._guard(session_id, drive), name=name)
            self._tasks[session_id] = task
            task.add_done_callback(lambda task: self._ended(session_id, task))
        return task

    async def close(self) -> None:
        """Stop all work; sessions stay where they are, and leases are released."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, session_id: str, task: asyncio.Task[None]) -> None:
        # It ended a moment ago, and somebody may have begun anew since.
        if self._tasks.get(session_id) is task:
            del self._tasks[session_id]

    async def _guard(
        self, session_id: str, drive: Callable[[asyncio.Timeout], Coroutine[Any, Any, None]]
    ) -> None:
        extra = {"session_id": session_id}
        try:
            async with asyncio.timeout(self._patience) as limit:
                await drive(limit)
        except TimeoutError:
            log.warning("%s gave up for now", self._work, extra=extra)
        except GatewayError as error:
            log.warning("%s failed: %s", self._work, error.code, extra=extra, exc_info=True)
        except Exception:
            log.exception("%s crashed", self._work, extra=extra)
