"""Downloading: verified, resumed, and never a mixture."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from client.between import Fault, store_error
from client.gate import PART, Gate, Uploading, write_file

from gateway.client import Downloader, DownloadOptions
from gateway.client.downloader import _safe_name
from gateway.errors import Conflict, Corrupt, Gone, NotFound, Unavailable

RANGE = 1 << 20


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.client.downloader.RANGE", RANGE)


@pytest.fixture
async def uploaded(uploading: Uploading, tmp_path: Path) -> tuple[Any, bytes]:
    (tmp_path / "source").mkdir()
    data = write_file(tmp_path / "source" / "film.mkv", 6 * RANGE + 5)
    receipt = await uploading.run(tmp_path / "source" / "film.mkv")
    uploading.gate.reset()
    return receipt, data


async def download(gate: Gate, session_id: str, path: Path, **options: Any) -> Any:
    given = {"parallel": 2, "give_up_after": 20.0, **options}
    async with gate.client() as client:
        return await Downloader(client, DownloadOptions(**given)).download(session_id, path)


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix == ".part"]


async def test_the_file_comes_back_as_it_was(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    receipt, data = uploaded
    got = await download(gate, receipt.session_id, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert got.checksum == receipt.checksum
    assert got.bytes_received == len(data)
    assert left_over(tmp_path) == []


async def test_an_empty_file_comes_back_empty(
    gate: Gate, uploading: Uploading, tmp_path: Path
) -> None:
    write_file(tmp_path / "empty", 0)
    receipt = await uploading.run(tmp_path / "empty")
    await download(gate, receipt.session_id, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b""


async def test_into_a_folder_it_keeps_its_name(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    got = await download(gate, uploaded[0].session_id, tmp_path)
    assert got.path == tmp_path / "film.mkv"
    assert got.path.read_bytes() == uploaded[1]


async def test_a_file_that_exists_is_replaced_by_force_only(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    receipt, data = uploaded
    (tmp_path / "back").write_text("precious")
    with pytest.raises(Conflict) as caught:
        await download(gate, receipt.session_id, tmp_path / "back")
    assert caught.value.code == "file_exists"
    assert (tmp_path / "back").read_text() == "precious"
    await download(gate, receipt.session_id, tmp_path / "back", force=True)
    assert (tmp_path / "back").read_bytes() == data


async def test_a_file_that_appears_meanwhile_is_not_replaced(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    async def appear(_: web.Request) -> None:
        (tmp_path / "back").write_text("precious")

    gate.store.add(Fault("GET", ".", hook=appear))
    with pytest.raises(Conflict) as caught:
        await download(gate, uploaded[0].session_id, tmp_path / "back")
    assert caught.value.code == "file_exists"
    assert (tmp_path / "back").read_text() == "precious"


async def interrupt(gate: Gate, session_id: str, path: Path, *, at: int) -> None:
    """Cancel the download as soon as its request number `at` reaches the store."""
    task = asyncio.ensure_future(download(gate, session_id, path, parallel=1))

    async def cancel(_: web.Request) -> None:
        task.cancel()
        await asyncio.wait([task])

    counted = 0

    async def count(request: web.Request) -> None:
        nonlocal counted
        counted += 1
        if counted == at:
            await cancel(request)

    fault = gate.store.add(Fault("GET", ".", times=99, hook=count))
    await asyncio.wait([task])
    assert task.cancelled()
    fault.times = 0


async def test_an_interrupted_download_goes_on_where_it_was(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    receipt, data = uploaded
    await interrupt(gate, receipt.session_id, tmp_path / "back", at=4)
    assert not (tmp_path / "back").exists()
    got = await download(gate, receipt.session_id, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert got.bytes_received <= len(data) - 2 * RANGE


async def test_a_remainder_that_went_bad_is_noticed_and_all_is_fetched_anew(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    receipt, data = uploaded
    await interrupt(gate, receipt.session_id, tmp_path / "back", at=4)
    (part,) = left_over(tmp_path)
    with (tmp_path / part).open("r+b") as out:
        out.write(b"bad")
    await download(gate, receipt.session_id, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


async def test_bytes_damaged_in_the_store_never_become_a_file(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    async def damage(request: web.Request) -> None:
        first, last = request.headers["Range"].removeprefix("bytes=").split("-")
        size = int(last) - int(first) + 1
        fault.answer = (206, {"Content-Range": f"bytes {first}-{last}/9"}, bytes(size))

    fault = gate.store.add(Fault("GET", ".", hook=damage))
    with pytest.raises(Corrupt):
        await download(gate, uploaded[0].session_id, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    "answer",
    [
        store_error(503, "SlowDown"),
        store_error(403, "AccessDenied"),
        (200, {}, b"the whole thing"),
        (206, {"Content-Range": "bytes 5-9/10"}, b"other"),
    ],
)
async def test_a_passing_fault_of_the_store_is_borne(
    gate: Gate,
    uploaded: tuple[Any, bytes],
    tmp_path: Path,
    answer: tuple[int, dict[str, str], bytes],
) -> None:
    fault = gate.store.add(Fault("GET", ".", times=2, answer=answer))
    await download(gate, uploaded[0].session_id, tmp_path / "back")
    assert fault.hits == 2
    assert (tmp_path / "back").read_bytes() == uploaded[1]


async def test_a_reply_cut_off_is_asked_for_again(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    fault = gate.store.add(Fault("GET", ".", times=2, lose_reply=True))
    await download(gate, uploaded[0].session_id, tmp_path / "back")
    assert fault.hits == 2
    assert (tmp_path / "back").read_bytes() == uploaded[1]


async def test_an_object_that_was_overwritten_is_not_mixed(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    receipt, data = uploaded
    await interrupt(gate, receipt.session_id, tmp_path / "back", at=3)
    await gate.overwrite(receipt.object, b"x" * len(data))
    with pytest.raises(Conflict) as caught:
        await download(gate, receipt.session_id, tmp_path / "back")
    assert caught.value.code == "object_changed"
    assert not (tmp_path / "back").exists()


async def test_a_store_that_stays_away_is_given_up(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    gate.store.add(Fault("GET", ".", times=999, answer=store_error(503, "SlowDown")))
    with pytest.raises(Unavailable) as caught:
        await download(gate, uploaded[0].session_id, tmp_path / "back", give_up_after=0.3)
    assert caught.value.code == "unreachable"


async def test_only_what_is_completed_can_be_downloaded(gate: Gate, tmp_path: Path) -> None:
    async with gate.client() as client:
        session = await client.create("file", PART)
        with pytest.raises(Conflict) as caught:
            await download(gate, session.session_id, tmp_path / "back")
        assert caught.value.code == "not_completed"
        await client.abort(session.session_id)
    with pytest.raises(Gone):
        await download(gate, session.session_id, tmp_path / "back")
    with pytest.raises(NotFound):
        await download(gate, "0" * 32, tmp_path / "back")
    assert left_over(tmp_path) == []


async def test_a_folder_that_cannot_be_written_is_said(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    with pytest.raises(Conflict) as caught:
        await download(gate, uploaded[0].session_id, tmp_path / "missing" / "back")
    assert caught.value.code == "cannot_write"


async def test_two_downloads_to_one_place_do_not_mix(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    errors: list[str] = []

    async def again(_: web.Request) -> None:
        try:
            await download(gate, uploaded[0].session_id, tmp_path / "back")
        except Conflict as error:
            errors.append(error.code)

    gate.store.add(Fault("GET", ".", hook=again))
    await download(gate, uploaded[0].session_id, tmp_path / "back")
    assert errors == ["download_running"]
    assert (tmp_path / "back").read_bytes() == uploaded[1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "passwd"),
        ("a\\b.txt", "b.txt"),
        (".bashrc", "bashrc"),
        ("..", "download"),
        ("", "download"),
        ("line\nbreak", "line_break"),
        ("🎉.txt", "🎉.txt"),
        ("x" * 300, "x" * 200),
    ],
)
def test_a_session_cannot_name_a_file_elsewhere(name: str, expected: str) -> None:
    assert _safe_name(name) == expected
    assert os.sep not in _safe_name(name)
