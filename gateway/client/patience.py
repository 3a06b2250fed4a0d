"""How long to go on trying, and how long to wait in between."""

import random
import time
from collections.abc import Callable
from typing import Final

FIRST_WAIT: Final = 0.2
LONGEST_WAIT: Final = 10.0


class Patience:
    """Counts the time in which nothing at all went well; one is shared by all parts of an upload.

    `limit` is in seconds. A success of any part renews it for all.
    """

    def __init__(self, limit: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self._since = monotonic()

    def renew(self) -> None:
        """Note that something went well."""
        self._since = self._monotonic()

    @property
    def lost(self) -> bool:
        """Whether nothing has gone well for longer than the limit."""
        return self._monotonic() - self._since > self._limit


def backoff(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row: doubling, capped, jittered.

    The jitter takes away up to half, so that clients cut off together do not return together.
    """
    longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, 10))
    return longest * (1 - random.random() / 2)  # noqa: S311 - spreads load, keeps no secret
