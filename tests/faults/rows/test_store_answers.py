"""Rows 14 to 19 and 30: a store that refuses, says too little, or answers nothing."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from faults.ports import Around
from faults.proxy import Call, Fault, Kind, StoreProxy
from faults.sessions import ALICE, DATA, SMALL, completed, created, must_be_whole, send, uploaded
from stack import Stack

from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.composition import compose
from gateway.core.model import State, UploadSession
from gateway.errors import GatewayError, Unavailable

COMPLETE = "CompleteMultipartUpload"
SHA256 = Checksum("sha256", ALGORITHMS["sha256"].value_of(SMALL))


def of(session: UploadSession) -> Callable[[Call], bool]:
    """Choose the calls about this session's object."""
    return lambda call: call.key == session.upload.key


async def still_completing(stack: Stack, session: UploadSession) -> None:
    now = await stack.core.service.get(ALICE, session.session_id)
    assert now.state is State.COMPLETING
    assert now.object is None


# Row 14: 503 SlowDown, 500: jittered, capped back-off; load shed.


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("ListParts", Kind.SLOW_DOWN),
        ("PutObject", Kind.SLOW_DOWN),
        ("HeadObject", Kind.SLOW_DOWN),
        (COMPLETE, Kind.SLOW_DOWN),
        (COMPLETE, Kind.FAIL),
        ("GetObject", Kind.FAIL),
    ],
)
async def test_row_14_a_store_that_is_busy_for_a_moment_is_asked_again(
    proxied: Stack, proxy: StoreProxy, operation: str, kind: Kind
) -> None:
    session = await uploaded(proxied, checksum=SHA256)
    fault = proxy.add(Fault(operation, kind, times=2))
    await completed(proxied, session)
    assert fault.hits == 2
    await must_be_whole(proxied, session)


async def test_row_14_pauses_between_completes_grow_and_are_capped(
    proxied: Stack, proxy: StoreProxy
) -> None:
    first, longest, refused = 0.02, 0.08, 8
    options = replace(proxied.options.completer, first_pause=first, longest_pause=longest)
    proxied.core = compose(proxied.ports, replace(proxied.options, completer=options))
    session = await uploaded(proxied)
    proxy.add(Fault(COMPLETE, Kind.SLOW_DOWN, times=refused))
    began = time.monotonic()
    await completed(proxied, session)
    # Uncapped, even the shortest of these pauses would make 2.5 seconds.
    assert time.monotonic() - began < 0.5 * first * (2**refused - 1)
    calls = [call.began for call in proxy.find(COMPLETE)]
    assert len(calls) == refused + 1
    for n in range(refused):
        assert calls[n + 1] - calls[n] >= 0.5 * min(longest, first * 2**n)
    await must_be_whole(proxied, session)


async def test_row_14_a_store_that_stays_busy_is_not_asked_without_end(
    proxied: Stack, proxy: StoreProxy
) -> None:
    session = await uploaded(proxied)
    proxy.forget()
    busy = proxy.add(Fault("*", Kind.SLOW_DOWN, times=None))
    with pytest.raises(Unavailable) as caught:
        await proxied.core.service.parts(ALICE, session.session_id)
    assert caught.value.retryable
    assert 1 < proxy.count("ListParts") <= 4
    # What might leave something behind is not repeated at all.
    with pytest.raises(Unavailable) as caught:
        await created(proxied)
    assert caught.value.retryable
    assert proxy.count("CreateMultipartUpload") == 1
    assert busy.hits <= 5
    proxy.clear()
    await completed(proxied, session)
    await must_be_whole(proxied, session)


# Rows 15 and 16: answers to Complete that look like a success.


@pytest.mark.parametrize("code", ["InternalError", "SlowDown", "SomethingNew"])
async def test_row_15_a_200_with_an_error_is_no_success(
    proxied: Stack, proxy: StoreProxy, code: str
) -> None:
    session = await uploaded(proxied)
    lying = proxy.add(Fault(COMPLETE, Kind.OK_WITH_ERROR, times=None, code=code))
    await proxied.core.service.complete(ALICE, session.session_id, wait=0)
    await proxy.until(lambda: lying.hits >= 2)
    await still_completing(proxied, session)
    proxy.clear()
    await completed(proxied, session)
    await must_be_whole(proxied, session)


async def test_row_15_a_200_with_an_error_after_the_deed_is_reconciled(
    proxied: Stack, proxy: StoreProxy
) -> None:
    session = await uploaded(proxied)
    proxy.add(Fault(COMPLETE, Kind.OK_WITH_ERROR, times=None, after=True))
    await completed(proxied, session)
    await must_be_whole(proxied, session)
    assert proxy.count(COMPLETE) == 1


