"""Asking Sentinels for the primary, one question at a time.

redis-py's own way of asking puts the Sentinel that answered first in its list, and several
questions at once lose others from it (seen in 8.0): after a failover, when all connections ask, a
gateway would know fewer Sentinels than before, and at last none that lives.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel

_REFUSALS = (exceptions.AuthenticationError, exceptions.NoPermissionError)


class SentinelGroup(Sentinel):
    """Sentinels that watch one primary; the one that answered last is asked first."""

    def __init__(self, addresses: Sequence[tuple[str, int]], arguments: dict[str, Any]) -> None:
        """Describe them; `arguments` are those of redis-py's connections."""
        super().__init__(addresses, sentinel_kwargs=arguments)  # type: ignore[no-untyped-call]  # redis-py has no types here.
        self._asking = asyncio.Lock()
        self._order: list[Redis] = list(self.sentinels)

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return host and port. Raises MasterNotFoundError, or a Sentinel's refusal."""
        failures: list[Exception] = []
        async with self._asking:
            for sentinel in self._order:
                # Any: redis-py's execute_command carries no types.
                client: Any = sentinel
                try:
                    found = await client.execute_command(
                        "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service_name
                    )
                except (exceptions.RedisError, OSError) as error:
                    failures.append(error)
                    continue
                if found is not None:
                    self._order.remove(sentinel)
                    self._order.insert(0, sentinel)
                    return found[0].decode(), int(found[1])
        for failure in failures:
            # That the others are away explains less.
            if isinstance(failure, _REFUSALS):
                raise failure
        cause = failures[0] if failures else None
        raise MasterNotFoundError(f"No primary found for {service_name!r}") from cause
