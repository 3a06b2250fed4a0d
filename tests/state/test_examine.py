"""What the doctor says of a Redis: encrypted, forgetful, nearly full, one shard of a cluster."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis.asyncio
from certificates import Authority, Pair

from gateway.embedded import Valkey
from gateway.embedded.ports import LOOPBACK
from gateway.embedded.server import Launch
from gateway.errors import InvalidRequest, Unavailable
from gateway.state.redis.address import RedisOptions
from gateway.state.redis.client import Client, connect
from gateway.state.redis.examine import RedisFinding, examine, refuse_cluster
from gateway.state.redis.store import RedisSessionStore
from gateway.web.tls import load_context


@asynccontextmanager
async def tls_before(valkey: Valkey, pair: Pair) -> AsyncIterator[int]:
    """Speak TLS before a server that does not (the wheel's is built without); give the port."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, to_server = await asyncio.open_connection(LOOPBACK, valkey.port)
        await asyncio.gather(copy(reader, to_server), copy(behind, writer))

    context = load_context(pair.cert, pair.key)
    server = await asyncio.start_server(serve, LOOPBACK, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def client_of(options: RedisOptions) -> AsyncIterator[Client]:
    client = connect(options)
    yield client
    await client.close()


async def test_redis_by_tls_with_an_authority_of_its_own(valkey: Valkey, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("redis", "localhost")
    async with tls_before(valkey, pair) as port:
        url = f"rediss://localhost:{port}/0"
        trusted = RedisOptions(url, password=valkey.password, ca=authority.file)
        async with client_of(trusted) as client:
            await RedisSessionStore(client).ping()
            assert {item.level for item in await examine(client, prefix="gw")} == {"ok"}
        # Nobody answers for it, and it is for another name.
        other = RedisOptions(
            url.replace("localhost", LOOPBACK), password=valkey.password, ca=authority.file
        )
        for options, words in (
            (RedisOptions(url, password=valkey.password), "certificate"),
            (other, "IP address mismatch"),
        ):
            async with client_of(options) as client:
                with pytest.raises(Unavailable) as caught:
                    await RedisSessionStore(client).ping()
                assert caught.value.code == "redis_tls_failed"
                assert words in caught.value.message
                (finding,) = await examine(client, prefix="gw")
                assert (finding.level, "redis_ca" in finding.fix) == ("fail", True)


def test_an_authority_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.write_text("nothing")
    for path in (empty, tmp_path / "none.pem"):
        with pytest.raises(InvalidRequest, match=path.name):
            RedisOptions("rediss://host/0", ca=path)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path / "valkey") as server:
        yield server


async def look(server: Valkey, *changes: str) -> dict[str, RedisFinding]:
    async with redis.asyncio.from_url(server.url, protocol=2) as admin:
        for name, value in zip(changes[::2], changes[1::2], strict=True):
            await admin.config_set(name, value)
        async with client_of(RedisOptions(server.url)) as client:
            return {item.name: item for item in await examine(client, prefix="gw")}


async def test_each_gap_is_named_with_its_fix(server: Valkey) -> None:
    assert {item.level for item in (await look(server)).values()} == {"ok"}
    found = await look(server, "appendonly", "no")
    assert found["persistence"].level == "warn"
    assert "forgets everything" in found["persistence"].detail
    found = await look(server, "save", "3600 1")
    assert "last snapshot" in found["persistence"].detail
    found = await look(server, "maxmemory-policy", "allkeys-lru", "maxmemory", "1gb")
    assert found["eviction"].level == "warn"
    assert "noeviction" in found["eviction"].fix
    assert found["memory"].level == "ok"
    async with redis.asyncio.from_url(server.url, protocol=2) as admin:
        used = (await admin.info("memory"))["used_memory"]
    found = await look(server, "maxmemory-policy", "noeviction", "maxmemory", str(used))
    assert (found["memory"].level, found["eviction"].level) == ("warn", "ok")
    async with redis.asyncio.from_url(server.url, protocol=2) as admin:
        await admin.config_set("maxmemory", "0")
        await admin.replicaof(LOOPBACK, 1)
    found = await look(server)
    assert found["role"].level == "fail"
    assert "redis+sentinel://" in found["role"].fix


class Shard(Valkey):
    """A server in cluster mode."""

    def _prepare(self) -> Launch:
        plain = super()._prepare()
        more = b"cluster-enabled yes\n"
        return Launch(plain.command, plain.ports, plain.standard_input + more)


async def test_a_cluster_of_several_shards_is_refused_in_words(tmp_path: Path) -> None:
    async with (
        Shard(tmp_path / "one", password="cluster") as one,
        Shard(tmp_path / "two", password="cluster") as two,
        redis.asyncio.from_url(one.url, protocol=2) as first,
        redis.asyncio.from_url(two.url, protocol=2) as second,
        client_of(RedisOptions(one.url)) as client,
    ):
        await first.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        await second.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        await first.execute_command("CLUSTER", "MEET", LOOPBACK, two.port)
        async with asyncio.timeout(30):
            # What servers tell each other sets no event here.
            while b"cluster_state:ok" not in await client.command("CLUSTER", "INFO"):  # noqa: ASYNC110 - see above.
                await asyncio.sleep(0.05)
        with pytest.raises(Unavailable) as caught:
            await refuse_cluster(client)
        assert caught.value.code == "redis_cluster"
        found = {item.name: item for item in await examine(client, prefix="gw")}
        assert found["cluster"].level == "fail"
        assert "redis_url" in found["cluster"].fix
        # Whoever calls all the same is told the same.
        with pytest.raises(Unavailable) as caught:
            await asyncio.gather(*(client.command("GET", f"key-{n}") for n in range(8)))
        assert caught.value.code == "redis_cluster"


async def test_a_plain_redis_is_no_cluster(server: Valkey) -> None:
    async with client_of(RedisOptions(server.url)) as client:
        await refuse_cluster(client)


async def test_a_user_who_may_not_ask_is_told_apart_from_one_that_does_not_work(
    server: Valkey,
) -> None:
    admin = connect(server.url)
    await admin.command("ACL", "SETUSER", "gw", "on", ">secret", "~gw:*", "+@all", "-@dangerous")
    client = connect(f"redis://gw:secret@{LOOPBACK}:{server.port}/0")
    try:
        found = {item.name: item.level for item in await examine(client, prefix="gw")}
        assert found == {"latency": "ok", "scripts": "ok", "info": "warn"}
    finally:
        await client.close()
        await admin.close()
