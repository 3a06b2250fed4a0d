"""One session that cannot be looked after must not keep the sweeper from the others."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from faults.ports import Around
from samples import LONG_AGO
from stack import Stack

from gateway.core.access import Principal
from gateway.core.model import NewUpload, Part, State, UploadSession
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
