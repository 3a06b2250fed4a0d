"""A whole upload from where the store cannot be reached, while client and gateway are killed."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import minio
import pytest_asyncio
from deployment import TOKEN, Deployment, deployment
from servers import S3Target

PART = 5 << 20
UPLOAD = ("upload", "--json", "--part-size", str(PART), "--parallel", "2")


@pytest_asyncio.fixture
async def deployed(s3: S3Target, bucket: str, tmp_path: Path) -> AsyncIterator[Deployment]:
    # Nothing listens there: presigned URLs lead nowhere, and the gateway has a way of its own.
    nowhere = {"GW_S3_PUBLIC_ENDPOINT": "http://127.0.0.1:1"}
    async with deployment(s3, bucket, tmp_path, between=True, **nowhere) as running:
        yield running


def stored_bytes(oracle: minio.Minio, stored: Any) -> bytes:
    answer = oracle.get_object(stored["bucket"], stored["key"])
    try:
        return answer.read()
    finally:
        answer.close()
        answer.release_conn()


async def until_nothing_is_on_its_way(deployed: Deployment) -> None:
    """Wait until the gateway holds no byte of any part."""
    async with asyncio.timeout(60), aiohttp.ClientSession() as http:
        while True:
            async with http.get(
                f"{deployed.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
            ) as answer:
                if "\ngateway_memory_taken_bytes 0.0\n" in await answer.text():
                    return
            await asyncio.sleep(0.02)


async def test_an_upload_through_the_gateway_survives_kills_of_client_and_gateway(
    deployed: Deployment, oracle: minio.Minio, tmp_path: Path
) -> None:
    file, data = tmp_path / "file.bin", os.urandom(8 * PART + 7)
    await asyncio.to_thread(file.write_bytes, data)
    proxy = deployed.proxy

    # The client dies with parts on their way.
    proxy.hold_after(3)
    client = await deployed.start_client(*UPLOAD, str(file))
    await deployed.acknowledged_parts(at_least=3)
    await client.kill()
    # What it had sent whole still arrives; the store is not to be silent until the gateway gives up.
    proxy.release()
    await until_nothing_is_on_its_way(deployed)
    first = await deployed.acknowledged_parts(at_least=3)

    # Another one goes on, and the gateway dies with parts on their way.
    proxy.hold_after(2)
    client = await deployed.start_client(*UPLOAD, str(file))
    second = await deployed.acknowledged_parts(at_least=len(first) + 2)
    await deployed.kill_gateway()
    proxy.release()
    await deployed.start_gateway()
    receipt = await client.receipt()

    assert first < second
    assert (receipt["state"], receipt["verified_by"]) == ("completed", "client_parts")
    assert receipt["relayed"]
    assert receipt["bytes_relayed"] == receipt["bytes_sent"]
    assert receipt["parts_sent"] <= 9 - len(first)
    assert await asyncio.to_thread(stored_bytes, oracle, receipt["object"]) == data

    back = await deployed.start_client(
        "download", receipt["session_id"], "-o", str(tmp_path / "back"), "--json"
    )
    assert (await back.receipt())["relayed"]
    assert await asyncio.to_thread((tmp_path / "back").read_bytes) == data
