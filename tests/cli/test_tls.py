"""`gateway serve` with a certificate: workers, renewals, and what is told before it starts."""

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest
from certificates import Authority, Pair
from cli.program import Program, clean_environment, running
from servers import S3Target

TOKEN = "a-token-of-the-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue("first", "gateway.example", "127.0.0.1")


@pytest.fixture
def settings(
    tmp_path: Path, s3: S3Target, bucket: str, redis_url: str, pair: Pair
) -> dict[str, str]:
    return clean_environment(
        tmp_path,
        GW_PORT="0",
        GW_TOKEN=TOKEN,
        GW_S3_BUCKET=bucket,
        GW_REDIS_URL=redis_url,
        GW_REDIS_PREFIX=bucket[:32],
        GW_S3_ENDPOINT=s3.endpoint,
        GW_S3_REGION=s3.region,
        GW_S3_ACCESS_KEY_ID=s3.access_key_id,
        GW_S3_SECRET_ACCESS_KEY=s3.secret_access_key,
        **pair.settings(),
    )


@asynccontextmanager
async def serving(
    settings: dict[str, str], *arguments: str, directory: Path
) -> AsyncIterator[tuple[Program, str]]:
    async with running("serve", *arguments, environment=settings, directory=directory) as program:
        (listening,) = await program.logged("listening")
        yield program, listening["url"]


async def shown(url: str, trusted: ssl.SSLContext) -> str:
    """Tell whose certificate a new connection is shown."""
    host, port = url.removeprefix("https://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=trusted)
    subject = writer.get_extra_info("peercert")["subject"]
    writer.close()
    return str(dict(item for group in subject for item in group)["commonName"])


async def test_two_workers_show_a_renewed_certificate_and_drop_nothing(
    settings: dict[str, str], tmp_path: Path, authority: Authority, pair: Pair
) -> None:
    trusted = authority.trusting()
    async with serving(settings, "--workers", "2", directory=tmp_path) as (program, url):
        await program.logged("ready", 2)
        async with aiohttp.ClientSession(url, headers=HEADERS) as http:

            async def ask() -> None:
                async with http.get("/uploads", ssl=trusted) as answer:
                    assert answer.status == 200
                    await answer.read()

            await ask()
            pair.replace_by(authority.issue("second", "gateway.example", "127.0.0.1"))
            program.send(signal.SIGHUP)
            await program.logged("certificate reloaded", 2)
            # Whichever worker takes it.
            assert {await shown(url, trusted) for _ in range(10)} == {"second"}
            # The connection from before is still open, and served.
            assert len(http.connector._conns) == 1  # type: ignore[union-attr]  # It has one.
            await ask()
            await asyncio.gather(*(ask() for _ in range(5)))
        assert await program.stop() == 0


async def test_the_health_command_asks_by_https(settings: dict[str, str], tmp_path: Path) -> None:
    async def health(*arguments: str, **more: str) -> tuple[int, str]:
        async with running(
            "health", *arguments, environment={**settings, **more}, directory=tmp_path
        ) as program:
            await program.output()
            return await program.end(), program.stderr

    async with serving(settings, directory=tmp_path) as (program, url):
        await program.logged("ready")
        port = url.rpartition(":")[2]
        assert (await health(GW_PORT=port))[0] == 0
        assert (await health(url))[0] == 0
        # A SIGHUP is no end here.
        program.send(signal.SIGHUP)
        await program.logged("certificate reloaded")
        assert (await health(f"https://localhost:{port}", "--insecure"))[0] == 0
        code, errors = await health(f"http://127.0.0.1:{port}")
        assert code == 1
        assert "no answer" in errors
        assert await program.stop() == 0


async def test_a_certificate_without_its_key_is_an_error_before_the_start(
    settings: dict[str, str], tmp_path: Path, authority: Authority
) -> None:
    other = authority.issue("other")
    for given, words in (
        ({"GW_TLS_KEY": ""}, "tls_cert and tls_key come together"),
        ({"GW_TLS_KEY": str(other.key)}, "is not that of the certificate"),
        ({"GW_TLS_KEY": str(tmp_path / "none.key")}, "cannot be read"),
    ):
        arguments = ("serve", "--workers", "2")
        async with running(
            *arguments, environment={**settings, **given}, directory=tmp_path
        ) as program:
            assert await program.end() == 1
            assert words in program.stderr
            assert "listening" not in program.stderr
            assert "Traceback" not in program.stderr


async def test_the_address_is_told_with_its_scheme(
    settings: dict[str, str], tmp_path: Path, authority: Authority
) -> None:
    public = "https://uploads.example.com"
    async with serving(settings, "--public-url", public, directory=tmp_path) as (program, url):
        await program.logged("ready")
        assert url.startswith("https://127.0.0.1:")
        assert (await program.logged("listening"))[0]["public_url"] == public
        async with (
            aiohttp.ClientSession(headers=HEADERS) as http,
            http.post(
                f"{url}/uploads", json={"filename": "a", "size": 1}, ssl=authority.trusting()
            ) as answer,
        ):
            session = orjson.loads(await answer.read())
            assert answer.headers["Location"] == f"{public}/uploads/{session['session_id']}"
        assert await program.stop() == 0
