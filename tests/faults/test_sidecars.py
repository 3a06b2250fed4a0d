"""What storage remembers must never be older, or say more, than what was promised (law 4)."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest
import redis.asyncio
from faults.ports import Around
from faults.tracing import Killed, Tracer
from samples import LONG_AGO
from stack import Stack, acknowledge_all, put_parts

from gateway.core.access import Principal
from gateway.core.composition import compose
from gateway.core.events import EventType
from gateway.core.model import NewUpload, Problem, State, UploadSession, VerifiedBy
from gateway.core.ports import Sidecar
from gateway.errors import Conflict, Gone, Unavailable

ALICE = Principal("alice")
DATA = os.urandom(5 * 1024 * 1024 + 1)
PART_SIZE = 5 * 1024 * 1024


async def drop_leases(stack: Stack) -> None:
    async with redis.asyncio.from_url(stack.redis_url) as client:
        await client.delete(*[key async for key in client.scan_iter(f"{stack.prefix}*:lease")])


async def dump_redis(stack: Stack) -> dict[bytes, bytes]:
    """Take a snapshot of all that this stack has written."""
    async with redis.asyncio.from_url(stack.redis_url) as client:
        keys = [key async for key in client.scan_iter(f"{stack.prefix}*", count=1000)]
        return {key: await client.dump(key) for key in keys}


async def restore_redis(stack: Stack, snapshot: dict[bytes, bytes]) -> None:
    """Go back to a snapshot, as a Redis does that has lost the end of its log."""
    async with redis.asyncio.from_url(stack.redis_url) as client:
        for key, value in snapshot.items():
            await client.restore(key, 0, value, replace=True)


async def uploaded(stack: Stack) -> UploadSession:
    new = NewUpload(filename="a.bin", size=len(DATA), part_size=PART_SIZE)
    session, _ = await stack.core.service.create(ALICE, new)
    await acknowledge_all(stack, ALICE, session, await put_parts(stack, ALICE, session, DATA))
    return session


async def completed(stack: Stack, session: UploadSession) -> UploadSession:
    return await stack.core.service.complete(ALICE, session.session_id, wait=30)


async def test_a_refused_completion_is_not_resumed_from_its_sidecar(stack: Stack) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise Conflict("No.", code="parts_refused")

    stack.reconnect(storage=Around(stack.ports.storage, complete=refuse))
    session = await uploaded(stack)
    with pytest.raises(Conflict):
        await completed(stack, session)
    await stack.empty_redis()
    # Its client may be replacing a part right now: nobody but the client completes it.
    assert (await stack.core.service.get(ALICE, session.session_id)).state is State.OPEN


async def test_a_late_process_does_not_undo_the_end_in_the_sidecar(stack: Stack) -> None:
    held, release = asyncio.Event(), asyncio.Event()

    async def hold(acquire: Any, *args: Any, **kwargs: Any) -> Any:
        held.set()
        await release.wait()
        return await acquire(*args, **kwargs)

    session = await uploaded(stack)
    late = compose(
        replace(stack.ports, leases=Around(stack.ports.leases, acquire=hold)), stack.options
    )
    # The late one has seen that the session is completing, and is held up until all is over.
    late_client = asyncio.create_task(late.service.complete(ALICE, session.session_id, wait=30))
    await held.wait()
    done = await completed(stack, session)
    assert done.state is State.COMPLETED
    release.set()
    await late_client
    await late.completer.close()
    assert (await stack.ports.sidecars.read(session.session_id)).session.state is State.COMPLETED


async def test_of_two_verdicts_the_saved_one_is_in_the_sidecar(stack: Stack) -> None:
    written, release = asyncio.Event(), asyncio.Event()

    async def hold(write: Any, sidecar: Sidecar) -> None:
        if sidecar.session.state is State.COMPLETED:
            written.set()
            await release.wait()
        await write(sidecar)

    session = await uploaded(stack)
    late = compose(
        replace(stack.ports, sidecars=Around(stack.ports.sidecars, write=hold)), stack.options
    )
    waiting = asyncio.create_task(late.service.complete(ALICE, session.session_id, wait=30))
    await written.wait()
    # Meanwhile another process, which read other bytes, has settled the session as corrupt.
    verifying = await stack.core.service.get(ALICE, session.session_id)
    corrupt = replace(
        verifying,
        state=State.CORRUPT,
        version=verifying.version + 1,
        error=Problem("checksum_mismatch", "Other bytes."),
    )
    await stack.ports.sidecars.write(Sidecar(corrupt))
    await stack.ports.sessions.save(corrupt)
    release.set()
    assert (await waiting).state is State.CORRUPT
    await stack.empty_redis()
    assert (await stack.core.service.get(ALICE, session.session_id)).state is State.CORRUPT


async def test_an_abort_that_could_not_be_cleared_outlives_redis(stack: Stack) -> None:
    async def fail(*_: Any) -> None:
        raise Unavailable("No.", code="abort_incomplete")

    session = await uploaded(stack)
    failing = Around(stack.ports.storage, abort=fail)
    stack.reconnect(storage=failing)
    await stack.core.service.abort(ALICE, session.session_id)
    await stack.empty_redis()
    assert (await stack.core.service.get(ALICE, session.session_id)).state is State.ABORTED
    events = await stack.ports.sessions.outbox(session.session_id)
    assert [event.event_id for event in events] == [f"{session.session_id}:2"]


async def test_an_abort_is_answered_when_storage_knows_of_it(stack: Stack) -> None:
    async def fail(*_: Any) -> None:
        raise Unavailable("No.")

    session = await uploaded(stack)
    sidecars = stack.ports.sidecars
    stack.reconnect(sidecars=Around(sidecars, write=fail))
    for _ in range(2):
        with pytest.raises(Unavailable):
            await stack.core.service.abort(ALICE, session.session_id)
    stack.reconnect(sidecars=sidecars)
    await stack.core.service.abort(ALICE, session.session_id)
    await stack.empty_redis()
    assert (await stack.core.service.get(ALICE, session.session_id)).state is State.ABORTED


async def test_a_session_found_before_it_is_recorded_has_its_event(stack: Stack) -> None:
    new = NewUpload(filename="a.bin", size=1, idempotency_key="k1")
    undisturbed = Tracer()
    watched = replace(stack.ports, sessions=undisturbed.watch(stack.ports.sessions))
    await compose(watched, stack.options).service.create(ALICE, new)
    recorded = undisturbed.calls.index("RedisSessionStore.add")

    new = replace(new, idempotency_key="k2")
    dying = replace(stack.ports, sessions=Tracer(recorded).watch(stack.ports.sessions))
    with pytest.raises(Killed):
        await compose(dying, stack.options).service.create(ALICE, new)
    session, _ = await stack.core.service.create(ALICE, new)
    events = Counter(e.type for e in await stack.ports.sessions.outbox(session.session_id))
    assert events == {EventType.CREATED: 1}


async def test_of_two_creations_at_once_the_recorded_one_is_in_the_sidecar(stack: Stack) -> None:
    held, release = asyncio.Event(), asyncio.Event()

    async def hold(create: Any, *args: Any, **kwargs: Any) -> Any:
        upload = await create(*args, **kwargs)
        held.set()
        await release.wait()
        return upload

    new = NewUpload(filename="a.bin", size=len(DATA), part_size=PART_SIZE, idempotency_key="k1")
    late = compose(
        replace(stack.ports, storage=Around(stack.ports.storage, create=hold)), stack.options
    )
    slow = asyncio.create_task(late.service.create(ALICE, new))
    await held.wait()
    # The slow one has outlived its lease.
    await drop_leases(stack)
    session, _ = await stack.core.service.create(ALICE, new)
    await acknowledge_all(stack, ALICE, session, await put_parts(stack, ALICE, session, DATA))
    release.set()
    assert (await slow)[0].upload == session.upload
    await stack.empty_redis()
    again = await stack.core.service.get(ALICE, session.session_id)
    assert again.upload == session.upload
    assert again.progress.received_parts == 2


async def test_a_corrupt_session_stays_so_when_redis_falls_back_in_time(stack: Stack) -> None:
    new = NewUpload(filename="a.bin", size=len(DATA), part_size=PART_SIZE)
    session, _ = await stack.core.service.create(ALICE, new)
    sent = await put_parts(stack, ALICE, session, DATA)
    before = await dump_redis(stack)
    # The client's word for part 2 is another one than the bytes that the store has.
    wrong = [sent[0], replace(sent[1], checksum=sent[0].checksum)]
    await stack.core.service.acknowledge(ALICE, session.session_id, wrong)
    assert (await completed(stack, session)).state is State.CORRUPT
    await stack.empty_redis()
    await restore_redis(stack, before)
    assert (await stack.core.service.get(ALICE, session.session_id)).state is State.OPEN
    await stack.ports.sessions.schedule(session.session_id, LONG_AGO)
    await stack.core.sweeper.sweep()
    assert (await completed(stack, session)).state is State.CORRUPT


async def test_a_completed_session_keeps_its_voucher_when_redis_falls_back_in_time(
    stack: Stack,
) -> None:
    new = NewUpload(filename="a.bin", size=len(DATA), part_size=PART_SIZE)
    session, _ = await stack.core.service.create(ALICE, new)
    sent = await put_parts(stack, ALICE, session, DATA)
    before = await dump_redis(stack)
    await acknowledge_all(stack, ALICE, session, sent)
    done = await completed(stack, session)
    assert done.verified_by is VerifiedBy.CLIENT_PARTS
    await stack.empty_redis()
    await restore_redis(stack, before)
    again = await completed(stack, session)
    assert again == replace(done, updated_at=again.updated_at)


async def test_parts_that_redis_forgets_while_they_are_listed_are_not_told_as_none(
    stack: Stack,
) -> None:
    session = await uploaded(stack)

    async def list_parts(real: Any, upload: Any) -> AsyncGenerator[Any, None]:
        async for part in real(upload):
            yield part
        await stack.empty_redis()

    stack.reconnect(storage=Around(stack.ports.storage, list_parts=list_parts))
    with pytest.raises(Unavailable):
        await stack.core.service.parts(ALICE, session.session_id)
    stack.reconnect(storage=stack.ports.storage._port)
    parts = await stack.core.service.parts(ALICE, session.session_id)
    assert [part.number for part in parts] == [1, 2]


async def test_an_upload_told_as_gone_stays_gone_when_redis_is_emptied(stack: Stack) -> None:
    session = await uploaded(stack)
    await stack.ports.storage.abort(session.upload)
    with pytest.raises(Gone):
        await completed(stack, session)
    await stack.empty_redis()
    assert (await stack.core.service.get(ALICE, session.session_id)).state is State.ABORTED
