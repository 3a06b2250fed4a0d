"""The page of twenty lines that a web developer copies, as it is, on a server of their own."""

from pathlib import Path
from typing import Any

from dashboard.elsewhere import Site
from dashboard.upload_page import PART, PATIENCE_MS, UploadPage, write_file
from deployment import TOKEN, Deployment
from playwright.async_api import BrowserContext, Dialog, expect

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "example.html"
PLACEHOLDER = "https://gateway.example.com"


async def test_the_example_uploads_pauses_and_goes_on(
    context: BrowserContext, deployed: Deployment, site: Site, stored: Any, files: Path
) -> None:
    window = UploadPage(await context.new_page(), deployed)
    page = window.page
    prompts = []

    async def answer(dialog: Dialog) -> None:
        prompts.append(dialog.message)
        await dialog.accept(TOKEN)

    page.on("dialog", answer)
    site.html = EXAMPLE.read_text().replace(PLACEHOLDER, deployed.url)
    site.headers = {}
    await page.goto(site.origin)
    name = "example.bin"
    content = write_file(files / name, 3 * PART)
    await window.hold_after(1)
    await page.set_input_files("input", files / name)
    await window.until_stored(name, 1)
    await window.button("Pause").click()
    await expect(page.locator("output")).to_have_text(f"{name}: paused. ")
    assert 0.3 < float(await page.locator("progress").get_attribute("value") or 0) < 1
    await window.release()
    await window.button("Go on").click()
    await expect(page.locator("output")).to_have_text(f"{name}: completed. ", timeout=PATIENCE_MS)
    assert await page.locator("progress").get_attribute("value") == "1"
    await expect(page.locator("button")).to_be_hidden()
    assert prompts == ["Access token"]
    assert await stored.content(await window.session(name)) == content
    assert window.accidents == []
