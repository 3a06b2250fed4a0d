"""Row 3: a creation that dies leaves nothing that is not found, and its retry is safe.

The calls are taken from a trace, so that one added later is covered too.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis.asyncio
from faults.ports import Around
from faults.sessions import ALICE, SMALL, completed, must_be_whole, send
from faults.tracing import Killed, Tracer, doomed
from stack import Stack

from gateway.core.clock import SystemClock
from gateway.core.composition import compose
from gateway.core.lifecycle import RECHECK_AFTER
from gateway.core.model import MultipartUpload, NewUpload, UploadSession
from gateway.errors import Unavailable


class Later(SystemClock):
    """The clock of a gateway that looks at announcements of just now, and of none before."""

    def now(self) -> datetime:
        return super().now() + RECHECK_AFTER + timedelta(seconds=1)


def request(key: str | None) -> NewUpload:
    return NewUpload(filename="a.bin", size=len(SMALL), idempotency_key=key)


async def create_until_dead(stack: Stack, tracer: Tracer, new: NewUpload) -> None:
    with suppress(Killed):
        await doomed(stack, tracer).service.create(ALICE, new)
    await drop_leases(stack)


async def drop_leases(stack: Stack) -> None:
    """Have the leases of the dead run out now, which takes longer than a test should."""
    async with redis.asyncio.from_url(stack.redis_url) as client:
        async for key in client.scan_iter(f"{stack.prefix}*:lease"):
            await client.delete(key)


async def steps_of_a_creation(stack: Stack, key: str | None) -> list[str]:
    undisturbed = Tracer()
    await create_until_dead(stack, undisturbed, request(key))
    assert sum(call.endswith("Storage.create") for call in undisturbed.calls) == 1
    return undisturbed.calls


async def unfinished(stack: Stack) -> set[str]:
    """Return the upload ids that the store still keeps parts of."""
    bucket = stack.options.creator.bucket
    return {one.upload_id async for one in stack.ports.objects.list_uploads(bucket, "uploads/")}


async def sweep_later(stack: Stack) -> None:
    stack.reconnect(clock=Later())
    await stack.core.sweeper.sweep()


async def test_row_03_a_retry_of_a_killed_creation_is_safe_and_leaves_no_orphan(
    stack: Stack,
) -> None:
    calls = await steps_of_a_creation(stack, uuid.uuid4().hex)
    for death in range(len(calls) + 1):
        new = request(uuid.uuid4().hex)
        before = await unfinished(stack)
        await create_until_dead(stack, Tracer(death), new)
        session, _ = await stack.core.service.create(ALICE, new)
        again, created = await stack.core.service.create(ALICE, new)
        assert (again.session_id, created) == (session.session_id, False)
        after = await unfinished(stack)
        assert after - before == {session.upload.upload_id}, calls[death : death + 1]
        await send(stack, session, SMALL)
        await completed(stack, session)
        await must_be_whole(stack, session)


@pytest.mark.parametrize("key", [None, "a-key"], ids=["without-key", "with-key"])
async def test_row_03_what_a_killed_creation_left_is_found_without_its_client(
    stack: Stack, key: str | None
) -> None:
    # Redis is complete: what is found is not found because it was emptied.
    await stack.core.sweeper.sweep()
    calls = await steps_of_a_creation(stack, key and uuid.uuid4().hex)
    for death in range(len(calls) + 1):
        await create_until_dead(stack, Tracer(death), request(key and uuid.uuid4().hex))
    left = await unfinished(stack)
    assert len(left) > 1
    sessions = (await stack.core.service.find(ALICE)).sessions
    await sweep_later(stack)
    # What has a session is its client's to go on with; nothing else stays.
    sessions = (await stack.core.service.find(ALICE)).sessions
    assert await unfinished(stack) == {session.upload.upload_id for session in sessions}
    assert len(sessions) < len(left)


async def test_row_03_what_a_killed_creation_left_is_found_after_redis_was_emptied(
    stack: Stack,
) -> None:
    calls = await steps_of_a_creation(stack, None)
    for death in range(len(calls) + 1):
        await create_until_dead(stack, Tracer(death), request(None))
    await stack.empty_redis()
    await stack.core.sweeper.sweep()
    left = await unfinished(stack)
    await sweep_later(stack)
    sessions = (await stack.core.service.find(ALICE)).sessions
    assert await unfinished(stack) == {session.upload.upload_id for session in sessions} < left


@pytest.mark.parametrize("emptied", [False, True], ids=["redis-kept", "redis-emptied"])
async def test_row_03_a_killed_retry_is_safe_too(stack: Stack, *, emptied: bool) -> None:
    calls = await steps_of_a_creation(stack, uuid.uuid4().hex)
    made = next(n for n, call in enumerate(calls, 1) if call.endswith("Storage.create"))

    async def half_created() -> NewUpload:
        new = request(uuid.uuid4().hex)
        await create_until_dead(stack, Tracer(made), new)
        return new

    undisturbed = Tracer()
    await create_until_dead(stack, undisturbed, await half_created())
    for death in range(len(undisturbed.calls) + 1):
        before = await unfinished(stack)
        new = await half_created()
        await create_until_dead(stack, Tracer(death), new)
        if emptied:
            await stack.empty_redis()
            await stack.core.sweeper.sweep()
            # Where the retry had made the session, what the first try left is nobody's.
            left = await unfinished(stack) - before
            sessions = (await stack.core.service.find(ALICE)).sessions
            recorded = left & {session.upload.upload_id for session in sessions}
            assert not recorded or left == recorded
        session, _ = await stack.core.service.create(ALICE, new)
        after = await unfinished(stack)
        assert after - before == {session.upload.upload_id}, undisturbed.calls[death : death + 1]


async def test_row_03_a_retry_finds_its_session_where_uploads_may_not_be_listed(
    stack: Stack,
) -> None:
    new = request(uuid.uuid4().hex)
    made, _ = await stack.core.service.create(ALICE, new)

    async def refuse(*_: Any) -> AsyncGenerator[MultipartUpload, None]:
        raise Unavailable("No lists.", code="storage_denied", retryable=False)
        yield  # pragma: no cover

    stack.reconnect(objects=Around(stack.ports.objects, list_uploads=refuse))
    assert await stack.core.service.create(ALICE, new) == (made, False)


async def finished_with_a_leftover(stack: Stack) -> tuple[UploadSession, str]:
    """Return a completed session, and the id of another upload under its key."""
    session, _ = await stack.core.service.create(ALICE, request(None))
    await send(stack, session, SMALL)
    await completed(stack, session)
    leftover = await stack.ports.storage.create(
        session.upload.bucket,
        session.upload.key,
        content_type="application/octet-stream",
        metadata={},
        algorithm=session.checksum_algorithm,
    )
    return session, leftover.upload_id


async def test_row_03_an_orphan_whose_key_holds_the_object_is_left_alone(stack: Stack) -> None:
    session, leftover = await finished_with_a_leftover(stack)
    await stack.core.sweeper.clear_unrecorded(session.session_id)
    assert leftover in await unfinished(stack)
    await must_be_whole(stack, session)


async def test_row_03_a_creation_that_outlives_its_lease_does_not_lose_its_session(
    stack: Stack,
) -> None:
    new = request("the-same-key")
    is_there, may_go_on = asyncio.Event(), asyncio.Event()

    async def slow(create: Any, *args: Any, **kwargs: Any) -> Any:
        upload = await create(*args, **kwargs)
        is_there.set()
        await may_go_on.wait()
        return upload

    slow_ports = replace(stack.ports, storage=Around(stack.ports.storage, create=slow))
    first = asyncio.create_task(compose(slow_ports, stack.options).service.create(ALICE, new))
    await is_there.wait()
    await drop_leases(stack)
    session, created = await stack.core.service.create(ALICE, new)
    may_go_on.set()
    assert created
    assert (await first)[0].upload == session.upload
    assert await unfinished(stack) == {session.upload.upload_id}
    await send(stack, session, SMALL)
    await completed(stack, session)
    await must_be_whole(stack, session)
