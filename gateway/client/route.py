"""Which way the bytes of one transfer take: straight to the store, or through the gateway.

A network may let a client reach the gateway and not the store. That is told apart from a store
that is down for everybody, which relaying would not help: the gateway is asked whether it reaches
the store, and only then the store is tried once more from here. Both have short limits of their
own, so it takes seconds, and not the patience of the whole transfer. A transfer that has begun to
be relayed stays so to its end; the next one tries the store first again.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final, Literal

import aiohttp
from yarl import URL

from gateway.client.problems import NETWORK_ERRORS
from gateway.client.progress import Progress
from gateway.client.proxies import proxy_arguments

RelayChoice = Literal["auto", "always", "never"]

PROBE_TIMEOUT: Final = 5.0
ASK_EVERY: Final = 5.0
SILENCE: Final = 60.0
"""Seconds in which a store that has answered counts as reachable, whatever fails meanwhile."""

_log = logging.getLogger(__name__)


class Route:
    """The way of one transfer; all its parts share it, and `progress.relayed` tells it."""

    def __init__(
        self,
        choice: RelayChoice,
        progress: Progress,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._choice = choice
        self._progress = progress
        self._monotonic = monotonic
        self._answered_at = -math.inf
        self._ask_again_at = -math.inf
        self._asking = asyncio.Lock()
        progress.relayed = choice == "always"

    @property
    def relayed(self) -> bool:
        """Whether bytes go through the gateway."""
        return self._progress.relayed

    def store_answered(self) -> None:
        """Note that an answer of the store's has come, whatever it said."""
        self._answered_at = self._monotonic()

    async def avoids_store(self, url: str, gateway_reaches: Callable[[], Awaitable[bool]]) -> bool:
        """Decide after a failed connection whether to relay from now on.

        `url` is where the store was looked for; `gateway_reaches` asks the gateway whether it
        reaches the store, in a few seconds. No error means no for either question.
        """
        if not self._may_ask():
            return self.relayed
        async with self._asking:
            # Another part may have found out while this one waited for its turn.
            if not self._may_ask():
                return self.relayed
            # In this order: a store that has just come back for everybody answers the probe.
            if await gateway_reaches() and not await answers(URL(url, encoded=True)):
                self._progress.relayed = True
                _log.warning(
                    "The store cannot be reached from here, only by the gateway: relaying through "
                    "the gateway, which may be slower."
                )
            self._ask_again_at = self._monotonic() + ASK_EVERY
            return self.relayed

    def _may_ask(self) -> bool:
        now = self._monotonic()
        return (
            self._choice == "auto"
            and not self.relayed
            and now >= self._ask_again_at
            and now - self._answered_at >= SILENCE
        )


async def answers(url: URL) -> bool:
    """Tell whether anything speaks HTTP at the origin of this URL, within seconds."""
    origin = url.origin()
    try:
        # Not on the transfer's own connections: those may all be hanging.
        async with (
            aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=PROBE_TIMEOUT),
                trust_env=False,
            ) as http,
            http.head(origin, allow_redirects=False, **proxy_arguments(origin)),
        ):
            return True
    except NETWORK_ERRORS:
        return False
