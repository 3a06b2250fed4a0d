"""What drives sessions in the background, one task a session: begun again whenever it is asked for."""

import asyncio
import os

import pytest
from core.chunks import File, send
from stack import Stack

from gateway.core.plan import MIB


@pytest.mark.parametrize("work", ["assembler", "completer"])
async def test_whoever_asks_for_work_that_just_ended_gets_it_done_again(
    stack: Stack, work: str
) -> None:
    """The one who asks may run before those who are called when a task has ended."""
    file = File(os.urandom(3 * MIB), MIB)
    session, _ = await send(stack.core, file, 0)
    driver = getattr(stack.core, work)
    task = driver.start(session.session_id)
    again = asyncio.get_running_loop().create_future()

    def ask() -> None:
        if task.done():
            again.set_result(driver.start(session.session_id))
        else:
            asyncio.get_running_loop().call_soon(ask)

    ask()
    other = await again
    assert other is not task
    # The first one's end takes nothing from the second one.
    assert driver.start(session.session_id) is other
    await other
