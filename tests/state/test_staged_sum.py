"""The sum of what is staged, when its calls come in another order than those of their sessions."""

from typing import Any

from conformance.session_store import new_session, settled
from faults.ports import Around

from gateway.core.chunks.store import Chunk
from gateway.state.redis.chunks import RedisChunkStore
from gateway.state.redis.client import Client
from gateway.state.redis.store import RedisSessionStore


async def test_a_late_call_does_not_bring_a_session_back_that_was_cleared(
    client: Client, sessions: RedisSessionStore, redis_prefix: str
) -> None:
    """Its bytes would be counted for ever, and less and less could be staged."""
    chunks = RedisChunkStore(client, prefix=redis_prefix)
    session = await sessions.add(new_session())
    calls = 0

    async def run(real: Any, *words: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            # The chunk is recorded, and the sum was not told yet.
            await sessions.save(*settled(session))
            await chunks.forget_staged(session.session_id)
        return await real(*words)

    late: Any = Around(client, run=run)
    chunk = Chunk(0, 1000, "AAAAAA==", "0123456789ab")
    await RedisChunkStore(late, prefix=redis_prefix).add_chunk(session.session_id, chunk, total=3)
    assert calls >= 2
    assert await chunks.staged_bytes() == 0
