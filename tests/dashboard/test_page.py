"""The page itself: token, keyboard, screen readers, small screens."""

from pathlib import Path

from dashboard.upload_page import MIB, PART, UploadPage, write_file
from deployment import TOKEN, Deployment
from playwright.async_api import BrowserContext, expect

AXE_LIKE = """() => {
  const named = (node) =>
    node.getAttribute("aria-label") || node.textContent.trim() ||
    (node.id && document.querySelector(`label[for="${node.id}"]`)?.textContent.trim());
  return [...document.querySelectorAll("button, input:not([hidden]), [role=progressbar], dialog")]
    .filter((node) => !named(node) && !node.getAttribute("aria-labelledby"))
    .map((node) => node.outerHTML);
}"""


async def test_the_token_leaves_the_address_at_once_and_stays_in_this_window(
    upload_page: UploadPage,
) -> None:
    page = upload_page.page
    await expect(page.locator("#sessions")).to_be_visible()
    assert page.url == f"{upload_page.deployed.url}/"
    assert TOKEN not in await page.evaluate("JSON.stringify(history.state) + document.URL")
    assert await page.evaluate("sessionStorage.getItem('gateway-token')") == TOKEN
    assert await page.evaluate("localStorage.length + document.cookie.length") == 0
    await upload_page.reload()
    await expect(page.locator("#sessions")).to_be_visible()
    await expect(page.locator("#token-form")).to_be_hidden()


async def test_a_token_with_plus_signs_and_escapes_is_taken_as_it_is(
    context: BrowserContext, deployed: Deployment
) -> None:
    page = await context.new_page()
    await page.goto(f"{deployed.url}/#token=a+b/c%3D%26d==")
    await expect(page.locator("#token-form")).to_be_visible()
    assert await page.evaluate("sessionStorage.getItem('gateway-token')") == "a+b/c=&d=="


async def test_without_a_token_the_page_asks_for_it_and_goes_on(
    context: BrowserContext, deployed: Deployment, files: Path
) -> None:
    upload_page = UploadPage(await context.new_page(), deployed)
    await upload_page.open(token=None)
    page = upload_page.page
    await expect(page.get_by_role("heading", name="Access token needed")).to_be_visible()
    await expect(page.get_by_label("Access token", exact=True)).to_be_focused()
    write_file(files / "early.bin", MIB)
    await upload_page.choose(files / "early.bin")
    await upload_page.until("early.bin", "failed")
    await expect(upload_page.card("early.bin")).to_contain_text("Access token needed")
    await page.get_by_label("Access token", exact=True).fill("a-wrong-token")
    await page.keyboard.press("Enter")
    await expect(page.locator("#token-why")).to_contain_text("did not accept")
    await page.get_by_label("Access token", exact=True).fill(TOKEN)
    await page.keyboard.press("Enter")
    await upload_page.until("early.bin", "completed")
    await expect(page.locator("#token-form")).to_be_hidden()


