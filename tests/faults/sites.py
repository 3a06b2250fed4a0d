"""A whole gateway in this process: HTTP, core, Redis, and a store that all reach through a proxy.

    async with running_site(target, bucket, redis_url, proxy) as site:
        receipt = await site.upload(file)          # by the real Python client

For what concerns clients and the wire. Whoever wants to kill the gateway too takes `deployment`.
"""

import asyncio
import hashlib
import random
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import minio
from faults.proxy import StoreProxy
from pydantic import SecretStr
from servers import S3Target

from gateway.app import Stop, serve
from gateway.client import GatewayClient, Uploader, UploadOptions, UploadReceipt
from gateway.config import Settings

TOKEN = "a-token-of-the-tests"
PART_SIZE = 5 * 1024 * 1024


class Site:
    """What a test has in hand. Journals of uploads lie beside the file that is uploaded."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.uploader: Uploader | None = None

    def client(self) -> GatewayClient:
        """Return the real client, not opened yet."""
        return GatewayClient(self.url, token=TOKEN, retry_for=20.0)

    async def upload(
        self, file: Path, *, by: GatewayClient | None = None, **options: Any
    ) -> UploadReceipt:
        """Upload a file by the real client, one part at a time unless told otherwise."""
        given = {
            "parallel": 1,
            "part_size": PART_SIZE,
            "state_dir": file.parent / "state",
            "give_up_after": 60.0,
            **options,
        }
        async with by or self.client() as client:
            self.uploader = Uploader(client, UploadOptions(**given))
            return await self.uploader.upload(file)

    async def session(self) -> dict[str, Any]:
        """Return the session of the upload under way, as the API tells it."""
        assert self.uploader is not None
        async with self.client() as client:
            return dict((await client.get(self.uploader.progress.session_id)).raw)


def write_file(path: Path, parts: int) -> str:
    """Write a file of so many parts, the last one short, and return its SHA-256 in hex."""
    data = random.Random(parts).randbytes(PART_SIZE * (parts - 1) + 1000)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


async def stored_sha256(oracle: minio.Minio, receipt: UploadReceipt) -> str:
    """Return the SHA-256 of what somebody else's client reads."""
    stored = receipt.object
    assert stored is not None

    def read() -> str:
        digest = hashlib.sha256()
        answer = oracle.get_object(stored["bucket"], stored["key"])
        try:
            for block in answer.stream(1 << 20):
                digest.update(block)
        finally:
            answer.close()
            answer.release_conn()
        return digest.hexdigest()

    return await asyncio.to_thread(read)


async def cancelled(task: "asyncio.Task[Any]") -> None:
    """Interrupt an upload as Ctrl-C does, and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def running_site(
    target: S3Target, bucket: str, redis_url: str, proxy: StoreProxy, **changes: Any
) -> AsyncIterator[Site]:
    """Start it; `changes` are settings as they are, those that a deployment may not have too."""
    settings = Settings(
        s3_endpoint=proxy.url,
        s3_region=target.region,
        s3_bucket=bucket,
        s3_access_key_id=target.access_key_id,
        s3_secret_access_key=SecretStr(target.secret_access_key),
        redis_url=SecretStr(redis_url),
        redis_prefix=f"t{uuid.uuid4().hex[:12]}",
        token=SecretStr(TOKEN),
        drain_timeout=2,
    ).model_copy(update=changes)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stop, ready = Stop(), asyncio.Event()
        serving = asyncio.create_task(serve(settings, [listening], stop, when_ready=ready.set))
        try:
            async with asyncio.timeout(60):
                await ready.wait()
            # It has tried the store out.
            proxy.forget()
            yield Site("http://{}:{}".format(*listening.getsockname()))
        finally:
            stop.ask()
            stop.ask()
            await serving
