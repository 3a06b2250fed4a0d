"""`gateway upload`, as a process, killed and started again."""

import asyncio
import json
import os
import pty
import signal
import sys
from pathlib import Path

import pytest
from aiohttp import web
from cli.remote.commands import Shell
from client.between import Fault, store_error
from client.gate import PART, write_file

from gateway.core.checksums import ALGORITHMS

FIELDS = [
    "session_id",
    "state",
    "verified_by",
    "size",
    "parts",
    "parts_sent",
    "bytes_sent",
    "relayed",
    "bytes_relayed",
    "seconds",
    "checksum",
    "object",
]
SMALL_PARTS = ("--part-size", str(PART), "--parallel", "2")


async def test_json_is_one_line_a_file_and_nothing_else(shell: Shell, tmp_path: Path) -> None:
    first = write_file(tmp_path / "first.txt", 1000)
    second = write_file(tmp_path / "second.txt", 0)
    ended = await shell.run("upload", "--json", tmp_path / "first.txt", tmp_path / "second.txt")
    assert ended.code == 0, ended.err
    for data, receipt in zip((first, second), ended.json, strict=True):
        assert list(receipt) == FIELDS
        assert receipt["state"] == "completed"
        assert receipt["verified_by"] == "client_parts"
        assert (receipt["size"], receipt["parts"], receipt["parts_sent"]) == (len(data), 1, 1)
        assert receipt["bytes_sent"] == len(data)
        assert receipt["seconds"] > 0
        algorithm = receipt["checksum"]["algorithm"]
        assert receipt["checksum"]["value"] == ALGORITHMS[algorithm].value_of(data)
        assert await shell.gate.content(receipt["object"]) == data


async def test_people_get_words_and_no_bar_outside_a_terminal(shell: Shell, tmp_path: Path) -> None:
    write_file(tmp_path / "file.txt", 1000)
    ended = await shell.run("upload", tmp_path / "file.txt")
    assert ended.code == 0
    assert "uploaded and verified" in ended.out
    assert "\x1b" not in ended.out + ended.err
    assert ended.err == ""


async def test_quiet_says_nothing(shell: Shell, tmp_path: Path) -> None:
    write_file(tmp_path / "file.txt", 1000)
    ended = await shell.run("upload", "--quiet", tmp_path / "file.txt")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


async def test_a_terminal_gets_a_bar(shell: Shell, tmp_path: Path) -> None:
    write_file(tmp_path / "film.mkv", 2 * PART)
    leader, follower = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        "upload",
        str(tmp_path / "film.mkv"),
        env={**shell.environment, "TERM": "xterm"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=follower,
    )
    os.close(follower)
    shown = await asyncio.to_thread(_read_all, leader)
    await process.communicate()
    os.close(leader)
    assert process.returncode == 0
    assert "film.mkv" in shown
    assert "100%" in shown
    assert "MiB" in shown


def _read_all(descriptor: int) -> str:
    data = b""
    while True:
        try:
            block = os.read(descriptor, 65536)
        except OSError:  # What a terminal without a follower says at its end.
            block = b""
        if not block:
            return data.decode()
        data += block


