"""2 GiB through a gateway and a Valkey that have 512 MB together: `pytest -n 0 -m large`.

The proof that the first of the older specifications asks for, once for each way on which bytes pass
through the gateway. The smaller run of every day sends as much as shows whether memory grows.
"""

import asyncio
import hashlib
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import minio
import pytest
import pytest_asyncio
from deployment import TOKEN, Deployment, deployment
from memory import within
from servers import S3Target, new_bucket

from gateway.core.checksums import ALGORITHMS

MIB = 1024 * 1024
LIMIT = 512_000_000
AT_ONCE = 8


class File:
    """A file that is nowhere: made anew of one random block and a number, chunk by chunk."""

    def __init__(self, size: int, chunk: int) -> None:
        self.size = size
        self.chunk = chunk
        self.count = -(-size // chunk)
        self._block = random.Random(size).randbytes(chunk)

    def piece(self, index: int) -> bytes:
        length = min(self.chunk, self.size - index * self.chunk)
        return (index.to_bytes(8) + self._block)[:length]

    def pieces(self) -> Iterator[bytes]:
        return map(self.piece, range(self.count))


Way = Callable[[aiohttp.ClientSession, str, File], Awaitable[None]]


async def send_all(file: File, send: Callable[[int], Awaitable[None]]) -> None:
    """Send every piece, several at a time."""
    indexes = iter(range(file.count))

    async def work() -> None:
        for index in indexes:
            await send(index)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def answered(pending: Any) -> Any:
    async with pending as answer:
        assert answer.status in {200, 201, 202}, (answer.status, await answer.text())
        return await answer.json()


async def by_relayed_parts(http: aiohttp.ClientSession, url: str, file: File) -> None:
    new = {"filename": "film.mp4", "size": file.size, "part_size": file.chunk}
    session = await answered(http.post(f"{url}/uploads", json=new))
    path = f"{url}/uploads/{session['session_id']}"

    async def send(index: int) -> None:
        body = file.piece(index)
        value = ALGORITHMS["crc64nvme"].value_of(body)
        headers = {"x-amz-checksum-crc64nvme": value}
        await answered(http.put(f"{path}/parts/{index + 1}", data=BytesIO(body), headers=headers))

    await send_all(file, send)
    assert (await answered(http.post(f"{path}/complete?wait=60")))["state"] == "completed"


def form(file: File, index: int, **fields: str) -> aiohttp.FormData:
    data = aiohttp.FormData({"total_chunks": str(file.count), "chunk_index": str(index), **fields})
    data.add_field("chunk", BytesIO(file.piece(index)), filename="chunk")
    return data


async def by_form_a(http: aiohttp.ClientSession, url: str, file: File) -> None:
    file_id = str(uuid.uuid4())

    async def send(index: int) -> None:
        data = form(file, index, file_id=file_id, filename="film.mp4")
        await answered(http.post(f"{url}/upload-chunk", data=data))

    await send_all(file, send)
    async with asyncio.timeout(300):
        # What the last POST could not wait for is asked for, as those clients do.
        while True:
            status = await answered(http.get(f"{url}/upload-status/{file_id}"))
            if status["status"] == "completed":
                return
            assert status["status"] == "uploading", status
            await asyncio.sleep(0.2)


async def by_form_b(http: aiohttp.ClientSession, url: str, file: File) -> None:
    upload_id = str(uuid.uuid4())

    async def send(index: int) -> None:
        data = form(file, index, upload_id=upload_id, file_name="film.mp4")
        await answered(http.post(f"{url}/administration/upload/chunk/", data=data))

    await send_all(file, send)
    async with asyncio.timeout(300):
        while True:
            done = await answered(
                http.post(f"{url}/administration/upload/complete/", data={"upload_id": upload_id})
            )
            if done["status"] == "completed":
                return
            assert done["status"] == "uploading", done


WAYS: dict[str, tuple[Way, int]] = {
    "relayed parts": (by_relayed_parts, 8 * MIB),
    "form A": (by_form_a, MIB),
    "form B": (by_form_b, 5_000_000),
}


@pytest_asyncio.fixture(scope="module")
async def deployed(
    s3: S3Target, oracle: minio.Minio, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Deployment]:
    home: Path = tmp_path_factory.mktemp("deployment")
    async with new_bucket(oracle) as bucket, deployment(s3, bucket, home) as running:
        yield running


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(96 * MIB + 12_345, id="96MiB"),
        pytest.param(2048 * MIB, id="2GiB", marks=[pytest.mark.large, pytest.mark.timeout(1200)]),
    ],
)
async def test_a_large_file_passes_through_little_memory(
    deployed: Deployment,
    oracle: minio.Minio,
    record_property: Callable[[str, str], None],
    way: str,
    size: int,
) -> None:
    send, chunk = WAYS[way]
    file = File(size, chunk)
    timeout = aiohttp.ClientTimeout(total=300)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers, timeout=timeout) as http,
        within(LIMIT, [deployed.gateway.pid, deployed.valkey.pid]) as watched,
    ):
        await send(http, deployed.url, file)
    [session] = (await deployed.call("GET", "/uploads?limit=1"))["uploads"]
    assert session["state"] == "completed"
    stored = session["object"]
    assert stored["size"] == size
    found = await asyncio.to_thread(sha256_of, oracle, stored["bucket"], stored["key"])
    assert found == await asyncio.to_thread(digest, file)
    record_property("memory", f"{size // MIB} MiB by {way}: {watched}")
    assert watched.peak < LIMIT
    # 200 MiB are what gateway and Valkey take together when they have something to do.
    assert watched.peak < 256 * MIB
    left = await asyncio.to_thread(
        lambda: list(oracle.list_objects(deployed.bucket, ".gateway/staging/", recursive=True))
    )
    assert left == []


def digest(file: File) -> str:
    whole = hashlib.sha256()
    for piece in file.pieces():
        whole.update(piece)
    return whole.hexdigest()


def sha256_of(oracle: minio.Minio, bucket: str, key: str) -> str:
    whole = hashlib.sha256()
    answer = oracle.get_object(bucket, key)
    try:
        for block in answer.stream(MIB):
            whole.update(block)
    finally:
        answer.close()
        answer.release_conn()
    return whole.hexdigest()
