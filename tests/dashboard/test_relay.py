"""Where only the gateway reaches the store, the page and the library go through it, and say so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from dashboard.conftest import BUCKET, allow_browsers, forbid_browsers
from dashboard.elsewhere import HostPage
from dashboard.upload_page import PART, PART_URLS, RELAY_URLS, UploadPage, write_file
from playwright.async_api import Error, Route, expect
from servers import S3Target

RELAYED = "Your network cannot reach the storage directly; the file goes through the server"
BLOCKED = "The storage takes no files from this page directly; the file goes through the server"


class Relays:
    """Part PUTs to the gateway, which can be held back in the browser, or answered otherwise."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.held = asyncio.Event()
        self.instead: list[dict[str, Any]] = []
        self._left: int | None = None
        self._waiting: list[Route] = []

    def hold_after(self, count: int) -> None:
        """Let so many more leave the browser, and keep the others back in it."""
        self._left = count
        self.held.clear()

    async def release(self) -> None:
        """Let them go, those that somebody still waits for."""
        self._left = None
        while self._waiting:
            with suppress(Error):
                await self._waiting.pop().continue_()

    async def handle(self, route: Route) -> None:
        self.urls.append(route.request.url)
        if self.instead:
            await route.fulfill(**self.instead.pop())
        elif self._left == 0:
            self._waiting.append(route)
            self.held.set()
        else:
            self._left = self._left and self._left - 1
            await route.continue_()


@asynccontextmanager
async def relays(page: UploadPage) -> AsyncIterator[Relays]:
    found = Relays()
    await page.page.route(RELAY_URLS, found.handle)
    try:
        yield found
    finally:
        await found.release()
        await page.page.unroute(RELAY_URLS, found.handle)


def problem(status: int, code: str, **fields: Any) -> dict[str, Any]:
    headers = {"Access-Control-Allow-Origin": "*"}
    return {
        "status": status,
        "headers": headers,
        "json": {"code": code, "message": "No.", "hint": "", **fields},
    }


class TestPage:
    async def test_a_store_out_of_reach_is_gone_around_and_said_so(
        self, upload_page: UploadPage, stored: Any, files: Path
    ) -> None:
        name = "relayed.bin"
        content = write_file(files / name, PART + 5)
        await upload_page.lose_store()
        async with relays(upload_page) as found:
            found.hold_after(0)
            await upload_page.choose(files / name)
            await found.held.wait()
            card = upload_page.card(name)
            await expect(card).to_contain_text(RELAYED)
            await expect(card).to_have_attribute("data-state", "uploading")
            await expect(upload_page.page.locator("#announcer")).to_contain_text(RELAYED)
            await found.release()
            await upload_page.until(name, "completed")
        assert sorted(url.rpartition("/")[2] for url in found.urls) == ["1", "2"]
        session = await upload_page.session(name)
        assert session["verified_by"] == "client_parts"
        assert await stored.content(session) == content
        await expect(card.get_by_text(RELAYED)).to_be_hidden()

    async def test_a_store_without_cors_rules_is_gone_around_and_told_apart(
        self, upload_page: UploadPage, s3: S3Target, stored: Any, files: Path
    ) -> None:
        name = "no-cors.bin"
        content = write_file(files / name, PART + 1)
        await asyncio.to_thread(forbid_browsers, s3, BUCKET)
        try:
            async with relays(upload_page) as found:
                found.hold_after(0)
                await upload_page.choose(files / name)
                await found.held.wait()
                await expect(upload_page.card(name)).to_contain_text(BLOCKED)
                await found.release()
                await upload_page.until(name, "completed")
            assert await stored.content(await upload_page.session(name)) == content
            # A link needs no rules: it leads to the store itself.
            async with upload_page.page.expect_download() as downloading:
                await upload_page.button("Download").click()
            assert upload_page.deployed.proxy.url in (await downloading.value).url
        finally:
            await asyncio.to_thread(allow_browsers, s3, BUCKET)

    async def test_a_file_is_downloaded_through_the_gateway_too(
        self, upload_page: UploadPage, files: Path, tmp_path: Path
    ) -> None:
        name = "download ü.bin"
        content = write_file(files / name, 100_000)
        await upload_page.choose(files / name)
        await upload_page.until(name, "completed")
        await upload_page.lose_store()
        said = upload_page.page.locator("#notices")
        waiting = asyncio.Event()

        async def hold(route: Route) -> None:
            await waiting.wait()
            await route.continue_()

        await upload_page.page.route("**/content?relay=1", hold)
        async with upload_page.page.expect_download() as downloading:
            await upload_page.button("Download").click()
            await expect(said).to_contain_text(f"{name} comes through the server")
            waiting.set()
        download = await downloading.value
        assert download.suggested_filename == name
        await download.save_as(tmp_path / "back")
        assert await asyncio.to_thread((tmp_path / "back").read_bytes) == content
        await expect(said).to_have_text("")

    async def test_a_download_that_fails_both_ways_is_said(
        self, upload_page: UploadPage, files: Path
    ) -> None:
        name = "no-way.bin"
        write_file(files / name, 10)
        await upload_page.choose(files / name)
        await upload_page.until(name, "completed")
        await upload_page.lose_store()
        gone = problem(503, "too_many_relays", retryable=True)
        await upload_page.page.route("**/content?relay=1", lambda route: route.fulfill(**gone))
        await upload_page.button("Download").click()
        await expect(upload_page.card(name)).to_contain_text("This did not work")

    async def test_offline_means_waiting_and_not_relaying(
        self, upload_page: UploadPage, files: Path
    ) -> None:
        name = "offline-relay.bin"
        write_file(files / name, PART)
        async with relays(upload_page) as found:
            await upload_page.hold_after(0)
            async with upload_page.page.expect_request(PART_URLS):
                await upload_page.choose(files / name)
            await upload_page.page.context.set_offline(True)
            await upload_page.release()
            await upload_page.until(name, "waiting")
            await expect(upload_page.card(name)).to_contain_text("You are offline")
            await upload_page.page.context.set_offline(False)
            await upload_page.until(name, "completed")
        assert found.urls == []

    @pytest.mark.large
    async def test_a_gateway_that_is_killed_while_it_relays_is_waited_for(
        self, upload_page: UploadPage, stored: Any, files: Path
    ) -> None:
        name = "killed-relay.bin"
        content = write_file(files / name, 2 * PART)
        await upload_page.lose_store()
        async with relays(upload_page) as found:
            found.hold_after(1)
            await upload_page.choose(files / name)
            await upload_page.until_stored(name, 1)
            await found.held.wait()
            await upload_page.deployed.kill_gateway()
            await found.release()
            await upload_page.until(name, "waiting")
            await expect(upload_page.card(name)).to_contain_text("The gateway does not answer")
            await upload_page.deployed.start_gateway()
            await upload_page.until(name, "completed")
        assert await stored.content(await upload_page.session(name)) == content

    async def test_after_a_reload_only_what_is_missing_is_relayed(
        self, upload_page: UploadPage, stored: Any, files: Path
    ) -> None:
        name = "reloaded-relay.bin"
        content = write_file(files / name, PART + 1)
        await upload_page.lose_store()
        async with relays(upload_page) as found:
            found.hold_after(1)
            await upload_page.choose(files / name)
            await upload_page.until_stored(name, 1)
            await found.held.wait()
            await upload_page.reload()
            found.urls.clear()
            await found.release()
            await upload_page.choose(files / name)
            await upload_page.until(name, "completed")
        assert len(found.urls) == 1
        assert await stored.content(await upload_page.session(name)) == content


