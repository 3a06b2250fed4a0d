"""What happens to servers: killed, stopped in their tracks, restarted, emptied, full, thrown back.

For servers that a test has started itself: Valkey and SeaweedFS of `gateway.embedded`, and
`gateway serve` as a real process.

    async with down(valkey):                  # killed; comes back at the end, with its data
    with stalled(seaweed):                    # SIGSTOP: connections stay open, nothing answers
    await restart_empty(valkey)               # killed, and back without its data
    moment = Moment.of(valkey); ...; await moment.fall_back()   # what came after it is lost
    async with full(valkey):                  # no memory left, and nothing may be evicted
    await expire_leases(valkey.url)           # the holders died, and their time has passed
"""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import aiohttp
import redis.asyncio

from gateway.embedded import Seaweed, Valkey, free_port

_READY_SECONDS = 60


class GatewayProcess:
    """`gateway serve` on a port of its own, which it keeps when it is started again."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._command = command
        self._environment = {**environment, "GW_PORT": self.url.rpartition(":")[2]}
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Its number, for a look at what it takes."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it, and return when it says that it is ready."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, stdout=log, stderr=log
            )
        async with asyncio.timeout(_READY_SECONDS), aiohttp.ClientSession() as http:
            while True:
                assert self._process.returncode is None, self.log
                with suppress(aiohttp.ClientConnectionError):
                    async with http.get(f"{self.url}/readyz") as answer:
                        if answer.ok:
                            return
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """SIGKILL it, and wait for its end. Does nothing to one that is gone."""
        self._send(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM it, and return its exit code."""
        assert self._process is not None
        self.terminate()
        return await self._process.wait()

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), and do not wait."""
        self._send(signal.SIGTERM)

    def pause(self) -> None:
        """Stop it in its tracks (SIGSTOP): its connections stay open, and nothing answers."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run on after `pause`."""
        self._send(signal.SIGCONT)

    @property
    def log(self) -> str:
        """What it has logged so far, in all its lives."""
        return self._log.read_text()

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


@asynccontextmanager
async def down(server: Valkey | Seaweed) -> AsyncIterator[None]:
    """Have the server killed for a while; it comes back with its data, under its address."""
    await server.kill()
    try:
        yield
    finally:
        await server.start()


@contextmanager
def stalled(server: Valkey | Seaweed | GatewayProcess) -> Iterator[None]:
    """Have the server stopped for a while: it takes connections, and says nothing."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


async def restart_empty(valkey: Valkey) -> None:
    """Kill it, and let it come back knowing nothing: no keys, no scripts."""
    await valkey.kill()
    shutil.rmtree(_append_only(valkey))
    await valkey.start()


@dataclass(frozen=True)
class Moment:
    """What a Valkey had in its append-only file at some moment: the length of each of its parts.

    Valkey hands a change to the kernel before it answers, and the disk has it up to a second later
    (`appendfsync everysec`). What a power cut takes away is therefore the end of this file.
    """

    valkey: Valkey
    lengths: Mapping[Path, int]

    @classmethod
    def of(cls, valkey: Valkey) -> Self:
        """Take the present moment."""
        files = [file for file in _append_only(valkey).iterdir() if file.suffix == ".aof"]
        return cls(valkey, {file: file.stat().st_size for file in files})

    async def fall_back(self) -> None:
        """Kill the server, and let it come back as it was at this moment."""
        await self.valkey.kill()
        lost = 0
        for file, length in self.lengths.items():
            lost += file.stat().st_size - length
            with file.open("ab") as opened:
                opened.truncate(length)
        assert lost, "Nothing was written since: there is nothing to lose."
        await self.valkey.start()


@asynccontextmanager
async def full(valkey: Valkey) -> AsyncIterator[None]:
    """Leave it no memory, under the policy noeviction, which is what it starts with."""
    async with redis.asyncio.from_url(valkey.url) as client:
        await client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            await client.config_set("maxmemory", 0)


async def expire_leases(redis_url: str, prefix: str = "") -> None:
    """Let the time of all leases pass at once: whoever was killed cannot give up its own."""
    async with redis.asyncio.from_url(redis_url) as client:
        keys = [key async for key in client.scan_iter(f"{prefix}*:lease", count=1000)]
        if keys:
            await client.delete(*keys)


def _append_only(valkey: Valkey) -> Path:
    return valkey.data_dir / "appendonlydir"
