"""One real gateway for all tests of the commands."""

from collections.abc import AsyncIterator
from pathlib import Path

import minio
import pytest
import pytest_asyncio
from cli.remote.commands import Shell
from client.gate import Gate, running_gate
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
def shell(gate: Gate, tmp_path: Path) -> Shell:
    return Shell(gate, tmp_path)
