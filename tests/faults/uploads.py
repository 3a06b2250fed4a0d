"""An upload over the native API by hand, one call at a time: a fault fits between any two of them.

    async with Api(gateway.url, TOKEN) as api:
        upload = await Upload.create(api, os.urandom(100))
        await upload.send()                       # PUT every part, and acknowledge it
        answer = await upload.complete()
        await upload.must_be_whole(oracle)        # by somebody else's client, against the source

Nothing is repeated here, and no status is an error: a test sees what a client would see. `api` may
be changed in mid-upload, to go on over another gateway.
"""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Self

import aiohttp
import minio
import orjson
from yarl import URL

from gateway.core.checksums import ALGORITHMS

TERMINAL = frozenset({"completed", "corrupt", "rejected", "aborted", "expired"})


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Any
    document: Any


class Api:
    """The API at one address. Every call has a connection of its own, as after a fault."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._headers = {"Authorization": f"Bearer {token}"}

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        timeout = aiohttp.ClientTimeout(total=90)
        self.http = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        """Send one request; raises aiohttp.ClientError where no answer comes."""
        headers = self._headers | options.pop("headers", {})
        async with self.http.request(method, self.url + path, headers=headers, **options) as answer:
            body = await answer.read()
            return Answer(answer.status, answer.headers, orjson.loads(body or b"null"))


@dataclass
class Upload:
    """One session, with the file that it is for."""

    api: Api
    data: bytes
    session: dict[str, Any]
    signed: dict[int, dict[str, Any]]
    etags: dict[int, str] = field(default_factory=dict)

    @classmethod
    async def create(cls, api: Api, data: bytes, **fields: Any) -> Self:
        """Create a session, with a URL of every part."""
        answer = await api.call("POST", "/uploads", json=creation(data, **fields))
        assert answer.status == 201, answer.document
        signed = {part["part_number"]: part for part in answer.document.pop("parts")}
        return cls(api, data, answer.document, signed)

    @property
    def path(self) -> str:
        """Where the API has it."""
        return f"/uploads/{self.session['session_id']}"

    async def send(self, *numbers: int) -> None:
        """PUT these parts, or all, and acknowledge them."""
        chosen = numbers or tuple(self.signed)
        await asyncio.gather(*(self.put(number) for number in chosen))
        answer = await self.acknowledge(*chosen)
        assert answer.status == 200, answer.document

    async def put(self, number: int) -> None:
        """PUT a part on its presigned URL; the gateway has no part in it."""
        signed = self.signed[number]
        async with self.api.http.put(
            URL(signed["url"], encoded=True),
            data=BytesIO(self.part(number)),
            headers=signed["headers"],
        ) as answer:
            assert answer.status == 200, await answer.text()
            self.etags[number] = answer.headers["ETag"]

    async def acknowledge(self, *numbers: int) -> Answer:
        """Tell the gateway of parts that the store has taken, with their checksums."""
        value_of = ALGORITHMS[self.session["checksum_algorithm"]].value_of
        parts = [
            {"part_number": n, "etag": self.etags[n], "checksum": value_of(self.part(n))}
            for n in numbers
        ]
        return await self.api.call("POST", f"{self.path}/parts", json={"parts": parts})

    async def complete(self, *, wait: int = 30) -> Answer:
        """Ask for completion, and wait for it so long."""
        return await self.api.call("POST", f"{self.path}/complete?wait={wait}")

    async def status(self) -> dict[str, Any]:
        """Ask how it is, which changes nothing."""
        answer = await self.api.call("GET", self.path)
        assert answer.status == 200, answer.document
        return answer.document  # type: ignore[no-any-return]  # JSON has no types.

    async def settled(self) -> dict[str, Any]:
        """Wait for its end without asking for it: the gateway finishes what was begun."""
        async with asyncio.timeout(60):
            # Another process settles it without an event in this one.
            while (session := await self.status())["state"] not in TERMINAL:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return session

    async def must_be_whole(self, oracle: minio.Minio) -> dict[str, Any]:
        """Fail unless it is completed and its object is the file; return the session."""
        session = await self.status()
        assert session["state"] == "completed", session
        stored = session["object"]
        found = await asyncio.to_thread(_sha256, oracle, stored["bucket"], stored["key"])
        assert found == hashlib.sha256(self.data).hexdigest()
        return session

    def part(self, number: int) -> bytes:
        """Return a part's bytes."""
        size = self.session["part_size"]
        return self.data[(number - 1) * size : number * size]


def creation(data: bytes, **fields: Any) -> dict[str, Any]:
    """Return the body of a request that creates a session for these bytes."""
    return {"filename": f"{uuid.uuid4().hex}.bin", "size": len(data), "sign": 1000} | fields


@asynccontextmanager
async def bystanders(api: Api, oracle: minio.Minio) -> AsyncIterator[None]:
    """Have other sessions around a fault, which must not feel it: one completed, one half-way.

    The second one is completed in the end.
    """
    done, half = await asyncio.gather(
        Upload.create(api, b"a file of somebody else"), Upload.create(api, b"and another one")
    )
    await asyncio.gather(done.send(), half.send())
    await done.complete()
    before = await done.must_be_whole(oracle)
    yield
    after = await done.must_be_whole(oracle)
    assert after == before
    session = await half.status()
    assert (session["state"], session["missing"]) == ("open", "")
    answer = await half.complete()
    assert answer.status == 200, answer.document
    await half.must_be_whole(oracle)


def _sha256(oracle: minio.Minio, bucket: str, key: str) -> str:
    digest = hashlib.sha256()
    answer = oracle.get_object(bucket, key)
    try:
        for block in answer.stream(1 << 20):
            digest.update(block)
    finally:
        answer.close()
        answer.release_conn()
    return digest.hexdigest()
