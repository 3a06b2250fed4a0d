"""A whole gateway in this process, on real servers, with a proxy before it and one before the store.

Clients in the tests reach the gateway through `gate.api`, and presigned URLs lead through
`gate.store`, so that a test can see every request and make any of them fail.
"""

import asyncio
import io
import random
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import minio
from client.between import Between
from pydantic import SecretStr
from servers import S3Target, remove_bucket

from gateway.app import Stop, serve
from gateway.client import GatewayClient, Uploader, UploadOptions
from gateway.client.model import Session
from gateway.config import Settings

TOKEN = "a-token-of-the-tests"
MIB = 1 << 20
PART = 5 * MIB


class Gate:
    """What a test has in hand."""

    def __init__(self, api: Between, store: Between, bucket: str, oracle: minio.Minio) -> None:
        self.api = api
        self.store = store
        self.bucket = bucket
        self._oracle = oracle

    def reset(self) -> None:
        self.api.reset()
        self.store.reset()

    def client(self, **options: Any) -> GatewayClient:
        return GatewayClient(self.api.url, **{"token": TOKEN, "retry_for": 10.0, **options})

    async def content(self, session: Any) -> bytes:
        """Read an object with somebody else's client; `session` is its object as JSON."""
        return await asyncio.to_thread(self._read, session["bucket"], session["key"])

    async def overwrite(self, stored: Any, data: bytes) -> None:
        """Put something else in an object's place, behind the gateway's back."""
        await asyncio.to_thread(
            self._oracle.put_object, stored["bucket"], stored["key"], io.BytesIO(data), len(data)
        )

    def _read(self, bucket: str, key: str) -> bytes:
        answer = self._oracle.get_object(bucket, key)
        try:
            return answer.read()
        finally:
            answer.close()
            answer.release_conn()


class Uploading:
    """Uploads one file, as often as a test likes, with the journal in a folder of the test's."""

    def __init__(self, gate: Gate, state_dir: Path) -> None:
        self.gate = gate
        self.state_dir = state_dir
        self.uploader: Uploader | None = None

    async def run(self, file: Path, **options: Any) -> Any:
        """Upload to the end, and return the receipt."""
        client_options = options.pop("client", {})
        given = {
            "parallel": 2,
            "part_size": PART,
            "state_dir": self.state_dir,
            "give_up_after": 20.0,
            **options,
        }
        async with self.gate.client(**client_options) as client:
            self.uploader = Uploader(client, UploadOptions(**given))
            return await self.uploader.upload(file)

    async def interrupt(self, file: Path, *, after: int, heard: int = 0, **options: Any) -> None:
        """Upload until so many parts are stored, and heard of, and then cancel as Ctrl-C does."""
        task = asyncio.create_task(self.run(file, **options))
        try:
            async with asyncio.timeout(30):
                while len(self.gate.store.stored) < after:
                    await self.gate.store.part_stored.wait()
                    self.gate.store.part_stored.clear()
                # The tally is a plain number; any longer wait would let the upload end.
                while self.uploader is None or self.uploader.sent.parts < heard:  # noqa: ASYNC110
                    await asyncio.sleep(0)
        finally:
            task.cancel()
            await asyncio.wait([task])
        assert task.cancelled()

    async def sessions(self) -> list[Session]:
        async with self.gate.client() as client:
            return [session async for session in client.find()]


def write_file(path: Path, size: int, seed: int = 1) -> bytes:
    """Write a file of reproducible bytes, and return them."""
    data = random.Random(seed).randbytes(size)
    path.write_bytes(data)
    return data


@asynccontextmanager
async def running_gate(
    s3: S3Target, oracle: minio.Minio, redis_url: str, *, between: bool = False, **changes: Any
) -> AsyncIterator[Gate]:
    """Start all of it, and leave nothing behind; `changes` are settings.

    With `between`, the proxy stands between the gateway and the store too.
    """
    bucket = f"test-{uuid.uuid4().hex}"
    await asyncio.to_thread(oracle.make_bucket, bucket)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        upstream = "http://{}:{}".format(*listening.getsockname())
        async with Between(s3.endpoint).running() as store, Between(upstream).running() as api:
            settings = Settings(
                s3_endpoint=store.url if between else s3.endpoint,
                s3_public_endpoint=store.url,
                s3_region=s3.region,
                s3_bucket=bucket,
                s3_access_key_id=s3.access_key_id,
                s3_secret_access_key=SecretStr(s3.secret_access_key),
                redis_url=SecretStr(redis_url),
                redis_prefix=f"t{uuid.uuid4().hex[:12]}",
                token=SecretStr(TOKEN),
                drain_timeout=2,
            ).model_copy(update=changes)
            stop, ready = Stop(), asyncio.Event()
            serving = asyncio.create_task(serve(settings, [listening], stop, when_ready=ready.set))
            try:
                async with asyncio.timeout(60):
                    await ready.wait()
                yield Gate(api, store, bucket, oracle)
            finally:
                stop.ask()
                stop.ask()
                await serving
    await asyncio.to_thread(remove_bucket, oracle, bucket)
