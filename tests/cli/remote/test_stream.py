"""`producer | gateway upload -`, as a process."""

import asyncio
import os
import pty
import random
import signal
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cli.remote.commands import Process, Shell
from client.between import Fault, store_error
from client.gate import PART, write_file

PIPE = asyncio.subprocess.PIPE
STREAM = ("upload", "-", "--name", "dump.sql")
SMALL_PARTS = ("--part-size", str(PART), "--parallel", "2")
DATA = random.Random(3).randbytes(2 * PART + 77)


async def streaming(shell: Shell, *arguments: str, **environment: str) -> Process:
    return await shell.start(*STREAM, *SMALL_PARTS, *arguments, stdin=PIPE, **environment)


async def state(shell: Shell, session_id: str) -> str:
    async with shell.gate.client() as client:
        return (await client.get(session_id)).state


async def test_standard_input_becomes_a_verified_object(shell: Shell) -> None:
    process = await streaming(shell, "--json")
    await process.feed(DATA)
    ended = await process.end()
    assert ended.code == 0, ended.err
    (receipt,) = ended.json
    assert (receipt["state"], receipt["verified_by"]) == ("completed", "client_parts")
    assert (receipt["size"], receipt["parts"]) == (len(DATA), 3)
    assert await shell.gate.content(receipt["object"]) == DATA
    assert shell.journals() == []
    async with shell.gate.client() as client:
        assert (await client.get(receipt["session_id"])).filename == "dump.sql"


async def test_nothing_at_all_is_an_empty_object(shell: Shell) -> None:
    # The end comes at once, and from something that is no pipe.
    ended = await shell.run(*STREAM, "--json")
    assert ended.code == 0, ended.err
    assert (ended.json[0]["size"], ended.json[0]["state"]) == (0, "completed")


async def test_the_last_word_on_a_stream_calls_it_by_its_name(shell: Shell) -> None:
    ended = await shell.run(*STREAM)
    assert ended.out.startswith("dump.sql: "), ended.err


async def test_a_redirected_file_is_a_stream_too(shell: Shell, tmp_path: Path) -> None:
    data = write_file(tmp_path / "file", PART + 5)
    with (tmp_path / "file").open("rb") as stdin:
        process = await shell.start(*STREAM, "--json", stdin=stdin.fileno())
        ended = await process.end()
    assert ended.code == 0, ended.err
    assert await shell.gate.content(ended.json[0]["object"]) == data


async def test_what_was_declared_is_compared_and_vouched_for(shell: Shell) -> None:
    declared = f"sha256:{sha256(DATA).hexdigest()}"
    process = await streaming(shell, "--json", "--size", str(len(DATA)), "--checksum", declared)
    await process.feed(DATA)
    ended = await process.end()
    assert ended.code == 0, ended.err
    assert ended.json[0]["verified_by"] == "client_file"


async def test_a_producer_that_dies_is_noticed_by_what_was_declared(shell: Shell) -> None:
    process = await streaming(shell, "--json", "--size", str(len(DATA) + 1))
    await process.feed(DATA)
    ended = await process.end()
    assert ended.code == 3
    (line,) = ended.json
    assert (line["error"]["code"], line["state"]) == ("stream_mismatch", "aborted")
    assert await state(shell, line["session_id"]) == "aborted"
    assert line["session_id"] in ended.err
    assert shell.gate.api.count("POST", "/complete") == 0


async def test_interrupted_it_aborts_and_says_so(shell: Shell) -> None:
    process = await streaming(shell, "--json")
    await process.feed(DATA, last=False)
    async with asyncio.timeout(30):
        await shell.gate.store.part_stored.wait()
    # The producer is still there, and says nothing: the command ends all the same.
    process.send(signal.SIGINT)
    ended = await process.end()
    assert ended.code == 130
    (line,) = ended.json
    assert (line["state"], line["error"]["code"]) == ("aborted", "interrupted")
    assert f"session {line['session_id']} was aborted" in ended.err
    assert "Traceback" not in ended.err
    assert await state(shell, line["session_id"]) == "aborted"


