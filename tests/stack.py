"""The core over real servers, without HTTP: for tests of what the core promises."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from io import BytesIO
from typing import Any

import aiohttp
import minio
import redis.asyncio
from servers import S3Target
from yarl import URL

from gateway.core.access import Principal
from gateway.core.checksums import ALGORITHMS
from gateway.core.chunks.assembler import AssemblerOptions
from gateway.core.clock import SystemClock
from gateway.core.completer import CompleterOptions
from gateway.core.composition import Core, CoreOptions, Ports, compose
from gateway.core.creation import CreatorOptions
from gateway.core.model import Acknowledged, PartToSign, StorageLimits, UploadSession
from gateway.core.service import ServiceOptions
from gateway.core.sweeper import SweeperOptions
from gateway.state.redis.chunks import RedisChunkStore
from gateway.state.redis.client import connect
from gateway.state.redis.leases import RedisLeases
from gateway.state.redis.store import RedisSessionStore, RedisStoreOptions
from gateway.storage.retrying import RetryingObjectStore, RetryingStorage
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.objects import S3ObjectStore
from gateway.storage.s3.options import S3Options
from gateway.storage.s3.presigner import S3Presigner
from gateway.storage.s3.probe import probe
from gateway.storage.s3.storage import S3Storage
from gateway.storage.sidecars import ObjectSidecars

GRACE = timedelta(hours=1)

# A store does not change while tests run: it is probed once.
_limits: dict[S3Target, StorageLimits] = {}


@dataclass
class Stack:
    """One gateway process's core, and what tests do around it."""

    ports: Ports
    options: CoreOptions
    core: Core
    http: aiohttp.ClientSession
    oracle: minio.Minio
    redis_url: str
    prefix: str

    def reconnect(self, **ports: Any) -> None:
        """Put other ports in the place of some."""
        self.ports = replace(self.ports, **ports)
        self.core = compose(self.ports, self.options)

    async def empty_redis(self) -> None:
        """Make Redis forget all that this stack has written."""
        async with redis.asyncio.from_url(self.redis_url) as client:
            keys = [key async for key in client.scan_iter(f"{self.prefix}*", count=1000)]
            assert keys
            await client.unlink(*keys)

    async def read_object(self, session: UploadSession) -> bytes:
        """Return the object's bytes, read by somebody else's client."""

        def read() -> bytes:
            answer = self.oracle.get_object(session.upload.bucket, session.upload.key)
            try:
                return answer.read()
            finally:
                answer.close()
                answer.release_conn()

        return await asyncio.to_thread(read)


@asynccontextmanager
async def running_stack(
    s3: S3Target, bucket: str, oracle: minio.Minio, redis_url: str, prefix: str
) -> AsyncIterator[Stack]:
    """Connect the core to the servers; nothing runs in the background but what a test starts."""
    state = connect(redis_url)
    client = S3Client(
        S3Options(
            endpoint_url=s3.endpoint,
            region=s3.region,
            access_key_id=s3.access_key_id,
            secret_access_key=s3.secret_access_key,
        )
    )
    async with client, aiohttp.ClientSession() as http:
        if s3 not in _limits:
            _limits[s3] = (await probe(client, bucket)).limits
        storage = S3Storage(client, presigner=S3Presigner(client), limits=_limits[s3])
        objects = RetryingObjectStore(S3ObjectStore(client))
        ports = Ports(
            storage=RetryingStorage(storage),
            objects=objects,
            sessions=RedisSessionStore(state, RedisStoreOptions(prefix=prefix, grace=GRACE)),
            chunks=RedisChunkStore(state, prefix=prefix),
            sidecars=ObjectSidecars(objects, bucket),
            leases=RedisLeases(state, prefix=prefix),
            clock=SystemClock(),
        )
        options = CoreOptions(
            creator=CreatorOptions(bucket=bucket),
            service=ServiceOptions(bucket=bucket),
            # A dead process's lease holds up its successor for no longer than this.
            completer=CompleterOptions(lease=0.2, first_pause=0.02, poll=0.02),
            assembler=AssemblerOptions(lease=0.2, first_pause=0.02, poll=0.02),
            sweeper=SweeperOptions(bucket, lease=0.2, grace=GRACE),
        )
        running = Stack(ports, options, compose(ports, options), http, oracle, redis_url, prefix)
        try:
            yield running
        finally:
            await running.core.assembler.close()
            await running.core.completer.close()
            await _end_other_cores()
            await state.close()


async def _end_other_cores() -> None:
    """Cancel what cores that tests composed themselves still drive.

    It would connect to Redis again after the end, and nobody would close that connection.
    """
    driven = [
        task
        for task in asyncio.all_tasks()
        if task.get_name().startswith(("assembling ", "completion "))
    ]
    for task in driven:
        task.cancel()
    await asyncio.gather(*driven, return_exceptions=True)


async def put_parts(
    stack: Stack, principal: Principal, session: UploadSession, data: bytes, *numbers: int
) -> list[Acknowledged]:
    """Send parts of `data` (all, or those numbers) on presigned URLs, checksums bound."""
    plan = session.plan
    chosen = numbers or range(1, (plan.part_count or 0) + 1)
    algorithm = ALGORITHMS[session.checksum_algorithm]
    bodies = {n: data[plan.offset(n) : plan.offset(n) + session.part_size] for n in chosen}
    signed = await stack.core.service.sign(
        principal,
        session.session_id,
        [PartToSign(n, len(body), algorithm.value_of(body)) for n, body in bodies.items()],
    )
    sent = []
    for part in signed:
        body = bodies[part.number]
        async with stack.http.put(
            URL(part.url, encoded=True), data=BytesIO(body), headers=part.headers
        ) as answer:
            assert answer.status == 200, await answer.text()
            etag = answer.headers["ETag"]
        sent.append(Acknowledged(part.number, etag, algorithm.value_of(body)))
    return sent


async def acknowledge_all(
    stack: Stack, principal: Principal, session: UploadSession, parts: list[Acknowledged]
) -> None:
    """Acknowledge what `put_parts` sent."""
    await stack.core.service.acknowledge(principal, session.session_id, parts)
