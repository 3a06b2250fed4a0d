"""A file in chunks survives a process killed between every two calls to storage or Redis (row 4).

The calls are taken from a trace of an upload that nobody disturbed, as in `test_killed_completion`.
What was acknowledged is found again, also when Redis is emptied on top; the client goes on with the
chunks that it is told are missing, and nothing is left in staging at the end.
"""

import asyncio
import os
from contextlib import suppress

import pytest
from core.chunks import (
    ALICE,
    CHUNK,
    File,
    another_gateway,
    send,
    staged,
    until_clear,
    with_small_parts,
)
from faults.tracing import Killed, Tracer, doomed
from stack import Stack

from gateway.core.composition import Core
from gateway.core.events import EventType
from gateway.core.model import State, UploadSession, VerifiedBy
from gateway.errors import SessionNotFound, Unavailable

AT_ONCE = 8


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait long for a creation whose process died."""
    monkeypatch.setattr("gateway.core.creation._CREATION_LEASE", 0.2)


async def send_until_dead(core: Core, file: File) -> list[int]:
    """Send the chunks in a process that may die at any moment; return those acknowledged."""
    acknowledged: list[int] = []
    try:
        for index in range(file.count):
            await send(core, file, index)
            acknowledged.append(index)
        # Whatever goes on in the background dies with the process too.
        session = await core.service.find_chunked(ALICE, file.form, file.file_id)
        await core.assembler.start(session.session_id)
    except Killed:
        pass
    finally:
        await core.assembler.close()
        await core.completer.close()
    return acknowledged


async def resume(core: Core, file: File, acknowledged: list[int]) -> UploadSession:
    """Ask what is there, find all that was acknowledged, and send the rest until it is complete."""
    async with asyncio.timeout(60):
        while True:
            # Dozens of sessions come back at once here, some still held by the dead.
            with suppress(Unavailable):
                try:
                    session = await core.service.find_chunked(ALICE, file.form, file.file_id)
                    have = session.progress
                    if session.state is State.OPEN:
                        assert [n for n in acknowledged if not has(session, n)] == []
                        assert have.received_chunks == int.from_bytes(have.chunks).bit_count()
                except SessionNotFound:
                    assert not acknowledged
                for index in range(file.count):
                    session, _ = await send(core, file, index)
                if session.state is State.COMPLETED:
                    return session


def has(session: UploadSession, index: int) -> bool:
    return bool(session.progress.chunks[index // 8 : index // 8 + 1]) and bool(
        session.progress.chunks[index // 8] & (0x80 >> index % 8)
    )


async def every_death_ends_well(
    stack: Stack, data: bytes, chunk: int, *, emptied: bool, step: int = 1
) -> None:
    """Fail unless every `step`-th death ends in one verified file and an empty staging."""
    undisturbed = Tracer()
    file = File(data, chunk)
    assert len(await send_until_dead(doomed(stack, undisturbed), file)) == file.count
    calls = undisturbed.calls
    assert any("put_part" in call for call in calls)
    assert calls[-1].endswith((".get", ".release"))

    slots = asyncio.Semaphore(AT_ONCE)

    async def die(kill_before: int) -> tuple[File, list[int]]:
        async with slots:
            doomed_file = File(data, chunk)
            core = doomed(stack, Tracer(kill_before))
            return doomed_file, await send_until_dead(core, doomed_file)

    deaths = await asyncio.gather(*(die(n) for n in range(0, len(calls), step)))
    if emptied:
        await stack.empty_redis()

    async def survive(died_before: str, file: File, acknowledged: list[int]) -> None:
        session = await resume(stack.core, file, acknowledged)
        assert await stack.read_object(session) == data, died_before
        session = await until_clear(stack, session.session_id)
        assert session.verified_by is VerifiedBy.GATEWAY, died_before
        assert await staged(stack, session.session_id) == [], died_before
        events = await stack.ports.sessions.outbox(session.session_id)
        kinds = [event.type for event in events]
        assert kinds.count(EventType.COMPLETED) == 1, died_before

    await asyncio.gather(
        *(
            survive(calls[n * step], file, acknowledged)
            for n, (file, acknowledged) in enumerate(deaths)
        )
    )
    assert await stack.ports.chunks.staged_bytes() == 0


redis_kept_and_emptied = pytest.mark.parametrize(
    "emptied", [False, True], ids=["redis-kept", "redis-emptied"]
)


@redis_kept_and_emptied
async def test_row_04_killed_at_every_third_call_of_a_file_in_chunks(
    stack: Stack, *, emptied: bool
) -> None:
    await every_death_ends_well(stack, os.urandom(2500), 1000, emptied=emptied, step=3)


@pytest.mark.large
@redis_kept_and_emptied
async def test_row_04_killed_between_any_two_calls_of_a_file_in_chunks(
    stack: Stack, *, emptied: bool
) -> None:
    await every_death_ends_well(stack, os.urandom(2500), 1000, emptied=emptied)


@pytest.mark.large
@redis_kept_and_emptied
async def test_row_04_killed_between_any_two_calls_of_a_file_of_two_parts(
    stack: Stack, *, emptied: bool
) -> None:
    with_small_parts(stack)
    await every_death_ends_well(stack, os.urandom(4 * CHUNK - 1000), CHUNK, emptied=emptied)


async def test_a_gateway_that_dies_with_all_chunks_is_succeeded_without_its_client(
    stack: Stack,
) -> None:
    file = File(os.urandom(2500), 1000)
    undisturbed = Tracer()
    await send_until_dead(doomed(stack, undisturbed), File(file.data, file.chunk))
    kill_before = next(n for n, call in enumerate(undisturbed.calls) if "put_part" in call)
    await send_until_dead(doomed(stack, Tracer(kill_before)), file)

    core = another_gateway(stack)
    found = await core.service.find_chunked(ALICE, file.form, file.file_id)
    assert (found.state, found.phase) == (State.OPEN, "assembling")
    done = await until_clear(stack, found.session_id)
    assert done.state is State.COMPLETED
    assert await stack.read_object(done) == file.data
