"""The state adapters keep their ports' contracts, on one server and on a node of a cluster.

A cluster node refuses every command and script whose keys lie in more than one slot.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from conformance.leases import LeasesSuite
from conformance.outbox import EventStreamSuite, LettersSuite, OutboxSuite
from conformance.session_store import SessionStoreSuite

from gateway.embedded import Valkey
from gateway.embedded.ports import free_port
from gateway.embedded.server import Launch
from gateway.state.redis.client import Client, connect
from gateway.state.redis.events import RedisEventStream, RedisLetters, RedisOutbox
from gateway.state.redis.leases import RedisLeases
from gateway.state.redis.store import RedisSessionStore, RedisStoreOptions


class ClusterNode(Valkey):
    """A cluster of one node."""

    def _prepare(self) -> Launch:
        launch = super()._prepare()
        bus = free_port(0)
        settings = f"cluster-enabled yes\ncluster-port {bus}\n".encode()
        return dataclasses.replace(
            launch, standard_input=launch.standard_input + settings, ports=[*launch.ports, bus]
        )


@pytest_asyncio.fixture(scope="session")
async def cluster_client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    async with ClusterNode(tmp_path_factory.mktemp("cluster")) as server:
        client = connect(server.url)
        await client.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        async with asyncio.timeout(20):
            # Another process tells its state only when asked.
            while b"cluster_state:ok" not in await client.command("CLUSTER", "INFO"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        yield client
        await client.close()


class TestSessionsOnOneServer(SessionStoreSuite):
    pass


class TestSessionsOnAClusterNode(SessionStoreSuite):
    @pytest.fixture
    def sessions(self, cluster_client: Client, redis_prefix: str) -> RedisSessionStore:
        return RedisSessionStore(cluster_client, RedisStoreOptions(prefix=redis_prefix))


class TestLeasesOnOneServer(LeasesSuite):
    @pytest.fixture
    def leases(self, client: Client, redis_prefix: str) -> RedisLeases:
        return RedisLeases(client, prefix=redis_prefix)


class TestLeasesOnAClusterNode(LeasesSuite):
    @pytest.fixture
    def leases(self, cluster_client: Client, redis_prefix: str) -> RedisLeases:
        return RedisLeases(cluster_client, prefix=redis_prefix)


class TestHandingOnFromOneServer(OutboxSuite, EventStreamSuite, LettersSuite):
    @pytest.fixture
    def outbox(self, client: Client, redis_prefix: str) -> RedisOutbox:
        return RedisOutbox(client, prefix=redis_prefix)

    @pytest.fixture
    def stream(self, client: Client, redis_prefix: str) -> RedisEventStream:
        return RedisEventStream(client, prefix=redis_prefix, length=100)

    @pytest.fixture
    def letters(self, client: Client, redis_prefix: str) -> RedisLetters:
        return RedisLetters(client, prefix=redis_prefix)


class TestHandingOnFromAClusterNode(TestHandingOnFromOneServer):
    @pytest.fixture
    def client(self, cluster_client: Client) -> Client:
        return cluster_client

    @pytest.fixture
    def sessions(self, cluster_client: Client, redis_prefix: str) -> RedisSessionStore:
        return RedisSessionStore(cluster_client, RedisStoreOptions(prefix=redis_prefix))
