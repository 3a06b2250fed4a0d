"""Real servers for the tests, each started when a test first asks for it.

`pytest --s3 URL` puts an existing store in the place of the embedded one for everything that
uses `s3`; its credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION.
Tests that kill or pause a store take `seaweed`, or start their own.
"""

import functools
import os
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import botocore.session
import minio
import pytest
import pytest_asyncio
from servers import S3Target, new_bucket, oracle_for
from stack import Stack, running_stack

from gateway.embedded import Seaweed, Valkey

# Some two hundred processes are started, and each would compile the whole gateway again where the
# environment forbids to keep what was compiled once.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# The SDK's description of S3 takes a tenth of a second to read, which a gateway does once and tests
# would do for hundreds of clients.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)

# Folders of tests that take long, in the order in which they begin.
SLOW = ("e2e", "benchmarks", "dashboard", "faults", "cli", "embedded")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--s3", metavar="URL", help="test against this store, not an embedded one")
    parser.addoption("--seed", type=int, default=1, help="schedule of the chaos run")
    parser.addoption(
        "--chaos-seconds", type=float, default=12, help="how long the chaos run goes on"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run as many processes as there are processors, and one more for while the others wait.

    More than four would be as many stores and browsers at once.
    """
    return min(len(os.sched_getaffinity(0)), 3) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that at the end only little is left, and nobody waits."""
    places = {name: place for place, name in enumerate(SLOW)}
    tests = Path(__file__).parent
    items.sort(key=lambda item: places.get(item.path.relative_to(tests).parts[0], len(SLOW)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what long runs say of themselves, also those that passed in another process."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, text in getattr(report, "user_properties", []):
                if name in {"chaos", "memory"} and report.when == "call":
                    terminalreporter.section(f"{name} run {outcome}")
                    terminalreporter.write_line(text)


@pytest_asyncio.fixture(scope="session")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(valkey: Valkey) -> str:
    return valkey.url


@pytest.fixture
def redis_prefix() -> str:
    """Start a test's keys with this, since all tests share one database."""
    return f"test-{uuid.uuid4().hex}:"


@pytest_asyncio.fixture(scope="session")
async def seaweed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seaweed]:
    server = Seaweed(
        tmp_path_factory.mktemp("seaweed"),
        access_key_id="test-access-key",
        secret_access_key="test-secret-key",
    )
    async with server:
        yield server


@pytest.fixture(scope="session")
def s3(request: pytest.FixtureRequest) -> S3Target:
    """Give the store under test."""
    if endpoint := request.config.getoption("--s3"):
        missing = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} - os.environ.keys()
        if missing:
            raise pytest.UsageError(f"--s3 needs {' and '.join(sorted(missing))} to be set")
        return S3Target(
            endpoint=endpoint.rstrip("/"),
            region=os.environ.get("AWS_REGION", "us-east-1"),
            access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
            secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        )
    server: Seaweed = request.getfixturevalue("seaweed")
    return S3Target(
        endpoint=server.endpoint,
        region=server.region,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
    )


@pytest.fixture(scope="session")
def oracle(s3: S3Target) -> Iterator[minio.Minio]:
    """Look into the store with somebody else's client. It blocks: use `asyncio.to_thread`."""
    with oracle_for(s3) as client:
        yield client


@pytest_asyncio.fixture
async def bucket(oracle: minio.Minio) -> AsyncIterator[str]:
    """Make a new bucket, and remove it afterwards with all that is in it."""
    async with new_bucket(oracle) as name:
        yield name


@pytest_asyncio.fixture
async def stack(
    s3: S3Target, bucket: str, oracle: minio.Minio, redis_url: str, redis_prefix: str
) -> AsyncIterator[Stack]:
    """Give a gateway's core on a bucket and a prefix of its own."""
    async with running_stack(s3, bucket, oracle, redis_url, redis_prefix) as running:
        yield running


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Target]:
    """Give a quick store in this process that believes every signature and checksum."""
    # Imported here: it takes a second, and most runs do without it.
    from moto.server import ThreadedMotoServer  # noqa: PLC0415

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield S3Target(
        endpoint=f"http://{host}:{port}",
        region="us-east-1",
        access_key_id="moto",
        secret_access_key="moto",
    )
    server.stop()
