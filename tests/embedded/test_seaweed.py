import asyncio
import io
import itertools
import socket
import stat
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import minio
import pytest
from minio.error import S3Error
from servers import S3Target, listening_addresses, oracle_for, process_file, process_gone

from gateway.embedded import Seaweed
from gateway.embedded.seaweed import GRPC_SOCKET
from gateway.errors import InvalidRequest

PART = bytes(range(256)) * 20_480  # 5 MiB, the smallest part that is not the last
FOREIGN = S3Target("", "", "foreign-key", "foreign-secret")


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seaweed]:
    directory = tmp_path_factory.mktemp("of mine, ünd more")
    server = Seaweed(directory, access_key_id="key-id", secret_access_key='se"cret')
    # Credentials in our environment, which SeaweedFS would take for an administrator's.
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", FOREIGN.access_key_id)
        environment.setenv("AWS_SECRET_ACCESS_KEY", FOREIGN.secret_access_key)
        await server.start()
    yield server
    await server.stop()


def target(server: Seaweed, secret: str = "") -> S3Target:
    return S3Target(
        server.endpoint, server.region, server.access_key_id, secret or server.secret_access_key
    )


def put(client: minio.Minio, bucket: str, key: str, body: bytes) -> None:
    client.put_object(bucket, key, io.BytesIO(body), len(body))


def read(client: minio.Minio, bucket: str, key: str) -> bytes:
    with client.get_object(bucket, key) as response:
        return response.read()


async def test_it_takes_writes_as_soon_as_it_is_ready(tmp_path: Path) -> None:
    server = Seaweed(tmp_path, access_key_id="key", secret_access_key="secret")
    began = time.monotonic()
    async with server:
        assert time.monotonic() - began < 15
        with oracle_for(target(server)) as client:
            began = time.monotonic()
            await asyncio.to_thread(client.make_bucket, "first")
            await asyncio.to_thread(put, client, "first", "key", b"value")
            # A volume server that has not reported yet lets a write wait for seconds.
            assert time.monotonic() - began < 3


async def test_bad_credentials_are_refused(server: Seaweed) -> None:
    with oracle_for(target(server, secret="wrong")) as client, pytest.raises(S3Error) as caught:
        await asyncio.to_thread(client.list_buckets)
    assert caught.value.code == "SignatureDoesNotMatch"


async def test_credentials_meant_for_another_store_are_refused(server: Seaweed) -> None:
    foreign = replace(FOREIGN, endpoint=server.endpoint, region=server.region)
    with oracle_for(foreign) as client, pytest.raises(S3Error) as caught:
        await asyncio.to_thread(client.list_buckets)
    assert caught.value.code == "InvalidAccessKeyId"
    assert b"foreign" not in process_file(server.pid, "environ")


async def test_strangers_are_refused_at_every_http_port(server: Seaweed) -> None:
    with oracle_for(target(server)) as client:
        await asyncio.to_thread(client.make_bucket, "private")
        await asyncio.to_thread(put, client, "private", "key", b"value")
        ports = [port for flag, port in server._ports.items() if not flag.endswith("grpc")]
        assert len(ports) == 4
        async with aiohttp.ClientSession() as session:
            for port, path in itertools.product(
                ports, ["/private/key", "/buckets/private/key", "/col/delete?collection=private"]
            ):
                async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                    assert response.status in {401, 403, 404}, (port, path)
        assert await asyncio.to_thread(read, client, "private", "key") == b"value"


async def test_a_browser_is_let_in_by_the_rules_of_the_bucket_only(server: Seaweed) -> None:
    with oracle_for(target(server)) as client:
        await asyncio.to_thread(client.make_bucket, "without-rules")
    headers = {"Origin": "https://example.com", "Access-Control-Request-Method": "PUT"}
    async with (
        aiohttp.ClientSession() as session,
        session.options(f"{server.endpoint}/without-rules/key", headers=headers) as response,
    ):
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_it_listens_on_loopback_only(server: Seaweed) -> None:
    assert listening_addresses(server.pid) == {"0100007F"}


