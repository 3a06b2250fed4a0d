"""The page of the API in a real browser, and how it and its document are served."""

from collections.abc import AsyncIterator
from typing import Any, cast

import aiohttp
import pytest
import pytest_asyncio
from gateways import FakeService, Serving, serving
from playwright.async_api import Browser, Page, expect
from project.test_openapi import operations

from gateway.app import DOORS, api_document
from gateway.config import Settings
from gateway.dashboard.routes import DashboardOptions, routes
from gateway.web.door import DoorTable
from gateway.web.openapi import openapi_routes


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Serving]:
    doors = [
        make(cast("Any", FakeService()), Settings(s3_bucket="bucket")) for make in DOORS.values()
    ]
    document = api_document(DoorTable(doors))
    paths = [*routes(DashboardOptions()), *openapi_routes(document)]
    async with serving(doors, routes=paths) as running:
        yield running


@pytest_asyncio.fixture
async def page(browser: Browser, served: Serving) -> AsyncIterator[Page]:
    """Open the page; whatever the browser complains of is a failure."""
    context = await browser.new_context(viewport={"width": 360, "height": 780})
    opened = await context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    await opened.goto(f"http://{served.host}:{served.port}/docs")
    await expect(opened.locator("#all-objects")).to_be_visible()
    yield opened
    await context.close()
    assert not complaints


async def document_of(served: Serving) -> dict[str, Any]:
    async with served.client.get("/openapi.json") as answer:
        return cast("dict[str, Any]", await answer.json())


async def test_every_call_is_shown_with_its_codes_and_its_curl_line(
    page: Page, served: Serving
) -> None:
    calls = operations(await document_of(served))
    assert await page.locator(".call").count() == len(calls)
    for name, operation in calls.items():
        section = page.locator(f"[id='{operation['operationId']}']")
        method, _, path = name.partition(" ")
        assert await section.locator(".address .method").text_content() == method
        assert await section.locator(".address code").text_content() == path
        assert "curl" in (await section.locator("pre").first.text_content() or "")
        for status in operation["responses"]:
            shown = await section.locator(f".status:text-is('{status}')").count()
            assert shown >= 1, (name, status)
    shown_codes = await page.locator("#complete .field-name").all_text_contents()
    assert {"parts_missing", "corrupt", "session_gone", "redis_unavailable"} <= {*shown_codes}
    body = await page.locator("#create .field-name").all_text_contents()
    assert {"filename", "part_size", "fingerprint", "algorithm", "Idempotency-Key"} <= {*body}


async def test_an_address_leads_into_what_is_folded(page: Page) -> None:
    # Both on the page that is open already, and on one that is opened anew.
    for reload in (False, True):
        await page.evaluate("location.hash = '#sign-error-409'")
        if reload:
            await page.reload()
        await expect(page.locator("#sign-error-409")).to_have_attribute("open", "")
        await expect(page.locator("#sign-error-409").get_by_text("other bytes")).to_be_in_viewport()
        await page.evaluate("location.hash = ''")


async def test_every_link_within_the_page_leads_somewhere(page: Page) -> None:
    lost = await page.evaluate(
        """[...document.querySelectorAll("a[href^='#']")]
            .map((link) => decodeURIComponent(link.hash.slice(1)))
            .filter((id) => !document.getElementById(id))"""
    )
    assert lost == []


async def test_no_two_things_have_one_address(page: Page) -> None:
    ids = await page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert sorted(set(ids)) == sorted(ids)


async def test_nothing_is_wider_than_a_small_phone_even_when_all_is_unfolded(page: Page) -> None:
    await page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    assert await page.evaluate("document.documentElement.scrollWidth") == 360


async def test_the_keyboard_gets_to_a_call_and_unfolds_its_errors(page: Page) -> None:
    contents = page.locator("#call-menu > summary")
    await contents.focus()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#create")).to_be_focused()
    await expect(page.locator("#call-menu")).not_to_have_attribute("open", "")
    error = page.locator("#create-error-409 > summary")
    await error.focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#create-error-409")).to_have_attribute("open", "")


async def test_a_document_that_cannot_be_read_is_said_and_asked_for_again(
    browser: Browser, served: Serving
) -> None:
    async with await browser.new_context() as context:
        page = await context.new_page()
        await page.route("**/openapi.json", lambda route: route.abort())
        await page.goto(f"http://{served.host}:{served.port}/docs")
        await expect(page.get_by_role("alert")).to_contain_text("cannot be read")
        await page.unroute("**/openapi.json")
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator("#all-objects")).to_be_visible()


async def test_the_document_is_public_readable_from_anywhere_and_sent_once(
    served: Serving,
) -> None:
    address = f"http://{served.host}:{served.port}/openapi.json"
    async with aiohttp.ClientSession() as anybody:
        async with anybody.get(address) as answer:
            assert answer.status == 200
            assert answer.content_type == "application/json"
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert answer.headers["Cache-Control"] == "no-cache"
            etag = answer.headers["ETag"]
            size = len(await answer.read())
        async with anybody.head(address) as answer:
            assert answer.headers["ETag"] == etag
            assert int(answer.headers["Content-Length"]) == size
        for known in (etag, f'"another", W/{etag}', "*"):
            async with anybody.get(address, headers={"If-None-Match": known}) as answer:
                assert answer.status == 304
                assert await answer.read() == b""
                assert answer.headers["ETag"] == etag
        async with anybody.get(address, headers={"If-None-Match": '"another"'}) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("path", ["/docs", "/static/docs.js", "/static/docs.css"])
async def test_the_page_is_served_as_the_upload_page_is(served: Serving, path: str) -> None:
    async with served.client.get(path) as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-cache"
        policy = answer.headers.get("Content-Security-Policy", "")
        assert (path == "/docs") == ("default-src 'none'" in policy)
    async with served.client.head(path) as answer:
        assert int(answer.headers["Content-Length"]) > 500
