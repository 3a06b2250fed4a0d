"""Bad lines: whatever fails by itself, goes on by itself."""

from pathlib import Path
from typing import Any

from dashboard.upload_page import PART, PART_URLS, UploadPage, part_number, write_file
from playwright.async_api import Request, Route, expect


async def test_offline_is_said_and_online_goes_on_by_itself(
    upload_page: UploadPage, stored: Any, files: Path
) -> None:
    name = "offline.bin"
    content = write_file(files / name, 4 * PART)
    upload_page.deployed.proxy.hold_after(2)
    await upload_page.choose(files / name)
    await upload_page.until_stored(name, 2)
    await upload_page.page.context.set_offline(True)
    await upload_page.until(name, "waiting")
    await expect(upload_page.card(name)).to_contain_text("You are offline")
    upload_page.deployed.proxy.release()
    await upload_page.page.context.set_offline(False)
    await upload_page.until(name, "completed")
    assert upload_page.put_parts == dict.fromkeys(range(1, 5), 1)
    assert await stored.content(await upload_page.session(name)) == content


async def test_a_gateway_that_is_killed_and_comes_back_is_waited_for(
    upload_page: UploadPage, stored: Any, files: Path
) -> None:
    name = "gateway-gone.bin"
    content = write_file(files / name, 4 * PART)
    upload_page.deployed.proxy.hold_after(2)
    await upload_page.choose(files / name)
    await upload_page.until_stored(name, 2)
    await upload_page.deployed.kill_gateway()
    upload_page.deployed.proxy.release()
    await upload_page.until(name, "waiting")
    await expect(upload_page.card(name)).to_contain_text("The gateway does not answer")
    await upload_page.deployed.start_gateway()
    await upload_page.until(name, "completed")
    assert await stored.content(await upload_page.session(name)) == content


async def test_a_store_that_cannot_be_reached_is_named_and_waited_for(
    upload_page: UploadPage, stored: Any, files: Path
) -> None:
    name = "store-gone.bin"
    content = write_file(files / name, 2 * PART)
    await upload_page.lose_store_for_everybody()
    await upload_page.lose_store()
    await upload_page.choose(files / name)
    await upload_page.until(name, "waiting")
    await expect(upload_page.card(name)).to_contain_text("The storage does not answer")
    await upload_page.find_store()
    await upload_page.until(name, "completed")
    assert await stored.content(await upload_page.session(name)) == content


async def test_a_store_that_forbids_the_page_is_told_apart_from_one_that_is_away(
    upload_page: UploadPage, files: Path
) -> None:
    name = "cors.bin"
    write_file(files / name, PART)
    await upload_page.lose_store_for_everybody()
    # What a browser does without a matching CORS rule: the PUT fails, the host answers.
    await upload_page.page.route(PART_URLS, lambda route: route.abort("failed"))
    await upload_page.choose(files / name)
    await upload_page.until(name, "waiting")
    await expect(upload_page.card(name)).to_contain_text("CORS rules")
    # While it is still forbidden: a moment later it may have gone on by itself.
    await upload_page.button("Try now").click()
    await upload_page.page.unroute(PART_URLS)
    await upload_page.until(name, "completed")


async def test_an_expired_address_is_signed_anew_for_that_part_only(
    upload_page: UploadPage, files: Path
) -> None:
    name = "expired.bin"
    write_file(files / name, 3 * PART)
    signed: list[list[int]] = []
    expired: list[str] = []

    def note(request: Request) -> None:
        if request.url.endswith("/parts/sign"):
            signed.append([part["part_number"] for part in request.post_data_json["parts"]])

    async def expire_second(route: Route) -> None:
        if "partNumber=2&" in route.request.url and not expired:
            expired.append(route.request.url)
            body = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
            allowed = {"Access-Control-Allow-Origin": "*", "Content-Type": "application/xml"}
            await route.fulfill(status=403, headers=allowed, body=body)
        else:
            await route.continue_()

    upload_page.page.on("request", note)
    await upload_page.page.route(PART_URLS, expire_second)
    await upload_page.choose(files / name)
    await upload_page.until(name, "completed")
    assert len(expired) == 1
    assert sorted(number for batch in signed for number in batch) == [1, 2, 2, 3]
    assert upload_page.put_parts == {1: 1, 2: 1, 3: 1}