async def test_a_store_that_stays_away_is_6_and_nothing_is_kept(shell: Shell) -> None:
    shell.gate.store.add(Fault("PUT", ".", times=999, answer=store_error(503, "SlowDown")))
    process = await streaming(shell, "--json", "--give-up-after", "0.2")
    await process.feed(DATA[:10])
    ended = await process.end()
    assert ended.code == 6
    assert ended.json[0]["state"] == "aborted"
    assert "aborted" in ended.err


async def test_input_that_cannot_be_read_is_1(shell: Shell, tmp_path: Path) -> None:
    write_only = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    try:
        ended = await (await shell.start(*STREAM, "--json", stdin=write_only)).end()
    finally:
        os.close(write_only)
    assert ended.code == 1
    (line,) = ended.json
    assert (line["error"]["code"], line["state"]) == ("stream_unreadable", "aborted")


async def test_a_terminal_gets_a_hint(shell: Shell) -> None:
    leader, follower = pty.openpty()
    try:
        process = await shell.start(*STREAM, "--json", stdin=follower)
        os.close(follower)
        os.write(leader, b"typed\n\x04")
        ended = await process.end()
    finally:
        os.close(leader)
    assert ended.code == 0, ended.err
    assert "Ctrl-D" in ended.err
    assert await shell.gate.content(ended.json[0]["object"]) == b"typed\n"


async def test_closed_standard_input_is_wrong_usage(shell: Shell) -> None:
    closing = "import os, sys; os.close(0); os.execv(sys.executable, sys.argv[1:])"
    command = [sys.executable, "-c", closing, sys.executable, "-m", "gateway", *STREAM]
    process = await asyncio.create_subprocess_exec(
        *command, env=shell.environment, stdout=PIPE, stderr=PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 2
    assert b"closed" in err


async def test_a_single_file_may_have_another_name(shell: Shell, tmp_path: Path) -> None:
    data = write_file(tmp_path / "file", 10)
    ended = await shell.run("upload", tmp_path / "file", "--name", "other.txt", "--json")
    assert ended.code == 0, ended.err
    async with shell.gate.client() as client:
        session = await client.get(ended.json[0]["session_id"])
    assert session.filename == "other.txt"
    assert session.raw["content_type"] == "text/plain"
    assert await shell.gate.content(ended.json[0]["object"]) == data


async def test_a_file_called_dash_is_a_file_by_its_path(shell: Shell, tmp_path: Path) -> None:
    data = write_file(tmp_path / "-", 10)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        "upload",
        "./-",
        "--quiet",
        env=shell.environment,
        cwd=tmp_path,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == 0, err
    async with shell.gate.client() as client:
        sessions: list[Any] = [session async for session in client.find()]
    assert (sessions[0].filename, sessions[0].size) == ("-", len(data))


@pytest.mark.large
async def test_memory_is_flat_whatever_the_stream(shell: Shell) -> None:
    small, large = [await _peak(shell, mib) for mib in (64, 2048)]
    # Parts of 64 MiB, four on their way and two more waiting: none of them is in memory.
    assert large < 128
    assert large - small < 40


async def _peak(shell: Shell, mib: int) -> int:
    """Upload so many MiB, and return the command's most resident memory in MiB."""
    measure = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    )
    zeros = await asyncio.create_subprocess_exec(
        "head", "-c", f"{mib}M", "/dev/zero", stdout=(pipe := os.pipe())[1]
    )
    os.close(pipe[1])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", measure, sys.executable, "-m", "gateway", *STREAM, "--quiet"),
        env=shell.environment,
        stdin=pipe[0],
        stdout=PIPE,
    )
    os.close(pipe[0])
    out, _ = await process.communicate()
    assert (await zeros.wait(), process.returncode) == (0, 0)
    return int(out)
