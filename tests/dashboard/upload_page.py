"""The upload page as a test drives it: what a person sees and does, and what goes over the wire."""

import asyncio
import random
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from deployment import TOKEN, Deployment
from playwright.async_api import Error, Locator, Page, Request, Response, Route, expect

MIB = 1024 * 1024
PART = 8 * MIB
PART_URLS = re.compile(r"[?&]partNumber=")
RELAY_URLS = re.compile(r"/parts/\d+(\?|$)")
# By it the gateway is asked whether it reaches the store.
LOOK_URLS = re.compile(r"/parts\?limit=1$")
# A whole upload on a busy machine with two cores.
PATIENCE_MS = 60_000


class UploadPage:
    """One window. `accidents` collects what must never happen: script errors, policy violations."""

    def __init__(self, page: Page, deployed: Deployment) -> None:
        self.page = page
        self.deployed = deployed
        self.accidents: list[str] = []
        self.put_parts: Counter[int] = Counter()
        """How often each part was put with success."""
        self.tried_parts: Counter[int] = Counter()
        self._left = 0
        self._held: list[Route] = []
        page.on("pageerror", lambda error: self.accidents.append(str(error)))
        page.on("console", lambda message: self._hear(message.text))
        # From the start, so that no chooser opens before the test listens.
        page.on("filechooser", lambda _: None)
        page.on("request", self._count_try)
        page.on("response", self._count_success)

    def _hear(self, text: str) -> None:
        if "Content Security Policy" in text or "Uncaught" in text:
            self.accidents.append(text)

    def _count_try(self, request: Request) -> None:
        if number := part_number(request):
            self.tried_parts[number] += 1

    def _count_success(self, response: Response) -> None:
        if response.ok and (number := part_number(response.request)):
            self.put_parts[number] += 1

    async def open(self, token: str | None = TOKEN) -> None:
        fragment = f"#token={token}" if token else ""
        await self.page.goto(f"{self.deployed.url}/{fragment}")

    async def reload(self) -> None:
        """Reload, and count the parts anew."""
        await self.page.reload()
        self.put_parts.clear()
        self.tried_parts.clear()

    async def choose(self, *paths: Path) -> None:
        await self.page.set_input_files("#picker", [str(path) for path in paths])

    async def hold_after(self, count: int) -> None:
        """Let so many part PUTs leave the browser, and keep the others back in it."""
        self._left = count
        await self.page.route(PART_URLS, self._hold)

    async def release(self) -> None:
        """Let them go, those of a page that is still there."""
        await self.page.unroute(PART_URLS, self._hold)
        for route in self._held:
            # After a reload nobody waits for it any more.
            with suppress(Error):
                await route.continue_()
        self._held.clear()

    async def _hold(self, route: Route) -> None:
        if self._left > 0:
            self._left -= 1
            await route.continue_()
        else:
            self._held.append(route)

    def card(self, name: str) -> Locator:
        return self.page.locator(".card", has_text=name)

    def row(self, name: str) -> Locator:
        return self.page.locator(".row", has_text=name).first

    def button(self, label: str) -> Locator:
        return self.page.get_by_role("button", name=label, exact=True)

    async def until(self, name: str, state: str) -> None:
        """Wait until a card shows the state."""
        card = self.card(name)
        await expect(card).to_have_attribute("data-state", state, timeout=PATIENCE_MS)

    async def until_stored(self, name: str, parts: int) -> dict[str, Any]:
        """Wait until the gateway has recorded so many parts; return the session."""
        async with asyncio.timeout(PATIENCE_MS / 1000):
            while True:
                session = await self.session(name)
                if session and session["received_parts"] >= parts:
                    return session
                await asyncio.sleep(0.05)

    async def session(self, name: str) -> dict[str, Any]:
        """Return the newest session of that file name, as the API tells it; {} for none."""
        listed = (await self.deployed.call("GET", "/uploads?limit=200"))["uploads"]
        return next((session for session in listed if session["filename"] == name), {})

    async def lose_store(self) -> None:
        """Let nothing get from this page to the store."""
        store = f"{self.deployed.proxy.url}/**"
        await self.page.route(store, lambda route: route.abort("connectionrefused"))

    async def find_store(self) -> None:
        """Let everything get there again."""
        await self.page.unroute(f"{self.deployed.proxy.url}/**")

    async def lose_store_for_everybody(self) -> None:
        """Let the gateway say that it does not reach the store either."""
        problem = {"code": "storage_unavailable", "message": "No.", "hint": "", "retryable": True}
        await self.page.route(LOOK_URLS, lambda route: route.fulfill(status=503, json=problem))

    async def slow_down(self, bytes_per_second: float) -> None:
        """Narrow the line for everything that this page sends."""
        devtools = await self.page.context.new_cdp_session(self.page)
        await devtools.send("Network.enable")
        await devtools.send(
            "Network.emulateNetworkConditions",
            {
                "offline": False,
                "latency": 1,
                "downloadThroughput": -1,
                "uploadThroughput": bytes_per_second,
            },
        )


def part_number(request: Request) -> int:
    """Return the number of the part that a request puts, or 0."""
    if request.method != "PUT":
        return 0
    return int(parse_qs(urlsplit(request.url).query).get("partNumber", ["0"])[0])


def write_file(path: Path, size: int, seed: int = 1) -> bytes:
    """Fill a file with bytes that no compression and no coincidence makes equal."""
    content = random.Random(seed).randbytes(size)
    path.write_bytes(content)
    return content
