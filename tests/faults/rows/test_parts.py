"""Rows 23, 24, 26 to 28: parts that come late, short, twice, damaged, or without a word."""

import asyncio

import aiohttp
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

from gateway.core.checksums import ALGORITHMS
from gateway.core.model import Acknowledged, PartToSign, State, UploadSession, VerifiedBy
from gateway.errors import Conflict

OLDER = b"older!" + DATA[6:PART_SIZE]
COMPLETE = "CompleteMultipartUpload"


async def put_late(stack: Stack, proxy: StoreProxy, session: UploadSession) -> Fault:
    """Send older bytes as part 1; they reach the store when the fault is released."""
    late = proxy.add(Fault("UploadPart", Kind.LATE, part=1))
    with pytest.raises(aiohttp.ClientConnectionError):
        await put(stack, session, 1, OLDER)
    return late


async def arrived(proxy: StoreProxy, late: Fault) -> None:
    """Let the late part reach the store, and wait until it is there."""
    late.release()
    await proxy.until(lambda: proxy.count("UploadPart", fault=Kind.LATE, store_status=200))


# Row 23: Complete races a late part PUT: the list is frozen; refreshed or 409.


async def test_row_23_a_part_still_on_its_way_is_missing_and_nothing_is_frozen(
    proxied: Stack, proxy: StoreProxy
) -> None:
    session = await created(proxied, DATA)
    await send(proxied, session, DATA, 1)
    held = proxy.add(Fault("UploadPart", Kind.STALL, part=2))
    sending = asyncio.create_task(put(proxied, session, 2, DATA[PART_SIZE:]))
    await proxy.until(lambda: held.hits)
    with pytest.raises(Conflict) as caught:
        await completed(proxied, session)
    assert caught.value.code == "parts_missing"
    assert caught.value.details["missing"] == "2"
    await must_be_open(proxied, session, 1)
    assert not proxy.count(COMPLETE)
    held.release()
    assert (await sending)[0] == 200
    # The list is refreshed from the store: nobody has acknowledged this part.
    await completed(proxied, session)
    await must_be_whole(proxied, session, DATA)


async def test_row_23_a_part_that_arrives_after_the_freeze_does_not_get_in(
    proxied: Stack, proxy: StoreProxy
) -> None:
    session = await created(proxied, DATA)
    late = await put_late(proxied, proxy, session)
    await send(proxied, session, DATA)
    frozen = proxy.add(Fault(COMPLETE, Kind.STALL))
    completing = asyncio.create_task(completed(proxied, session))
    await proxy.until(lambda: frozen.hits)
    await arrived(proxy, late)
    frozen.release()
    await completing
    await must_be_whole(proxied, session, DATA)


async def test_row_23_a_part_that_a_store_lets_in_after_the_freeze_is_sent_again(
    last_wins: tuple[Stack, StoreProxy],
) -> None:
    stack, proxy = last_wins
    session = await created(stack, DATA)
    late = await put_late(stack, proxy, session)
    await send(stack, session, DATA)
    frozen = proxy.add(Fault(COMPLETE, Kind.STALL))
    completing = asyncio.create_task(completed(stack, session))
    await proxy.until(lambda: frozen.hits)
    await arrived(proxy, late)
    frozen.release()
    with pytest.raises(Conflict) as caught:
        await completing
    assert caught.value.code == "parts_refused"
    with pytest.raises(Conflict) as caught:
        await completed(stack, session)
    assert caught.value.details == {"missing": "1", "wrong_size": "", "changed": "1"}
    await must_be_open(stack, session, 2)
    await send(stack, session, DATA, 1)
    await completed(stack, session)
    await must_be_whole(stack, session, DATA)


async def test_row_23_parts_are_neither_signed_nor_taken_while_completing(
    proxied: Stack, proxy: StoreProxy
) -> None:
    session = await uploaded(proxied, DATA)
    frozen = proxy.add(Fault(COMPLETE, Kind.STALL))
    completing = asyncio.create_task(completed(proxied, session))
    await proxy.until(lambda: frozen.hits)
    service = proxied.core.service
    with pytest.raises(Conflict) as caught:
        await service.sign(ALICE, session.session_id, [PartToSign(1, replace=True)])
    assert caught.value.code == "session_busy"
    with pytest.raises(Conflict) as caught:
        await service.acknowledge(ALICE, session.session_id, [Acknowledged(1, "0" * 32)])
    assert caught.value.code == "session_busy"
    frozen.release()
    await completing
    await must_be_whole(proxied, session, DATA)