async def test_parts_that_fail_now_and_then_are_sent_again(
    upload_page: UploadPage, stored: Any, files: Path
) -> None:
    name = "shaky.bin"
    content = write_file(files / name, 4 * PART)
    failing = [503, 500, 429]

    async def fail_some(route: Route) -> None:
        if failing and route.request.method == "PUT":
            allowed = {"Access-Control-Allow-Origin": "*"}
            await route.fulfill(status=failing.pop(), headers=allowed, body="")
        else:
            await route.continue_()

    await upload_page.page.route(PART_URLS, fail_some)
    await upload_page.choose(files / name)
    await upload_page.until(name, "completed")
    assert failing == []
    assert await stored.content(await upload_page.session(name)) == content


async def test_a_part_damaged_on_the_way_is_refused_by_the_store_and_sent_again(
    upload_page: UploadPage, stored: Any, files: Path
) -> None:
    name = "damaged.bin"
    content = write_file(files / name, 2 * PART)
    damaged: list[str] = []

    async def flip_a_bit(route: Route) -> None:
        if route.request.method == "PUT" and not damaged:
            damaged.append(route.request.url)
            await route.continue_(post_data=bytes(PART))
        else:
            await route.continue_()

    await upload_page.page.route(PART_URLS, flip_a_bit)
    await upload_page.choose(files / name)
    await upload_page.until(name, "completed")
    assert len(damaged) == 1
    assert upload_page.tried_parts.total() == 3
    assert await stored.content(await upload_page.session(name)) == content


async def test_a_clock_that_is_a_day_wrong_does_no_harm(
    upload_page: UploadPage, files: Path
) -> None:
    name = "clock.bin"
    write_file(files / name, 2 * PART)
    await upload_page.page.add_init_script(
        "const now = Date.now; Date.now = () => now() + 86_400_000;"
    )
    await upload_page.reload()
    await upload_page.choose(files / name)
    await upload_page.until(name, "completed")
    assert upload_page.put_parts == {1: 1, 2: 1}
    await expect(upload_page.row(name)).to_contain_text("just now")


async def test_a_stalled_attempt_is_given_up_when_somebody_asks_to_try_now(
    upload_page: UploadPage, files: Path
) -> None:
    name = "stalled.bin"
    write_file(files / name, 2 * PART)
    upload_page.deployed.proxy.hold_after(1)
    async with upload_page.page.expect_request(
        lambda request: part_number(request) > 0 and upload_page.tried_parts.total() == 2
    ):
        await upload_page.choose(files / name)
    await upload_page.until_stored(name, 1)
    # The held attempt has moved no byte for a while when the network "comes back".
    await upload_page.page.wait_for_timeout(3_000)
    upload_page.deployed.proxy.release()
    await upload_page.page.evaluate("() => dispatchEvent(new Event('online'))")
    await upload_page.until(name, "completed")


async def test_a_full_store_is_said_and_waited_for(upload_page: UploadPage, files: Path) -> None:
    name = "full.bin"
    write_file(files / name, PART)

    async def no_room(route: Route) -> None:
        allowed = {"Access-Control-Allow-Origin": "*"}
        await route.fulfill(status=507, headers=allowed, body="")

    await upload_page.page.route(PART_URLS, no_room)
    await upload_page.choose(files / name)
    await upload_page.until(name, "waiting")
    await expect(upload_page.card(name)).to_contain_text("The storage is full")
    await upload_page.page.unroute(PART_URLS)
    await upload_page.until(name, "completed")


async def test_a_corrupt_object_is_named_and_never_offered_for_download(
    upload_page: UploadPage, files: Path
) -> None:
    name = "corrupt.bin"
    write_file(files / name, PART)

    async def corrupt(route: Route) -> None:
        session = {**await upload_page.session(name), "state": "corrupt"}
        problem = {
            "code": "corrupt",
            "message": "The stored bytes are not those that were sent.",
            "hint": "Send the file again.",
            "retryable": False,
            "request_id": "request-of-the-test",
            "details": {"session": session},
        }
        await route.fulfill(status=422, json=problem)

    await upload_page.page.route("**/complete?*", corrupt)
    await upload_page.choose(files / name)
    await upload_page.until(name, "failed")
    card = upload_page.card(name)
    await expect(card).to_contain_text("The stored file is damaged")
    await expect(card).to_contain_text("request-of-the-test")
    await expect(card.get_by_role("button", name="Download")).to_have_count(0)
    await upload_page.page.unroute("**/complete?*")
    await card.get_by_role("button", name="Start again").click()
    await upload_page.until(name, "completed")
