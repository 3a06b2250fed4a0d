"""Rows 31 and 32: the store has lost the upload, or has another object in its place."""

import asyncio
import io
from typing import Any

import minio
import pytest
from faults.proxy import Fault, Kind, StoreProxy
from faults.sessions import (
    ALICE,
    DATA,
    PART_SIZE,
    completed,
    created,
    must_be_open,
    must_be_whole,
    put,
    send,
    uploaded,
)
from stack import Stack

from gateway.core.model import PartToSign, State, UploadSession
from gateway.errors import Conflict, Gone, NoSuchObject

COMPLETE = "CompleteMultipartUpload"
FOREIGN = b"an object of somebody else"


async def abort_in_store(oracle: minio.Minio, session: UploadSession) -> None:
    """Do what a lifecycle rule does to an upload that is too old."""
    upload = session.upload
    await asyncio.to_thread(
        oracle._abort_multipart_upload, upload.bucket, upload.key, upload.upload_id
    )


async def put_foreign(oracle: minio.Minio, session: UploadSession) -> None:
    """Let somebody else store an object under the session's key."""
    upload = session.upload
    await asyncio.to_thread(
        oracle.put_object, upload.bucket, upload.key, io.BytesIO(FOREIGN), len(FOREIGN)
    )


async def must_be_gone(stack: Stack, session: UploadSession) -> None:
    """Fail unless the session is closed with the reason, refuses every verb, and made no object."""
    service, session_id = stack.core.service, session.session_id
    now = await service.get(ALICE, session_id)
    assert now.state is State.ABORTED
    assert now.error is not None
    assert now.error.code == "upload_lost"
    calls: list[Any] = [
        service.complete(ALICE, session_id),
        service.sign(ALICE, session_id, [PartToSign(1)]),
        service.content_url(ALICE, session_id),
    ]
    for call in calls:
        with pytest.raises(Gone):
            await call
    with pytest.raises(NoSuchObject):
        await stack.ports.objects.head(session.upload.bucket, session.upload.key)


async def must_work_anew(stack: Stack) -> None:
    again = await uploaded(stack)
    await completed(stack, again)
    await must_be_whole(stack, again)


# Row 31: upload aborted by a lifecycle rule: 410, start again; never success.


async def test_row_31_an_upload_that_the_store_aborted_is_gone_when_completed(
    proxied: Stack, proxy: StoreProxy, oracle: minio.Minio
) -> None:
    session = await uploaded(proxied)
    await abort_in_store(oracle, session)
    with pytest.raises(Gone):
        await completed(proxied, session)
    await must_be_gone(proxied, session)
    await must_work_anew(proxied)


async def test_row_31_an_upload_that_the_store_aborted_in_mid_upload_is_gone_when_asked_for(
    proxied: Stack, proxy: StoreProxy, oracle: minio.Minio
) -> None:
    session = await created(proxied, DATA)
    await send(proxied, session, DATA, 1)
    await abort_in_store(oracle, session)
    assert (await put(proxied, session, 2, DATA[PART_SIZE:]))[0] == 404
    # What a client asks to whom the store does not know the upload.
    with pytest.raises(Gone):
        await proxied.core.service.parts(ALICE, session.session_id)
    await must_be_gone(proxied, session)


async def test_row_31_an_upload_aborted_between_freeze_and_complete_is_no_success(
    proxied: Stack, proxy: StoreProxy, oracle: minio.Minio
) -> None:
    session = await uploaded(proxied)
    frozen = proxy.add(Fault(COMPLETE, Kind.STALL))
    completing = asyncio.create_task(completed(proxied, session))
    await proxy.until(lambda: frozen.hits)
    await abort_in_store(oracle, session)
    frozen.release()
    with pytest.raises(Gone):
        await completing
    await must_be_gone(proxied, session)
    # One NoSuchUpload decides nothing: somebody else's Complete might have been under way.
    assert proxy.count(COMPLETE) == 3
    await must_work_anew(proxied)


async def test_row_31_no_such_upload_said_once_by_mistake_loses_nothing(
    proxied: Stack, proxy: StoreProxy
) -> None:
    session = await uploaded(proxied)
    proxy.add(Fault(COMPLETE, Kind.FAIL, times=2, status=404, code="NoSuchUpload"))
    await completed(proxied, session)
    await must_be_whole(proxied, session)


# Row 32: a foreign object under the key: untouched; conflict.


async def foreign_is_untouched(oracle: minio.Minio, session: UploadSession) -> bool:
    def read() -> bytes:
        answer = oracle.get_object(session.upload.bucket, session.upload.key)
        try:
            return answer.read()
        finally:
            answer.close()
            answer.release_conn()

    return await asyncio.to_thread(read) == FOREIGN


@pytest.mark.parametrize("when", ["before", "between HEAD and Complete"])
async def test_row_32_a_foreign_object_is_left_alone_and_completion_refused(
    proxied: Stack, proxy: StoreProxy, oracle: minio.Minio, when: str
) -> None:
    session = await uploaded(proxied)
    if when == "before":
        await put_foreign(oracle, session)
        with pytest.raises(Conflict) as caught:
            await completed(proxied, session)
        assert not proxy.count(COMPLETE)
    else:
        asked = proxy.add(Fault(COMPLETE, Kind.STALL))
        completing = asyncio.create_task(completed(proxied, session))
        await proxy.until(lambda: asked.hits)
        await put_foreign(oracle, session)
        asked.release()
        with pytest.raises(Conflict) as caught:
            await completing
    assert caught.value.code == "key_taken"
    assert caught.value.hint
    assert await foreign_is_untouched(oracle, session)
    await must_be_open(proxied, session, 1)
    # When its owner has taken it away, the upload goes on where it was.
    await asyncio.to_thread(oracle.remove_object, session.upload.bucket, session.upload.key)
    await completed(proxied, session)
    await must_be_whole(proxied, session)


async def test_row_32_aborting_and_sweeping_leave_a_foreign_object_alone(
    proxied: Stack, proxy: StoreProxy, oracle: minio.Minio
) -> None:
    session = await uploaded(proxied)
    await put_foreign(oracle, session)
    await proxied.core.service.abort(ALICE, session.session_id)
    await proxied.core.sweeper.sweep()
    now = await proxied.core.service.get(ALICE, session.session_id)
    assert (now.state, now.storage_cleared) == (State.ABORTED, True)
    assert await foreign_is_untouched(oracle, session)


async def test_row_32_an_object_put_over_ours_is_not_called_completed(
    proxied: Stack, proxy: StoreProxy, oracle: minio.Minio
) -> None:
    session = await uploaded(proxied)
    # Between Complete, which has succeeded, and the look at what came of it.
    proxy.add(Fault(COMPLETE, Kind.STALL, after=True))
    completing = asyncio.create_task(completed(proxied, session))
    await proxy.until(lambda: proxy.count(COMPLETE, store_status=200))
    await put_foreign(oracle, session)
    proxy.clear()
    done = await completing
    assert done.state is State.CORRUPT
    assert done.error is not None
    assert done.error.code == "object_replaced"
    with pytest.raises(Conflict) as caught:
        await proxied.core.service.content_url(ALICE, session.session_id)
    assert caught.value.code == "quarantined"
    assert await foreign_is_untouched(oracle, session)
