"""The gateway's clock as seen from here, so that a wrong clock on this machine does no harm."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class ServerClock:
    """Estimates the server's time from what it last told, carried on by a monotonic clock.

    The estimate lags by at most the time that an answer was on its way. Until the server has told
    its time, the local clock stands in.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._told = datetime.now(UTC)
        self._at = monotonic()

    def set(self, server_time: datetime) -> None:
        """Take in a time that the server has just told; one without a zone is UTC."""
        if server_time.tzinfo is None:
            server_time = server_time.replace(tzinfo=UTC)
        self._told = server_time
        self._at = self._monotonic()

    def now(self) -> datetime:
        """Return the server's time, in UTC."""
        return self._told + timedelta(seconds=self._monotonic() - self._at)