# Row 24: part stored, ETag lost.


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.DROP, Kind.OK_WITHOUT_ETAG])
async def test_row_24_a_part_whose_etag_was_lost_is_found_by_list_parts(
    proxied: Stack, proxy: StoreProxy, kind: Kind
) -> None:
    session = await created(proxied, DATA)
    await send(proxied, session, DATA, 1)
    after = kind is not Kind.OK_WITHOUT_ETAG
    proxy.add(Fault("UploadPart", kind, part=2, after=after))
    if after:
        with pytest.raises(aiohttp.ClientConnectionError):
            await put(proxied, session, 2, DATA[PART_SIZE:])
    else:
        assert await put(proxied, session, 2, DATA[PART_SIZE:]) == (200, "")
    parts = await proxied.core.service.parts(ALICE, session.session_id)
    assert [(part.number, part.size) for part in parts] == [(1, PART_SIZE), (2, 1000)]
    assert all(part.etag for part in parts)
    done = await completed(proxied, session)
    # Nobody gave this part's checksum.
    assert done.verified_by is VerifiedBy.STORE
    await must_be_whole(proxied, session, DATA)
    assert proxy.stored == {1: 1, 2: 1}


# Row 26: an old slow PUT finishes last.


async def test_row_26_an_old_slow_part_that_finishes_last_is_noticed_and_sent_again(
    last_wins: tuple[Stack, StoreProxy],
) -> None:
    stack, proxy = last_wins
    session = await created(stack, DATA)
    late = await put_late(stack, proxy, session)
    await send(stack, session, DATA)
    await arrived(proxy, late)
    with pytest.raises(Conflict) as caught:
        await completed(stack, session)
    assert caught.value.code == "parts_missing"
    assert caught.value.details == {"missing": "1", "wrong_size": "", "changed": "1"}
    assert not proxy.count(COMPLETE)
    await must_be_open(stack, session, 2)
    await send(stack, session, DATA, 1)
    done = await completed(stack, session)
    assert done.verified_by is VerifiedBy.CLIENT_PARTS
    await must_be_whole(stack, session, DATA)


async def test_row_26_where_the_store_keeps_both_the_acknowledged_bytes_are_taken(
    proxied: Stack, proxy: StoreProxy
) -> None:
    session = await created(proxied, DATA)
    late = await put_late(proxied, proxy, session)
    await send(proxied, session, DATA)
    await arrived(proxy, late)
    done = await completed(proxied, session)
    assert done.verified_by is VerifiedBy.CLIENT_PARTS
    await must_be_whole(proxied, session, DATA)


async def test_row_26_an_old_part_that_nobody_contradicts_still_fails_by_its_checksum(
    last_wins: tuple[Stack, StoreProxy],
) -> None:
    stack, proxy = last_wins
    session = await created(stack, DATA)
    late = await put_late(stack, proxy, session)
    await send(stack, session, DATA)
    await arrived(proxy, late)
    # A client that tells the old bytes' ETag, with the new ones' checksum.
    [listed, _] = [part async for part in stack.ports.storage.list_parts(session.upload)]
    checksum = ALGORITHMS[session.checksum_algorithm].value_of(DATA[:PART_SIZE])
    await stack.ports.sessions.allow_replace(session.session_id, [1])
    word = Acknowledged(1, listed.etag, checksum)
    await stack.core.service.acknowledge(ALICE, session.session_id, [word])
    done = await completed(stack, session)
    assert done.state is State.CORRUPT
    with pytest.raises(Conflict):
        await stack.core.service.content_url(ALICE, session.session_id)


# Row 27: short or long part: refused by the store, or found by ListParts.


@pytest.mark.parametrize("length", [0, PART_SIZE - 1, PART_SIZE + 1])
async def test_row_27_a_url_takes_no_shorter_and_no_longer_part(
    proxied: Stack, proxy: StoreProxy, length: int
) -> None:
    session = await created(proxied, DATA)
    status, _ = await put(proxied, session, 1, bytes(length))
    assert status in {400, 403}
    assert await proxied.core.service.parts(ALICE, session.session_id) == ()
    await must_be_open(proxied, session)
    await send(proxied, session, DATA)
    await completed(proxied, session)
    await must_be_whole(proxied, session, DATA)


