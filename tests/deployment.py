"""A deployment of real processes for the end-to-end tests: `gateway serve`, Valkey, a store.

Everything a test kills here is its own; only the store is shared, behind a proxy of the test's.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import redis.asyncio
from faults.proxy import StoreProxy
from faults.servers import GatewayProcess
from servers import S3Target

from gateway.embedded import Valkey

TOKEN = "a-token-of-the-tests"


class Command:
    """One `gateway` command as a real process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def kill(self) -> None:
        """SIGKILL it, and wait for its end."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._process.communicate()

    async def receipt(self) -> Any:
        """Wait for success, and return the last line of standard output as JSON."""
        out, err = await self._process.communicate()
        assert self._process.returncode == 0, err.decode()
        return orjson.loads(out.strip().splitlines()[-1])

    async def result(self) -> tuple[int, str, str]:
        """Wait for the end; return exit code, standard output and standard error."""
        out, err = await self._process.communicate()
        return self._process.returncode or 0, out.decode(), err.decode()


class Deployment:
    """What a test has in hand: the proxy, the API, and the means to kill things."""

    def __init__(
        self,
        proxy: StoreProxy,
        valkey: Valkey,
        s3: S3Target,
        bucket: str,
        home: Path,
        *,
        settings: Mapping[str, str],
    ) -> None:
        self.proxy = proxy
        self.valkey = valkey
        self.bucket = bucket
        self._home = home
        self._environment = {
            **os.environ,
            "HOME": str(home),
            "GW_STATE_DIR": str(home / "state"),
            "GW_TOKEN": TOKEN,
            "GW_S3_ENDPOINT": s3.endpoint,
            "GW_S3_PUBLIC_ENDPOINT": proxy.url,
            "GW_S3_REGION": s3.region,
            "GW_S3_BUCKET": bucket,
            "GW_S3_ACCESS_KEY_ID": s3.access_key_id,
            "GW_S3_SECRET_ACCESS_KEY": s3.secret_access_key,
            "GW_REDIS_URL": valkey.url,
            **settings,
        }
        self.gateway = self.another_gateway()
        self.url = self.gateway.url
        self._environment["GW_SERVER"] = self.url

    def another_gateway(self) -> GatewayProcess:
        """Give one more gateway on the same Redis and store, not started yet."""
        return GatewayProcess(_gateway("serve"), self._environment, self._home / "gateway.log")

    async def start_gateway(self) -> None:
        """Start `gateway serve`, and return when it says that it is ready."""
        await self.gateway.start()

    async def kill_gateway(self) -> None:
        """SIGKILL the gateway."""
        await self.gateway.kill()

    async def stop_gateway(self) -> int:
        """SIGTERM the gateway, and return its exit code."""
        return await self.gateway.stop()

    @property
    def log(self) -> str:
        """What the gateway has logged so far."""
        return self.gateway.log

    async def empty_redis(self) -> None:
        """Let Valkey forget everything, as a restart without its file would."""
        async with redis.asyncio.from_url(self.valkey.url) as client:
            await client.flushall()

    async def start_client(self, *arguments: str) -> Command:
        """Start a command of the command line, against this gateway."""
        return Command(
            await asyncio.create_subprocess_exec(
                *_gateway(*arguments),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        )

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """Call the API as a client would, and return the JSON of its answer."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.request(method, self.url + path, **options) as answer,
        ):
            assert answer.ok, await answer.text()
            return orjson.loads(await answer.read() or b"null")

    async def acknowledged_parts(self, *, at_least: int) -> set[int]:
        """Wait until the newest session has so many recorded parts, and return their numbers."""
        async with asyncio.timeout(60):
            while True:
                uploads = (await self.call("GET", "/uploads?limit=1"))["uploads"]
                if uploads and uploads[0]["received_parts"] >= at_least:
                    return _received(uploads[0])
                await asyncio.sleep(0.02)


@asynccontextmanager
async def deployment(
    s3: S3Target, bucket: str, home: Path, *, between: bool = False, **settings: str
) -> AsyncIterator[Deployment]:
    """Start all of it, and leave nothing behind.

    The proxy stands between clients and the store, and with `between` also between the gateway
    and the store. `settings` are further GW_ variables.
    """
    async with (
        StoreProxy(s3.endpoint).running() as proxy,
        Valkey(home / "valkey") as valkey,
    ):
        if between:
            settings["GW_S3_ENDPOINT"] = proxy.url
        running = Deployment(proxy, valkey, s3, bucket, home, settings=settings)
        await running.start_gateway()
        try:
            yield running
        finally:
            proxy.release()
            await running.stop_gateway()


def _gateway(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gateway", *arguments]


def _received(session: dict[str, Any]) -> set[int]:
    missing: set[int] = set()
    for piece in filter(None, session["missing"].split(",")):
        first, _, last = piece.partition("-")
        missing.update(range(int(first), int(last or first) + 1))
    return set(range(1, session["part_count"] + 1)) - missing
