"""Stores on a real Valkey, each with keys of its own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.state.redis.client import Client, connect
from gateway.state.redis.keys import Keys
from gateway.state.redis.store import RedisSessionStore, RedisStoreOptions


@pytest_asyncio.fixture(scope="session")
async def client(redis_url: str) -> AsyncIterator[Client]:
    client = connect(redis_url)
    yield client
    await client.close()


@pytest.fixture
def keys(redis_prefix: str) -> Keys:
    """Name the keys of `sessions`."""
    return Keys(redis_prefix)


@pytest.fixture
def sessions(client: Client, redis_prefix: str) -> RedisSessionStore:
    return RedisSessionStore(client, RedisStoreOptions(prefix=redis_prefix))