@pytest.mark.parametrize("length", [PART_SIZE - 1, PART_SIZE + 1])
async def test_row_27_a_part_of_another_length_is_found_before_completion(
    proxied: Stack, proxy: StoreProxy, oracle: minio.Minio, length: int
) -> None:
    session = await created(proxied, DATA)
    await send(proxied, session, DATA, 2)
    # Somebody with credentials for the store needs no URL of ours, and claims the right checksum.
    upload = session.upload
    etag = await asyncio.to_thread(
        oracle._upload_part, upload.bucket, upload.key, bytes(length), {}, upload.upload_id, 1
    )
    checksum = ALGORITHMS[session.checksum_algorithm].value_of(DATA[:PART_SIZE])
    word = Acknowledged(1, etag, checksum)
    await proxied.core.service.acknowledge(ALICE, session.session_id, [word])
    with pytest.raises(Conflict) as caught:
        await completed(proxied, session)
    assert caught.value.code == "parts_missing"
    assert caught.value.details == {"missing": "1", "wrong_size": "1", "changed": ""}
    assert not proxy.count(COMPLETE)
    await must_be_open(proxied, session, 2)
    await send(proxied, session, DATA, 1)
    await completed(proxied, session)
    await must_be_whole(proxied, session, DATA)


@pytest.mark.parametrize("at", [1, PART_SIZE // 2, PART_SIZE - 1])
async def test_row_27_a_part_cut_off_on_its_way_is_not_stored(
    proxied: Stack, proxy: StoreProxy, at: int
) -> None:
    session = await created(proxied, DATA)
    await send(proxied, session, DATA, 2)
    proxy.add(Fault("UploadPart", Kind.CUT_REQUEST, part=1, at=at))
    with pytest.raises(aiohttp.ClientConnectionError):
        await put(proxied, session, 1, DATA[:PART_SIZE])
    parts = await proxied.core.service.parts(ALICE, session.session_id)
    assert [part.number for part in parts] == [2]
    await send(proxied, session, DATA, 1)
    await completed(proxied, session)
    await must_be_whole(proxied, session, DATA)


# Row 28: bit flipped in flight.


@pytest.mark.parametrize("at", [0, PART_SIZE - 1])
async def test_row_28_a_part_with_another_bit_is_refused_by_the_store(
    proxied: Stack, proxy: StoreProxy, at: int
) -> None:
    session = await created(proxied, DATA)
    proxy.add(Fault("UploadPart", Kind.FLIP_REQUEST, part=1, at=at))
    with pytest.raises(AssertionError, match="BadDigest"):
        await send(proxied, session, DATA, 1)
    assert await proxied.core.service.parts(ALICE, session.session_id) == ()
    await send(proxied, session, DATA)
    await completed(proxied, session)
    await must_be_whole(proxied, session, DATA)


async def test_row_28_a_part_without_checksum_bound_is_found_by_the_client_s_word(
    proxied: Stack, proxy: StoreProxy
) -> None:
    session = await created(proxied, DATA)
    proxy.add(Fault("UploadPart", Kind.FLIP_REQUEST, part=1, at=77))
    status, etag = await put(proxied, session, 1, DATA[:PART_SIZE])
    assert status == 200
    checksum = ALGORITHMS[session.checksum_algorithm].value_of(DATA[:PART_SIZE])
    word = Acknowledged(1, etag, checksum)
    await proxied.core.service.acknowledge(ALICE, session.session_id, [word])
    await send(proxied, session, DATA, 2)
    done = await completed(proxied, session)
    assert done.state is State.CORRUPT
    with pytest.raises(Conflict) as caught:
        await proxied.core.service.content_url(ALICE, session.session_id)
    assert caught.value.code == "quarantined"


@pytest.mark.parametrize("at", [0, 30, 60, 90, 110, 130, 160, 200])
async def test_row_28_a_damaged_list_of_parts_makes_no_wrong_object(
    proxied: Stack, proxy: StoreProxy, at: int
) -> None:
    session = await uploaded(proxied, DATA)
    damaged = proxy.add(Fault(COMPLETE, Kind.FLIP_REQUEST, at=at))
    try:
        await completed(proxied, session)
    except Conflict:
        await must_be_open(proxied, session, 1, 2)
        await completed(proxied, session)
    assert damaged.hits == 1
    await must_be_whole(proxied, session, DATA)
