"""One `gateway dev` for all tests that only look at it; those that end one start their own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cli.program import Dev, clean_environment
from cli.program import dev as running_dev


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return clean_environment(tmp_path)


@pytest_asyncio.fixture(scope="session")
async def dev(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Dev]:
    home = tmp_path_factory.mktemp("dev")
    async with running_dev(
        "--port", "0", data_dir=home / "data", environment=clean_environment(home)
    ) as started:
        yield started
