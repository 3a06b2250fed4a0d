"""Reloads, closed windows and edited files: what is stored is never sent twice, never mixed."""

import os
from pathlib import Path
from typing import Any

from dashboard.upload_page import MIB, PART, UploadPage, write_file
from playwright.async_api import expect

PARTS = 4


async def interrupted(upload_page: UploadPage, path: Path, *, stored_parts: int) -> bytes:
    """Begin an upload, and reload the page when so many parts are recorded."""
    content = write_file(path, PARTS * PART)
    await upload_page.hold_after(stored_parts)
    await upload_page.choose(path)
    await upload_page.until_stored(path.name, stored_parts)
    await upload_page.reload()
    await upload_page.release()
    return content


async def missing_parts(upload_page: UploadPage, name: str) -> set[int]:
    found = await upload_page.deployed.call(
        "GET", f"/uploads/{(await upload_page.session(name))['session_id']}/parts"
    )
    return set(range(1, PARTS + 1)) - {part["part_number"] for part in found["parts"]}


def edit(path: Path, position: int, *, keep_time: bool) -> bytes:
    """Change bytes within a file, to the same size, and perhaps unseen by its clock."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(position)
        file.write(b"edited")
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 5_000_000_000))
    return path.read_bytes()


async def test_after_a_reload_the_same_file_goes_on_with_the_missing_parts_only(
    upload_page: UploadPage, stored: Any, files: Path
) -> None:
    path = files / "reloaded.bin"
    content = await interrupted(upload_page, path, stored_parts=2)
    row = upload_page.row(path.name)
    await expect(row).to_contain_text("16.8 of 33.6 MB stored")
    missing = await missing_parts(upload_page, path.name)
    assert len(missing) == 2
    session = await upload_page.session(path.name)
    await upload_page.choose(path)
    await upload_page.until(path.name, "completed")
    assert upload_page.put_parts == dict.fromkeys(missing, 1)
    finished = await upload_page.session(path.name)
    assert finished["session_id"] == session["session_id"]
    assert await stored.content(finished) == content


async def test_the_list_asks_for_the_file_of_an_unfinished_upload(
    upload_page: UploadPage, files: Path
) -> None:
    path = files / "asked-for.bin"
    await interrupted(upload_page, path, stored_parts=2)
    button = upload_page.button(f"Choose the file to go on: {path.name}")
    async with upload_page.page.expect_file_chooser() as choosing:
        await button.click()
    await (await choosing.value).set_files(path)
    await upload_page.until(path.name, "completed")
    assert upload_page.put_parts.total() == PARTS - 2


async def test_another_file_for_an_unfinished_upload_is_a_new_one_and_says_so(
    upload_page: UploadPage, files: Path
) -> None:
    path, other = files / "expected.bin", files / "something-else.bin"
    await interrupted(upload_page, path, stored_parts=2)
    write_file(other, MIB)
    button = upload_page.button(f"Choose the file to go on: {path.name}")
    async with upload_page.page.expect_file_chooser() as choosing:
        await button.click()
    await (await choosing.value).set_files(other)
    await upload_page.until(other.name, "completed")
    await expect(upload_page.card(other.name)).to_contain_text("not the file of the unfinished")
    assert (await upload_page.session(path.name))["state"] == "open"


async def test_an_edit_that_the_fingerprint_misses_is_found_by_checksum(
    upload_page: UploadPage, stored: Any, files: Path
) -> None:
    path = files / "edited-unseen.bin"
    await interrupted(upload_page, path, stored_parts=2)
    missing = await missing_parts(upload_page, path.name)
    first_stored = min(set(range(1, PARTS + 1)) - missing)
    session = await upload_page.session(path.name)
    # Within a stored part, between the sampled blocks, and with the old modification time.
    edited = edit(path, (first_stored - 1) * PART + MIB, keep_time=True)
    await upload_page.choose(path)
    await upload_page.until(path.name, "completed")
    finished = await upload_page.session(path.name)
    assert finished["session_id"] == session["session_id"], "the fingerprint was to match"
    assert set(upload_page.put_parts) == missing | {first_stored}
    assert await stored.content(finished) == edited


async def test_an_edited_file_is_another_file(
    upload_page: UploadPage, stored: Any, files: Path
) -> None:
    path = files / "edited.bin"
    await interrupted(upload_page, path, stored_parts=2)
    session = await upload_page.session(path.name)
    edited = edit(path, 3 * MIB, keep_time=False)
    await upload_page.choose(path)
    await upload_page.until(path.name, "completed")
    finished = await upload_page.session(path.name)
    assert finished["session_id"] != session["session_id"]
    assert await stored.content(finished) == edited


async def test_a_file_changed_while_it_is_sent_is_noticed_and_can_be_chosen_again(
    upload_page: UploadPage, stored: Any, files: Path
) -> None:
    path = files / "changing.log"
    write_file(path, PARTS * PART)
    await upload_page.hold_after(1)
    await upload_page.choose(path)
    await upload_page.until_stored(path.name, 1)
    edited = edit(path, 3 * PART + MIB, keep_time=False)
    await upload_page.release()
    await upload_page.until(path.name, "failed")
    card = upload_page.card(path.name)
    await expect(card).to_contain_text("The file was changed or moved")
    async with upload_page.page.expect_file_chooser() as choosing:
        await card.get_by_role("button", name="Choose the file again").click()
    await (await choosing.value).set_files(path)
    await upload_page.until(path.name, "completed")
    assert await stored.content(await upload_page.session(path.name)) == edited


async def test_the_same_file_in_two_windows_is_stored_once_and_both_end_well(
    upload_page: UploadPage, stored: Any, files: Path
) -> None:
    path = files / "twice.bin"
    content = write_file(path, PARTS * PART)
    second = UploadPage(await upload_page.page.context.new_page(), upload_page.deployed)
    await second.open()
    await upload_page.hold_after(1)
    await upload_page.choose(path)
    await upload_page.until_stored(path.name, 1)
    await second.choose(path)
    await second.until(path.name, "uploading")
    await upload_page.release()
    await upload_page.until(path.name, "completed")
    await second.until(path.name, "completed")
    assert await stored.content(await upload_page.session(path.name)) == content
    listed = await upload_page.deployed.call("GET", "/uploads?limit=200")
    assert [entry["filename"] for entry in listed["uploads"]].count(path.name) == 1
