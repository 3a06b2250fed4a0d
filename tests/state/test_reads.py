"""Readers who ask at the same time share round trips, and leave others their turn."""

import asyncio
from collections import Counter

from conformance.session_store import new_session

from gateway.state.redis.store import RedisSessionStore


async def test_a_hundred_answers_at_once_leave_others_their_turn(
    sessions: RedisSessionStore,
) -> None:
    session = await sessions.add(new_session())
    turns = 0
    answered: Counter[int] = Counter()

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def read() -> None:
        assert await sessions.get(session.session_id) == session
        answered[turns] += 1

    counting = asyncio.create_task(count_turns())
    await asyncio.gather(*(read() for _ in range(100)))
    counting.cancel()
    assert answered.total() == 100
    # Two round trips at a time may be answered within one turn of the loop.
    assert max(answered.values()) <= 50