class TestKilled:
    @pytest.mark.parametrize("journal", ["kept", "deleted"])
    async def test_killed_and_started_again_it_sends_what_is_missing(
        self, shell: Shell, tmp_path: Path, journal: str
    ) -> None:
        data = write_file(tmp_path / "file.bin", 6 * PART)
        store = shell.gate.store
        passed = held = 0
        both_held = asyncio.Event()

        async def hold_after_three(_: web.Request) -> None:
            nonlocal passed, held
            passed += 1
            if passed > 3:
                held += 1
                if held == 2:
                    both_held.set()
                await asyncio.Event().wait()

        # With both connections held, exactly three parts are stored when the kill comes.
        holding = store.add(Fault("PUT", "partNumber=", times=99, hook=hold_after_three))
        process = await shell.start("upload", "--json", *SMALL_PARTS, tmp_path / "file.bin")
        async with asyncio.timeout(30):
            await both_held.wait()
        process.send(signal.SIGKILL)
        assert (await process.end()).code == -signal.SIGKILL
        assert store.stored.total() == 3
        holding.times = 0
        if journal == "deleted":
            for path in shell.journals():
                path.unlink()
        ended = await shell.run("upload", "--json", *SMALL_PARTS, tmp_path / "file.bin")
        assert ended.code == 0, ended.err
        (receipt,) = ended.json
        assert receipt["parts_sent"] == 3
        assert receipt["bytes_sent"] == 3 * PART
        assert dict(store.stored) == dict.fromkeys(range(1, 7), 1)
        assert await shell.gate.content(receipt["object"]) == data

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    async def test_interrupted_it_says_how_to_go_on(
        self, shell: Shell, tmp_path: Path, number: signal.Signals
    ) -> None:
        write_file(tmp_path / "file.bin", 4 * PART)

        async def hold(_: web.Request) -> None:
            held.set()
            await asyncio.Event().wait()

        held = asyncio.Event()
        shell.gate.store.add(Fault("PUT", r"partNumber=[234]\b", times=9, hook=hold))
        process = await shell.start("upload", "--json", *SMALL_PARTS, tmp_path / "file.bin")
        async with asyncio.timeout(30):
            await shell.gate.store.part_stored.wait()
            await held.wait()
        process.send(number)
        ended = await process.end()
        assert ended.code == 130
        (line,) = ended.json
        assert line["state"] == "open"
        assert line["error"]["code"] == "interrupted"
        assert line["session_id"] in ended.err
        assert "Traceback" not in ended.err


class TestExitCodes:
    async def test_a_missing_file_or_a_folder_is_wrong_usage(
        self, shell: Shell, tmp_path: Path
    ) -> None:
        for path in (tmp_path / "missing", tmp_path):
            ended = await shell.run("upload", path)
            assert ended.code == 2
            assert path.name in ended.err.replace("\n", "").replace("│", "").replace(" ", "")
        assert shell.gate.api.seen == []

    async def test_a_wrong_token_is_5(self, shell: Shell, tmp_path: Path) -> None:
        write_file(tmp_path / "file", 10)
        ended = await shell.run("upload", tmp_path / "file", GW_TOKEN="not-the-token")
        assert ended.code == 5
        assert "hint:" in ended.err

    async def test_without_a_token_the_hint_says_how_to_give_one(
        self, shell: Shell, tmp_path: Path
    ) -> None:
        write_file(tmp_path / "file", 10)
        ended = await shell.run("upload", tmp_path / "file", GW_TOKEN="")
        assert ended.code == 5
        assert "GW_TOKEN" in ended.err
        assert "--token" in ended.err

    async def test_a_gateway_that_is_not_there_is_6(self, shell: Shell, tmp_path: Path) -> None:
        write_file(tmp_path / "file", 10)
        given = ("--server", "http://127.0.0.1:1", "--give-up-after", "0.2")
        ended = await shell.run("upload", "--json", tmp_path / "file", *given)
        assert ended.code == 6
        (line,) = ended.json
        assert line["error"]["code"] == "unreachable"
        assert list(line) == [*FIELDS, "error"]

    async def test_a_store_that_stays_away_is_6(self, shell: Shell, tmp_path: Path) -> None:
        write_file(tmp_path / "file", 10)
        down = store_error(503, "SlowDown")
        shell.gate.store.add(Fault("PUT", ".", times=999, answer=down))
        ended = await shell.run("upload", tmp_path / "file", "--give-up-after", "0.2")
        assert ended.code == 6

    async def test_a_file_that_changed_is_7(self, shell: Shell, tmp_path: Path) -> None:
        file = tmp_path / "file"
        write_file(file, 2 * PART)

        async def change(_: web.Request) -> None:
            with file.open("ab") as out:
                out.write(b"more")

        shell.gate.store.add(Fault("PUT", ".", hook=change))
        ended = await shell.run("upload", "--json", *SMALL_PARTS, file)
        assert ended.code == 7
        assert ended.json[0]["error"]["code"] == "file_changed"

    async def test_damage_on_the_way_is_3(self, shell: Shell, tmp_path: Path) -> None:
        write_file(tmp_path / "file", 10)
        shell.gate.store.add(Fault("PUT", ".", times=99, flip=True))
        ended = await shell.run("upload", tmp_path / "file")
        assert ended.code == 3

    async def test_one_file_that_fails_does_not_stop_the_others(
        self, shell: Shell, tmp_path: Path
    ) -> None:
        write_file(tmp_path / "one", 10)
        write_file(tmp_path / "two", 20)
        refused = json.dumps({"code": "too_large", "message": "Too large."}).encode()
        shell.gate.api.add(Fault("POST", "/uploads$", answer=(413, {}, refused)))
        ended = await shell.run("upload", "--json", tmp_path / "one", tmp_path / "two")
        assert ended.code == 1
        assert [line["state"] for line in ended.json] == [None, "completed"]

    async def test_nonsense_is_2(self, shell: Shell, tmp_path: Path) -> None:
        write_file(tmp_path / "file", 10)
        for arguments in ((), (tmp_path / "file", "--parallel", "0"), ("--colour", "red")):
            assert (await shell.run("upload", *arguments)).code == 2

    async def test_a_server_address_that_is_none_is_said(
        self, shell: Shell, tmp_path: Path
    ) -> None:
        write_file(tmp_path / "file", 10)
        ended = await shell.run("upload", tmp_path / "file", "--server", "nonsense")
        assert ended.code == 1
        assert "address" in ended.err
        assert "Traceback" not in ended.err


