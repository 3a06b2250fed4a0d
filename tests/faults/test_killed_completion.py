"""Fault rows 1, 2 and 5: killed between every two calls to storage or Redis.

The calls are taken from a trace of a run that nobody disturbed, so that a call added later is
covered without anybody thinking of it. The victim and its survivor share real servers.
"""

import asyncio
import os
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import pytest
from faults.stores import ForgetfulStorage
from faults.tracing import Killed, Tracer
from stack import Stack, acknowledge_all, put_parts

from gateway.core.access import Principal
from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.composition import Core, compose
from gateway.core.events import EventType
from gateway.core.model import NewUpload, State, VerifiedBy
from gateway.errors import Unavailable

ALICE = Principal("alice")
DATA = os.urandom(5 * 1024 * 1024 + 1)
PART_SIZE = 5 * 1024 * 1024


async def uploaded(stack: Stack, checksum: Checksum | None) -> str:
    """Return the id of an open session whose parts are all stored and acknowledged."""
    new = NewUpload(filename="a.bin", size=len(DATA), part_size=PART_SIZE, checksum=checksum)
    session, _ = await stack.core.service.create(ALICE, new)
    await acknowledge_all(stack, ALICE, session, await put_parts(stack, ALICE, session, DATA))
    return session.session_id


def doomed(stack: Stack, tracer: Tracer) -> Core:
    """Return another gateway process over the same servers, under the tracer's eyes."""
    ports = stack.ports
    return compose(
        replace(
            ports,
            storage=tracer.watch(ports.storage),
            objects=tracer.watch(ports.objects),
            sessions=tracer.watch(ports.sessions),
            sidecars=tracer.watch(ports.sidecars),
            leases=tracer.watch(ports.leases),
        ),
        stack.options,
    )


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
                if session.state is State.COMPLETED:
                    return


@pytest.mark.parametrize("declared", [None, "sha256"], ids=["combined", "read-back"])
@pytest.mark.parametrize(
    ("emptied", "forgetful"),
    [(False, False), (False, True), (True, True)],
    ids=["complete-replayed", "like-minio", "like-minio-redis-emptied"],
)
async def test_one_verified_object_and_one_event_wherever_the_process_dies(
    stack: Stack, declared: str | None, *, emptied: bool, forgetful: bool
) -> None:
    if forgetful:
        stack.reconnect(storage=ForgetfulStorage(stack.ports.storage))
    checksum = Checksum(declared, ALGORITHMS[declared].value_of(DATA)) if declared else None
    undisturbed = Tracer()
    await complete_until_dead(doomed(stack, undisturbed), await uploaded(stack, checksum))
    assert len(undisturbed.calls) > 10
    assert any(call.endswith(".complete") for call in undisturbed.calls)

    # One session for every call of the trace, and one for after the last; then all at once.
    deaths = {await uploaded(stack, checksum): n for n in range(len(undisturbed.calls) + 1)}
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
        assert await stack.read_object(session) == DATA, died_before
        events = Counter(event.type for event in await stack.ports.sessions.outbox(session_id))
        assert events[EventType.COMPLETED] == 1, died_before
