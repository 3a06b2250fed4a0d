"""A stream of bytes survives a process killed between every two calls to storage or Redis (row 4).

As in `test_killed_assembling`: what was confirmed is durable, also when Redis is emptied on top, the
client goes on where it is told to, and nothing is left in staging at the end.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from core.chunks import staged
from faults.tracing import Killed, Tracer, doomed
from stack import Stack

from gateway.core.access import Principal
from gateway.core.chunks.leftovers import Leftovers
from gateway.core.chunks.space import StagingSpace
from gateway.core.chunks.staging import Staging
from gateway.core.composition import Core
from gateway.core.model import NewUpload, State, UploadSession
from gateway.core.plan import MIB
from gateway.core.reconciler import Reconciler
from gateway.errors import Conflict

ALICE = Principal("alice")
AT_ONCE = 8


async def body(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 64 * 1024):
        yield data[start : start + 64 * 1024]


async def created(stack: Stack, size: int | None) -> UploadSession:
    new = NewUpload("film.mp4", size, part_size=5 * MIB)
    return (await stack.core.service.create(ALICE, new))[0]


async def append(core: Core, session: UploadSession, start: int, data: bytes, end: int) -> int:
    """Append data[start:end], the last of it as the end of the file."""
    return await core.service.append(
        ALICE, session.session_id, start, body(data[start:end]), last=end == len(data)
    )


async def send_until_dead(core: Core, session: UploadSession, data: bytes, ends: list[int]) -> int:
    """Append up to each of the ends in a process that may die; return what was confirmed."""
    offset = 0
    with suppress(Killed):
        for end in ends:
            offset = await append(core, session, offset, data, end)
    return offset


async def every_death_ends_well(
    stack: Stack, data: bytes, ends: list[int], *, known: bool, emptied: bool
) -> None:
    size = len(data) if known else None
    undisturbed = Tracer()
    session = await created(stack, size)
    assert await send_until_dead(doomed(stack, undisturbed), session, data, ends) == len(data)
    calls = undisturbed.calls
    assert any("put_part" in call for call in calls)
    slots = asyncio.Semaphore(AT_ONCE)

    async def die(kill_before: int) -> tuple[UploadSession, int]:
        async with slots:
            session = await created(stack, size)
            core = doomed(stack, Tracer(kill_before))
            return session, await send_until_dead(core, session, data, ends)

    deaths = await asyncio.gather(*(die(n) for n in range(len(calls))))
    if emptied:
        await stack.empty_redis()

    async def survive(died_before: str, session: UploadSession, confirmed: int) -> None:
        session_id = session.session_id
        offset = await stack.core.service.offset(ALICE, session_id)
        assert confirmed <= offset, died_before
        async with asyncio.timeout(60):
            while offset < len(data):
                # The dead hold their claims for some seconds.
                with suppress(Conflict):
                    offset = await append(stack.core, session, offset, data, len(data))
        done = await stack.core.service.complete(ALICE, session_id, size=len(data), wait=30)
        assert done.state is State.COMPLETED, died_before
        assert await stack.read_object(done) == data, died_before

    await asyncio.gather(
        *(survive(calls[n], session, offset) for n, (session, offset) in enumerate(deaths))
    )
    await swept(stack)
    for n, (session, _) in enumerate(deaths):
        assert await staged(stack, session.session_id) == [], calls[n]


async def swept(stack: Stack) -> None:
    """Let a day pass: what the dead have left in staging goes then."""
    ports, core = stack.ports, stack.core
    space = StagingSpace(ports.chunks)
    bucket = stack.options.creator.bucket
    staging = Staging(ports.objects, bucket, core.budget, space, ports.clock)
    reconciler = Reconciler(ports.storage, ports.objects, ports.sessions, ports.sidecars)
    await Leftovers(staging, ports.leases, reconciler).sweep()


redis_kept_and_emptied = pytest.mark.parametrize(
    "emptied", [False, True], ids=["redis-kept", "redis-emptied"]
)


@redis_kept_and_emptied
@pytest.mark.parametrize(
    "known",
    [pytest.param(True, marks=pytest.mark.large), False],
    ids=["size-known", "size-unknown"],
)
async def test_row_04_killed_between_any_two_calls_of_a_stream(
    stack: Stack, *, known: bool, emptied: bool
) -> None:
    await every_death_ends_well(
        stack, os.urandom(2500), [1000, 2000, 2500], known=known, emptied=emptied
    )


@pytest.mark.large
@redis_kept_and_emptied
async def test_row_04_killed_between_any_two_calls_of_a_stream_of_two_parts(
    stack: Stack, *, emptied: bool
) -> None:
    data = os.urandom(5 * MIB + 3000)
    ends = [2 * MIB, 5 * MIB + 1000, len(data)]
    await every_death_ends_well(stack, data, ends, known=True, emptied=emptied)
