"""A whole upload by the real commands, while everything around it is killed."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import minio
import pytest
import pytest_asyncio
from deployment import Deployment, deployment
from servers import S3Target

MIB = 1024 * 1024
PART = 8 * MIB


def write_file(path: Path, size: int) -> str:
    """Fill a file with random bytes, a block at a time, and return its SHA-256 in hex."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, PART):
            block = os.urandom(min(PART, size - start))
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def stored_sha256(oracle: minio.Minio, bucket: str, key: str) -> str:
    digest = hashlib.sha256()
    answer = oracle.get_object(bucket, key)
    try:
        for block in answer.stream(MIB):
            digest.update(block)
    finally:
        answer.close()
        answer.release_conn()
    return digest.hexdigest()


@pytest_asyncio.fixture
async def deployed(s3: S3Target, bucket: str, tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployment(s3, bucket, tmp_path) as running:
        yield running


@pytest.mark.parametrize(
    "size",
    [
        300 * MIB,
        pytest.param(10 * 1024 * MIB, marks=[pytest.mark.large, pytest.mark.timeout(1800)]),
    ],
    ids=["300MiB", "10GiB"],
)
async def test_an_upload_survives_two_kills_of_client_and_gateway_and_an_empty_redis(
    deployed: Deployment, oracle: minio.Minio, bucket: str, tmp_path: Path, size: int
) -> None:
    file = tmp_path / "a large file 🎬.bin"
    sha256 = await asyncio.to_thread(write_file, file, size)
    proxy = deployed.proxy
    acknowledged: set[int] = set()
    sent_before: dict[int, int] = {}

    async def note_acknowledged(count: int) -> None:
        """Wait for parts to be acknowledged, and remember which must not be sent again."""
        numbers = await deployed.acknowledged_parts(at_least=count)
        for number in numbers - acknowledged:
            sent_before[number] = proxy.stored[number]
        acknowledged.update(numbers)

    # The client is killed with parts on their way.
    proxy.hold_after(10)
    client = await deployed.start_client("upload", str(file))
    await note_acknowledged(8)
    await client.kill()
    proxy.release()

    # The gateway is killed under a client, which goes on by itself when it is back.
    proxy.hold_after(8)
    client = await deployed.start_client("upload", str(file))
    await note_acknowledged(16)
    await deployed.kill_gateway()
    proxy.release()
    proxy.hold_after(4)
    await deployed.start_gateway()
    await note_acknowledged(20)

    # Client and gateway are killed, and Redis forgets everything.
    await client.kill()
    await deployed.kill_gateway()
    await deployed.empty_redis()
    proxy.release()
    await deployed.start_gateway()
    client = await deployed.start_client("upload", str(file), "--json")
    receipt = await client.receipt()

    assert receipt["state"] == "completed"
    assert receipt["verified_by"] == "client_parts"
    assert receipt["size"] == size
    assert receipt["parts_sent"] <= receipt["parts"] - len(acknowledged)
    sent_again = {n: proxy.stored[n] for n in acknowledged if proxy.stored[n] != sent_before[n]}
    assert not sent_again
    found = await asyncio.to_thread(stored_sha256, oracle, bucket, receipt["object"]["key"])
    assert found == sha256


async def test_a_file_edited_between_two_tries_never_becomes_a_mixture(
    deployed: Deployment, oracle: minio.Minio, bucket: str, tmp_path: Path
) -> None:
    file = tmp_path / "edited.bin"
    await asyncio.to_thread(write_file, file, 6 * PART)
    times = file.stat()
    deployed.proxy.hold_after(3)
    client = await deployed.start_client("upload", str(file))
    await deployed.acknowledged_parts(at_least=2)
    await client.kill()
    deployed.proxy.release()
    [interrupted] = (await deployed.call("GET", "/uploads"))["uploads"]

    # The same name, size and time, and bytes that no sample of the file's blocks touches.
    with file.open("r+b") as edited:
        edited.seek(PART // 2 + 12_345)
        edited.write(b"edited")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    await deployed.empty_redis()
    client = await deployed.start_client("upload", str(file), "--json")
    receipt = await client.receipt()

    assert receipt["state"] == "completed"
    assert receipt["session_id"] == interrupted["session_id"]
    expected = hashlib.sha256(await asyncio.to_thread(file.read_bytes)).hexdigest()
    found = await asyncio.to_thread(stored_sha256, oracle, bucket, receipt["object"]["key"])
    assert found == expected
