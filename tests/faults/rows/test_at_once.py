"""Rows 20 to 22: the same session completed twice, and completed and aborted, at once.

Two gateways here are two cores, each with connections and tasks of its own, over one Redis and one
store; `test_processes.py` has two processes.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import minio
import pytest
import pytest_asyncio
from faults.ports import Around
from servers import S3Target
from stack import Stack, acknowledge_all, put_parts, running_stack

from gateway.core.access import Principal
from gateway.core.events import EventType
from gateway.core.model import NewUpload, Part, State, UploadSession
from gateway.errors import Conflict, Gone, NoSuchObject, NoSuchUpload

ALICE = Principal("alice")
AT_A_TIME = 10


@pytest_asyncio.fixture
async def other_stack(
    stack: Stack, s3: S3Target, bucket: str, oracle: minio.Minio, redis_url: str
) -> AsyncIterator[Stack]:
    """Give another gateway with the same Redis, bucket and prefix."""
    async with running_stack(s3, bucket, oracle, redis_url, stack.prefix) as other:
        yield other


async def uploaded(stack: Stack, data: bytes) -> UploadSession:
    session, _ = await stack.core.service.create(ALICE, NewUpload("a.bin", size=len(data)))
    await acknowledge_all(stack, ALICE, session, await put_parts(stack, ALICE, session, data))
    return session


async def in_batches(once: Callable[[int], Awaitable[None]], sizes: list[int]) -> None:
    """Do it with a file of every size, some at a time."""
    for start in range(0, len(sizes), AT_A_TIME):
        await asyncio.gather(*map(once, sizes[start : start + AT_A_TIME]))


async def events_of(stack: Stack, session: UploadSession) -> Counter[EventType]:
    return Counter(event.type for event in await stack.ports.sessions.outbox(session.session_id))


async def must_be_completed_once(stack: Stack, session: UploadSession, data: bytes) -> None:
    after = await stack.core.service.get(ALICE, session.session_id)
    assert after.state is State.COMPLETED
    assert await stack.read_object(after) == data
    assert await events_of(stack, session) == {EventType.CREATED: 1, EventType.COMPLETED: 1}


async def test_row_20_complete_twice_at_once_has_one_answer_and_one_event(stack: Stack) -> None:
    async def once(size: int) -> None:
        data = os.urandom(size)
        session = await uploaded(stack, data)
        first, second = await asyncio.gather(
            *(stack.core.service.complete(ALICE, session.session_id, wait=30) for _ in range(2))
        )
        assert first == second
        await must_be_completed_once(stack, session, data)

    await in_batches(once, [*range(50)])


async def test_row_21_complete_in_two_gateways_at_once_has_one_result_and_one_event(
    stack: Stack, other_stack: Stack
) -> None:
    async def once(size: int) -> None:
        data = os.urandom(size)
        session = await uploaded(stack, data)
        first, second = await asyncio.gather(
            *(
                each.core.service.complete(ALICE, session.session_id, wait=30)
                for each in (stack, other_stack)
            )
        )
        assert first == second
        await must_be_completed_once(stack, session, data)

    await in_batches(once, [*range(20)])


@dataclass
class Late:
    """A call that has come, and waits until `release`."""

    come: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def hold(self) -> None:
        self.come.set()
        await self.release.wait()

    async def list_parts(self, real: Any, upload: Any) -> AsyncGenerator[Part, None]:
        await self.hold()
        async for part in real(upload):
            yield part

    async def head(self, real: Any, *where: str) -> Any:
        await self.hold()
        return await real(*where)


async def test_row_21_complete_in_a_gateway_that_comes_late_has_the_same_result(
    stack: Stack, other_stack: Stack
) -> None:
    late = Late()
    ports = other_stack.ports
    other_stack.reconnect(storage=Around(ports.storage, list_parts=late.list_parts))
    session = await uploaded(stack, b"data")
    # It has seen that the session is open, and is overtaken.
    behind = asyncio.create_task(
        other_stack.core.service.complete(ALICE, session.session_id, wait=30)
    )
    await late.come.wait()
    done = await stack.core.service.complete(ALICE, session.session_id, wait=30)
    late.release.set()
    assert await behind == done
    await must_be_completed_once(stack, session, b"data")


async def test_row_21_both_gateways_learn_that_the_upload_is_lost(
    stack: Stack, other_stack: Stack
) -> None:
    late = Late()
    ports = other_stack.ports
    other_stack.reconnect(sidecars=Around(ports.sidecars, read=late.head))
    session = await uploaded(stack, b"data")
    await stack.ports.storage.abort(session.upload)
    behind = asyncio.create_task(other_stack.core.service.complete(ALICE, session.session_id))
    await late.come.wait()
    with pytest.raises(Gone):
        await stack.core.service.complete(ALICE, session.session_id)
    late.release.set()
    with pytest.raises(Gone):
        await behind
    assert await events_of(stack, session) == {EventType.CREATED: 1, EventType.ABORTED: 1}


async def test_row_22_an_abort_that_is_overtaken_by_a_completion_says_so(
    stack: Stack, other_stack: Stack
) -> None:
    late = Late()
    other_stack.reconnect(objects=Around(other_stack.ports.objects, head=late.head))
    session = await uploaded(stack, b"data")
    behind = asyncio.create_task(other_stack.core.service.abort(ALICE, session.session_id))
    await late.come.wait()
    await stack.core.service.complete(ALICE, session.session_id, wait=30)
    late.release.set()
    with pytest.raises(Conflict) as caught:
        await behind
    assert caught.value.code == "session_completed"
    await must_be_completed_once(stack, session, b"data")


async def test_row_22_of_complete_and_abort_at_once_one_wins_wholly(
    stack: Stack, other_stack: Stack
) -> None:
    wins: Counter[State] = Counter()
    jitter = random.Random(22)

    async def complete(session: UploadSession, head_start: float) -> bool:
        # The race itself is what is tested: who is first is to differ.
        await asyncio.sleep(max(0.0, -head_start))
        try:
            done = await stack.core.service.complete(ALICE, session.session_id, wait=30)
        except Gone:
            return False
        assert done.state is State.COMPLETED
        return True

    async def abort(session: UploadSession, head_start: float) -> bool:
        await asyncio.sleep(max(0.0, head_start))
        try:
            await other_stack.core.service.abort(ALICE, session.session_id)
        except Conflict as error:
            if error.code not in {"session_completed", "session_busy", "session_changed"}:
                raise
            return False
        return True

    async def once(size: int) -> None:
        data = os.urandom(size)
        session = await uploaded(stack, data)
        head_start = jitter.uniform(-0.02, 0.02)
        won = await asyncio.gather(complete(session, head_start), abort(session, head_start))
        assert sorted(won) == [False, True]

        after = await stack.core.service.get(ALICE, session.session_id)
        wins[after.state] += 1
        if won[0]:
            await must_be_completed_once(stack, session, data)
            return
        assert (after.state, after.storage_cleared) == (State.ABORTED, True)
        assert await events_of(stack, session) == {EventType.CREATED: 1, EventType.ABORTED: 1}
        await must_be_gone(stack, session)

    await in_batches(once, [*range(10)] * 20)
    # Otherwise this would have been no race.
    assert min(wins[State.COMPLETED], wins[State.ABORTED]) > 0


async def must_be_gone(stack: Stack, session: UploadSession) -> None:
    """Fail unless the store has neither an object nor parts of the session."""
    try:
        await stack.ports.objects.head(session.upload.bucket, session.upload.key)
    except NoSuchObject:
        pass
    else:
        raise AssertionError(session)
    try:
        parts = [part async for part in stack.ports.storage.list_parts(session.upload)]
    except NoSuchUpload:
        return
    raise AssertionError(parts)
