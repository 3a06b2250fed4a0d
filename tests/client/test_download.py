"""Downloading: verified, resumed, and never a mixture."""

import asyncio
import io
import os
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from aiohttp import web
from client.between import Fault, store_error
from client.gate import PART, Gate, Uploading, write_file

from gateway.client import Downloader, DownloadOptions
from gateway.client.destination import safe_name
from gateway.client.target import TargetFile
from gateway.errors import (
    Conflict,
    Corrupt,
    Gone,
    InvalidRequest,
    NotFound,
    StorageFull,
    Unavailable,
)

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


async def test_without_a_checksum_a_remainder_is_not_built_upon(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt, data = uploaded
    await interrupt(gate, receipt.session_id, tmp_path / "back", at=4)
    (part,) = left_over(tmp_path)
    with (tmp_path / part).open("r+b") as out:
        out.write(b"bad")
    monkeypatch.setattr("gateway.client.downloader._expected", lambda *_: {})
    got = await download(gate, receipt.session_id, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert got.checksum is None


def damage(gate: Gate, *, times: int) -> None:
    """Let the first so many ranges come back as zeros."""

    async def zeros(request: web.Request) -> None:
        size, span = asked_for(request)
        fault.answer = (206, {"Content-Range": span}, bytes(size))

    fault = gate.store.add(Fault("GET", ".", times=times, hook=zeros))


def asked_for(request: web.Request) -> tuple[int, str]:
    first, last = request.headers["Range"].removeprefix("bytes=").split("-")
    return int(last) - int(first) + 1, f"bytes {first}-{last}/9"


async def test_bytes_damaged_in_the_store_never_become_a_file(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    damage(gate, times=99)
    with pytest.raises(Corrupt):
        await download(gate, uploaded[0].session_id, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert left_over(tmp_path) == []


async def test_bytes_damaged_on_the_way_once_are_fetched_again(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    damage(gate, times=1)
    await download(gate, uploaded[0].session_id, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == uploaded[1]


@pytest.mark.parametrize(
    "answer",
    [
        store_error(503, "SlowDown"),
        store_error(403, "AccessDenied"),
        (200, {}, b"the whole thing"),
        (206, {"Content-Range": "bytes 5-9/10"}, b"other"),
        (206, {"Content-Range": f"bytes 0-{RANGE - 1}/9"}, b"too short"),
        (206, {"Content-Range": f"bytes 0-{RANGE - 1}/9"}, bytes(RANGE + 1)),
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


@pytest.mark.parametrize("at", [1, 4])
async def test_row_49_a_download_resumed_after_an_overwrite_is_never_mixed(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path, at: int
) -> None:
    receipt, data = uploaded
    await interrupt(gate, receipt.session_id, tmp_path / "back", at=at)
    await gate.overwrite(receipt.object, b"x" * len(data))
    for _ in range(2):
        with pytest.raises(Conflict) as caught:
            await download(gate, receipt.session_id, tmp_path / "back")
        assert caught.value.code == "object_changed"
        assert not (tmp_path / "back").exists()
    # What came before is of the one object alone.
    (part,) = left_over(tmp_path)
    assert data.startswith((tmp_path / part).read_bytes())


async def test_row_49_an_object_overwritten_under_a_running_download_is_never_mixed(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    receipt, data = uploaded

    async def overwrite(_: web.Request) -> None:
        await gate.overwrite(receipt.object, b"x" * len(data))

    gate.store.add(Fault("GET", ".", hook=overwrite))
    with pytest.raises(Conflict) as caught:
        await download(gate, receipt.session_id, tmp_path / "back")
    assert caught.value.code == "object_changed"
    assert not (tmp_path / "back").exists()


async def test_row_49_a_proxy_that_drops_the_condition_does_not_mix_either(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    async def another(request: web.Request) -> None:
        size, span = asked_for(request)
        fault.answer = (206, {"Content-Range": span, "ETag": '"another"'}, bytes(size))

    fault = gate.store.add(Fault("GET", ".", hook=another))
    with pytest.raises(Conflict) as caught:
        await download(gate, uploaded[0].session_id, tmp_path / "back")
    assert caught.value.code == "object_changed"


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.client.downloader.backoff", lambda _: 0.0)


@pytest.mark.usefixtures("no_waiting")
async def test_a_store_without_ranges_is_named(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    receipt, data = uploaded
    gate.store.add(Fault("GET", ".", times=999, answer=(200, {}, data)))
    with pytest.raises(InvalidRequest) as caught:
        await download(gate, receipt.session_id, tmp_path / "back")
    assert caught.value.code == "ranges_ignored"


async def test_without_ranges_what_fits_into_one_is_taken(
    gate: Gate, uploading: Uploading, tmp_path: Path
) -> None:
    data = write_file(tmp_path / "small", 1000)
    receipt = await uploading.run(tmp_path / "small")
    uploading.gate.store.add(Fault("GET", ".", answer=(200, {}, data)))
    await download(gate, receipt.session_id, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert gate.store.count("GET", ".") == 1


async def test_a_connection_that_stands_still_is_given_up_for_another(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    async def stand_still(_: web.Request) -> None:
        await asyncio.Event().wait()

    fault = gate.store.add(Fault("GET", ".", times=2, hook=stand_still))
    await download(gate, uploaded[0].session_id, tmp_path / "back", stall_timeout=0.5)
    assert fault.hits == 2
    assert (tmp_path / "back").read_bytes() == uploaded[1]


async def test_an_address_that_expires_is_asked_for_again_once_for_all(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    async with gate.client() as client:
        content = client.content
        calls = 0

        async def first_expired(session_id: str) -> Any:
            nonlocal calls
            calls += 1
            found = await content(session_id)
            return replace(found, expires_at=client.clock.now()) if calls == 1 else found

        client.content = first_expired  # type: ignore[method-assign]
        downloader = Downloader(client, DownloadOptions(parallel=4))
        await downloader.download(uploaded[0].session_id, tmp_path / "back")
    assert calls == 2
    assert (tmp_path / "back").read_bytes() == uploaded[1]


async def test_a_full_disk_is_said_and_gone_on_from(
    gate: Gate, uploaded: tuple[Any, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt, data = uploaded
    pwrite, room = os.pwrite, 2 * RANGE + 100

    def into_little_room(descriptor: int, block: memoryview, offset: int) -> int:
        if offset >= room:
            raise OSError(28, "No space left on device")
        return pwrite(descriptor, block[: room - offset], offset)

    with monkeypatch.context() as patched:
        patched.setattr("gateway.client.target.os.pwrite", into_little_room)
        with pytest.raises(StorageFull) as caught:
            await download(gate, receipt.session_id, tmp_path / "back")
    assert caught.value.code == "disk_full"
    assert "goes on" in caught.value.hint
    got = await download(gate, receipt.session_id, tmp_path / "back")
    assert got.bytes_received == len(data) - room
    assert (tmp_path / "back").read_bytes() == data


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
    assert safe_name(name) == expected
    assert os.sep not in safe_name(name)


class TestIntoAStream:
    async def test_the_bytes_come_in_order(self, gate: Gate, uploaded: tuple[Any, bytes]) -> None:
        out = io.BytesIO()
        async with gate.client() as client:
            got = await Downloader(client).download_to(uploaded[0].session_id, out)
        assert out.getvalue() == uploaded[1]
        assert (got.path, got.checksum) == (None, uploaded[0].checksum)

    async def test_wrong_bytes_are_said_at_the_end(
        self, gate: Gate, uploaded: tuple[Any, bytes]
    ) -> None:
        damage(gate, times=1)
        async with gate.client() as client:
            with pytest.raises(Corrupt):
                await Downloader(client).download_to(uploaded[0].session_id, io.BytesIO())

    async def test_an_empty_object_writes_nothing(
        self, gate: Gate, uploading: Uploading, tmp_path: Path
    ) -> None:
        write_file(tmp_path / "empty", 0)
        receipt = await uploading.run(tmp_path / "empty")
        out = io.BytesIO()
        async with gate.client() as client:
            await Downloader(client).download_to(receipt.session_id, out)
        assert out.getvalue() == b""

    async def test_a_writer_that_fails_is_said(
        self, gate: Gate, uploaded: tuple[Any, bytes]
    ) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        async with gate.client() as client:
            with os.fdopen(writing, "wb", buffering=0) as out, pytest.raises(Conflict) as caught:
                await Downloader(client).download_to(uploaded[0].session_id, out)
        assert caught.value.code == "cannot_write"

    async def test_a_reader_that_never_reads_does_not_hold_up_a_cancellation(
        self, gate: Gate, uploaded: tuple[Any, bytes]
    ) -> None:
        reading, writing = os.pipe()
        async with gate.client() as client:
            with os.fdopen(writing, "wb", buffering=0) as out:
                downloader = Downloader(client, DownloadOptions(parallel=2))
                task = asyncio.create_task(downloader.download_to(uploaded[0].session_id, out))
                async with asyncio.timeout(30):
                    assert await asyncio.to_thread(os.read, reading, 1)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                # Not more than the ranges ahead, and one that is being written.
                assert downloader.progress.moved_bytes <= 4 * RANGE
                os.close(reading)


class TestTarget:
    def test_closing_ends_the_hashing_of_what_is_there_and_keeps_it(self, tmp_path: Path) -> None:
        part = tmp_path / f"back.{'0' * 12}.part"
        data = write_file(part, 4 << 20)
        target = TargetFile.open(tmp_path / "back", "0" * 32, ["crc32"], force=False)
        hashed: list[int] = []
        closing = Thread(target=target.close)

        def close_meanwhile(size: int) -> None:
            hashed.append(size)
            if len(hashed) == 1:
                closing.start()
            while not target._stopped:
                pass

        target.resume(len(data), close_meanwhile)
        closing.join()
        assert len(hashed) == 1
        assert part.read_bytes() == data
        with pytest.raises(RuntimeError):
            target.append(b"more")

    def test_a_file_that_was_published_while_its_lock_was_awaited_is_not_written_to(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        part = tmp_path / f"back.{'0' * 12}.part"
        part.write_bytes(b"finished")

        def lock_too_late(*_: object) -> None:
            if part.exists():
                part.rename(tmp_path / "back")

        monkeypatch.setattr("gateway.client.target.fcntl.flock", lock_too_late)
        with pytest.raises(Conflict) as caught:
            TargetFile.open(tmp_path / "back", "0" * 32, [], force=False)
        assert caught.value.code == "file_exists"
        assert (tmp_path / "back").read_bytes() == b"finished"
