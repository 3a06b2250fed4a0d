"""Leases in Redis: a key with a random token that expires by itself."""

import secrets
from dataclasses import dataclass

from gateway.core.ports import Lease, Leases
from gateway.state.redis.client import Client, Script
from gateway.state.redis.keys import Keys

_ACQUIRE = Script.load("acquire")
_RELEASE = Script.load("release")


@dataclass(frozen=True, slots=True)
class RedisLease(Lease):
    """One holder's claim; `milliseconds` is its full time."""

    client: Client
    key: str
    token: str
    milliseconds: int

    async def renew(self) -> bool:
        """Prolong by the full time, also when it ran out and nobody else took it."""
        return bool(await self.client.run(_ACQUIRE, [self.key], self.token, self.milliseconds))

    async def release(self) -> None:
        """Give it up; one that somebody else has by now is left alone."""
        await self.client.run(_RELEASE, [self.key], self.token)


class RedisLeases(Leases):
    """Hands out leases on names, which may be session ids: then they share the session's slot."""

    def __init__(self, client: Client, *, prefix: str = "gw") -> None:
        self._client = client
        self._keys = Keys(prefix)

    async def acquire(self, name: str, *, seconds: float) -> Lease | None:
        """Return a lease of that many seconds, or None while another holder has it.

        A call that is repeated after a lost reply knows its own token again.
        """
        lease = RedisLease(
            client=self._client,
            key=self._keys.lease(name),
            token=secrets.token_hex(16),
            milliseconds=max(1, int(seconds * 1000)),
        )
        return lease if await lease.renew() else None
