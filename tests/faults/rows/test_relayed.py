"""Rows 4, 14, 24, 28, 41, 42, 51 and 52 for bytes that pass through the gateway."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import minio
import pytest
import pytest_asyncio
from deployment import TOKEN, Deployment, deployment
from faults.proxy import Fault, Kind, StoreProxy
from faults.sessions import ALICE, DATA, PART_SIZE, completed, created, must_be_open, must_be_whole
from faults.uploads import Answer, Api, Upload
from servers import S3Target, new_bucket
from stack import Stack

from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.model import UploadSession, VerifiedBy
from gateway.core.ports import PartOutcome
from gateway.errors import GatewayError, StorageFull, Unavailable

MIB = 1024 * 1024
BLOCK = 65_536


async def blocks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), BLOCK):
        yield data[start : start + BLOCK]


def part_of(number: int) -> bytes:
    return DATA[(number - 1) * PART_SIZE : number * PART_SIZE]


async def relay(
    stack: Stack, session: UploadSession, number: int, *, digest: bool = False
) -> PartOutcome:
    data = part_of(number)
    algorithm = session.checksum_algorithm
    word = [Checksum(algorithm, ALGORITHMS[algorithm].value_of(data))] if digest else []
    _, _, outcome = await stack.core.service.put_part(
        ALICE, session.session_id, number, blocks(data), size=len(data), checksums=word
    )
    return outcome


async def must_end_well(stack: Stack, session: UploadSession) -> None:
    """Send what is to be sent, and fail unless it becomes the file."""
    for number in (1, 2):
        await relay(stack, session, number)
    await completed(stack, session)
    await must_be_whole(stack, session, DATA)


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("at", [0, 4_000_000])
async def test_row_28_a_relayed_part_damaged_on_its_way_to_the_store_is_told_and_sent_again(
    proxied: Stack, proxy: StoreProxy, at: int, *, digest: bool
) -> None:
    session = await created(proxied, DATA)
    damaged = proxy.add(Fault("UploadPart", Kind.FLIP_REQUEST, part=1, at=at))
    with pytest.raises(Unavailable) as caught:
        await relay(proxied, session, 1, digest=digest)
    assert damaged.hits == 1
    assert (caught.value.code, caught.value.retryable) == ("part_damaged", True)
    # Also when somebody asks for the parts in between, and the store lists the damaged one.
    await proxied.core.service.parts(ALICE, session.session_id)
    assert await relay(proxied, session, 1, digest=digest) is PartOutcome.STORED
    await relay(proxied, session, 2, digest=digest)
    done = await completed(proxied, session)
    await must_be_whole(proxied, session, DATA)
    assert done.verified_by is (VerifiedBy.CLIENT_PARTS if digest else VerifiedBy.GATEWAY)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": Kind.FAIL, "code": "InternalError"},
        {"kind": Kind.SLOW_DOWN},
        {"kind": Kind.RESET, "at": 0},
        {"kind": Kind.RESET, "at": 300_000},
        {"kind": Kind.CUT_REQUEST, "at": 300_000},
        {"kind": Kind.DROP},
        {"kind": Kind.DROP, "after": True},
        {"kind": Kind.OK_EMPTY},
        {"kind": Kind.OK_WITHOUT_ETAG},
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
async def test_row_14_a_relayed_part_that_the_store_does_not_take_is_told_and_sent_again(
    proxied: Stack, proxy: StoreProxy, fault: dict[str, Any]
) -> None:
    session = await created(proxied, DATA)
    proxy.add(Fault("UploadPart", part=1, **fault))
    with pytest.raises(Unavailable) as caught:
        await relay(proxied, session, 1)
    assert caught.value.retryable
    await must_be_open(proxied, session)
    await must_end_well(proxied, session)


async def test_row_24_a_relayed_part_whose_answer_was_lost_is_known_by_its_bytes(
    proxied: Stack, proxy: StoreProxy
) -> None:
    session = await created(proxied, DATA)
    proxy.add(Fault("UploadPart", Kind.DROP, part=1, after=True))
    with pytest.raises(Unavailable):
        await relay(proxied, session, 1)
    # The store has it, and so the list has it.
    assert [p.number for p in await proxied.core.service.parts(ALICE, session.session_id)] == [1]
    assert await relay(proxied, session, 1) is PartOutcome.SAME
    assert proxy.stored[1] == 1
    await relay(proxied, session, 2)
    await completed(proxied, session)
    await must_be_whole(proxied, session, DATA)


async def test_row_41_a_full_store_takes_no_relayed_part_until_there_is_room(
    proxied: Stack, proxy: StoreProxy
) -> None:
    session = await created(proxied, DATA)
    full = proxy.add(
        Fault("UploadPart", Kind.FAIL, status=507, code="XMinioStorageFull", times=None)
    )
    with pytest.raises(StorageFull) as caught:
        await relay(proxied, session, 1)
    assert caught.value.retryable
    await must_be_open(proxied, session)
    assert full.hits
    proxy.clear()
    await must_end_well(proxied, session)


async def test_row_42_a_store_that_stalls_under_a_relayed_part_is_given_up(
    proxied: Stack, proxy: StoreProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = proxied.ports.storage._inner._client  # type: ignore[attr-defined]
    monkeypatch.setattr(client, "options", replace(client.options, read_timeout=0.5))
    session = await created(proxied, DATA)
    proxy.add(Fault("UploadPart", Kind.STALL, part=1))
    with pytest.raises(GatewayError) as caught:
        await relay(proxied, session, 1)
    assert (caught.value.code, caught.value.retryable) == ("storage_timeout", True)
    proxy.clear()
    await must_end_well(proxied, session)


# Over HTTP, with a real process.


@pytest_asyncio.fixture(scope="module")
async def running(
    s3: S3Target, oracle: minio.Minio, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Deployment]:
    home = tmp_path_factory.mktemp("deployment")
    async with (
        new_bucket(oracle) as bucket,
        deployment(
            s3,
            bucket,
            home,
            between=True,
            GW_BODY_GRACE="1.5",
            GW_BODY_MIN_RATE="1000000",
        ) as deployed,
    ):
        yield deployed


@pytest_asyncio.fixture
async def deployed(running: Deployment) -> Deployment:
    running.proxy.clear()
    running.proxy.forget()
    if not running.gateway.running:
        await running.start_gateway()
    return running


@pytest_asyncio.fixture
async def upload(deployed: Deployment) -> AsyncIterator[Upload]:
    async with Api(deployed.url, TOKEN) as api:
        yield await Upload.create(api, DATA, part_size=PART_SIZE)


async def put(upload: Upload, number: int, **options: Any) -> Answer:
    return await upload.api.call(
        "PUT", f"{upload.path}/parts/{number}", data=BytesIO(upload.part(number)), **options
    )


async def begin(upload: Upload, number: int, sent: int) -> asyncio.StreamWriter:
    """Send the head and the first bytes of a part on a connection of its own, and no more."""
    host, port = upload.api.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    data = upload.part(number)
    writer.write(
        f"PUT {upload.path}/parts/{number} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        + data[:sent]
    )
    await writer.drain()
    return writer


async def reached_the_store(deployed: Deployment) -> None:
    await deployed.proxy.until(lambda: deployed.proxy.find("UploadPart"))


async def finish(upload: Upload, oracle: minio.Minio) -> None:
    for number in (1, 2):
        answer = await put(upload, number)
        assert answer.status == 200, answer.document
    answer = await upload.complete()
    assert answer.status == 200, answer.document
    await upload.must_be_whole(oracle)


async def test_row_04_a_gateway_killed_in_a_relayed_part_has_only_what_is_durable(
    deployed: Deployment, upload: Upload, oracle: minio.Minio
) -> None:
    answer = await put(upload, 2)
    assert (answer.status, answer.document["outcome"]) == (200, "stored")
    deployed.proxy.forget()
    writer = await begin(upload, 1, 3 * MIB)
    await reached_the_store(deployed)
    await deployed.kill_gateway()
    writer.close()
    await deployed.start_gateway()
    session = await upload.status()
    assert (session["received_parts"], session["missing"]) == (1, "1")
    answer = await upload.api.call("GET", f"{upload.path}/parts")
    assert [part["part_number"] for part in answer.document["parts"]] == [2]
    await finish(upload, oracle)


@pytest.mark.parametrize("end", ["fin", "reset"])
async def test_row_51_a_client_that_is_gone_in_mid_part_leaves_nothing_and_resumes(
    deployed: Deployment, upload: Upload, oracle: minio.Minio, end: str
) -> None:
    writer = await begin(upload, 1, 3 * MIB)
    await reached_the_store(deployed)
    if end == "reset":
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()
    await finish(upload, oracle)
    assert deployed.proxy.stored == {1: 1, 2: 1}


async def test_row_51_a_half_open_client_is_cut_off_by_the_minimum_rate(
    deployed: Deployment, upload: Upload
) -> None:
    writer = await begin(upload, 1, 1000)
    try:
        reader: asyncio.StreamReader = writer.transport.get_protocol()._stream_reader  # type: ignore[attr-defined]
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 408 ")
            await reader.readuntil(b'"code":"request_timeout"')
    finally:
        writer.close()
    assert deployed.proxy.stored == {}


async def test_row_52_the_gateway_does_not_pile_up_what_a_slow_store_does_not_take(
    deployed: Deployment, oracle: minio.Minio
) -> None:
    data = bytes(48 * MIB)
    async with Api(deployed.url, TOKEN) as api:
        upload = await Upload.create(api, data, part_size=16 * MIB)
        warm = await Upload.create(api, DATA, part_size=PART_SIZE)
        await finish(warm, oracle)
        deployed.proxy.forget()
        before = peak_memory(deployed.gateway.pid)
        slow = deployed.proxy.add(Fault("UploadPart", Kind.STALL, times=None))
        sending = [asyncio.create_task(put(upload, number)) for number in (1, 2, 3)]
        await deployed.proxy.until(lambda: slow.hits == 3)
        # Nothing can be awaited that must not happen: here it would have had the time to.
        await asyncio.sleep(1)
        assert peak_memory(deployed.gateway.pid) < before + 12 * MIB
        slow.release()
        assert [answer.status for answer in await asyncio.gather(*sending)] == [200] * 3
        assert peak_memory(deployed.gateway.pid) < before + 12 * MIB


def peak_memory(pid: int) -> int:
    """Return the most that a process had in memory so far, in bytes (proc(5), VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    [kib] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(kib) * 1024
