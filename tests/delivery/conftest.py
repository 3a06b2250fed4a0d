"""A receiver, and what a deliverer needs on a real Valkey, with keys of its own."""

from collections.abc import AsyncIterator

import pytest_asyncio
from delivery.receiver import Receiver

from gateway.state.redis.client import Client, connect


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest_asyncio.fixture(scope="session")
async def client(redis_url: str) -> AsyncIterator[Client]:
    client = connect(redis_url)
    yield client
    await client.close()
