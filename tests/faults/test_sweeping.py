"""One session that cannot be looked after must not keep the sweeper from the others."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from faults.ports import Around
from samples import LONG_AGO
from stack import Stack

from gateway.core.access import Principal
from gateway.core.composition import compose
from gateway.core.model import MultipartUpload, NewUpload, Part, State, UploadSession
from gateway.core.sweeper import SweeperOptions
from gateway.errors import GatewayError, NoSuchUpload, SessionNotFound, Unavailable

ALICE = Principal("alice")


async def created(stack: Stack, name: str) -> UploadSession:
    return (await stack.core.service.create(ALICE, NewUpload(filename=name, size=1)))[0]


async def test_an_upload_that_cannot_be_listed_does_not_stop_a_rebuild(stack: Stack) -> None:
    poisoned = await created(stack, "poisoned")
    others = [await created(stack, "other") for _ in range(10)]

    async def list_parts(real: Any, upload: Any) -> AsyncGenerator[Part, None]:
        if upload == poisoned.upload:
            raise Unavailable("This list does not come to an end.")
        async for part in real(upload):
            yield part

    stack.reconnect(storage=Around(stack.ports.storage, list_parts=list_parts))
    await stack.empty_redis()
    await stack.core.sweeper.sweep()
    assert await stack.ports.sessions.is_marked()
    for session in [poisoned, *others]:
        assert (await stack.ports.sessions.get(session.session_id)).state is State.OPEN


async def test_a_rebuild_passes_over_what_redis_had_forgotten_by_then(stack: Stack) -> None:
    retention = SweeperOptions("any").retention
    now = datetime.now(UTC)
    done = []
    for age in (timedelta(0), retention + timedelta(hours=1)):
        session = await created(stack, "done")
        await stack.core.service.abort(ALICE, session.session_id)
        sidecar = await stack.ports.sidecars.read(session.session_id)
        over = replace(sidecar.session, updated_at=now - age)
        await stack.ports.sidecars.write(replace(sidecar, session=over))
        done.append(session.session_id)

    await stack.empty_redis()
    await stack.core.sweeper.sweep()

    page = await stack.core.service.find(ALICE)
    assert [session.session_id for session in page.sessions] == done[:1]
    # Whoever asks for it by name hears what became of it.
    assert (await stack.core.service.get(ALICE, done[1])).state is State.ABORTED


async def test_a_store_that_passes_over_the_prefix_costs_nobody_an_upload(stack: Stack) -> None:
    bystander = await created(stack, "bystander")

    async def list_uploads(_: Any, *__: Any) -> AsyncGenerator[MultipartUpload, None]:
        yield bystander.upload

    stack.reconnect(objects=Around(stack.ports.objects, list_uploads=list_uploads))
    await stack.core.sweeper.clear_unrecorded(secrets.token_hex(16))
    assert list(await stack.core.service.parts(ALICE, bystander.session_id)) == []
    assert (await stack.core.service.get(ALICE, bystander.session_id)).state is State.OPEN


@pytest.mark.parametrize("code", ["storage_denied", "storage_unsupported"])
async def test_a_store_that_lists_no_uploads_stops_neither_rebuilds_nor_clearing(
    stack: Stack, code: str
) -> None:
    async def refuse(*_: Any) -> AsyncGenerator[MultipartUpload, None]:
        raise Unavailable("No lists of uploads.", code=code, retryable=False)
        yield  # pragma: no cover

    stack.reconnect(objects=Around(stack.ports.objects, list_uploads=refuse))
    session = await created(stack, "a")
    await stack.core.service.abort(ALICE, session.session_id)
    assert (await stack.core.service.get(ALICE, session.session_id)).storage_cleared
    await stack.core.sweeper.sweep()
    assert await stack.ports.sessions.is_marked()


async def test_what_is_due_is_attended_while_a_rebuild_cannot_be_done(stack: Stack) -> None:
    session = await created(stack, "a")
    await stack.ports.storage.abort(session.upload)

    async def ids(_: Any) -> AsyncGenerator[str, None]:
        raise Unavailable("The store lists nothing today.")
        yield  # pragma: no cover

    stack.reconnect(sidecars=Around(stack.ports.sidecars, ids=ids))
    await stack.ports.sessions.schedule(session.session_id, LONG_AGO)
    await stack.core.sweeper.sweep()
    assert not await stack.ports.sessions.is_marked()
    assert (await stack.core.service.get(ALICE, session.session_id)).state is State.ABORTED


@pytest.mark.parametrize("error", [ValueError("A mistake of ours."), GatewayError("Ours, too.")])
async def test_a_session_that_cannot_be_attended_waits_its_turn(
    stack: Stack, error: Exception
) -> None:
    await stack.core.sweeper.sweep()
    poisoned = await created(stack, "poisoned")

    async def head(real: Any, bucket: str, key: str) -> Any:
        if key == poisoned.upload.key:
            raise error
        return await real(bucket, key)

    stack.reconnect(objects=Around(stack.ports.objects, head=head))
    await stack.ports.sessions.schedule(poisoned.session_id, LONG_AGO)
    assert await stack.core.sweeper.sweep() == 1
    assert await stack.core.sweeper.sweep() == 0


@pytest.mark.parametrize("how", ["sweep", "complete"])
async def test_another_store_than_yesterday_s_closes_no_session(stack: Stack, how: str) -> None:
    await stack.core.sweeper.sweep()
    session = await created(stack, "a")
    right = stack.ports

    async def unknown_upload(*_: Any) -> AsyncGenerator[Part, None]:
        raise NoSuchUpload("Never heard of it.")
        yield  # pragma: no cover

    async def unknown_session(*_: Any) -> None:
        raise SessionNotFound

    stack.reconnect(
        storage=Around(right.storage, list_parts=unknown_upload),
        sidecars=Around(right.sidecars, read=unknown_session),
    )
    if how == "sweep":
        await stack.ports.sessions.schedule(session.session_id, LONG_AGO)
        await stack.core.sweeper.sweep()
    else:
        with pytest.raises(Unavailable) as caught:
            await stack.core.service.complete(ALICE, session.session_id)
        assert caught.value.code == "storage_misconfigured"
        assert caught.value.hint
    stack.reconnect(storage=right.storage, sidecars=right.sidecars)
    assert (await stack.core.service.get(ALICE, session.session_id)).state is State.OPEN


async def test_a_long_rebuild_is_one_process_s_work(stack: Stack) -> None:
    await created(stack, "a")
    may_go_on, begun = asyncio.Event(), 0

    async def ids(real: Any) -> AsyncGenerator[str, None]:
        nonlocal begun
        begun += 1
        async for session_id in real():
            yield session_id
        await may_go_on.wait()

    stack.reconnect(sidecars=Around(stack.ports.sidecars, ids=ids))
    first = asyncio.create_task(stack.core.sweeper.sweep())
    # Far longer than the lease of these tests lasts unless it is renewed.
    await asyncio.sleep(4 * stack.options.sweeper.lease)
    assert begun == 1
    assert await compose(stack.ports, stack.options).sweeper.sweep() == 0
    may_go_on.set()
    await first
    assert begun == 1
