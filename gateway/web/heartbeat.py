"""How late the event loop is: the time that every request waits behind what runs before it.

A timer is set again and again, and each time it is noted how much later than asked it went off.
Linux counts for how long a thread was ready to run and got no processor; that share of a lag is
taken out of the *block*, which is what this process has done to itself: a callback that computes
for too long, one that waits for a disk, a thread that holds the interpreter (also one that holds
it and has no processor itself). Elsewhere the whole lag counts as a block.

It samples: a block is seen for what of it lies beyond the next time the timer was due, so up to
one interval less than it was, and not at all where it falls between two of them. Time without a
processor before the timer was due is taken out too, at most one interval of it. Each look at an
idle loop was measured to cost 0.1 ms of a processor, nearly all of it for waking up.
"""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

log = structlog.get_logger(__name__)

MAX_BLOCK: Final = 0.02
"""Seconds; no callback of the gateway may hold the loop for longer."""

# The kernel's documentation (scheduler/sched-stats): time on a processor, time ready to run but
# without one, in nanoseconds, and the number of time slices.
_SCHEDSTAT: Final = "/proc/thread-self/schedstat"
_SCHEDSTAT_BYTES: Final = 128
_NANOSECONDS: Final = 1e9


class Heartbeat:
    """Looks every `interval` seconds; tells `record` the lag and the block, both in seconds.

    `start` and `stop` belong to the thread of the event loop that is watched.
    """

    def __init__(self, record: Callable[[float, float], None], *, interval: float) -> None:
        self._record = record
        self._interval = interval
        self._timer: asyncio.TimerHandle | None = None
        self._schedstat = -1
        self._waited = 0.0
        self._due = 0.0

    def start(self) -> None:
        """Begin to look at the running loop; does nothing where that is done already."""
        if self._timer is not None:
            return
        with suppress(OSError):
            self._schedstat = os.open(_SCHEDSTAT, os.O_RDONLY)
        self._loop = asyncio.get_running_loop()
        self._waited = self._without_processor()
        self._set()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._schedstat >= 0:
            os.close(self._schedstat)
            self._schedstat = -1

    def _set(self) -> None:
        # Not the loop's own clock: uvloop's stands still while callbacks run.
        self._due = time.monotonic() + self._interval
        self._timer = self._loop.call_later(self._interval, self._beat)

    def _beat(self) -> None:
        lag = max(0.0, time.monotonic() - self._due)
        waited = self._without_processor()
        block = max(0.0, lag - (waited - self._waited))
        self._waited = waited
        self._record(lag, block)
        if block > MAX_BLOCK:
            log.debug("the event loop was blocked", seconds=round(block, 4), lag=round(lag, 4))
        self._set()

    def _without_processor(self) -> float:
        if self._schedstat < 0:
            return 0.0
        return int(os.pread(self._schedstat, _SCHEDSTAT_BYTES, 0).split()[1]) / _NANOSECONDS