class TestLibrary:
    async def test_it_tells_that_and_why(
        self, elsewhere: HostPage, stored: Any, files: Path
    ) -> None:
        name = "relayed-elsewhere.bin"
        content = write_file(files / name, PART + 1)
        await elsewhere.lose_store()
        await elsewhere.send(files / name)
        session = await elsewhere.session(name)
        assert session["verified_by"] == "client_parts"
        assert await stored.content(session) == content
        relayed, code = await elsewhere.page.evaluate(
            "(name) => [uploads[name].relayed, uploads[name].relayCause.code]", name
        )
        assert (relayed, code) == (True, "store_unreachable")
        told = [detail["relayed"] for _, detail in await elsewhere.events(name, "state")]
        assert (told[0], told[-1]) == (False, True)
        shown = [detail["relayed"] for _, detail in await elsewhere.events(name, "progress")]
        assert shown[-1]
        # It was no trouble at any time.
        assert "store_unreachable" not in await elsewhere.states(name)

    async def test_each_upload_tries_the_store_first(
        self, elsewhere: HostPage, files: Path
    ) -> None:
        write_file(files / "first-way.bin", 10)
        write_file(files / "second-way.bin", 11)
        await elsewhere.lose_store()
        await elsewhere.send(files / "first-way.bin")
        await elsewhere.find_store()
        await elsewhere.send(files / "second-way.bin")
        assert await elsewhere.page.evaluate("Object.values(uploads).map((u) => u.relayed)") == [
            True,
            False,
        ]

    async def test_a_store_that_swallows_everything_is_gone_around_after_one_attempt(
        self, elsewhere: HostPage, files: Path
    ) -> None:
        name = "black-hole.bin"
        write_file(files / name, 2 * PART)
        tried: list[str] = []

        async def swallow(route: Route) -> None:
            # No answer, ever; the page gives each attempt up by itself.
            tried.append(route.request.method)

        # Else it would take half a minute.
        await elsewhere.page.add_init_script(
            "const later = setTimeout; setTimeout = (act, ms = 0) => later(act, ms / 20);"
        )
        await elsewhere.visit()
        await elsewhere.page.route(f"{elsewhere.deployed.proxy.url}/**", swallow)
        await elsewhere.send(files / name)
        # Those on their way at once, and what begins anew before the answers are there.
        assert tried.count("PUT") <= 6
        assert await elsewhere.page.evaluate("(name) => uploads[name].relayed", name)

    @pytest.mark.parametrize(
        ("relay", "state", "ways"), [("never", "store_unreachable", 0), ("always", "completed", 1)]
    )
    async def test_whether_to_relay_can_be_said(
        self, elsewhere: HostPage, files: Path, relay: str, state: str, ways: int
    ) -> None:
        name = f"relay-{relay}.bin"
        write_file(files / name, 10)
        await elsewhere.visit(uploader={"relay": relay})
        await elsewhere.lose_store()
        async with relays(elsewhere) as found:
            await elsewhere.send(files / name, until=state)
        assert len(found.urls) == ways
        assert elsewhere.tried_parts.total() == (1 - ways)
        await elsewhere.tell(name, "abort")

    async def test_pause_resume_and_abort(
        self, elsewhere: HostPage, stored: Any, files: Path
    ) -> None:
        name = "paused-relay.bin"
        content = write_file(files / name, PART + 1)
        await elsewhere.lose_store()
        async with relays(elsewhere) as found:
            found.hold_after(1)
            await elsewhere.send(files / name, until=None)
            await elsewhere.until_stored(name, 1)
            await found.held.wait()
            await elsewhere.tell(name, "pause")
            await elsewhere.until(name, "paused")
            await found.release()
            await elsewhere.tell(name, "resume")
            await elsewhere.until(name, "completed")
            assert await stored.content(await elsewhere.session(name)) == content
            found.hold_after(0)
            write_file(files / "aborted-relay.bin", 1000)
            await elsewhere.send(files / "aborted-relay.bin", until=None)
            await found.held.wait()
            await elsewhere.tell("aborted-relay.bin", "abort")
            await elsewhere.until("aborted-relay.bin", "aborted")
        assert (await elsewhere.session("aborted-relay.bin"))["state"] == "aborted"

    async def test_a_token_that_expires_meanwhile_is_asked_for_anew(
        self, elsewhere: HostPage, files: Path
    ) -> None:
        name = "token-relay.bin"
        write_file(files / name, 1000)
        await elsewhere.lose_store()
        async with relays(elsewhere) as found:
            found.instead = [problem(401, "invalid_token")]
            # The gateway under test knows one token only: an object is not the same as a text.
            await elsewhere.page.evaluate(
                "() => { const [was, given] = [giveToken(), []];"
                " window.giveToken = () => (given.push(1) > 1 ? was : new String(was)); }"
            )
            await elsewhere.send(files / name)
        asked = await elsewhere.page.evaluate("asked.length")
        assert asked == 2

    @pytest.mark.parametrize(
        "answer",
        [
            problem(409, "part_busy", retryable=True),
            problem(503, "too_many_parts_in_flight", retryable=True),
            problem(400, "digest_mismatch"),
            problem(409, "part_conflict", details={"parts": [1]}),
            {"status": 502, "headers": {"Access-Control-Allow-Origin": "*"}, "body": "<html>"},
        ],
        ids=["busy", "many", "damaged", "conflict", "proxy"],
    )
    async def test_what_the_gateway_refuses_for_now_is_sent_again(
        self, elsewhere: HostPage, stored: Any, files: Path, answer: dict[str, Any]
    ) -> None:
        name = f"refused-{answer['status']}-{len(str(answer))}.bin"
        content = write_file(files / name, 1000, seed=len(str(answer)))
        await elsewhere.visit(uploader={"relay": "always"})
        async with relays(elsewhere) as found:
            found.instead = [answer]
            await elsewhere.send(files / name)
        assert len(found.urls) == 2
        assert await stored.content(await elsewhere.session(name)) == content

    async def test_other_bytes_that_are_stored_are_replaced(
        self, elsewhere: HostPage, stored: Any, files: Path
    ) -> None:
        name = "replaced-relay.bin"
        content = write_file(files / name, PART)
        await elsewhere.visit(uploader={"relay": "always"})
        async with relays(elsewhere) as found:
            found.hold_after(0)
            await elsewhere.send(files / name, until=None)
            await found.held.wait()
            session = await elsewhere.session(name)
            await elsewhere.deployed.call(
                "PUT", f"/uploads/{session['session_id']}/parts/1", data=BytesIO(bytes(PART))
            )
            await found.release()
            await elsewhere.until(name, "completed")
        assert any(url.endswith("/parts/1?replace=1") for url in found.urls)
        assert await stored.content(await elsewhere.session(name)) == content

    async def test_a_proxy_that_takes_no_large_bodies_is_named(
        self, elsewhere: HostPage, files: Path
    ) -> None:
        name = "nginx.bin"
        write_file(files / name, 10)
        await elsewhere.visit(uploader={"relay": "always"})
        async with relays(elsewhere) as found:
            headers = {"Access-Control-Allow-Origin": "*"}
            found.instead = [{"status": 413, "headers": headers, "body": "<html>"}]
            await elsewhere.send(files / name, until="failed")
        [(_, error)] = await elsewhere.events(name, "error")
        assert error["code"] == "relay_too_large"
