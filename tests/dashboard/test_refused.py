"""What the upload page says of files that the gateway does not take."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from dashboard.upload_page import PATIENCE_MS, UploadPage
from deployment import deployment
from playwright.async_api import Browser, expect
from samples import PNG, mrc_header
from servers import S3Target


@pytest_asyncio.fixture
async def strict_page(
    s3: S3Target, open_bucket: str, tmp_path: Path, browser: Browser
) -> AsyncIterator[UploadPage]:
    """Open the page of a gateway that takes maps and pictures of at most 3,000 bytes."""
    settings = {"GW_ALLOWED_TYPES": ".mrc,image/*", "GW_MAX_FILE_SIZE": "3kB"}
    context = await browser.new_context()
    async with deployment(s3, open_bucket, tmp_path / "gateway", **settings) as running:
        page = UploadPage(await context.new_page(), running)
        await page.open()
        yield page
        assert page.accidents == []
        await context.close()


async def test_the_page_says_why_a_file_was_refused_and_offers_no_second_try(
    strict_page: UploadPage, files: Path
) -> None:
    contents = {
        "volume.mrc": PNG + bytes(2000),
        "notes.txt": b"notes",
        "large.png": PNG + bytes(3000),
        "right.mrc": mrc_header() + bytes(96),
    }
    for name, content in contents.items():
        (files / name).write_bytes(content)
    await strict_page.choose(*(files / name for name in contents))
    said = {
        "volume.mrc": ("The file was not accepted", "MRC2014 map", "PNG image"),
        "notes.txt": ("Files of this kind are not accepted", "Allowed are .mrc, image/*"),
        "large.png": ("The file is too large", "3000 bytes"),
    }
    for name, words in said.items():
        await strict_page.until(name, "failed")
        card = strict_page.card(name)
        for word in words:
            await expect(card).to_contain_text(word)
        await expect(card.get_by_role("button", name="again")).to_have_count(0)
    await strict_page.until("right.mrc", "completed")
    row = strict_page.row("volume.mrc")
    await expect(row).to_contain_text("Rejected", timeout=PATIENCE_MS)
    await expect(row).to_contain_text("not handed out")
    await expect(row.get_by_role("button")).to_have_count(0)
