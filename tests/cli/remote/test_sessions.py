"""`gateway status`, `gateway download` and `gateway abort`, as processes."""

import asyncio
import signal
from pathlib import Path

import pytest
from aiohttp import web
from cli.remote.commands import Shell
from client.between import Fault
from client.gate import PART, write_file


@pytest.fixture
async def uploaded(shell: Shell, tmp_path: Path) -> str:
    (tmp_path / "source").mkdir()
    write_file(tmp_path / "source" / "film.mkv", 3000)
    ended = await shell.run("upload", "--json", tmp_path / "source" / "film.mkv")
    assert ended.code == 0, ended.err
    return str(ended.json[0]["session_id"])


async def test_the_table_shows_sessions_newest_first(shell: Shell, uploaded: str) -> None:
    async with shell.gate.client() as client:
        newer = (await client.create("odd [bold]name", None)).session_id
    ended = await shell.run("status")
    assert ended.code == 0, ended.err
    assert ended.out.index(newer) < ended.out.index(uploaded)
    line = next(line for line in ended.out.splitlines() if uploaded in line)
    assert line.split()[1:5] == ["completed", "film.mkv", "2.9", "KiB"]
    assert "odd [bold]name" in ended.out


async def test_the_list_can_be_json_and_narrowed(shell: Shell, uploaded: str) -> None:
    ended = await shell.run("status", "--json", "--state", "completed", "--limit", "1")
    assert [session["session_id"] for session in ended.json[0]["uploads"]] == [uploaded]


async def test_one_session_is_shown_in_full(shell: Shell, uploaded: str) -> None:
    ended = await shell.run("status", uploaded)
    assert ended.code == 0
    for word in (uploaded, "completed", "film.mkv", "client_parts", "crc64nvme"):
        assert word in ended.out
    as_json = await shell.run("status", uploaded, "--json")
    assert as_json.json[0]["state"] == "completed"


async def test_an_unknown_session_is_4(shell: Shell) -> None:
    for command in ("status", "download", "abort"):
        ended = await shell.run(command, "0" * 32)
        assert ended.code == 4, command
        assert "hint:" in ended.err


async def test_watching_follows_an_upload_to_its_end(shell: Shell, tmp_path: Path) -> None:
    write_file(tmp_path / "file.bin", 3 * PART)
    held, go = asyncio.Event(), asyncio.Event()

    async def hold(_: web.Request) -> None:
        held.set()
        await go.wait()

    shell.gate.store.add(Fault("PUT", r"partNumber=3\b", hook=hold))
    upload = await shell.start(
        "upload", "--json", "--part-size", str(PART), "--parallel", "1", tmp_path / "file.bin"
    )
    async with asyncio.timeout(30):
        await held.wait()
    async with shell.gate.client() as client:
        session_id = next(
            iter([s.session_id async for s in client.find(states=("open",)) if s.size == 3 * PART])
        )
    watch = await shell.start("status", session_id, "--watch", "--json")
    assert '"state":"open"' in await watch.line()
    go.set()
    assert (await upload.end()).code == 0
    ended = await watch.end()
    assert ended.code == 0, ended.err
    assert ended.json[-1]["state"] == "completed"


async def test_watching_goes_on_when_the_stream_breaks(shell: Shell) -> None:
    async with shell.gate.client() as client:
        session_id = (await client.create("file", 10)).session_id
        broken = asyncio.Event()

        async def note(_: web.Request) -> None:
            broken.set()

        shell.gate.api.add(Fault("GET", "/events", times=2, hook=note, answer=(503, {}, b"")))
        watch = await shell.start("status", session_id, "--watch")
        async with asyncio.timeout(30):
            await broken.wait()
        await client.abort(session_id)
        ended = await watch.end()
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1].startswith("aborted")


async def test_watching_the_list_ends_with_the_user(shell: Shell, uploaded: str) -> None:
    watch = await shell.start("status", "--watch", "--json")
    assert uploaded in await watch.line()
    watch.send(signal.SIGINT)
    ended = await watch.end()
    assert ended.code == 130
    assert "Traceback" not in ended.err


async def test_a_download_is_verified_and_told(shell: Shell, uploaded: str, tmp_path: Path) -> None:
    ended = await shell.run("download", uploaded, "-o", tmp_path / "back", "--json")
    assert ended.code == 0, ended.err
    (receipt,) = ended.json
    assert receipt["checksum"]["algorithm"] == "crc64nvme"
    assert receipt["size"] == receipt["bytes_received"] == 3000
    assert (tmp_path / "back").read_bytes() == (tmp_path / "source" / "film.mkv").read_bytes()
    again = await shell.run("download", uploaded, "-o", tmp_path / "back")
    assert again.code == 1
    assert "--force" in again.err
    assert (await shell.run("download", uploaded, "-o", tmp_path / "back", "--force")).code == 0


async def test_damaged_bytes_are_3_and_no_file(shell: Shell, uploaded: str, tmp_path: Path) -> None:
    answer = (206, {"Content-Range": "bytes 0-2999/3000"}, bytes(3000))
    shell.gate.store.add(Fault("GET", ".", times=9, answer=answer))
    ended = await shell.run("download", uploaded, "-o", tmp_path / "back")
    assert ended.code == 3
    assert not (tmp_path / "back").exists()


async def test_an_abort_is_done_once_and_for_all(shell: Shell, uploaded: str) -> None:
    async with shell.gate.client() as client:
        session_id = (await client.create("file", 10)).session_id
        assert (await shell.run("abort", session_id)).code == 0
        assert (await shell.run("abort", session_id)).code == 0
        assert (await client.get(session_id)).state == "aborted"
    completed = await shell.run("abort", uploaded)
    assert completed.code == 1
    assert (await shell.run("download", session_id)).code == 4
