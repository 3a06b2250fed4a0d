"""Work that takes long, and work that gets nowhere, must not stand in the way of other work."""

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from faults.ports import Around
from stack import Stack, acknowledge_all, put_parts

from gateway.core.access import Principal
from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.composition import compose
from gateway.core.model import NewUpload, State, UploadSession, VerifiedBy
from gateway.errors import Unavailable, Uncertain

ALICE = Principal("alice")
DATA = os.urandom(1024)
SHA256 = Checksum("sha256", ALGORITHMS["sha256"].value_of(DATA))


async def uploaded(stack: Stack, **fields: Any) -> UploadSession:
    session, _ = await stack.core.service.create(
        ALICE, NewUpload(filename="a.bin", size=len(DATA), **fields)
    )
    await acknowledge_all(stack, ALICE, session, await put_parts(stack, ALICE, session, DATA))
    return session


def with_patience(stack: Stack, **options: Any) -> None:
    stack.options = replace(stack.options, completer=replace(stack.options.completer, **options))
    stack.core = compose(stack.ports, stack.options)


async def test_reading_back_may_take_as_long_as_bytes_keep_coming(stack: Stack) -> None:
    async def trickle(read: Any, *args: Any, **kwargs: Any) -> AsyncGenerator[bytes, None]:
        async for block in read(*args, **kwargs):
            for start in range(0, len(block), 128):
                # The slowness itself is what is tested; there is no event to wait for.
                await asyncio.sleep(0.2)
                yield block[start : start + 128]

    session = await uploaded(stack, checksum=SHA256)
    stack.reconnect(objects=Around(stack.ports.objects, read=trickle))
    with_patience(stack, patience=0.8)
    await stack.core.service.complete(ALICE, session.session_id, wait=0)
    async with asyncio.timeout(10):
        await stack.core.completer.start(session.session_id)
    done = await stack.core.service.get(ALICE, session.session_id)
    assert (done.state, done.verified_by) == (State.COMPLETED, VerifiedBy.CLIENT_FILE)


async def test_a_redis_away_for_a_moment_does_not_start_reading_back_anew(stack: Stack) -> None:
    reads = 0

    async def count(read: Any, *args: Any, **kwargs: Any) -> AsyncGenerator[bytes, None]:
        nonlocal reads
        reads += 1
        async for block in read(*args, **kwargs):
            yield block

    async def fail(*_: Any) -> None:
        raise Unavailable("Away.")

    session = await uploaded(stack, checksum=SHA256)
    stack.reconnect(
        objects=Around(stack.ports.objects, read=count),
        sessions=Around(stack.ports.sessions, report_verified=fail),
    )
    done = await stack.core.service.complete(ALICE, session.session_id, wait=30)
    assert (done.state, reads) == (State.COMPLETED, 1)


async def test_stuck_sessions_leave_room_for_others(stack: Stack) -> None:
    stuck: set[str] = set()

    async def complete(real: Any, upload: Any, *args: Any, **kwargs: Any) -> Any:
        if upload.upload_id in stuck:
            raise Uncertain("Nobody knows.")
        return await real(upload, *args, **kwargs)

    stack.reconnect(storage=Around(stack.ports.storage, complete=complete))
    with_patience(stack, at_once=2, first_pause=10.0)
    for _ in range(2):
        session = await uploaded(stack)
        stuck.add(session.upload.upload_id)
        await stack.core.service.complete(ALICE, session.session_id, wait=0)
    session = await uploaded(stack)
    done = await stack.core.service.complete(ALICE, session.session_id, wait=4)
    assert done.state is State.COMPLETED
