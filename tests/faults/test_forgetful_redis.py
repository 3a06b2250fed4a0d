"""A Redis that is emptied in the middle of a call: nobody is told that the session is unknown."""

import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from faults.ports import Around
from samples import LONG_AGO
from stack import Stack, acknowledge_all, put_parts

from gateway.core.access import Principal
from gateway.core.model import Acknowledged, NewUpload, PartToSign, State, UploadSession
from gateway.errors import SessionNotFound, Unavailable

ALICE = Principal("alice")
DATA = os.urandom(1000)

Verb = Callable[[Stack, UploadSession, list[Acknowledged]], Awaitable[Any]]
VERBS: dict[str, tuple[str, Verb]] = {
    "acknowledge": (
        "add_parts",
        lambda stack, session, sent: acknowledge_all(stack, ALICE, session, sent),
    ),
    "replace": (
        "allow_replace",
        lambda stack, session, _: stack.core.service.sign(
            ALICE, session.session_id, [PartToSign(1, replace=True)]
        ),
    ),
    "report": (
        "report_in_flight",
        lambda stack, session, _: stack.core.service.report_in_flight(
            ALICE, session.session_id, {1: 10}
        ),
    ),
    "complete": (
        "save",
        lambda stack, session, _: stack.core.service.complete(ALICE, session.session_id),
    ),
    "abort": (
        "save",
        lambda stack, session, _: stack.core.service.abort(ALICE, session.session_id),
    ),
}


async def uploaded(stack: Stack) -> tuple[UploadSession, list[Acknowledged]]:
    new = NewUpload(filename="a.bin", size=len(DATA))
    session, _ = await stack.core.service.create(ALICE, new)
    sent = await put_parts(stack, ALICE, session, DATA)
    await acknowledge_all(stack, ALICE, session, sent)
    return session, sent


def emptied_before(stack: Stack, method: str) -> None:
    """Let Redis forget everything just before the next call of a method of its store."""
    due = True

    async def forget(real: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal due
        if due:
            due = False
            await stack.empty_redis()
        return await real(*args, **kwargs)

    stack.reconnect(sessions=Around(stack.ports.sessions, **{method: forget}))


@pytest.mark.parametrize("verb", VERBS)
async def test_a_session_lost_in_mid_call_is_there_when_asked_again(
    stack: Stack, verb: str
) -> None:
    method, call = VERBS[verb]
    session, sent = await uploaded(stack)
    emptied_before(stack, method)
    with pytest.raises(Unavailable) as caught:
        await call(stack, session, sent)
    assert caught.value.retryable
    await call(stack, session, sent)


async def test_a_completion_lost_while_it_is_waited_for_is_answered(stack: Stack) -> None:
    session, _ = await uploaded(stack)
    leases = stack.ports.leases

    async def forget(*_: Any, **__: Any) -> None:
        # Before a sidecar could say that the session is completing, and never in hand.
        await stack.empty_redis()

    stack.reconnect(leases=Around(leases, acquire=forget))
    with pytest.raises(Unavailable) as caught:
        await stack.core.service.complete(ALICE, session.session_id, wait=0.2)
    assert caught.value.retryable
    await stack.core.completer.close()
    stack.reconnect(leases=leases)
    done = await stack.core.service.complete(ALICE, session.session_id, wait=30)
    assert done.state is State.COMPLETED


async def test_a_completion_goes_on_when_redis_forgets_it_on_the_way(stack: Stack) -> None:
    session, _ = await uploaded(stack)

    async def forget(complete: Any, *args: Any, **kwargs: Any) -> Any:
        stored = await complete(*args, **kwargs)
        await stack.empty_redis()
        return stored

    stack.reconnect(storage=Around(stack.ports.storage, complete=forget))
    done = await stack.core.service.complete(ALICE, session.session_id, wait=30)
    assert done.state is State.COMPLETED


async def test_a_session_that_never_was_stays_unknown(stack: Stack) -> None:
    with pytest.raises(SessionNotFound):
        await stack.core.service.complete(ALICE, "0" * 32)


async def test_the_sweeper_keeps_a_session_that_redis_loses_meanwhile(stack: Stack) -> None:
    await stack.core.sweeper.sweep()
    session, _ = await uploaded(stack)
    await stack.ports.storage.abort(session.upload)
    await stack.ports.sessions.schedule(session.session_id, LONG_AGO)
    emptied_before(stack, "save")
    await stack.core.sweeper.sweep()
    # A rebuild by another process may have put it on the list just now.
    due = await stack.ports.sessions.due(datetime.now(UTC) + timedelta(hours=1), 10)
    assert due == [session.session_id]
