"""Row 12: Redis fails over to a replica that is behind, under a gateway that knows better.

A replica that is behind and a restart that has lost the last second are the same to a gateway: one
address, under which there is suddenly an older state.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import minio
import pytest
import pytest_asyncio
from faults.ports import Around
from faults.servers import Moment
from servers import S3Target
from stack import Stack, acknowledge_all, put_parts, running_stack

from gateway.core.access import Principal
from gateway.core.composition import Core, compose
from gateway.core.events import EventType
from gateway.core.model import Acknowledged, NewUpload, State, UploadSession, VerifiedBy
from gateway.embedded import Valkey
from gateway.errors import Conflict, Unavailable

ALICE = Principal("alice")
PART_SIZE = 5 * 1024 * 1024
DATA = os.urandom(PART_SIZE + 1)


@pytest_asyncio.fixture(scope="module")
async def behind(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    """Give a Redis that may fall back."""
    async with Valkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


@pytest_asyncio.fixture
async def stack(
    s3: S3Target, bucket: str, oracle: minio.Minio, behind: Valkey, redis_prefix: str
) -> AsyncIterator[Stack]:
    async with running_stack(s3, bucket, oracle, behind.url, redis_prefix) as running:
        yield running


@dataclass
class Holder:
    """A gateway that holds the lease on a session, and stands still at one call."""

    core: Core
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)


def holder_before(stack: Stack, port: str, method: str) -> Holder:
    """Return a gateway that stands still before its first call of a port's method."""
    holder = Holder(stack.core)

    async def hold(real: Any, *args: Any, **kwargs: Any) -> Any:
        holder.reached.set()
        await holder.release.wait()
        return await real(*args, **kwargs)

    held = Around(getattr(stack.ports, port), **{method: hold})
    holder.core = compose(replace(stack.ports, **{port: held}), stack.options)
    return holder


async def begun(stack: Stack) -> tuple[UploadSession, list[Acknowledged]]:
    """Return a session whose first part is acknowledged and whose second only the store has."""
    session, _ = await stack.core.service.create(
        ALICE, NewUpload("a.bin", size=len(DATA), part_size=PART_SIZE)
    )
    parts = await put_parts(stack, ALICE, session, DATA)
    await acknowledge_all(stack, ALICE, session, parts[:1])
    return session, parts


async def events_of(stack: Stack, session: UploadSession) -> Counter[EventType]:
    return Counter(event.type for event in await stack.ports.sessions.outbox(session.session_id))


@pytest.mark.parametrize(
    ("port", "method"), [("storage", "complete"), ("objects", "head"), ("sidecars", "write")]
)
async def test_row_12_a_holder_from_before_a_stale_failover_is_refused_by_version(
    stack: Stack, behind: Valkey, port: str, method: str
) -> None:
    session, parts = await begun(stack)
    moment = Moment.of(behind)
    await acknowledge_all(stack, ALICE, session, parts[1:])
    holder = holder_before(stack, port, method)
    completing = asyncio.create_task(
        holder.core.service.complete(ALICE, session.session_id, wait=30)
    )
    await holder.reached.wait()
    held = await stack.core.service.get(ALICE, session.session_id)
    assert held.version > session.version

    await moment.fall_back()

    # What the holder was about to save, from its own memory, is refused.
    with pytest.raises(Conflict) as caught:
        await stack.ports.sessions.save(replace(held, version=held.version + 1))
    assert caught.value.code == "session_changed"
    fallen = await stack.core.service.get(ALICE, session.session_id)
    assert (fallen.state, fallen.version) == (State.OPEN, session.version)
    holder.release.set()
    # Its own client is told to ask again, and that ends it.
    with pytest.raises(Unavailable) as told:
        await completing
    assert told.value.retryable
    await holder.core.completer.close()
    done = await stack.core.service.complete(ALICE, session.session_id, wait=30)
    assert done.state is State.COMPLETED
    assert await stack.read_object(done) == DATA
    assert (await events_of(stack, session))[EventType.COMPLETED] == 1
    # The word for part 2 is nowhere but in the list that the holder froze.
    assert done.verified_by is VerifiedBy.CLIENT_PARTS


async def test_row_12_a_corrupt_object_does_not_come_back_as_completed_by_a_stale_failover(
    stack: Stack, behind: Valkey
) -> None:
    session, parts = await begun(stack)
    moment = Moment.of(behind)
    # The client's word for part 2 is another one than the bytes that the store has.
    wrong = replace(parts[1], checksum=parts[0].checksum)
    await acknowledge_all(stack, ALICE, session, [wrong])
    holder = holder_before(stack, "storage", "complete")
    completing = asyncio.create_task(
        holder.core.service.complete(ALICE, session.session_id, wait=30)
    )
    await holder.reached.wait()
    await moment.fall_back()
    holder.release.set()
    with pytest.raises(Unavailable):
        await completing
    await holder.core.completer.close()
    done = await stack.core.service.complete(ALICE, session.session_id, wait=30)
    assert done.state is State.CORRUPT
