"""A real Chromium before a real gateway, Redis and store. Without the browser, all of it fails."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import minio
import pytest
import pytest_asyncio
from botocore.config import Config
from dashboard.elsewhere import NAMES, HostPage, Site
from dashboard.upload_page import UploadPage
from deployment import Deployment, deployment
from playwright.async_api import Browser, BrowserContext, async_playwright
from servers import S3Target, new_bucket, remove_bucket

CHROMIUM = "/usr/bin/chromium"
# Of several such lists the browser obeys the last, so this one repeats what Playwright turns off.
WITHOUT = (
    "AimEnabled",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
    "ThirdPartyStoragePartitioning",
    # The address bar of each new window, which nobody sees, would load two pages of its own: a
    # third of the processor time of an empty window.
    "WebUIOmniboxAimPopup",
    "WebUIOmniboxFullPopup",
    "WebUIOmniboxPopup",
)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--disable-features={','.join(WITHOUT)}",
    f"--host-resolver-rules={', '.join(f'MAP {name} 127.0.0.1' for name in NAMES)}",
)
BUCKET = "test-dashboard"


@pytest_asyncio.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="session")
async def site() -> AsyncIterator[Site]:
    """Start somebody else's web server."""
    async with Site().running() as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def deployed(
    s3: S3Target, oracle: minio.Minio, tmp_path_factory: pytest.TempPathFactory, site: Site
) -> AsyncIterator[Deployment]:
    """Start one gateway for all these tests, with a bucket that lets browsers in."""
    await asyncio.to_thread(oracle.make_bucket, BUCKET)
    await asyncio.to_thread(allow_browsers, s3, BUCKET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GW_CORS_ORIGINS", site.origin)
        async with deployment(s3, BUCKET, tmp_path_factory.mktemp("gateway")) as running:
            yield running
    await asyncio.to_thread(remove_bucket, oracle, BUCKET)


@pytest_asyncio.fixture
async def open_bucket(s3: S3Target, oracle: minio.Minio) -> AsyncIterator[str]:
    """Make a bucket that lets browsers in, for a gateway of a test's own."""
    async with new_bucket(oracle) as name:
        await asyncio.to_thread(allow_browsers, s3, name)
        yield name


@pytest_asyncio.fixture
async def context(browser: Browser, deployed: Deployment) -> AsyncIterator[BrowserContext]:
    """Open a window that nobody has used, and let nothing of the proxy's leak into the next."""
    context = await browser.new_context()
    yield context
    await context.close()
    deployed.proxy.clear()
    deployed.proxy.release()


@pytest_asyncio.fixture
async def upload_page(context: BrowserContext, deployed: Deployment) -> AsyncIterator[UploadPage]:
    """Open the upload page with the token, as the link of `gateway dev` does."""
    page = UploadPage(await context.new_page(), deployed)
    await page.open()
    yield page
    assert page.accidents == []


@pytest_asyncio.fixture
async def elsewhere(
    context: BrowserContext, deployed: Deployment, site: Site
) -> AsyncIterator[HostPage]:
    """Open a page of another origin that imports the library."""
    page = HostPage(await context.new_page(), deployed, site)
    await page.visit()
    yield page
    assert page.accidents == []


@pytest.fixture
def stored(oracle: minio.Minio) -> "Stored":
    return Stored(oracle)


class Stored:
    """What really lies in the bucket, read by somebody else's client."""

    def __init__(self, oracle: minio.Minio) -> None:
        self._oracle = oracle

    async def content(self, session: dict[str, dict[str, str]]) -> bytes:
        return await asyncio.to_thread(self._read, session["object"]["key"])

    def _read(self, key: str) -> bytes:
        answer = self._oracle.get_object(BUCKET, key)
        try:
            return answer.read()
        finally:
            answer.close()
            answer.release_conn()


def allow_browsers(s3: S3Target, bucket: str) -> None:
    """Give the bucket CORS rules that let any page in."""
    client = _client(s3)
    rule = {
        "AllowedOrigins": ["*"],
        "AllowedMethods": ["GET", "PUT"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 600,
    }
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    client.close()


def forbid_browsers(s3: S3Target, bucket: str) -> None:
    """Take the rules away."""
    client = _client(s3)
    client.delete_bucket_cors(Bucket=bucket)
    client.close()


def _client(s3: S3Target) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name=s3.region,
        aws_access_key_id=s3.access_key_id,
        aws_secret_access_key=s3.secret_access_key,
        config=Config(s3={"addressing_style": "path"}),
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Give a folder for files to choose."""
    folder = tmp_path / "files"
    folder.mkdir()
    return folder
