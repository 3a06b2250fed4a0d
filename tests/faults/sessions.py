"""Sessions at the core, taken through a fault and looked at afterwards.

The stack's store is reached through a fault proxy (fixture `proxied`), so a fault fits between any
two calls. What has to hold after every fault is in `must_be_whole`.
"""

import hashlib
import os
from collections import Counter
from io import BytesIO
from typing import Any

import aiohttp
from stack import Stack, acknowledge_all, put_parts
from yarl import URL

from gateway.core.access import Principal
from gateway.core.events import EventType
from gateway.core.model import NewUpload, PartToSign, State, UploadSession

ALICE = Principal("alice")
BOB = Principal("bob")
PART_SIZE = 5 * 1024 * 1024
SMALL = os.urandom(1000)
"""A file of one part, which is quick to send."""
DATA = os.urandom(PART_SIZE + 1000)
"""A file of two parts."""


async def created(stack: Stack, data: bytes = SMALL, **fields: Any) -> UploadSession:
    """Return an open session without parts."""
    new = NewUpload(**{"filename": "a.bin", "size": len(data), "part_size": PART_SIZE, **fields})
    return (await stack.core.service.create(ALICE, new))[0]


async def uploaded(stack: Stack, data: bytes = SMALL, **fields: Any) -> UploadSession:
    """Return an open session whose parts are all stored and acknowledged."""
    session = await created(stack, data, **fields)
    await send(stack, session, data)
    return session


async def send(stack: Stack, session: UploadSession, data: bytes, *numbers: int) -> None:
    """Send parts of the data, all or these numbers, and acknowledge them."""
    sent = await put_parts(stack, ALICE, session, data, *numbers)
    await acknowledge_all(stack, ALICE, session, sent)


async def completed(stack: Stack, session: UploadSession, **given: Any) -> UploadSession:
    """Ask for completion, and wait for it."""
    return await stack.core.service.complete(ALICE, session.session_id, wait=30, **given)


async def put(stack: Stack, session: UploadSession, number: int, body: bytes) -> tuple[int, str]:
    """PUT some bytes once as a part, on a URL without checksum; return status and ETag."""
    [signed] = await stack.core.service.sign(
        ALICE, session.session_id, [PartToSign(number, replace=True)]
    )
    async with aiohttp.ClientSession() as http:
        # Else aiohttp itself sends it again when the connection breaks.
        http._retry_connection = False
        url = URL(signed.url, encoded=True)
        async with http.put(url, data=BytesIO(body), headers=signed.headers) as answer:
            return answer.status, answer.headers.get("ETag", "")


async def must_be_open(stack: Stack, session: UploadSession, *parts: int) -> None:
    """Fail unless the session can be gone on with, and these parts are still recorded."""
    now = await stack.core.service.get(ALICE, session.session_id)
    assert now.state is State.OPEN
    recorded = await stack.ports.sessions.parts(session.session_id)
    assert {part.number for part in recorded.parts} >= set(parts)


async def must_be_whole(stack: Stack, session: UploadSession, data: bytes = SMALL) -> None:
    """Fail unless the session is completed, with one event, and its object holds these bytes."""
    now = await stack.core.service.get(ALICE, session.session_id)
    assert now.state is State.COMPLETED, now.error
    found = hashlib.sha256(await stack.read_object(now))
    assert found.hexdigest() == hashlib.sha256(data).hexdigest()
    events = Counter(event.type for event in await stack.ports.sessions.outbox(now.session_id))
    assert events == {EventType.CREATED: 1, EventType.COMPLETED: 1}
