"""Clients of the older chunk APIs, that say what they send and see, against a real gateway."""

import hashlib
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import minio
import orjson
from deployment import TOKEN, Deployment, deployment
from gateways import serving
from servers import S3Target, new_bucket
from stack import Stack

from gateway.doors.chunks import ChunksDoor
from gateway.doors.native import NativeDoor, NativeOptions

KIB, MIB = 1024, 1024 * 1024
Answer = tuple[int, Any]


def some_bytes(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


class Older:
    """Every call of the four forms, to one gateway; `own` are headers for calls of the native API."""

    def __init__(self, url: str, http: aiohttp.ClientSession, own: Mapping[str, str]) -> None:
        self.url = url
        self.http = http
        self.own = own

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        """Return status and JSON, whatever they are."""
        if isinstance(options.get("data"), bytes):
            options["data"] = BytesIO(options["data"])
        async with self.http.request(method, self.url + path, **options) as answer:
            return answer.status, orjson.loads(await answer.read() or b"null")

    async def post_a(
        self, file_id: str, index: Any, total: Any, chunk: bytes, **fields: Any
    ) -> Answer:
        """Post a chunk in form A."""
        named = {"file_id": file_id, "chunk_index": index, "total_chunks": total}
        named |= {"filename": "large_file.pdf", **fields}
        return await self.call("POST", "/upload-chunk", data=form_of(named, chunk))

    async def post_b(
        self, upload_id: str, index: Any, total: Any, chunk: bytes, **fields: Any
    ) -> Answer:
        """Post a chunk in form B."""
        named = {"upload_id": upload_id, "chunk_index": index, "total_chunks": total}
        named |= {"file_name": "serie.cbz", **fields}
        path = "/administration/upload/chunk/"
        return await self.call("POST", path, data=form_of(named, chunk))

    async def status_a(self, file_id: str) -> Any:
        """Ask for the status in form A."""
        status, answer = await self.call("GET", f"/upload-status/{file_id}")
        assert status == 200
        return answer

    async def status_b(self, upload_id: str) -> Any:
        """Ask for the status in form B."""
        status, answer = await self.call("GET", f"/administration/upload/status/{upload_id}/")
        assert status == 200
        return answer

    async def complete_b(self, upload_id: str) -> Answer:
        """Complete in form B."""
        path = "/administration/upload/complete/"
        return await self.call("POST", path, data={"upload_id": upload_id})

    async def create_c(self, data: bytes, name: str = "volume.bin", **fields: Any) -> Any:
        """Create a session in form C."""
        body = {"filename": name, "size": len(data), **fields}
        status, session = await self.call("POST", "/uploads/init", json=body, headers=self.own)
        assert status == 201, session
        return session

    async def put_c(self, session_id: str, index: Any, part: Any) -> Answer:
        """Send a part in form C."""
        path = f"/uploads/{session_id}/part/{index}"
        return await self.call("PUT", path, data=part, headers=self.own)

    async def create_d(self, size: int, **fields: Any) -> Any:
        """Create a session in form D."""
        body = {"filename": "a.bin", "size": size, **fields}
        status, session = await self.call("POST", "/uploads/sessions", json=body, headers=self.own)
        assert status == 201, session
        return session

    async def put_d(self, session_id: str, number: Any, part: Any) -> Answer:
        """Send a part in form D."""
        path = f"/uploads/sessions/{session_id}/parts/{number}"
        return await self.call("PUT", path, data=part, headers=self.own)

    async def get_d(self, session_id: str) -> Any:
        """Ask for the status in form D."""
        path = f"/uploads/sessions/{session_id}"
        status, session = await self.call("GET", path, headers=self.own)
        assert status == 200, session
        return session

    async def complete_d(self, session_id: str) -> Answer:
        """Complete in form D."""
        path = f"/uploads/sessions/{session_id}/complete"
        return await self.call("POST", path, headers=self.own)

    async def newest(self) -> dict[str, Any]:
        """Return the newest session, as the native API shows it."""
        status, answer = await self.call("GET", "/uploads?limit=1", headers=self.own)
        assert status == 200
        session: dict[str, Any] = answer["uploads"][0]
        return session

    async def assert_verified(self, data: bytes) -> dict[str, Any]:
        """Assert that the newest session is completed and holds these bytes."""
        session = await self.newest()
        assert session["state"] == "completed"
        path = f"/uploads/{session['session_id']}/content?relay=1"
        async with self.http.get(self.url + path, headers=self.own) as answer:
            assert answer.status == 200, await answer.text()
            stored = await answer.read()
        assert len(stored) == len(data)
        assert hashlib.sha256(stored).digest() == hashlib.sha256(data).digest()
        return session


def form_of(fields: Mapping[str, Any], chunk: bytes, file: str = "chunk") -> aiohttp.FormData:
    """Return a form with the file behind its fields."""
    form = aiohttp.FormData()
    for name, value in fields.items():
        form.add_field(name, str(value))
    form.add_field(file, BytesIO(chunk), filename="blob", content_type="application/octet-stream")
    return form


@asynccontextmanager
async def older_door(stack: Stack) -> AsyncIterator[Older]:
    """Serve the core's service, which all on this machine may call, from this process."""
    service = stack.core.service
    doors = [NativeDoor(service, NativeOptions("0.0")), ChunksDoor(service)]
    async with serving(doors, token=None) as gateway:
        yield Older(f"http://{gateway.host}:{gateway.port}", gateway.client, {})


@asynccontextmanager
async def older_gateway(
    s3: S3Target, oracle: minio.Minio, home: Path, **settings: str
) -> AsyncIterator[tuple[Older, Deployment]]:
    """Start a gateway of its own that takes forms A and B from anybody."""
    settings.setdefault("GW_CHUNKS_PRINCIPAL", "local")
    async with (
        new_bucket(oracle) as bucket,
        deployment(s3, bucket, home, **settings) as deployed,
        aiohttp.ClientSession() as http,
    ):
        yield Older(deployed.url, http, {"Authorization": f"Bearer {TOKEN}"}), deployed