async def test_everything_can_be_done_with_the_keyboard(
    upload_page: UploadPage, files: Path
) -> None:
    page = upload_page.page
    write_file(files / "keys.bin", 3 * PART)
    await page.keyboard.press("Tab")
    await expect(upload_page.button("Choose files")).to_be_focused()
    await upload_page.hold_after(1)
    async with page.expect_file_chooser() as choosing:
        await page.keyboard.press("Enter")
    await (await choosing.value).set_files(files / "keys.bin")
    await upload_page.until_stored("keys.bin", 1)
    await page.keyboard.press("Tab")
    await expect(upload_page.button("Pause keys.bin")).to_be_focused()
    await page.keyboard.press("Space")
    # The focus goes to what takes the place of the button that was pressed.
    await expect(upload_page.button("Resume keys.bin")).to_be_focused()
    await page.keyboard.press("Space")
    await expect(upload_page.button("Pause keys.bin")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(upload_page.button("Cancel keys.bin")).to_be_focused()
    await upload_page.release()
    await upload_page.until("keys.bin", "completed")
    await expect(upload_page.button("Remove keys.bin from this view")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(upload_page.card("keys.bin")).to_have_count(0)
    await expect(upload_page.button("Choose files")).to_be_focused()


async def test_the_dialog_is_left_with_escape_and_gives_the_focus_back(
    upload_page: UploadPage, files: Path
) -> None:
    write_file(files / "escape.bin", 2 * PART)
    await upload_page.hold_after(1)
    await upload_page.choose(files / "escape.bin")
    await upload_page.until_stored("escape.bin", 1)
    await upload_page.button("Cancel escape.bin").focus()
    await upload_page.page.keyboard.press("Enter")
    await expect(upload_page.button("Keep it")).to_be_focused()
    await upload_page.page.keyboard.press("Escape")
    await expect(upload_page.button("Cancel escape.bin")).to_be_focused()
    await upload_page.release()
    await upload_page.until("escape.bin", "completed")


async def test_changes_of_state_are_announced_and_ticks_are_not(
    upload_page: UploadPage, files: Path
) -> None:
    await upload_page.page.evaluate(
        """() => {
          window.said = [];
          const region = document.querySelector("[aria-live=polite]");
          new MutationObserver(() => said.push(region.textContent))
            .observe(region, { childList: true, characterData: true, subtree: true });
        }"""
    )
    write_file(files / "spoken.bin", 5 * PART)
    await upload_page.choose(files / "spoken.bin")
    await upload_page.until("spoken.bin", "completed")
    await upload_page.page.wait_for_function("() => said.at(-1)?.includes('Stored and verified')")
    said = await upload_page.page.evaluate("() => said")
    assert any("spoken.bin: Uploading" in text for text in said)
    assert len(said) < 12


async def test_every_control_has_a_name_and_every_bar_a_value(
    upload_page: UploadPage, files: Path
) -> None:
    write_file(files / "named.bin", 2 * PART)
    await upload_page.hold_after(1)
    await upload_page.choose(files / "named.bin")
    await upload_page.until_stored("named.bin", 1)
    assert await upload_page.page.evaluate(AXE_LIKE) == []
    bar = upload_page.page.get_by_role("progressbar", name="Upload of named.bin")
    await expect(bar).to_have_attribute("aria-valuemax", "100")
    assert int(await bar.get_attribute("aria-valuenow") or -1) >= 50
    await upload_page.release()
    await upload_page.until("named.bin", "completed")


async def test_a_phone_scrolls_in_one_direction_only(upload_page: UploadPage, files: Path) -> None:
    await upload_page.page.set_viewport_size({"width": 360, "height": 640})
    name = "a-name-without-any-break-" * 8 + ".bin"
    write_file(files / name, 2 * PART)
    await upload_page.hold_after(1)
    await upload_page.choose(files / name)
    await upload_page.until_stored(name, 1)
    await upload_page.row(name).wait_for()
    assert await upload_page.page.evaluate("document.documentElement.scrollWidth") == 360
    await upload_page.release()
    await upload_page.until(name, "completed")
    assert await upload_page.page.evaluate("document.documentElement.scrollWidth") == 360


async def test_names_are_shown_as_text_whatever_they_look_like(
    upload_page: UploadPage, files: Path
) -> None:
    name = "<img src=x onerror=alert(1)>.bin"
    write_file(files / name, 1)
    await upload_page.choose(files / name)
    await upload_page.until(name, "completed")
    await expect(upload_page.row(name)).to_be_visible()
    assert await upload_page.page.locator("img").count() == 0


async def test_the_list_goes_on_with_show_more(upload_page: UploadPage) -> None:
    for number in range(22):
        body = {"filename": f"listed-{number}.bin", "size": 1}
        await upload_page.deployed.call("POST", "/uploads", json=body)
    await upload_page.reload()
    rows = upload_page.page.locator(".row")
    await expect(rows).to_have_count(20)
    await upload_page.button("Show more").click()
    await expect(upload_page.row("listed-0.bin")).to_be_visible()
    assert await rows.count() > 20
    # And stays so when the list is read again.
    await upload_page.page.wait_for_event(
        "requestfinished", lambda request: "/uploads?limit=40" in request.url
    )
    assert await rows.count() > 20


async def test_an_upload_that_is_no_longer_there_says_so_and_can_start_again(
    upload_page: UploadPage, files: Path
) -> None:
    name = "aborted-elsewhere.bin"
    write_file(files / name, 3 * PART)
    await upload_page.hold_after(1)
    await upload_page.choose(files / name)
    session = await upload_page.until_stored(name, 1)
    await upload_page.deployed.call("DELETE", f"/uploads/{session['session_id']}")
    await upload_page.release()
    await upload_page.until(name, "failed")
    await expect(upload_page.card(name)).to_contain_text("This upload is no longer there")
    await upload_page.card(name).get_by_role("button", name="Start again").click()
    await upload_page.until(name, "completed")
