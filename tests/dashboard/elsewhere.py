"""Somebody else's web server and page: another origin, plain http, a name that is not localhost.

So the browser has no cryptography of its own for it, and asks the gateway and the store whether
this page may send to them.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from dashboard.upload_page import PATIENCE_MS, UploadPage
from deployment import TOKEN, Deployment
from playwright.async_api import Page

# The gateway under test lets pages of the first name in, and not those of the second.
NAMES = ("elsewhere.test", "stranger.test")

HOST_PAGE = """<!doctype html>
<title>Somebody else's page</title>
<input type="file" id="picker" multiple>
<script type="module">
  import {{ Uploader }} from "{server}/static/uploader.js";
  window.uploads = {{}};
  window.events = [];
  // An Error is copied without its fields.
  const plain = (value) => {{
    if (value instanceof Error) return {{ message: value.message, ...value }};
    if (!value?.state || value.session_id) return value;
    return {{ ...value, trouble: plain(value.trouble), error: plain(value.error) }};
  }};
  // What getToken was asked with; tests may put another function in its place.
  window.asked = [];
  window.giveToken = () => "{token}";
  const getToken = (why) => {{
    asked.push(why.rejected);
    return giveToken(why);
  }};
  window.uploader = new Uploader({{ getToken, ...{uploader} }});
  document.getElementById("picker").addEventListener("change", ({{ target }}) => {{
    const files = [...target.files];
    // Else the same file could not be chosen twice.
    target.value = "";
    for (const file of files) {{
      const upload = uploader.upload(file, {options});
      uploads[file.name] = upload;
      for (const type of ["state", "progress", "done", "error"]) {{
        const busy = ({{ state }}) => ["preparing", "uploading"].includes(state);
        upload.addEventListener(type, ({{ detail }}) => {{
          events.push([file.name, type, plain(detail), uploader.uploads.filter(busy).length]);
        }});
      }}
    }}
  }});
</script>
"""
UNTIL = """([name, states]) => {
  const upload = window.uploads?.[name];
  return upload && states.includes(upload.trouble?.code ?? upload.state);
}"""


class Site:
    """A web server at `origin`, and under a second name at `strange_origin`."""

    def __init__(self) -> None:
        self.origin = ""
        self.strange_origin = ""
        self.html = ""
        self.headers: Mapping[str, str] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Site"]:
        """Serve on a free port."""
        app = web.Application()
        app.router.add_get("/", self._page)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        self.origin, self.strange_origin = (f"http://{name}:{port}" for name in NAMES)
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=self.html, content_type="text/html", headers=self.headers)


class HostPage(UploadPage):
    """A page of that site with the library in it. Uploads are known by their file's name."""

    def __init__(self, page: Page, deployed: Deployment, site: Site) -> None:
        super().__init__(page, deployed)
        self.site = site

    async def visit(
        self,
        *,
        strange: bool = False,
        options: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        uploader: Mapping[str, Any] | None = None,
    ) -> None:
        """Go there. `options` are those of `upload()`, `headers` what the page is served with.

        `uploader` are more options of the Uploader.
        """
        self.site.html = HOST_PAGE.format(
            server=self.deployed.url,
            token=TOKEN,
            options=json.dumps(options or {}),
            uploader=json.dumps(uploader or {}),
        )
        self.site.headers = headers or {}
        origin = self.site.strange_origin if strange else self.site.origin
        await self.page.goto(f"{origin}/")

    async def send(self, *paths: Path, until: str | None = "completed") -> None:
        """Choose files, and wait until all have come to a state or a trouble."""
        await self.choose(*paths)
        for path in paths if until else ():
            await self.until(path.name, until or "")

    async def until(self, name: str, state: str) -> None:
        """Wait until the upload has come to the state, or the trouble; a failure ends the wait."""
        states = [state, "failed", "completed", "aborted"]
        await self.page.wait_for_function(UNTIL, arg=[name, states], timeout=PATIENCE_MS)
        found = await self.page.evaluate(
            "(name) => [uploads[name].trouble?.code ?? uploads[name].state, uploads[name].error]",
            name,
        )
        assert found[0] == state, found

    async def tell(self, name: str, verb: str) -> None:
        """Call a method of the upload."""
        await self.page.evaluate("([name, verb]) => uploads[name][verb]()", [name, verb])

    async def events(self, name: str, *types: str) -> list[tuple[str, Any]]:
        """Return what the upload has dispatched so far: type and detail."""
        return [
            (type_, detail)
            for of, type_, detail, _ in await self.page.evaluate("events")
            if of == name and (not types or type_ in types)
        ]

    async def states(self, name: str) -> list[str]:
        """Return the states it went through, and its troubles, each once when it came."""
        seen: list[str] = []
        for _, detail in await self.events(name, "state"):
            trouble = detail["trouble"]
            now = trouble["code"] if trouble else detail["state"]
            if not seen or seen[-1] != now:
                seen.append(now)
        return seen
