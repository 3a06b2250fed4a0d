"""Row 53: a record that makes no sense, in Redis or in storage, troubles its own session alone."""

import os

import pytest
import redis.asyncio
from samples import LONG_AGO
from stack import Stack, acknowledge_all, put_parts

from gateway.core.access import Principal
from gateway.core.lifecycle import Trigger, advance
from gateway.core.model import Acknowledged, NewUpload, PartToSign, State, UploadSession
from gateway.errors import GatewayError, Internal
from gateway.state.redis.keys import Keys

ALICE = Principal("alice")
DATA = os.urandom(1000)


async def uploaded(stack: Stack) -> UploadSession:
    new = NewUpload("a.bin", size=len(DATA), fingerprint="the same")
    session, _ = await stack.core.service.create(ALICE, new)
    await acknowledge_all(stack, ALICE, session, await put_parts(stack, ALICE, session, DATA))
    return session


async def frozen(stack: Stack) -> UploadSession:
    """Return a session whose process has died before it could complete it."""
    session = await uploaded(stack)
    after, event = advance(session, Trigger.COMPLETE, stack.core.service.now())
    return await stack.ports.sessions.save(after, event)


async def poison(stack: Stack, session: UploadSession, how: str) -> None:
    key = Keys(stack.prefix).session(session.session_id)
    async with redis.asyncio.from_url(stack.redis_url) as client:
        if how == "no JSON":
            await client.hset(key, "record", "{poison")
        elif how == "another shape":
            await client.hset(key, "record", '{"state": "open"}')
        else:
            await client.delete(key)
            await client.set(key, "not even a hash")


async def forget(stack: Stack, session: UploadSession) -> None:
    """Do what an administrator does, as the hint says: let the record be made anew."""
    async with redis.asyncio.from_url(stack.redis_url) as client:
        await client.delete(*Keys(stack.prefix).all(session.session_id))


async def must_be_whole(stack: Stack, session: UploadSession) -> None:
    done = await stack.core.service.complete(ALICE, session.session_id, wait=30)
    assert done.state is State.COMPLETED
    assert await stack.read_object(done) == DATA


@pytest.mark.parametrize("how", ["no JSON", "another shape", "no hash"])
async def test_row_53_only_the_session_of_a_poisoned_record_is_troubled(
    stack: Stack, how: str
) -> None:
    service = stack.core.service
    bad, left, fine = await uploaded(stack), await frozen(stack), await uploaded(stack)
    await stack.core.sweeper.sweep()
    await poison(stack, bad, how)
    for session in (bad, left, fine):
        await stack.ports.sessions.schedule(session.session_id, LONG_AGO)

    assert await stack.core.sweeper.sweep() == 3
    # The others had their turn, and the bad one does not come first in every round from now on.
    assert bad.session_id not in await stack.ports.sessions.due(service.now(), 100)
    await must_be_whole(stack, left)
    page = await service.find(ALICE, fingerprint="the same")
    assert {one.session_id for one in page.sessions} == {left.session_id, fine.session_id}
    for verb in (
        service.get(ALICE, bad.session_id),
        service.parts(ALICE, bad.session_id),
        service.sign(ALICE, bad.session_id, [PartToSign(1)]),
        service.acknowledge(ALICE, bad.session_id, [Acknowledged(1, "etag")]),
        service.complete(ALICE, bad.session_id),
        service.abort(ALICE, bad.session_id),
    ):
        with pytest.raises(Internal) as caught:
            await verb
        assert caught.value.code == "record_unreadable"
        assert caught.value.hint
    await must_be_whole(stack, fine)

    # Nothing of it is lost: parts and sidecar are in the store.
    await forget(stack, bad)
    await must_be_whole(stack, bad)


async def test_row_53_a_poisoned_sidecar_does_not_stop_a_rebuild(stack: Stack) -> None:
    first, bad, last = [await uploaded(stack) for _ in range(3)]
    bucket = stack.options.service.bucket
    key = f".gateway/sessions/{bad.session_id}"
    assert (await stack.ports.objects.head(bucket, key)).size
    await stack.ports.objects.put(bucket, key, b"{poison", content_type="application/json")
    await stack.empty_redis()
    await stack.core.sweeper.sweep()
    assert await stack.ports.sessions.is_marked()
    for session in (first, last):
        await must_be_whole(stack, session)
    with pytest.raises(GatewayError) as caught:
        await stack.core.service.get(ALICE, bad.session_id)
    assert caught.value.code == "record_unreadable"
