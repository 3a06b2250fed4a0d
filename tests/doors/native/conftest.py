"""The native door over a service of the test's making."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import pytest_asyncio
from gateways import FakeService, Serving, serving

from gateway.doors.native import NativeDoor, NativeOptions
from gateway.doors.native.events import StreamOptions


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest_asyncio.fixture
async def gateway(service: FakeService) -> AsyncIterator[Serving]:
    streams = StreamOptions(limit=3, longest=30, ping=0.05, send_timeout=1)
    door = NativeDoor(cast("Any", service), NativeOptions("1.2.3", streams, relays=2))
    async with serving([door]) as running:
        yield running
