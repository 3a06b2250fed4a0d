"""Chunks that get in each other's way: for memory, for staging, for the one who assembles them."""

import asyncio
import os
from dataclasses import replace
from typing import Any

import pytest
from core.chunks import ALICE, File, body_of, send, staged
from faults.ports import Around
from stack import Stack

from gateway.core.composition import Core, compose
from gateway.core.model import State, UploadSession
from gateway.core.plan import MIB
from gateway.errors import Conflict, GatewayError
from gateway.storage.retrying import RetryingObjectStore


async def send_file_first(core: Core, file: File, index: int) -> UploadSession:
    """Send a chunk as a form does whose file comes before its fields."""
    loose = await core.service.stage(body_of(file.piece(index)))
    try:
        session, _ = await core.service.put_chunk(
            ALICE, file.said, index, loose, size=loose.size, wait=30
        )
    finally:
        await loose.discard()
    return session


async def test_chunks_that_came_before_their_fields_do_not_wait_for_each_other(
    stack: Stack,
) -> None:
    """Together they hold the whole budget, and none of them needs more of it."""
    core = compose(stack.ports, replace(stack.options, memory=2 * MIB))
    file = File(os.urandom(5 * MIB), MIB)
    async with asyncio.timeout(20):
        await asyncio.gather(*(send_file_first(core, file, index) for index in range(4)))
    assert core.budget.figures.taken == 0
    assert core.budget.figures.refused == 0


async def test_a_chunk_that_came_before_its_fields_lets_go_of_its_memory_once_it_is_stored(
    stack: Stack,
) -> None:
    """Its request waits for the file, for which there has to be memory."""
    core = compose(stack.ports, replace(stack.options, memory=2 * MIB))
    file = File(os.urandom(2 * MIB), MIB)
    await send(core, file, 0)
    async with asyncio.timeout(20):
        session = await send_file_first(core, file, 1)
    assert session.state is State.COMPLETED


class Aborting(RetryingObjectStore):
    """Has the session aborted just before the digests of a part are written."""

    stack: Stack
    session_id = ""

    async def put(self, bucket: str, key: str, *arguments: Any, **options: Any) -> Any:
        if "/part-" in key and self.session_id:
            session_id, self.session_id = self.session_id, ""
            await self.stack.core.service.abort(ALICE, session_id)
        return await super().put(bucket, key, *arguments, **options)


async def test_a_large_chunk_of_an_aborted_file_leaves_nothing(stack: Stack) -> None:
    objects = Aborting(stack.ports.objects)
    objects.stack = stack
    core = compose(replace(stack.ports, objects=objects), stack.options)
    file = File(os.urandom(11 * MIB), 5 * MIB)
    session, _ = await send(core, file, 0)
    objects.session_id = session.session_id
    with pytest.raises(GatewayError) as caught:
        await core.service.put_chunk(ALICE, file.said, 1, body_of(file.piece(1)), size=file.chunk)
    assert not objects.session_id
    assert caught.value.code in {"gone", "session_not_open"}
    assert await staged(stack, session.session_id) == []


async def test_of_two_clients_with_other_bytes_the_confirmed_one_outlives_redis(
    stack: Stack,
) -> None:
    """One sends a chunk that goes straight into its part, the other one that is staged first."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def put(real: Any, bucket: str, key: str, *arguments: Any, **options: Any) -> Any:
        if "/part-" in key:
            begun.set()
            await go_on.wait()
        return await real(bucket, key, *arguments, **options)

    slow = compose(
        replace(stack.ports, objects=Around(stack.ports.objects, put=put)), stack.options
    )
    file = File(os.urandom(11 * MIB), 5 * MIB)
    session, _ = await send(stack.core, file, 0)
    straight = asyncio.create_task(
        slow.service.put_chunk(ALICE, file.said, 1, body_of(bytes(file.chunk)), size=file.chunk)
    )
    await begun.wait()
    await send(stack.core, file, 1)
    await stack.core.assembler.start(session.session_id)
    go_on.set()
    with pytest.raises(Conflict) as caught:
        await straight
    assert caught.value.code == "chunk_conflict"

    await stack.empty_redis()
    found = await stack.core.service.find_chunked(ALICE, file.form, file.file_id)
    assert found.progress.received_chunks == 2
    done, _ = await send(stack.core, file, 2)
    assert done.state is State.COMPLETED
    assert await stack.read_object(done) == file.data