async def test_row_15_a_200_with_a_refusal_opens_the_session_again(
    proxied: Stack, proxy: StoreProxy
) -> None:
    session = await uploaded(proxied)
    proxy.add(Fault(COMPLETE, Kind.OK_WITH_ERROR, code="InvalidPart"))
    with pytest.raises(GatewayError) as caught:
        await completed(proxied, session)
    assert caught.value.code == "parts_refused"
    await completed(proxied, session)
    await must_be_whole(proxied, session)


async def test_row_16_an_empty_200_is_no_success(proxied: Stack, proxy: StoreProxy) -> None:
    session = await uploaded(proxied)
    lying = proxy.add(Fault(COMPLETE, Kind.OK_EMPTY, times=None))
    await proxied.core.service.complete(ALICE, session.session_id, wait=0)
    await proxy.until(lambda: lying.hits >= 2)
    await still_completing(proxied, session)
    # Between two Completes the key is asked.
    asked = [call.operation for call in proxy.calls if call.key == session.upload.key]
    first, second = [n for n, operation in enumerate(asked) if operation == COMPLETE][:2]
    assert "HeadObject" in asked[first:second]
    proxy.clear()
    await completed(proxied, session)
    await must_be_whole(proxied, session)


@pytest.mark.parametrize("kind", [Kind.OK_EMPTY, Kind.OK_WITHOUT_ETAG])
async def test_row_16_a_200_without_etag_is_a_success_only_by_the_object(
    proxied: Stack, proxy: StoreProxy, kind: Kind
) -> None:
    session = await uploaded(proxied)
    after = kind is Kind.OK_EMPTY
    lying = proxy.add(Fault(COMPLETE, kind, times=None, after=after))
    # As long as the object cannot be looked at, nobody knows.
    blind = proxy.add(Fault("HeadObject", Kind.FAIL, times=None, when=lambda _: bool(lying.hits)))
    await proxied.core.service.complete(ALICE, session.session_id, wait=0)
    await proxy.until(lambda: blind.hits >= 2)
    await still_completing(proxied, session)
    proxy.clear()
    await completed(proxied, session)
    await must_be_whole(proxied, session)
    assert proxy.count(COMPLETE) == 1


# Row 17: Complete's reply lost.


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.DROP, Kind.FAIL])
async def test_row_17_a_lost_reply_is_looked_up_and_complete_not_sent_again(
    proxied: Stack, proxy: StoreProxy, kind: Kind
) -> None:
    session = await uploaded(proxied)
    proxy.add(Fault(COMPLETE, kind, times=None, after=True))
    await completed(proxied, session)
    await must_be_whole(proxied, session)
    assert proxy.count(COMPLETE) == 1


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.DROP])
async def test_row_17_a_complete_that_never_arrived_is_sent_again(
    proxied: Stack, proxy: StoreProxy, kind: Kind
) -> None:
    session = await uploaded(proxied)
    proxy.add(Fault(COMPLETE, kind, times=2))
    await completed(proxied, session)
    await must_be_whole(proxied, session)
    assert proxy.count(COMPLETE) == 3


async def test_row_17_a_complete_that_arrives_after_its_repetition_changes_nothing(
    proxied: Stack, proxy: StoreProxy
) -> None:
    session = await uploaded(proxied)
    late = proxy.add(Fault(COMPLETE, Kind.LATE))
    await completed(proxied, session)
    await must_be_whole(proxied, session)
    late.release()
    [first, _] = proxy.find(COMPLETE)
    await proxy.until(lambda: first.done)
    assert first.store_status is not None
    await completed(proxied, session)
    await must_be_whole(proxied, session)


# Row 18: Complete takes minutes.


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", [Kind.STALL, Kind.WHITE_SPACE])
async def test_row_18_a_long_complete_keeps_its_lease_and_is_sent_once(
    proxied: Stack, proxy: StoreProxy, kind: Kind, *, after: bool
) -> None:
    held, refused = 0, 0
    told = asyncio.Event()

    async def acquire(real: Any, session_id: str, *, seconds: float) -> Any:
        nonlocal refused
        lease = await real(session_id, seconds=seconds)
        refused += lease is None
        return lease and Around(lease, renew=renew)

    async def renew(real: Any) -> None:
        nonlocal held
        await real()
        held += 1
        told.set()

    session = await uploaded(proxied)
    proxied.reconnect(leases=Around(proxied.ports.leases, acquire=acquire))
    # Another process tries to do the same all the time.
    other = compose(proxied.ports, proxied.options)
    long = proxy.add(Fault(COMPLETE, kind, after=after))
    now = await proxied.core.service.complete(ALICE, session.session_id, wait=0)
    assert now.state is State.COMPLETING
    await proxy.until(lambda: long.hits)
    trying = other.completer.start(session.session_id)
    # A lease is renewed three times while it lasts: this is much longer than it does.
    async with asyncio.timeout(30):
        while held < 12:
            told.clear()
            await told.wait()
    assert refused
    assert proxy.count(COMPLETE) == 1
    await still_completing(proxied, session)
    long.release()
    await completed(proxied, session)
    await trying
    await must_be_whole(proxied, session)
    assert proxy.count(COMPLETE) == 1


