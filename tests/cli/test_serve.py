"""`gateway serve` as a deployment has it: workers, drains, crashes, and dependencies that are away."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import minio
import orjson
import pytest
from cli.program import Program, clean_environment, running
from servers import S3Target, process_gone, remove_bucket, until

from gateway.embedded import Valkey, free_port

TOKEN = "a-token-of-the-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def settings(tmp_path: Path, s3: S3Target, bucket: str, redis_url: str) -> dict[str, str]:
    """Give an environment in which `gateway serve` works; the bucket is named the AWS way."""
    return clean_environment(
        tmp_path,
        GW_PORT="0",
        GW_TOKEN=TOKEN,
        GW_S3_BUCKET=bucket,
        GW_REDIS_URL=redis_url,
        GW_REDIS_PREFIX=bucket[:32],
        AWS_ENDPOINT_URL_S3=s3.endpoint,
        AWS_REGION=s3.region,
        AWS_ACCESS_KEY_ID=s3.access_key_id,
        AWS_SECRET_ACCESS_KEY=s3.secret_access_key,
    )


class Served:
    """A gateway that listens, perhaps with several workers."""

    def __init__(self, program: Program, url: str) -> None:
        self.program = program
        self.url = url
        self.port = int(url.rpartition(":")[2])

    async def get(self, path: str) -> tuple[int, Any]:
        # A new connection each time: any of the workers may answer.
        async with (
            aiohttp.ClientSession(headers=HEADERS) as http,
            http.get(self.url + path) as answer,
        ):
            return answer.status, orjson.loads(await answer.read())

    async def ready(self, workers: int = 1) -> None:
        await self.program.logged("ready", workers)


@asynccontextmanager
async def serving(
    settings: dict[str, str], *arguments: str, directory: Path
) -> AsyncIterator[Served]:
    async with running("serve", *arguments, environment=settings, directory=directory) as program:
        (listening,) = await program.logged("listening")
        yield Served(program, listening["url"])


class SlowRequest:
    """A creation whose body is not all sent yet: a request that is being served."""

    BODY = b'{"filename": "slow.bin", "size": 5}'

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def finish(self) -> bytes:
        """Send the rest, and return the status line, or nothing where the connection was cut."""
        try:
            self._writer.write(self.BODY[10:])
            return await self._reader.readline()
        except ConnectionError:
            return b""

    async def cut(self) -> bytes:
        """Wait for the end of the connection, and return what came."""
        async with asyncio.timeout(30):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def slow_request(port: int) -> AsyncIterator[SlowRequest]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /uploads HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
        f"Expect: 100-continue\r\nContent-Length: {len(SlowRequest.BODY)}\r\n\r\n"
    )
    try:
        writer.write(head.encode())
        # The answer to Expect shows that the handler runs.
        assert b" 100 " in await reader.readline()
        await reader.readline()
        writer.write(SlowRequest.BODY[:10])
        await writer.drain()
        yield SlowRequest(reader, writer)
    finally:
        writer.close()


async def connected(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_two_workers_drain_their_requests_and_end(
    settings: dict[str, str], tmp_path: Path
) -> None:
    async with serving(settings, "--workers", "2", directory=tmp_path) as gateway:
        await gateway.ready(workers=2)
        workers = [entry["pid"] for entry in await gateway.program.logged("worker started", 2)]
        async with slow_request(gateway.port) as first, slow_request(gateway.port) as second:
            gateway.program.send(signal.SIGTERM)
            await gateway.program.logged("draining", 2)
            async with asyncio.timeout(10):
                while await connected(gateway.port):  # noqa: ASYNC110 - of another process.
                    await asyncio.sleep(0.02)
            assert b" 201 " in await first.finish()
            assert b" 201 " in await second.finish()
        assert await gateway.program.end() == 0
        assert all(process_gone(pid) for pid in workers)


async def test_while_it_drains_it_is_not_ready_and_still_serves(
    settings: dict[str, str], tmp_path: Path
) -> None:
    async with serving(settings, "--drain-delay", "2s", directory=tmp_path) as gateway:
        await gateway.ready()
        assert (await gateway.get("/readyz"))[0] == 200
        gateway.program.send(signal.SIGTERM)
        await gateway.program.logged("draining")
        status, answer = await gateway.get("/readyz")
        assert (status, answer["status"]) == (503, "draining")
        assert (await gateway.get("/uploads"))[0] == 200
        assert await gateway.program.end() == 0


async def test_a_request_that_does_not_end_is_cut_after_the_drain_timeout(
    settings: dict[str, str], tmp_path: Path
) -> None:
    async with serving(settings, "--drain-timeout", "0.5", directory=tmp_path) as gateway:
        await gateway.ready()
        async with slow_request(gateway.port) as request:
            started = asyncio.get_running_loop().time()
            gateway.program.send(signal.SIGTERM)
            assert b" 201 " not in await request.cut()
            assert await gateway.program.end() == 0
            assert asyncio.get_running_loop().time() - started < 5


async def test_a_second_signal_cuts_the_drain_short(
    settings: dict[str, str], tmp_path: Path
) -> None:
    async with serving(settings, "--workers", "2", directory=tmp_path) as gateway:
        await gateway.ready(workers=2)
        async with slow_request(gateway.port) as request:
            gateway.program.send(signal.SIGTERM)
            await gateway.program.logged("draining", 2)
            gateway.program.send(signal.SIGTERM)
            assert b" 201 " not in await request.cut()
            assert await gateway.program.end() == 0


async def test_a_worker_that_dies_is_replaced(settings: dict[str, str], tmp_path: Path) -> None:
    async with serving(settings, "--workers", "2", directory=tmp_path) as gateway:
        await gateway.ready(workers=2)
        first, second = await gateway.program.logged("worker started", 2)
        os.kill(first["pid"], signal.SIGKILL)
        third = (await gateway.program.logged("worker started", 3))[2]
        assert third["worker"] == first["worker"]
        await gateway.ready(workers=3)
        # With the other one gone too, it is the new one that answers.
        os.kill(second["pid"], signal.SIGSTOP)
        try:
            assert (await gateway.get("/readyz"))[0] == 200
        finally:
            os.kill(second["pid"], signal.SIGCONT)
        assert await gateway.program.stop() == 0


async def test_workers_end_when_their_parent_is_killed(
    settings: dict[str, str], tmp_path: Path
) -> None:
    async with serving(settings, "--workers", "2", directory=tmp_path) as gateway:
        await gateway.ready(workers=2)
        workers = [entry["pid"] for entry in await gateway.program.logged("worker started", 2)]
        gateway.program.send(signal.SIGKILL)
        await until(lambda: all(process_gone(pid) for pid in workers), seconds=20)
        assert not await connected(gateway.port)


async def test_it_starts_without_redis_and_becomes_ready_when_redis_comes(
    settings: dict[str, str], tmp_path: Path
) -> None:
    port = free_port()
    valkey = Valkey(tmp_path / "valkey", port=port)
    settings["GW_REDIS_URL"] = f"redis://:{valkey.password}@127.0.0.1:{port}/0"
    async with serving(settings, directory=tmp_path) as gateway:
        await gateway.program.logged("not ready")
        assert (await gateway.get("/healthz"))[0] == 200
        status, answer = await gateway.get("/readyz")
        assert (status, answer["checks"]["redis"]["ok"]) == (503, False)
        async with (
            aiohttp.ClientSession(headers=HEADERS) as http,
            http.post(gateway.url + "/uploads", json={"filename": "a", "size": 1}) as refused,
        ):
            assert refused.status == 503
            assert int(refused.headers["Retry-After"]) >= 1
            assert (await refused.json(content_type=None))["code"] == "starting"
        async with valkey:
            await gateway.ready()
            assert (await gateway.get("/uploads"))[0] == 200
            assert await gateway.program.stop() == 0


async def test_it_starts_without_the_store_and_ends_in_order(
    settings: dict[str, str], tmp_path: Path
) -> None:
    settings["AWS_ENDPOINT_URL_S3"] = f"http://127.0.0.1:{free_port()}"
    async with serving(settings, directory=tmp_path) as gateway:
        await gateway.program.logged("not ready")
        status, answer = await gateway.get("/readyz")
        assert (status, answer["checks"]["store"]["ok"]) == (503, False)
        assert await gateway.program.stop() == 0


async def test_a_missing_bucket_is_named_in_the_log(
    settings: dict[str, str], tmp_path: Path
) -> None:
    async with serving(settings, "--s3-bucket", "nobodys-bucket", directory=tmp_path) as gateway:
        (entry, *_) = await gateway.program.logged("not ready")
        assert "nobodys-bucket" in entry["reason"]
        assert "s3_bucket" in entry["hint"]
        status, answer = await gateway.get("/readyz")
        assert (status, answer["checks"]["startup"]["detail"]) == (503, "store_unusable")


async def test_it_makes_the_bucket_where_it_is_asked_to(
    settings: dict[str, str], tmp_path: Path, oracle: minio.Minio
) -> None:
    name = f"made-{settings['GW_S3_BUCKET']}"[:60]
    origin = "https://app.example"
    async with serving(
        settings,
        "--s3-bucket",
        name,
        "--s3-create-bucket",
        "--cors-origins",
        origin,
        directory=tmp_path,
    ) as gateway:
        try:
            await gateway.ready()
            assert await asyncio.to_thread(oracle.bucket_exists, name)
            async with (
                aiohttp.ClientSession(headers=HEADERS) as http,
                http.post(
                    gateway.url + "/uploads", json={"filename": "a", "size": 1, "sign": 1}
                ) as answer,
            ):
                url = (await answer.json())["parts"][0]["url"]
            asking = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
            async with aiohttp.ClientSession() as http, http.options(url, headers=asking) as answer:
                assert answer.headers["Access-Control-Allow-Origin"] == origin
            assert await gateway.program.stop() == 0
        finally:
            await asyncio.to_thread(remove_bucket, oracle, name)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104 - it is refused.
async def test_without_a_token_nothing_but_loopback_is_served(
    settings: dict[str, str], tmp_path: Path, host: str
) -> None:
    del settings["GW_TOKEN"]
    code, errors = await refused(settings, "--host", host, directory=tmp_path)
    assert code == 1
    assert "without a token only loopback is served" in errors
    assert "GW_TOKEN" in errors


async def test_a_taken_port_is_an_error(settings: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        code, errors = await refused(settings, "--port", port, directory=tmp_path)
    assert code != 0
    assert f"Port {port} on 127.0.0.1 is taken" in errors


async def test_a_wrong_setting_is_named_and_no_secret_repeated(
    settings: dict[str, str], tmp_path: Path
) -> None:
    settings["GW_TOKEN"] = "a bad secret"
    code, errors = await refused(settings, "--port", "99999", directory=tmp_path)
    assert code == 1
    assert "GW_PORT" in errors
    assert "GW_TOKEN" in errors
    assert "a bad secret" not in errors


async def refused(settings: dict[str, str], *arguments: str, directory: Path) -> tuple[int, str]:
    async with running("serve", *arguments, environment=settings, directory=directory) as program:
        assert await program.output() == ""
        code = await program.end()
    assert "Traceback" not in program.stderr
    return code, program.stderr


async def test_health_tells_by_its_exit_code(settings: dict[str, str], tmp_path: Path) -> None:
    async def health(*arguments: str, **more: str) -> int:
        async with running(
            "health", *arguments, environment={**settings, **more}, directory=tmp_path
        ) as program:
            await program.output()
            return await program.end()

    async with serving(settings, directory=tmp_path) as gateway:
        await gateway.ready()
        assert await health(gateway.url) == 0
        assert await health(GW_PORT=str(gateway.port)) == 0
        assert await gateway.program.stop() == 0
    assert await health(gateway.url) == 1
    assert await health("ftp://127.0.0.1") == 2
