"""The nginx of `deploy/nginx.conf`, as a real one, between clients and the gateway and its store."""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import minio
import orjson
import pytest
import pytest_asyncio
from certificates import Authority
from cli.program import Program, clean_environment, running
from e2e.test_resume import stored_sha256, write_file
from servers import S3Target, remove_bucket

import gateway
from gateway.client.events import read_events
from gateway.embedded import free_port
from gateway.embedded.ports import free_ports

MIB = 1024 * 1024
TOKEN = "a-token-of-the-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
EXAMPLE = Path(gateway.__file__).parent.parent / "deploy" / "nginx.conf"
# Debian puts it where the path of ordinary users does not lead.
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"
# Both names have to lead here without a name server.
UPLOADS, STORE = "localhost", "127.0.0.1"


@dataclass
class Front:
    """The addresses that clients see, and what is behind them."""

    url: str
    store: str
    plain: str
    folder: Path
    bucket: str
    authority: Authority
    environment: dict[str, str]
    gateway: Program


def configuration(folder: Path, ports: dict[str, str], authority: Authority) -> Path:
    """Put the example into a configuration of the test's own; only addresses and files differ."""
    pair = authority.issue("front", UPLOADS, STORE)
    text = EXAMPLE.read_text()
    text = re.sub(r"(ssl_certificate +)\S+;", rf"\g<1>{pair.cert};", text)
    text = re.sub(r"(ssl_certificate_key +)\S+;", rf"\g<1>{pair.key};", text)
    for old, new in (
        ("server_name uploads.example.com store.example.com", f"server_name {UPLOADS} {STORE}"),
        ("server_name uploads.example.com", f"server_name {UPLOADS}"),
        ("server_name store.example.com", f"server_name {STORE}"),
        ("listen 80;", f"listen 127.0.0.1:{ports['plain']};"),
        ("listen 443 ssl", f"listen 127.0.0.1:{ports['tls']} ssl"),
        ("server 127.0.0.1:8000;", f"server 127.0.0.1:{ports['gateway']};"),
        ("server 127.0.0.1:9000;", f"server 127.0.0.1:{ports['store']};"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "gateway.conf").write_text(text)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    main = folder / "nginx.conf"
    main.write_text(
        f"""
        {"user root;" if os.geteuid() == 0 else ""}
        daemon off;
        pid {folder}/nginx.pid;
        error_log stderr;
        events {{}}
        http {{
            {temporary}
            access_log {folder}/access.log;
            include {folder}/gateway.conf;
        }}
        """
    )
    return main


@asynccontextmanager
async def nginx(main: Path, port: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        NGINX, "-e", "stderr", "-p", str(main.parent), "-c", str(main), cwd=main.parent
    )
    try:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                assert process.returncode is None
                await asyncio.sleep(0.02)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@pytest_asyncio.fixture(scope="module")
async def front(
    s3: S3Target, oracle: minio.Minio, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Front]:
    tmp_path = tmp_path_factory.mktemp("nginx")
    bucket = f"test-{uuid.uuid4().hex}"
    await asyncio.to_thread(oracle.make_bucket, bucket)
    try:
        async with running_front(s3, bucket, redis_url, tmp_path) as running:
            yield running
    finally:
        await asyncio.to_thread(remove_bucket, oracle, bucket)


@asynccontextmanager
async def running_front(
    s3: S3Target, bucket: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[Front]:
    plain, tls = free_ports([0, 0])
    port = free_port()
    url, store = f"https://{UPLOADS}:{tls}", f"https://{STORE}:{tls}"
    authority = Authority(tmp_path / "tls")
    ports = {
        "plain": str(plain),
        "tls": str(tls),
        "gateway": str(port),
        "store": s3.endpoint.rpartition(":")[2],
    }
    main = configuration(tmp_path, ports, authority)
    environment = clean_environment(
        tmp_path,
        GW_PORT=str(port),
        GW_TOKEN=TOKEN,
        GW_SERVER=url,
        GW_PUBLIC_URL=url,
        GW_TRUSTED_PROXIES="127.0.0.1",
        GW_S3_ENDPOINT=s3.endpoint,
        GW_S3_PUBLIC_ENDPOINT=store,
        GW_S3_REGION=s3.region,
        GW_S3_BUCKET=bucket,
        GW_S3_ACCESS_KEY_ID=s3.access_key_id,
        GW_S3_SECRET_ACCESS_KEY=s3.secret_access_key,
        GW_REDIS_URL=redis_url,
        GW_REDIS_PREFIX=bucket[:32],
        # What the test's authority has signed is good for its client.
        SSL_CERT_FILE=str(authority.file),
    )
    async with (
        nginx(main, tls),
        running("serve", environment=environment, directory=tmp_path) as program,
    ):
        await program.logged("ready")
        yield Front(
            url,
            store,
            f"http://{UPLOADS}:{plain}",
            tmp_path,
            bucket,
            authority,
            environment,
            program,
        )


def test_nginx_takes_the_example(tmp_path: Path) -> None:
    ports = {"plain": "8080", "tls": "8443", "gateway": "8000", "store": "9000"}
    main = configuration(tmp_path, ports, Authority(tmp_path / "tls"))
    done = subprocess.run(
        [NGINX, "-t", "-e", "stderr", "-p", str(tmp_path), "-c", str(main)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


async def test_a_whole_upload_goes_through_it(
    front: Front, oracle: minio.Minio, tmp_path: Path
) -> None:
    file = tmp_path / "ünd % more + film?.bin"
    sha256 = await asyncio.to_thread(write_file, file, 20 * MIB)
    async with running(
        "upload", str(file), "--json", environment=front.environment, directory=tmp_path
    ) as client:
        receipt = orjson.loads((await client.output()).splitlines()[-1])
        assert await client.end() == 0, client.stderr
    assert (receipt["state"], receipt["verified_by"]) == ("completed", "client_parts")
    async with session(front) as http, http.get(f"/uploads/{receipt['session_id']}") as answer:
        key = (await answer.json())["object"]["key"]
    assert await asyncio.to_thread(stored_sha256, oracle, front.bucket, key) == sha256
    async with running(
        "download",
        receipt["session_id"],
        "--output",
        str(tmp_path / "again.bin"),
        environment=front.environment,
        directory=tmp_path,
    ) as client:
        await client.output()
        assert await client.end() == 0, client.stderr
    assert (tmp_path / "again.bin").read_bytes() == file.read_bytes()
    # Nothing was gathered in files, and no presigned URL is in the log.
    assert not [path for path in (front.folder / "proxy").rglob("*") if path.is_file()]
    assert "X-Amz-Signature" not in (front.folder / "access.log").read_text()


async def test_events_come_as_they_happen(front: Front) -> None:
    async with session(front) as http:
        body = {"filename": "a", "size": 6 * MIB, "part_size": 5 * MIB, "sign": 1}
        async with http.post("/uploads", json=body) as answer:
            upload = await answer.json()
            # The address that clients know, whatever nginx calls the gateway by.
            assert answer.headers["Location"] == f"{front.url}/uploads/{upload['session_id']}"
        path = f"/uploads/{upload['session_id']}"
        async with http.get(f"{path}/events") as stream, asyncio.timeout(20):
            events = read_events(stream.content)
            assert (await anext(events)).name == "status"
            etag = await put(front, upload["parts"][0], os.urandom(5 * MIB))
            async with http.post(
                f"{path}/parts", json={"parts": [{"part_number": 1, "etag": etag}]}
            ) as answer:
                assert answer.status == 200, await answer.text()
            # The upload is far from its end, and so is this stream.
            while (event := await anext(events)).data.get("received_parts") != 1:
                pass
            async with http.delete(path) as answer:
                assert answer.status == 204
            while event.name != "end":
                event = await anext(events)
            assert event.data["state"] == "aborted"


async def put(front: Front, part: dict[str, Any], body: bytes) -> str:
    trusted = front.authority.trusting()
    async with (
        aiohttp.ClientSession() as http,
        http.put(part["url"], data=BytesIO(body), headers=part["headers"], ssl=trusted) as answer,
    ):
        assert part["url"].startswith(front.store)
        assert answer.status == 200, await answer.text()
        return answer.headers["ETag"]


async def test_the_log_names_the_client_whatever_it_claims_to_be(front: Front) -> None:
    claims = {
        **HEADERS,
        "X-Forwarded-For": "203.0.113.66",
        "X-Forwarded-Proto": "ftp",
        "Forwarded": "for=203.0.113.67",
        "X-Request-Id": "of-the-spoofer",
    }
    elsewhere = aiohttp.TCPConnector(
        local_addr=("127.0.0.9", 0), ssl=front.authority.trusting(), family=2
    )
    async with (
        aiohttp.ClientSession(connector=elsewhere, headers=claims) as http,
        http.get(f"{front.url}/uploads") as answer,
    ):
        assert answer.status == 200
    entries = await front.gateway.logged("request")
    (entry,) = [e for e in entries if e.get("request_id") == "of-the-spoofer"]
    assert (entry["remote"], entry["proxy"]) == ("127.0.0.9", "127.0.0.1")


async def test_http_2_is_spoken_plain_http_sent_on_and_figures_are_kept_inside(
    front: Front, tmp_path: Path
) -> None:
    async with session(front) as http:
        async with http.get(f"{front.plain}/uploads?limit=1", allow_redirects=False) as answer:
            assert answer.status == 308
            assert answer.headers["Location"] == f"https://{UPLOADS}/uploads?limit=1"
        async with http.get("/metrics") as answer:
            assert answer.status == 200
    elsewhere = aiohttp.TCPConnector(
        local_addr=("127.0.0.9", 0), ssl=front.authority.trusting(), family=2
    )
    async with (
        aiohttp.ClientSession(connector=elsewhere) as http,
        http.get(f"{front.url}/metrics") as answer,
    ):
        assert answer.status == 403
    curl = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "--http2", "--cacert", str(front.authority.file), "--ipv4"),
        *("-o", str(tmp_path / "version.json"), "-w", "%{http_version} %{response_code}"),
        f"{front.url}/version",
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await curl.communicate()
    assert out == b"2 200"


def session(front: Front) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(ssl=front.authority.trusting(), family=2)
    return aiohttp.ClientSession(front.url, connector=connector, headers=HEADERS)
