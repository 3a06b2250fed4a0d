"""One real gateway for all tests of the client; each test starts with clean proxies."""

from collections.abc import AsyncIterator
from pathlib import Path

import minio
import pytest
import pytest_asyncio
from client.gate import Gate, Uploading, running_gate
from servers import S3Target


@pytest_asyncio.fixture(scope="session")
async def shared_gate(s3: S3Target, oracle: minio.Minio, redis_url: str) -> AsyncIterator[Gate]:
    async with running_gate(s3, oracle, redis_url) as running:
        yield running


@pytest.fixture
def gate(shared_gate: Gate) -> Gate:
    shared_gate.reset()
    return shared_gate


@pytest.fixture
def uploading(gate: Gate, tmp_path: Path) -> Uploading:
    return Uploading(gate, tmp_path / "state")
