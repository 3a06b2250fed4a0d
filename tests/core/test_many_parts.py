"""Ten thousand parts are a normal upload, and nobody else's requests may feel them (law 10)."""

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from faults.ports import Around
from stack import Stack

from gateway.core.access import Principal
from gateway.core.checksums import ALGORITHMS
from gateway.core.model import Acknowledged, NewUpload, Part, State
from gateway.errors import Unavailable

ALICE = Principal("alice")
COUNT = 10_000
SIZE = 5 * 1024 * 1024
# The bound of the house; what is measured is the loop's own work, which a busy machine leaves as
# it is.
LONGEST = 0.020


@asynccontextmanager
async def quick_turns(what: str) -> AsyncIterator[None]:
    """Fail if the event loop works for longer than LONGEST without a turn for others."""
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            worst, last = max(worst, now - last), now

    gc.collect()
    gc.disable()
    watching = asyncio.create_task(watch())
    try:
        await asyncio.sleep(0)
        yield
        await asyncio.sleep(0)
    finally:
        watching.cancel()
        gc.enable()
    assert worst < LONGEST, what


async def list_parts(_: Any, _upload: Any) -> AsyncGenerator[Part, None]:
    for number in range(1, COUNT + 1):
        yield Part(number, SIZE, f"{number:032x}")


async def not_now(*_: Any, **__: Any) -> None:
    raise Unavailable("Not now.")


async def test_ten_thousand_parts_hold_nobody_up(stack: Stack) -> None:
    stack.reconnect(storage=Around(stack.ports.storage, list_parts=list_parts, complete=not_now))
    service = stack.core.service
    session, _ = await service.create(
        ALICE, NewUpload(filename="a", size=COUNT * SIZE, part_size=SIZE)
    )
    value = ALGORITHMS[session.checksum_algorithm].value_of(b"")
    words = [Acknowledged(n, f"{n:032x}", value) for n in range(1, COUNT + 1)]
    async with quick_turns("acknowledge"):
        await service.acknowledge(ALICE, session.session_id, words)
    async with quick_turns("parts"):
        assert len(await service.parts(ALICE, session.session_id)) == COUNT
    async with quick_turns("complete"):
        frozen = await service.complete(ALICE, session.session_id, wait=0.5)
    assert frozen.state is State.COMPLETING
    await stack.empty_redis()
    async with quick_turns("restore"):
        again = await service.get(ALICE, session.session_id)
    assert again.progress.received_parts == COUNT
