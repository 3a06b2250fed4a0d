"""What storage remembers must never be older, or say more, than what was promised (law 4)."""

import asyncio
import os
from dataclasses import replace
from typing import Any

import pytest
from stack import Stack, acknowledge_all, put_parts

from gateway.core.access import Principal
from gateway.core.composition import compose
from gateway.core.model import NewUpload, Problem, State, UploadSession
from gateway.core.ports import Sidecar
from gateway.errors import Conflict

ALICE = Principal("alice")
DATA = os.urandom(5 * 1024 * 1024 + 1)
PART_SIZE = 5 * 1024 * 1024


class Around:
    """A port with one method replaced: it gets the real one, and the arguments."""

    def __init__(self, port: Any, **methods: Any) -> None:
        self._port = port
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._port, name)
        if name not in self._methods:
            return real
        return lambda *args, **kwargs: self._methods[name](real, *args, **kwargs)


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
