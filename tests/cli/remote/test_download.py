"""`gateway download`, as a process: on to standard output, and killed in the middle."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cli.remote.commands import Shell
from client.between import Fault
from client.gate import Uploading, write_file

RANGE = 8 << 20


@pytest.fixture
async def uploaded(shell: Shell, tmp_path: Path) -> tuple[Any, bytes]:
    data = write_file(tmp_path / "film.mkv", 3 * RANGE + 5)
    receipt = await Uploading(shell.gate, tmp_path / "state").run(
        tmp_path / "film.mkv", part_size=RANGE
    )
    shell.gate.reset()
    return receipt, data


async def piped(shell: Shell, *arguments: str) -> tuple[int | None, bytes, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "download", *arguments),
        env=shell.environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out, err.decode()


async def test_standard_output_gets_the_bytes_and_nothing_else(
    shell: Shell, uploaded: tuple[Any, bytes]
) -> None:
    receipt, data = uploaded
    code, out, err = await piped(shell, receipt.session_id, "-o", "-")
    assert code == 0, err
    assert out == data
    assert "verified" in err
    assert await asyncio.to_thread(lambda: not Path("-").exists())


async def test_bytes_that_were_not_right_are_3_though_they_are_out(
    shell: Shell, uploaded: tuple[Any, bytes]
) -> None:
    async def zeros(request: web.Request) -> None:
        first, last = request.headers["Range"].removeprefix("bytes=").split("-")
        size = int(last) - int(first) + 1
        fault.answer = (206, {"Content-Range": f"bytes {first}-{last}/9"}, bytes(size))

    fault = shell.gate.store.add(Fault("GET", ".", hook=zeros))
    code, out, err = await piped(shell, uploaded[0].session_id, "-o", "-", "--quiet")
    assert (code, len(out)) == (3, len(uploaded[1]))
    assert "Throw away" in err


async def test_a_reader_that_has_gone_is_1(shell: Shell, uploaded: tuple[Any, bytes]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "download", uploaded[0].session_id, "-o", "-"),
            env=shell.environment,
            stdout=writing,
            stderr=asyncio.subprocess.PIPE,
        )
    finally:
        os.close(writing)
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"cannot be written" in err
    assert b"Traceback" not in err


async def test_killed_and_started_again_it_fetches_what_is_missing(
    shell: Shell, uploaded: tuple[Any, bytes], tmp_path: Path
) -> None:
    receipt, data = uploaded
    third = asyncio.Event()
    asked = 0

    async def hold_the_third(_: web.Request) -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            third.set()
            await asyncio.Event().wait()

    fault = shell.gate.store.add(Fault("GET", ".", times=99, hook=hold_the_third))
    given = (receipt.session_id, "-o", tmp_path / "back", "--parallel", "1")
    process = await shell.start("download", *given)
    async with asyncio.timeout(30):
        await third.wait()
        # What came before is written in its own time.
        while _written(tmp_path) < 2 * RANGE:  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.01)
    process.send(signal.SIGKILL)
    await process.end()
    fault.times = 0
    ended = await shell.run("download", *given, "--json")
    assert ended.code == 0, ended.err
    assert ended.json[0]["bytes_received"] == len(data) - 2 * RANGE
    assert (tmp_path / "back").read_bytes() == data
    assert _written(tmp_path) == 0


def _written(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.part"))
