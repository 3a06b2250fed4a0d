"""The deployment under chaos: two gateways, a Valkey and a store of its own, and the fault proxy.

Gateways and clients see the store through the proxy alone; the oracle, which judges at the end,
sees it directly. Everything here dies with the process that runs the tests.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import minio
import redis.asyncio
import urllib3
from faults.chaos.history import History
from faults.chaos.material import Material
from faults.chaos.processes import DRAIN_SECONDS, Gateway
from faults.proxy import StoreProxy
from minio.datatypes import Part
from minio.error import S3Error, ServerError
from servers import S3Target, oracle_for

from gateway.embedded import Seaweed, Valkey
from gateway.state.redis.records import decode_event

TOKEN = "a-token-of-the-tests"
BUCKET = "chaos"
PREFIX = "gw"
SECRET = "chaos-secret-key"
_READY_SECONDS = 60.0
_KEPT = ("PATH", "LANG", "PYTHONPATH")


@dataclass
class World:
    """What clients, faults and the judge have in hand; times are in seconds.

    Sessions live for `lifetime`, and `grace` longer before they expire. `flushes` counts how often
    Valkey was emptied; `calm` is set when all faults are lifted.
    """

    home: Path
    history: History
    material: Material
    valkey: Valkey
    store: Seaweed
    proxy: StoreProxy
    oracle: minio.Minio
    lifetime: float
    grace: float
    flushes: int = 0
    calm: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.environment = {
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            "HOME": str(self.home),
            "GW_STATE_DIR": str(self.home / "state"),
            "GW_TOKEN": TOKEN,
            "GW_S3_ENDPOINT": self.proxy.url,
            "GW_S3_BUCKET": BUCKET,
            "GW_S3_ACCESS_KEY_ID": self.store.access_key_id,
            "GW_S3_SECRET_ACCESS_KEY": self.store.secret_access_key,
            "GW_REDIS_URL": self.valkey.url,
            "GW_REDIS_PREFIX": PREFIX,
            "GW_GRACE": f"{self.grace:g}",
            "GW_DRAIN_TIMEOUT": str(DRAIN_SECONDS),
            "GW_LOG_FORMAT": "json",
        }
        self.gateways = [Gateway(n, self.home, self.environment, self.lifetime) for n in range(2)]

    async def is_ready(self) -> bool:
        """Whether every gateway says that it is ready."""
        return all([await gateway.is_ready() for gateway in self.gateways])

    async def wait_until_ready(self) -> None:
        """Wait for every gateway, within a bound."""
        async with asyncio.timeout(_READY_SECONDS):
            while not await self.is_ready():  # noqa: ASYNC110 - other processes set no event here.
                await asyncio.sleep(0.1)

    def meddle(
        self, how: str, key: str, upload_id: str, parts: list[tuple[int, str]]
    ) -> str | None:
        """Complete or abort at the store itself; return why it did not work. It blocks."""
        # The public interface of this SDK has no multipart uploads.
        try:
            if how == "abort behind":
                self.oracle._abort_multipart_upload(BUCKET, key, upload_id)
            else:
                chosen = [Part(number, etag) for number, etag in parts]
                self.oracle._complete_multipart_upload(BUCKET, key, upload_id, chosen)
        except (S3Error, ServerError, urllib3.exceptions.HTTPError) as error:
            return getattr(error, "code", None) or type(error).__name__
        return None

    async def look_into_outboxes(self, redis_: Any) -> None:
        """Write down the events that are recorded at this moment."""
        for session_id, events in (await _outboxes(redis_)).items():
            self.history.note("events", session_id=session_id, events=events)

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Any]:
        """Give a client of the Valkey, whose calls are bounded."""
        async with redis.asyncio.from_url(self.valkey.url, socket_timeout=20) as client:
            yield client

    async def empty_valkey(self) -> None:
        """Let Valkey forget everything; what was in the outboxes counts as delivered (law 12)."""
        async with self.redis() as client:
            # In one step, or an event recorded in between would be lost unseen.
            found = await client.eval(_TAKE_OUTBOXES, 0, f"{PREFIX}:*:outbox")
            self.flushes += 1
        for key, *values in found:
            session_id, events = _decode_outbox(key, values)
            self.history.note("events", session_id=session_id, events=events)


_TAKE_OUTBOXES = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  local row = redis.call('LRANGE', key, 0, -1)
  table.insert(row, 1, key)
  found[#found + 1] = row
end
redis.call('FLUSHALL')
return found
"""


async def _outboxes(client: Any) -> dict[str, list[list[str]]]:
    found = {}
    async for key in client.scan_iter(f"{PREFIX}:*:outbox", count=1000):
        session_id, events = _decode_outbox(key, await client.lrange(key, 0, -1))
        found[session_id] = events
    return found


def _decode_outbox(key: bytes, values: list[bytes]) -> tuple[str, list[list[str]]]:
    session_id = key.decode().partition("{")[2].partition("}")[0]
    events = [decode_event(value) for value in values]
    return session_id, [[event.event_id, event.type.value] for event in events]


@contextmanager
def _oracle(store: Seaweed) -> Iterator[minio.Minio]:
    target = S3Target(store.endpoint, store.region, store.access_key_id, store.secret_access_key)
    with oracle_for(target) as oracle:
        yield oracle


@asynccontextmanager
async def running_world(
    home: Path, history: History, material: Material, *, lifetime: float, grace: float
) -> AsyncIterator[World]:
    """Start all of it, and leave nothing behind."""
    store = Seaweed(home / "store", access_key_id="chaos-access-key", secret_access_key=SECRET)
    async with (
        Valkey(home / "valkey") as valkey,
        store,
        StoreProxy(store.endpoint).running() as proxy,
    ):
        with _oracle(store) as oracle:
            await asyncio.to_thread(oracle.make_bucket, BUCKET)
            world = World(
                home,
                history,
                material,
                valkey,
                store,
                proxy,
                oracle,
                lifetime=lifetime,
                grace=grace,
            )
            try:
                for gateway in world.gateways:
                    gateway.start()
                await world.wait_until_ready()
                yield world
            finally:
                proxy.clear()
                for gateway in world.gateways:
                    await gateway.kill()
