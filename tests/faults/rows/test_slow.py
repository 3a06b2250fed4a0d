"""Row 52: where bytes are not taken, nobody piles them up: back-pressure, in bounded memory."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import minio
import pytest
import pytest_asyncio
from deployment import TOKEN, Command, Deployment, deployment
from faults.proxy import Fault, Kind
from servers import S3Target, new_bucket

MIB = 1024 * 1024
SIZE = 160 * MIB
PART_SIZE = 16 * MIB
PARALLEL = 4
# Far less than the parts that are on their way together, let alone the file.
ALLOWED = 24 * MIB


@pytest_asyncio.fixture(scope="module")
async def deployed(
    s3: S3Target, oracle: minio.Minio, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Deployment]:
    home = tmp_path_factory.mktemp("deployment")
    async with (
        new_bucket(oracle) as bucket,
        deployment(s3, bucket, home, between=True) as running,
    ):
        yield running


def write(path: Path, size: int) -> bytes:
    """Write a file of random blocks; return the SHA-256 of it."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size // MIB):
            block = os.urandom(MIB)
            digest.update(block)
            file.write(block)
    return digest.digest()


def peak_memory(pid: int) -> int:
    """Return the most that a process had in memory so far, in bytes (proc(5), VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    [kib] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(kib) * 1024


async def start_upload(deployed: Deployment, file: Path) -> Command:
    return await deployed.start_client(
        "upload", str(file), "--json", f"--part-size={PART_SIZE}", f"--parallel={PARALLEL}"
    )


async def peak_of(command: Command, pid: int) -> int:
    """Return the most memory that a command takes from now to its end."""
    peak = 0
    ended = asyncio.create_task(command.receipt())
    while not ended.done():
        with suppress(OSError, ValueError):
            peak = max(peak, peak_memory(pid))
        await asyncio.wait({ended}, timeout=0.02)
    await ended
    return peak


async def test_row_52_a_client_does_not_pile_up_what_a_slow_store_does_not_take(
    deployed: Deployment, tmp_path: Path
) -> None:
    write(tmp_path / "small.bin", MIB)
    small = await start_upload(deployed, tmp_path / "small.bin")
    usual = await peak_of(small, small.pid)
    assert usual > 10 * MIB

    source = write(tmp_path / "large.bin", SIZE)
    slow = deployed.proxy.add(Fault("UploadPart", Kind.STALL, nth=3, times=None))
    command = await start_upload(deployed, tmp_path / "large.bin")
    peak = asyncio.create_task(peak_of(command, command.pid))
    await deployed.proxy.until(lambda: slow.hits == PARALLEL)
    # Nothing can be awaited that must not happen: here it would have had the time to.
    await asyncio.sleep(1)
    assert slow.hits == PARALLEL
    slow.release()
    assert await peak < usual + ALLOWED
    uploads = (await deployed.call("GET", "/uploads?limit=1"))["uploads"]
    assert await read(deployed, uploads[0]["session_id"], pause=0) == source


async def test_row_52_the_gateway_does_not_pile_up_what_a_slow_reader_does_not_take(
    deployed: Deployment, tmp_path: Path
) -> None:
    source = write(tmp_path / "film.bin", SIZE)
    receipt = await (await start_upload(deployed, tmp_path / "film.bin")).receipt()
    before = peak_memory(deployed.gateway.pid)
    deployed.proxy.forget()
    assert await read(deployed, receipt["session_id"], pause=1) == source
    assert peak_memory(deployed.gateway.pid) < before + ALLOWED


async def read(deployed: Deployment, session_id: str, *, pause: float) -> bytes:
    """Read an object through the gateway, after a pause with its first bytes; its SHA-256."""
    digest = hashlib.sha256()
    url = f"{deployed.url}/uploads/{session_id}/content?relay=1"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers, read_bufsize=4096) as http,
        http.get(url) as answer,
    ):
        digest.update(await answer.content.readexactly(1))
        if pause:
            await asyncio.sleep(pause)
            [call] = deployed.proxy.find("GetObject")
            assert not call.done
        async for block in answer.content.iter_any():
            digest.update(block)
    return digest.digest()