async def test_the_secret_is_shown_to_the_owner_of_the_directory_only(server: Seaweed) -> None:
    assert server.secret_access_key not in repr(server)
    for shown in ("cmdline", "environ"):
        assert server.secret_access_key.encode() not in process_file(server.pid, shown)
    for name in ("identities.json", "security.toml"):
        assert stat.S_IMODE((server.data_dir / name).stat().st_mode) == 0o600


async def test_objects_and_unfinished_uploads_survive_a_crash_on_the_same_port(
    server: Seaweed,
) -> None:
    with oracle_for(target(server)) as client:

        def begin() -> tuple[str, str]:
            client.make_bucket("crash")
            put(client, "crash", "object", PART)
            upload_id = client._create_multipart_upload("crash", "upload", {})
            etag = client._upload_part("crash", "upload", PART, None, upload_id, 1)
            return upload_id, etag

        def finish(upload_id: str, etag: str) -> bytes:
            assert read(client, "crash", "object") == PART
            listed = client._list_parts("crash", "upload", upload_id).parts
            assert [(part.part_number, part.size, part.etag) for part in listed] == [
                (1, len(PART), etag)
            ]
            last = client._upload_part("crash", "upload", b"last", None, upload_id, 2)
            parts = [minio.datatypes.Part(1, etag), minio.datatypes.Part(2, last)]
            client._complete_multipart_upload("crash", "upload", upload_id, parts)
            return read(client, "crash", "upload")

        upload_id, etag = await asyncio.to_thread(begin)
        port, pid = server.port, server.pid
        await server.kill()
        assert process_gone(pid)
        await server.start()
        assert server.port == port
        assert await asyncio.to_thread(finish, upload_id, etag) == PART + b"last"


async def test_objects_survive_stop_and_another_server_with_other_ports(tmp_path: Path) -> None:
    first = Seaweed(tmp_path, access_key_id="key", secret_access_key="secret")
    async with first:
        with oracle_for(target(first)) as client:
            await asyncio.to_thread(client.make_bucket, "bucket")
            await asyncio.to_thread(put, client, "bucket", "object", PART)
        before = dict(first._ports)
    assert process_gone(first.pid)

    again = Seaweed(tmp_path, access_key_id="key", secret_access_key="secret")
    again._prepare()
    assert again._ports == before

    # Now each of the ports is taken.
    holders = [socket.create_server(("127.0.0.1", port)) for port in before.values()]
    try:
        second = Seaweed(
            tmp_path, access_key_id="new-key", secret_access_key="new secret", port=first.port
        )
        async with second:
            assert not set(second._ports.values()) & set(before.values())
            with oracle_for(target(second)) as client:
                assert await asyncio.to_thread(read, client, "bucket", "object") == PART
                await asyncio.to_thread(put, client, "bucket", "more", PART)
    finally:
        for holder in holders:
            holder.close()


async def test_no_socket_is_left_in_the_directory_for_temporary_files(tmp_path: Path) -> None:
    server = Seaweed(tmp_path, access_key_id="key", secret_access_key="secret")
    await server.start()
    # By part and port: what somebody else's killed server has left may bear any of the numbers.
    ours = [
        Path(GRPC_SOCKET.format(part=part, port=server._ports[f"{part}.port.grpc"]))
        for part in ("s3", "master", "volume", "filer")
    ]

    def left() -> set[tuple[Path, int]]:
        # With the inode: a server of another test may take the same port a moment later.
        return {(path, path.stat().st_ino) for path in ours if path.exists()}

    before = left()
    assert before, "the place of these sockets has changed"
    await server.kill()
    assert not before & left()


async def test_a_damaged_memory_of_ports_is_no_hindrance(tmp_path: Path) -> None:
    server = Seaweed(tmp_path, access_key_id="key", secret_access_key="secret")
    for rubbish in (b"", b"[]", b'{"s3.port": "x", "master.port": 99999, "other": 1}'):
        (tmp_path / "ports.json").write_bytes(rubbish)
        assert server._saved_ports() == {}


@pytest.mark.parametrize(
    ("key", "secret"), [("", "secret"), ("key", ""), ("a/b", "secret"), ("a b", "secret")]
)
def test_empty_credentials_are_refused(tmp_path: Path, key: str, secret: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Seaweed(tmp_path, access_key_id=key, secret_access_key=secret)
    assert caught.value.code == "invalid_credentials"
