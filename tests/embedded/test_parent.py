"""Servers end with the process that started them, whatever ends it."""

import asyncio
import json
import os
import signal
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from servers import process_gone, until

from gateway.embedded import Seaweed, Valkey, launch, process

PARENT = """
    import asyncio, json, signal, sys
    from pathlib import Path
    # A shell that runs the tests in the background has all that they start ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from gateway.embedded import Seaweed, Valkey

    async def main():
        data = Path(sys.argv[1])
        valkey = Valkey(data / "valkey")
        seaweed = Seaweed(data / "seaweed", access_key_id="key", secret_access_key="secret")
        await asyncio.gather(valkey.start(), seaweed.start())
        print(json.dumps([valkey.pid, seaweed.pid]), flush=True)
        await asyncio.sleep(600)

    asyncio.run(main())
"""
# As on a system whose kernel does not kill children.
ELSEWHERE = "import sys; sys.platform = 'freebsd14'\n"


@pytest.mark.parametrize(
    ("number", "platform"),
    [
        (signal.SIGKILL, ""),
        (signal.SIGTERM, ""),
        (signal.SIGINT, ""),
        (signal.SIGKILL, ELSEWHERE),
    ],
    ids=["SIGKILL", "SIGTERM", "SIGINT", "SIGKILL-elsewhere"],
)
async def test_a_killed_parent_leaves_no_child(
    tmp_path: Path, number: signal.Signals, platform: str
) -> None:
    data = tmp_path / "with spaces"
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        platform + textwrap.dedent(PARENT),
        str(data),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert parent.stdout is not None
    try:
        pids = json.loads(await asyncio.wait_for(parent.stdout.readline(), 60))
        assert not any(process_gone(pid) for pid in pids)
    finally:
        parent.send_signal(number)
        await asyncio.wait_for(parent.communicate(), 20)
    try:
        await until(lambda: all(process_gone(pid) for pid in pids), seconds=30)
    finally:
        for pid in pids:
            if not process_gone(pid):
                os.kill(pid, signal.SIGKILL)

    # Nobody was left to remove these; the next start in the same directory would.
    seaweed = Seaweed(data / "seaweed", access_key_id="key", secret_access_key="secret")
    seaweed._prepare()
    seaweed._clean_up()


async def test_a_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    server = Valkey(tmp_path)
    thread = threading.Thread(target=lambda: asyncio.run(server.start()))
    thread.start()
    await asyncio.to_thread(thread.join, 20)
    assert server._process is not None
    assert not await server._process._ended(within=0.5)
    watchers = children(server.pid)
    assert len(watchers) == 1
    await server.stop()
    await until(lambda: all(process_gone(pid) for pid in watchers), seconds=5)


async def test_the_watcher_keeps_no_hold_on_a_crashed_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.sys, "platform", "freebsd14")
    server = Valkey(tmp_path)
    await server.start()
    (watcher,) = children(server.pid)
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: not server.running, seconds=5)
    # The watcher is still there, and has neither the lock nor the port.
    assert not process_gone(watcher)
    async with server:
        assert server.running
    await until(lambda: process_gone(watcher), seconds=5)


async def test_a_child_whose_parent_died_before_it_could_ask_to_die_with_it_exits() -> None:
    stranger = 1  # The parent that asked for it was another than the one it has.
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", launch.__file__, str(stranger), "-1", "/bin/echo", "started",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, error = await asyncio.wait_for(child.communicate(), 20)
    assert child.returncode != 0
    assert output == b""
    assert b"gone" in error


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
