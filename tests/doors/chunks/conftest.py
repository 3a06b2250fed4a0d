"""The chunks door over a service of the test's making."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import pytest_asyncio
from gateways import FakeService, Serving, serving

from gateway.doors.chunks import ChunksDoor


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest_asyncio.fixture
async def gateway(service: FakeService) -> AsyncIterator[Serving]:
    async with serving([ChunksDoor(cast("Any", service))]) as running:
        yield running
