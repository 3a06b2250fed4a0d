"""Redis found by Sentinels, through a failover (fault 12 with real servers)."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from conformance.session_store import new_session, part
from state.failover import PASSWORD, SENTINEL_PASSWORD, Failover, failover

from gateway.errors import InvalidRequest, Unavailable
from gateway.state.redis.address import RedisOptions, Sentinels
from gateway.state.redis.client import Client, connect
from gateway.state.redis.examine import examine
from gateway.state.redis.store import RedisSessionStore


@pytest_asyncio.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Failover]:
    async with failover(tmp_path) as running:
        yield running


@pytest_asyncio.fixture
async def client(servers: Failover) -> AsyncIterator[Client]:
    client = connect(
        RedisOptions(servers.url, password=PASSWORD, sentinel_password=SENTINEL_PASSWORD)
    )
    yield client
    await client.close()


async def test_sessions_go_on_at_the_new_primary(servers: Failover, client: Client) -> None:
    store = RedisSessionStore(client)
    session = await store.add(new_session())
    await store.add_parts(session.session_id, [part(1)])
    found = {item.name: item for item in await examine(client, prefix="gw")}
    # The first address in the URL leads nowhere.
    assert found["sentinels"].level == "warn"
    assert found["sentinels"].detail == "3 of 4 Sentinels answer."
    assert found["role"].detail == "It takes writes, and 1 replica follow."
    await servers.copied()
    refusals: set[tuple[str, bool]] = set()
    began = time.monotonic()
    await servers.kill_primary()
    async with asyncio.timeout(10):
        while True:
            try:
                await store.add_parts(session.session_id, [part(2)])
                break
            except Unavailable as error:
                refusals.add((error.code, error.retryable))
                await asyncio.sleep(0.05)
    assert refusals <= {("redis_unavailable", True)}
    assert time.monotonic() - began < 12
    assert (await store.get(session.session_id)).progress.received_parts == 2
    assert {item.name: item for item in await examine(client, prefix="gw")}["role"].level == "ok"
    # When all ask at once, none of the Sentinels is forgotten: the last one that lives is enough.
    await asyncio.gather(*(store.ping() for _ in range(100)))
    await asyncio.gather(*(one.stop() for one in servers.sentinels[:2]))
    await client.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.gather(*(store.ping() for _ in range(100)))
    for options in (
        RedisOptions(servers.url, password=PASSWORD),
        RedisOptions(servers.url.replace("/uploads/", "/nobody/"), sentinel_password="x"),
    ):
        lost = connect(options)
        with pytest.raises(Unavailable) as caught:
            await RedisSessionStore(lost).ping()
        assert caught.value.code in {"redis_denied", "redis_unavailable"}
        await lost.close()


@pytest.mark.parametrize(
    ("url", "sentinels", "connection"),
    [
        (
            "redis+sentinel://user:p%40ss@one:1,two/primary/3",
            Sentinels((("one", 1), ("two", 26379)), "primary"),
            {"username": "user", "password": "p@ss", "db": 3},
        ),
        (
            "redis+sentinel://[::1]:7,10.0.0.1/primary",
            Sentinels((("::1", 7), ("10.0.0.1", 26379)), "primary"),
            {"db": 0},
        ),
    ],
)
def test_a_url_names_sentinels_primary_and_database(
    url: str, sentinels: Sentinels, connection: dict[str, object]
) -> None:
    options = RedisOptions(url)
    assert options.sentinels == sentinels
    assert options.connection == connection


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://one:1",
        "redis+sentinel://one:1/",
        "redis+sentinel:///primary/0",
        "redis+sentinel://one:x/primary/0",
        "redis+sentinel://one,,two/primary/0",
        "redis+sentinel://one/primary/zero",
        "redis://one:x",
        "http://one",
        "one",
    ],
)
def test_what_is_no_url_of_redis_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        RedisOptions(url.replace("://", "://:hidden@"))
    assert caught.value.code == "invalid_redis_url"
    assert "hidden" not in caught.value.message + caught.value.hint


def test_a_password_beside_the_url_counts_and_does_not_show() -> None:
    options = RedisOptions("redis://one/0", password="hidden", sentinel_password="hidden")
    assert options.connection["password"] == "hidden"
    assert "hidden" not in repr(options)