async def test_row_18_an_error_after_white_space_is_no_success(
    proxied: Stack, proxy: StoreProxy
) -> None:
    session = await uploaded(proxied)
    # The store refuses what comes after the first one, which it has done: 200, blanks, an error.
    proxy.add(Fault(COMPLETE, Kind.RESET, after=True))
    proxy.add(Fault("HeadObject", Kind.FAIL, nth=2, status=404, code="NotFound", when=of(session)))
    blanks = proxy.add(Fault(COMPLETE, Kind.WHITE_SPACE, nth=2, seconds=0.2))
    await completed(proxied, session)
    assert blanks.hits == 1
    [_, second] = proxy.find(COMPLETE)
    assert (second.status, second.store_status) == (200, 412)
    await must_be_whole(proxied, session)


# Row 19: a reply cut in mid-XML.


@pytest.mark.parametrize("kind", [Kind.CUT_REPLY, Kind.SHORT_REPLY])
async def test_row_19_a_complete_whose_reply_breaks_off_is_looked_up(
    proxied: Stack, proxy: StoreProxy, kind: Kind
) -> None:
    session = await uploaded(proxied)
    proxy.add(Fault(COMPLETE, kind, times=None))
    await completed(proxied, session)
    await must_be_whole(proxied, session)
    assert proxy.count(COMPLETE) == 1


@pytest.mark.parametrize(
    ("kind", "at"), [(Kind.CUT_REPLY, 150), (Kind.SHORT_REPLY, 10), (Kind.SHORT_REPLY, None)]
)
async def test_row_19_half_a_list_of_parts_is_not_taken_for_the_whole(
    proxied: Stack, proxy: StoreProxy, kind: Kind, at: int | None
) -> None:
    session = await uploaded(proxied, DATA)
    fault = proxy.add(Fault("ListParts", kind, at=at))
    parts = await proxied.core.service.parts(ALICE, session.session_id)
    assert [part.number for part in parts] == [1, 2]
    assert fault.hits == 1
    await completed(proxied, session)
    await must_be_whole(proxied, session, DATA)


async def test_row_19_an_object_whose_bytes_break_off_is_read_on_and_not_called_corrupt(
    proxied: Stack, proxy: StoreProxy
) -> None:
    session = await uploaded(proxied, checksum=SHA256)
    fault = proxy.add(Fault("GetObject", Kind.CUT_REPLY, times=2, when=of(session)))
    await completed(proxied, session)
    assert fault.hits == 2
    await must_be_whole(proxied, session)


@pytest.mark.parametrize("kind", [Kind.CUT_REPLY, Kind.SHORT_REPLY])
async def test_row_19_a_creation_whose_reply_breaks_off_can_be_repeated(
    proxied: Stack, proxy: StoreProxy, kind: Kind
) -> None:
    key = f"once, {kind}"
    proxy.add(Fault("CreateMultipartUpload", kind))
    with pytest.raises(Unavailable) as caught:
        await created(proxied, idempotency_key=key)
    assert caught.value.retryable
    session = await created(proxied, idempotency_key=key)
    await send(proxied, session, SMALL)
    await completed(proxied, session)
    await must_be_whole(proxied, session)


# Row 30: NoSuchUpload after success.


@pytest.mark.parametrize("blind_for", [1, 2])
async def test_row_30_no_such_upload_after_success_is_a_success_by_the_stamp(
    proxied: Stack, proxy: StoreProxy, blind_for: int
) -> None:
    session = await uploaded(proxied)
    # As MinIO: done, the reply lost, then unknown; and the object shows only after a while.
    proxy.add(Fault(COMPLETE, Kind.RESET, after=True))
    proxy.add(Fault(COMPLETE, Kind.FAIL, nth=2, times=None, status=404, code="NoSuchUpload"))
    hidden = proxy.add(
        Fault(
            "HeadObject",
            Kind.FAIL,
            nth=2,
            times=blind_for,
            status=404,
            code="NotFound",
            when=of(session),
        )
    )
    await completed(proxied, session)
    assert hidden.hits == blind_for
    assert proxy.count(COMPLETE) == 2
    await must_be_whole(proxied, session)
    assert not proxy.count("AbortMultipartUpload")
    assert not proxy.count("DeleteObject")
