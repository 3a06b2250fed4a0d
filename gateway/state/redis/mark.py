"""Whether the records in Redis are as complete as the sidecars in storage.

The mark names the run of the server that it was made on. A server that was started again may have
lost the end of its log, and a replica that took over what had not reached it: then sessions are
missing here and there, and only a rebuild finds those that nobody asks for.
"""

from dataclasses import dataclass

from gateway.state.redis.client import Client
from gateway.state.redis.keys import Keys


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark for all sessions under a prefix."""

    client: Client
    keys: Keys

    async def is_there(self) -> bool:
        """Tell whether `make` was called on this run of this server, and Redis not emptied since."""
        return bool(await self.client.command("GET", self.keys.mark) == await self._run())

    async def make(self) -> None:
        """Note that the records are complete."""
        await self.client.command("SET", self.keys.mark, await self._run())

    async def _run(self) -> bytes:
        info = await self.client.command("INFO", "server")
        # Where a provider hides it, losing everything is noticed still.
        return str(info.get("run_id") or "unknown").encode()
