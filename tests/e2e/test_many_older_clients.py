"""Clients of form A, many at once and badly behaved: no error, and memory that does not follow."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import minio
import pytest
import pytest_asyncio
from deployment import Deployment
from doors.chunks.forms import BOUNDARY, field, read_answer
from memory import resident, within
from older import MIB, Older, older_gateway, some_bytes
from servers import S3Target

LIMIT = 512_000_000
# The gateway gives out 64 buffers of 1 MiB. A full one is there up to three times for a moment: in
# the blocks that came, as one piece, and in the socket to the store.
MANY = 3 * 64 * MIB + 64 * MIB
# Few clients have few buffers, however much they send.
FEW = 64 * MIB


@pytest_asyncio.fixture(scope="module")
async def running(
    s3: S3Target, oracle: minio.Minio, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Older, Deployment]]:
    async with older_gateway(s3, oracle, tmp_path_factory.mktemp("gateway")) as both:
        yield both


@pytest.mark.large
@pytest.mark.parametrize("rounds", [1, 10])
async def test_200_clients_post_1_mib_chunks_at_once(
    running: tuple[Older, Deployment], rounds: int
) -> None:
    clients = 200
    older, deployed = running
    pid = deployed.gateway.pid
    chunk = some_bytes(MIB)
    total = rounds + 1
    before = resident(pid)

    async def client(number: int) -> None:
        for index in range(rounds):
            status, answer = await older.post_a(f"{rounds} {number}", index, total, chunk)
            assert status == 200, answer
            assert answer["uploaded_chunks"] == index + 1

    async with within(LIMIT, [pid]) as watched:
        await asyncio.gather(*(client(number) for number in range(clients)))
    assert watched.peak - before < MANY, str(watched)
    for number in range(0, clients, 50):
        status = await older.status_a(f"{rounds} {number}")
        assert status["received_chunks"] == rounds


@pytest.mark.parametrize(
    ("clients", "size"), [(4, 8 * MIB), pytest.param(10, 24 * MIB, marks=pytest.mark.large)]
)
async def test_clients_that_dribble_fields_and_send_the_file_first(
    running: tuple[Older, Deployment], clients: int, size: int
) -> None:
    older, deployed = running
    pid = deployed.gateway.pid
    chunk = some_bytes(size)
    address = urlsplit(older.url)
    before = resident(pid)

    async def client(number: int) -> None:
        fields = {
            "file_id": f"dribble {size} {number}",
            "chunk_index": "0",
            "total_chunks": "2",
            "filename": "a.bin",
        }
        file = field("chunk", chunk, filename="blob")
        last = b"".join(field(name, value.encode()) for name, value in fields.items())
        # Without the line break at the end.
        last += f"--{BOUNDARY}--".encode()
        head = (
            "POST /upload-chunk HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
            f"Content-Length: {len(file) + len(last)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(head.encode())
        view = memoryview(file)
        for start in range(0, len(view), 100_001):
            writer.write(view[start : start + 100_001])
            await writer.drain()
        for byte in last:
            writer.write(bytes([byte]))
            await writer.drain()
            # Each byte is a segment of its own.
            await asyncio.sleep(0)
        answer = await read_answer(reader)
        assert answer is not None
        assert answer[0] == 200, answer
        assert answer[1]["uploaded_chunks"] == 1
        writer.close()
        await writer.wait_closed()

    async with within(LIMIT, [pid]) as watched:
        await asyncio.gather(*(client(number) for number in range(clients)))
    assert watched.peak - before < FEW, str(watched)
