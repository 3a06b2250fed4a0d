"""From a file chosen in a browser to an object in the store."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from dashboard.upload_page import MIB, PART, UploadPage, write_file
from playwright.async_api import expect

# Samples, each frame, what a person sees and a screen reader reads of the progress bar.
WATCH_BAR = """() => {
  window.seen = [];
  const look = () => {
    const bar = document.querySelector(".card .bar");
    if (bar) {
      const width = bar.querySelector(".bar-sent").getBoundingClientRect().width;
      const whole = bar.getBoundingClientRect().width;
      window.seen.push([whole ? width / whole : 1, Number(bar.getAttribute("aria-valuenow"))]);
    }
    requestAnimationFrame(look);
  };
  look();
}"""


async def test_a_file_dropped_in_the_browser_is_stored_byte_for_byte(
    upload_page: UploadPage, stored: Any, files: Path
) -> None:
    name = "Ein Film über 🎬 & <b>Berge.mov"
    content = write_file(files / name, 2 * PART + 12_345)
    await upload_page.choose(files / name)
    await upload_page.until(name, "completed")
    session = await upload_page.session(name)
    assert session["state"] == "completed"
    assert session["verified_by"] == "client_parts"
    assert session["object"]["checksums"][session["checksum_algorithm"]]
    assert await stored.content(session) == content
    assert upload_page.put_parts == {1: 1, 2: 1, 3: 1}
    await expect(upload_page.card(name)).to_contain_text("Stored and verified")
    await expect(upload_page.row(name)).to_contain_text("Verified")


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1])
async def test_files_of_any_size_arrive(
    upload_page: UploadPage, stored: Any, files: Path, size: int
) -> None:
    name = f"size-{size}.bin"
    content = write_file(files / name, size)
    await upload_page.choose(files / name)
    await upload_page.until(name, "completed")
    assert await stored.content(await upload_page.session(name)) == content


async def test_several_files_are_sent_two_at_a_time(upload_page: UploadPage, files: Path) -> None:
    names = [f"one-of-four-{number}.bin" for number in range(4)]
    for number, name in enumerate(names):
        write_file(files / name, MIB, seed=number)
    await upload_page.hold_after(0)
    await upload_page.choose(*(files / name for name in names))
    await upload_page.until(names[0], "uploading")
    await upload_page.until(names[1], "uploading")
    await expect(upload_page.card(names[2])).to_contain_text("Waiting for its turn")
    await upload_page.until(names[3], "queued")
    await upload_page.release()
    for name in names:
        await upload_page.until(name, "completed")


async def test_the_bar_never_goes_backwards_though_an_attempt_is_lost(
    upload_page: UploadPage, files: Path
) -> None:
    write_file(files / "monotone.bin", 3 * PART)
    await upload_page.page.evaluate(WATCH_BAR)
    await upload_page.slow_down(6 * MIB)
    await upload_page.choose(files / "monotone.bin")
    # At a third, everything on the way is lost, and sent again.
    await upload_page.page.wait_for_function("() => seen.at(-1)?.[1] >= 33")
    await upload_page.button("Pause monotone.bin").click()
    await upload_page.until("monotone.bin", "paused")
    await upload_page.button("Resume monotone.bin").click()
    await upload_page.until("monotone.bin", "completed")
    seen = await upload_page.page.evaluate("() => seen")
    shown = [width for width, _ in seen]
    told = [value for _, value in seen]
    assert len({round(width, 2) for width in shown}) > 20, "the bar jumped instead of moving"
    assert shown == sorted(shown)
    assert told == sorted(told)
    assert told[-1] == 100


async def test_page_and_status_agree(upload_page: UploadPage, files: Path) -> None:
    name = "agree.bin"
    write_file(files / name, 4 * PART)
    await upload_page.hold_after(2)
    await upload_page.choose(files / name)
    await upload_page.until_stored(name, 2)
    await upload_page.button(f"Pause {name}").click()
    session = await upload_page.session(name)
    assert session["received_bytes"] == 2 * PART
    await expect(upload_page.card(name)).to_contain_text("16.8 of 33.6 MB stored")
    await expect(upload_page.row(name)).to_contain_text("16.8 of 33.6 MB stored")
    await expect(upload_page.row(name)).to_contain_text("Paused")
    assert await _received_bytes(upload_page, name) == 2 * PART
    await upload_page.release()
    await upload_page.button(f"Resume {name}").click()
    await upload_page.until(name, "completed")
    assert (await upload_page.session(name))["state"] == "completed"
    await expect(upload_page.row(name)).to_contain_text("Verified")


async def test_a_pause_stops_the_traffic_and_keeps_what_is_stored(
    upload_page: UploadPage, stored: Any, files: Path
) -> None:
    name = "paused.bin"
    content = write_file(files / name, 4 * PART)
    await upload_page.hold_after(2)
    await upload_page.choose(files / name)
    await upload_page.until_stored(name, 2)
    await upload_page.button(f"Pause {name}").click()
    await upload_page.until(name, "paused")
    await upload_page.release()
    kept = set(upload_page.put_parts)
    tried = upload_page.tried_parts.total()
    # Two rounds of the list, in which nothing may be sent.
    for _ in range(2):
        await upload_page.page.wait_for_event(
            "requestfinished", lambda request: "/uploads?" in request.url
        )
    assert upload_page.tried_parts.total() == tried
    await upload_page.button(f"Resume {name}").click()
    await upload_page.until(name, "completed")
    assert len(kept) == 2
    assert upload_page.put_parts == dict.fromkeys(range(1, 5), 1)
    assert await stored.content(await upload_page.session(name)) == content


async def test_cancelling_asks_first_and_then_deletes_what_was_stored(
    upload_page: UploadPage, files: Path
) -> None:
    name = "unwanted.bin"
    write_file(files / name, 3 * PART)
    await upload_page.hold_after(1)
    await upload_page.choose(files / name)
    await upload_page.until_stored(name, 1)
    await upload_page.button(f"Cancel {name}").click()
    await upload_page.button("Keep it").click()
    await upload_page.until(name, "uploading")
    await upload_page.button(f"Cancel {name}").click()
    await upload_page.button("Cancel upload").click()
    await expect(upload_page.card(name)).to_have_count(0)
    await expect(upload_page.row(name)).to_contain_text("Cancelled")
    assert (await upload_page.session(name))["state"] == "aborted"


async def test_a_completed_file_is_downloaded_under_its_name(
    upload_page: UploadPage, files: Path
) -> None:
    name = "Übersicht.txt"
    content = write_file(files / name, 1000)
    await upload_page.choose(files / name)
    await upload_page.until(name, "completed")
    async with upload_page.page.expect_download() as waiting:
        await upload_page.card(name).get_by_role("button", name="Download").click()
    download = await waiting.value
    assert download.suggested_filename == name
    saved = await download.path()
    assert await asyncio.to_thread(saved.read_bytes) == content


async def _received_bytes(upload_page: UploadPage, name: str) -> int:
    session = await upload_page.session(name)
    received = session["received_bytes"]
    assert isinstance(received, int)
    return received
