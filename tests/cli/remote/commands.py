"""Runs the real `gateway` command as a process, against a gateway of the tests'."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
from client.gate import TOKEN, Gate

LIMIT = 60


class Process:
    """A command that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def line(self) -> str:
        """Wait for the next line of standard output."""
        assert self._process.stdout is not None
        async with asyncio.timeout(LIMIT):
            return (await self._process.stdout.readline()).decode().rstrip("\n")

    async def feed(self, data: bytes, *, last: bool = True) -> None:
        """Write to standard input, which must be a pipe, and close it after the last of it."""
        assert self._process.stdin is not None
        async with asyncio.timeout(LIMIT):
            self._process.stdin.write(data)
            await self._process.stdin.drain()
            if last:
                self._process.stdin.close()
                await self._process.stdin.wait_closed()

    async def end(self) -> "Ended":
        async with asyncio.timeout(LIMIT):
            out, err = await self._process.communicate()
        return Ended(self._process.returncode or 0, out.decode(), err.decode())


class Ended:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> list[Any]:
        return [orjson.loads(line) for line in self.out.splitlines()]


class Shell:
    """Starts commands with an environment of the test's own."""

    def __init__(self, gate: Gate, home: Path) -> None:
        self.gate = gate
        self.state_dir = home / "state"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GW_")}
        self.environment = {
            **kept,
            "HOME": str(home),
            "GW_STATE_DIR": str(self.state_dir),
            "GW_SERVER": gate.api.url,
            "GW_TOKEN": TOKEN,
            "COLUMNS": "200",
        }

    def journals(self) -> list[Path]:
        return list(self.state_dir.rglob("*.jsonl"))

    async def start(
        self, *arguments: str | Path, stdin: int = asyncio.subprocess.DEVNULL, **environment: str
    ) -> Process:
        return Process(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gateway",
                *map(str, arguments),
                env={**self.environment, **environment},
                stdin=stdin,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        )

    async def run(self, *arguments: str | Path, **environment: str) -> Ended:
        return await (await self.start(*arguments, **environment)).end()
