"""Fault rows 1, 2 and 5: killed between every two calls to storage or Redis.

The calls are taken from a trace of a run that nobody disturbed, so that a call added later is
covered without anybody thinking of it. The victim and its survivor share real servers.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from faults.stores import ForgetfulStorage
from faults.tracing import Killed, Tracer, doomed
from stack import Stack, acknowledge_all, put_parts

from gateway.core.access import Principal
from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.composition import Core
from gateway.core.content.policy import ContentPolicy
from gateway.core.events import EventType
from gateway.core.lifecycle import SETTLED
from gateway.core.model import NewUpload, State, VerifiedBy
from gateway.errors import Unavailable

ALICE = Principal("alice")
TWO_PARTS = os.urandom(5 * 1024 * 1024 + 1)
# Reading back is the same with few bytes, and quicker.
ONE_PART = os.urandom(1000)
PART_SIZE = 5 * 1024 * 1024


async def uploaded(
    stack: Stack, data: bytes, checksum: Checksum | None, filename: str = "a.bin"
) -> str:
    """Return the id of an open session whose parts are all stored and acknowledged."""
    new = NewUpload(filename=filename, size=len(data), part_size=PART_SIZE, checksum=checksum)
    session, _ = await stack.core.service.create(ALICE, new)
    await acknowledge_all(stack, ALICE, session, await put_parts(stack, ALICE, session, data))
    return session.session_id


async def complete_until_dead(core: Core, session_id: str) -> None:
    """Complete as a client would, in a process that may die at any moment."""
    completing = asyncio.create_task(core.service.complete(ALICE, session_id, wait=30))
    try:
        await completing
    except Killed:
        pass
    finally:
        await core.completer.close()


async def finish(stack: Stack, session_id: str) -> None:
    """Let the surviving process sweep, and the client ask again, until the session is settled."""
    async with asyncio.timeout(30):
        while True:
            # Dozens of sessions come back at once here; a client asks again after a 503.
            with suppress(Unavailable):
                await stack.core.sweeper.sweep()
                session = await stack.core.service.complete(ALICE, session_id, wait=5)
                if session.state in SETTLED:
                    return


def killed_before_complete(calls: list[str]) -> range:
    """Row 2: up to the moment at which CompleteMultipartUpload would have been sent."""
    return range(complete_in(calls) + 1)


def killed_after_complete(calls: list[str]) -> range:
    """Row 1: the store has completed, and Redis does not know."""
    return range(complete_in(calls) + 1, saved_in(calls) + 1)


def killed_while_verifying(calls: list[str]) -> range:
    """Row 5: from then on, to the last call and once behind it."""
    return range(saved_in(calls) + 1, len(calls) + 1)


def complete_in(calls: list[str]) -> int:
    [sent] = [n for n, call in enumerate(calls) if call.endswith("Storage.complete")]
    return sent


def saved_in(calls: list[str]) -> int:
    return calls.index("RedisSessionStore.save", complete_in(calls))


Deaths = Callable[[list[str]], range]

at_every_store = pytest.mark.parametrize(
    ("emptied", "forgetful"),
    [(False, False), (False, True), (True, True)],
    ids=["complete-replayed", "like-minio", "like-minio-redis-emptied"],
)
however_verified = pytest.mark.parametrize(
    "declared", [None, "sha256"], ids=["combined", "read-back"]
)


@however_verified
@at_every_store
async def test_row_01_killed_after_complete_before_redis(
    stack: Stack, declared: str | None, *, emptied: bool, forgetful: bool
) -> None:
    await one_object_and_one_event(
        stack, killed_after_complete, declared, emptied=emptied, forgetful=forgetful
    )


@however_verified
@at_every_store
async def test_row_02_killed_before_complete(
    stack: Stack, declared: str | None, *, emptied: bool, forgetful: bool
) -> None:
    await one_object_and_one_event(
        stack, killed_before_complete, declared, emptied=emptied, forgetful=forgetful
    )


@however_verified
@at_every_store
async def test_row_05_killed_while_verifying(
    stack: Stack, declared: str | None, *, emptied: bool, forgetful: bool
) -> None:
    await one_object_and_one_event(
        stack, killed_while_verifying, declared, emptied=emptied, forgetful=forgetful
    )


@pytest.mark.parametrize("emptied", [False, True])
async def test_row_05_killed_while_a_file_is_refused(stack: Stack, *, emptied: bool) -> None:
    stack.options = replace(stack.options, policy=ContentPolicy([".png"]))
    stack.reconnect()
    undisturbed = Tracer()
    await complete_until_dead(
        doomed(stack, undisturbed), await uploaded(stack, ONE_PART, None, "a.png")
    )
    calls = undisturbed.calls
    assert calls.count("RetryingObjectStore.read") == 1
    deaths = {
        await uploaded(stack, ONE_PART, None, "a.png"): n for n in killed_while_verifying(calls)
    }
    assert calls.index("RetryingObjectStore.read") in deaths.values()
    await asyncio.gather(
        *(complete_until_dead(doomed(stack, Tracer(n)), each) for each, n in deaths.items())
    )
    if emptied:
        await stack.empty_redis()
    await asyncio.gather(*(finish(stack, session_id) for session_id in deaths))
    for session_id, kill_before in deaths.items():
        died_before = calls[kill_before : kill_before + 1]
        session = await stack.core.service.get(ALICE, session_id)
        assert session.state is State.REJECTED, died_before
        assert session.error is not None
        assert session.error.code == "content_not_allowed", died_before
        assert await stack.read_object(session) == ONE_PART, died_before
        events = Counter(event.type for event in await stack.ports.sessions.outbox(session_id))
        assert events[EventType.REJECTED] == 1, died_before
        assert not events[EventType.COMPLETED], died_before


async def one_object_and_one_event(
    stack: Stack, when: Deaths, declared: str | None, *, emptied: bool, forgetful: bool
) -> None:
    """Fail unless every death ends in one verified object and one event."""
    if forgetful:
        stack.reconnect(storage=ForgetfulStorage(stack.ports.storage))
    data = ONE_PART if declared else TWO_PARTS
    checksum = Checksum(declared, ALGORITHMS[declared].value_of(data)) if declared else None
    undisturbed = Tracer()
    await complete_until_dead(doomed(stack, undisturbed), await uploaded(stack, data, checksum))
    assert len(undisturbed.calls) > 10

    # One session for each of these calls, and then all at once.
    deaths = {await uploaded(stack, data, checksum): n for n in when(undisturbed.calls)}
    assert deaths
    await asyncio.gather(
        *(complete_until_dead(doomed(stack, Tracer(n)), each) for each, n in deaths.items())
    )
    if emptied:
        await stack.empty_redis()
    await asyncio.gather(*(finish(stack, session_id) for session_id in deaths))

    # ListParts knows no checksums, so an open session rebuilt without its client has fewer.
    vouchers = {VerifiedBy.CLIENT_FILE if declared else VerifiedBy.CLIENT_PARTS}
    if emptied:
        vouchers.add(VerifiedBy.STORE)
    for session_id, kill_before in deaths.items():
        died_before = undisturbed.calls[kill_before : kill_before + 1]
        session = await stack.core.service.get(ALICE, session_id)
        assert session.state is State.COMPLETED, died_before
        assert session.verified_by in vouchers, died_before
        assert await stack.read_object(session) == data, died_before
        events = Counter(event.type for event in await stack.ports.sessions.outbox(session_id))
        assert events[EventType.COMPLETED] == 1, died_before
