"""Whether the records in Redis are as complete as the sidecars in storage.

The mark names the run of the server that it was made on. A server that was started again may have
lost the end of its log, and a replica that took over what had not reached it: then sessions are
missing here and there, and only a rebuild finds those that nobody asks for.
"""

from gateway.errors import GatewayError
from gateway.state.redis.client import Client
from gateway.state.redis.keys import Keys


class Mark:
    """One mark for all sessions under a prefix."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._seen: bytes | None = None

    async def is_there(self) -> bool:
        """Tell whether `make` was called on this run of this server, and Redis not emptied since."""
        made_on = await self._client.command("GET", self._keys.mark)
        self._seen = await self._run()
        return bool(made_on == self._seen)

    async def make(self) -> None:
        """Note that the records are complete, on the run that `is_there` saw last.

        A server that was started again since may have lost what was recorded in the meantime.
        """
        await self._client.command("SET", self._keys.mark, self._seen or await self._run())

    async def _run(self) -> bytes:
        # Where a provider hides it, or the user may not ask (the category @dangerous), losing
        # everything is noticed still.
        try:
            info = await self._client.command("INFO", "server")
        except GatewayError as error:
            if error.code not in {"redis_denied", "redis_error"}:
                raise
            info = {}
        return str(info.get("run_id") or "unknown").encode()
