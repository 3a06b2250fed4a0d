"""The library in somebody else's page: another origin, plain http, no cryptography in the browser."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiohttp import web
from dashboard.upload_page import ELSEWHERE, ELSEWHERE_PORT, PART, UploadPage, write_file
from deployment import TOKEN, Deployment
from playwright.async_api import BrowserContext

HOST_PAGE = """<!doctype html>
<title>Somebody else's page</title>
<input type="file" id="picker">
<script type="module">
  import {{ Uploader }} from "{server}/static/uploader.js";
  const tokens = ["expired-token", "{token}"];
  const uploader = new Uploader({{ getToken: () => tokens.shift() }});
  document.getElementById("picker").addEventListener("change", ({{ target }}) => {{
    const events = (window.events = []);
    const upload = uploader.upload(target.files[0], {{ metadata: {{ from: "elsewhere" }} }});
    for (const type of ["state", "progress", "done", "error"]) {{
      upload.addEventListener(type, ({{ detail }}) => events.push([type, detail]));
    }}
    window.upload = upload;
  }});
</script>
"""


@pytest_asyncio.fixture
async def elsewhere(context: BrowserContext, deployed: Deployment) -> AsyncIterator[UploadPage]:
    """Open a page of another origin that imports the library."""
    html = HOST_PAGE.format(server=deployed.url, token=TOKEN)

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=html, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", ELSEWHERE_PORT).start()
    window = UploadPage(await context.new_page(), deployed)
    await window.page.goto(f"{ELSEWHERE}/")
    yield window
    await runner.cleanup()


async def test_the_library_works_from_another_origin_on_plain_http(
    elsewhere: UploadPage, stored: Any, files: Path
) -> None:
    page = elsewhere.page
    assert await page.evaluate("[isSecureContext, crypto.subtle === undefined]") == [False, True]
    content = write_file(files / "from-elsewhere.bin", 2 * PART + 1)
    await elsewhere.choose(files / "from-elsewhere.bin")
    await page.wait_for_function("() => ['completed', 'failed'].includes(window.upload?.state)")
    events = await page.evaluate("() => events.map(([type, detail]) => [type, detail])")
    assert [type_ for type_, _ in events].count("done") == 1, events
    assert len(page.workers) == 1, "the checksums were to be computed in a worker"
    session = await elsewhere.session("from-elsewhere.bin")
    assert session["metadata"] == {"from": "elsewhere"}
    assert await stored.content(session) == content
    sent = [detail["sent"] for type_, detail in events if type_ == "progress"]
    assert sent == sorted(sent)
    assert sent[-1] == len(content)


async def test_parts_on_the_way_adapt_to_errors(elsewhere: UploadPage) -> None:
    limits = await elsewhere.page.evaluate(
        """async (server) => {
          const { Flow } = await import(`${server}/static/uploader/flow.js`);
          const flow = new Flow(8);
          const seen = [flow.limit];
          for (let i = 0; i < 100; i += 1) flow.succeeded();
          seen.push(flow.limit);
          const startedAt = performance.now();
          flow.failed(startedAt);
          flow.failed(startedAt - 1);
          seen.push(flow.limit, flow.closedFor > 0, flow.enter());
          flow.open();
          seen.push(flow.enter());
          for (let i = 0; i < 10; i += 1) flow.failed(performance.now());
          seen.push(flow.limit);
          return seen;
        }""",
        elsewhere.deployed.url,
    )
    assert limits == [3, 8, 4, True, False, True, 1]
