"""Servers for the rows of the fault matrix: a proxy before the store, and the core behind it."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import minio
import pytest
import pytest_asyncio
from faults.proxy import StoreProxy
from faults.sessions import BOB
from servers import S3Target, new_bucket, oracle_for
from stack import Stack, acknowledge_all, put_parts, running_stack

from gateway.core.composition import compose
from gateway.core.model import NewUpload, State


@pytest_asyncio.fixture(scope="session")
async def shared_proxy(s3: S3Target) -> AsyncIterator[StoreProxy]:
    async with StoreProxy(s3.endpoint).running() as running:
        yield running


@pytest.fixture
def proxy(shared_proxy: StoreProxy) -> StoreProxy:
    """Give a proxy before the store that does nothing yet, and has seen nothing."""
    shared_proxy.clear()
    shared_proxy.forget()
    return shared_proxy


@pytest_asyncio.fixture(scope="session")
async def shared_stack(
    s3: S3Target, shared_proxy: StoreProxy, oracle: minio.Minio, redis_url: str
) -> AsyncIterator[Stack]:
    target = replace(s3, endpoint=shared_proxy.url)
    prefix = f"test-{uuid.uuid4().hex}:"
    async with (
        new_bucket(oracle) as bucket,
        running_stack(target, bucket, oracle, redis_url, prefix) as stack,
    ):
        yield stack


@pytest_asyncio.fixture
async def proxied(shared_stack: Stack, proxy: StoreProxy) -> AsyncIterator[Stack]:
    """Give a gateway's core that reaches its store, and whose clients do, through `proxy`."""
    async with new_core(shared_stack) as stack, bystander(stack, proxy):
        yield stack


@pytest_asyncio.fixture
async def last_wins(
    moto_server: S3Target, redis_url: str, redis_prefix: str
) -> AsyncIterator[tuple[Stack, StoreProxy]]:
    """Give a core and its proxy over a store that keeps of each part only what came last, as AWS.

    SeaweedFS keeps both, and completes with the one that is asked for.
    """
    with oracle_for(moto_server) as oracle:
        async with (
            StoreProxy(moto_server.endpoint).running() as proxy,
            new_bucket(oracle) as bucket,
        ):
            target = replace(moto_server, endpoint=proxy.url)
            async with (
                running_stack(target, bucket, oracle, redis_url, redis_prefix) as stack,
                bystander(stack, proxy),
            ):
                yield stack, proxy


@asynccontextmanager
async def new_core(stack: Stack) -> AsyncIterator[Stack]:
    """Give another process's core over the same connections, for a test to change."""
    core = compose(stack.ports, stack.options)
    fresh = replace(stack, core=core)
    try:
        yield fresh
    finally:
        await core.completer.close()
        await fresh.core.completer.close()


@asynccontextmanager
async def bystander(stack: Stack, proxy: StoreProxy) -> AsyncIterator[None]:
    """Have another tenant's upload around a fault, which must not feel it."""
    data = b"a file of somebody else"
    new = NewUpload(filename="theirs", size=len(data))
    other, _ = await stack.core.service.create(BOB, new)
    await acknowledge_all(stack, BOB, other, await put_parts(stack, BOB, other, data))
    proxy.forget()
    yield
    proxy.clear()
    done = await stack.core.service.complete(BOB, other.session_id, wait=30)
    assert done.state is State.COMPLETED
    assert await stack.read_object(done) == data