async def test_no_address_of_the_store_is_ever_printed(shell: Shell, tmp_path: Path) -> None:
    write_file(tmp_path / "file", 2 * PART)
    shell.gate.store.add(Fault("PUT", ".", times=2, cut_after=1))
    shell.gate.store.add(Fault("PUT", ".", times=2, answer=store_error(403, "AccessDenied")))
    ended = await shell.run("upload", *SMALL_PARTS, tmp_path / "file")
    assert ended.code == 0
    assert "Signature" not in ended.out + ended.err
    assert shell.gate.store.url not in ended.out + ended.err


class TestRelaying:
    async def test_a_store_out_of_reach_is_gone_around_and_said_so(
        self, shell: Shell, tmp_path: Path
    ) -> None:
        data = write_file(tmp_path / "file.bin", PART + 1)
        async with shell.gate.store.closed():
            ended = await shell.run("upload", *SMALL_PARTS, tmp_path / "file.bin")
            (line,) = ended.err.splitlines()
            assert "relaying through the gateway" in line
            assert "2 of 2 parts sent, through the gateway" in ended.out
            session_id = ended.out.split()[-1]
            ended = await shell.run("download", session_id, "-o", tmp_path / "back", "--json")
        assert ended.code == 0, ended.err
        (receipt,) = ended.json
        assert (receipt["relayed"], receipt["bytes_relayed"]) == (True, len(data))
        assert (tmp_path / "back").read_bytes() == data

    async def test_whether_to_relay_can_be_said(self, shell: Shell, tmp_path: Path) -> None:
        write_file(tmp_path / "file.bin", 1000)
        ended = await shell.run("upload", "--json", "--relay", "always", tmp_path / "file.bin")
        (receipt,) = ended.json
        assert (receipt["relayed"], receipt["bytes_relayed"]) == (True, 1000)
        assert (receipt["verified_by"], shell.gate.store.seen) == ("client_parts", [])
        again = ("--relay", "never", "--give-up-after", "0.2")
        async with shell.gate.store.closed():
            ended = await shell.run(
                "upload", "--json", *again, "--name", "new", tmp_path / "file.bin"
            )
        (receipt,) = ended.json
        assert (ended.code, receipt["relayed"]) == (6, False)
        assert (await shell.run("upload", "--relay", "perhaps", tmp_path / "file.bin")).code == 2
