"""The `gateway` command as a real process, and what a test wants to know about it."""

import asyncio
import io
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from servers import process_gone, until

START_SECONDS = 60
STOP_SECONDS = 30


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """Give an environment without settings or credentials of whoever runs the tests."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("GW_", "AWS_"))
    }
    return {**kept, "HOME": str(home), **more}


class Program:
    """A started command: its output line by line, its end, its signals."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._errors: list[bytes] = []
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read_errors())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> str:
        """What it has written to standard error so far."""
        return b"".join(self._errors).decode()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def line(self) -> str:
        """Wait for the next line of standard output; its end is an error."""
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = await self._process.stdout.readline()
        assert line, f"it ended: {self.stderr}"
        return line.decode()

    async def text_until(self, words: str) -> str:
        """Read standard output until a line holds the words, and return all of it."""
        text = ""
        while words not in text:
            text += await self.line()
        return text

    async def logged(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait for so many log entries of an event, and return them."""
        async with asyncio.timeout(START_SECONDS):
            while len(found := self._events(event)) < count:
                assert not self._reading.done(), f"it ended: {self.stderr}"
                self._news.clear()
                await self._news.wait()
        return found

    async def end(self) -> int:
        """Wait for the end, and return the exit code."""
        async with asyncio.timeout(STOP_SECONDS):
            await self._reading
            return await self._process.wait()

    async def output(self) -> str:
        """Wait for the end, and return the rest of standard output."""
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            return (await self._process.stdout.read()).decode()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and wait for the end."""
        with suppress(ProcessLookupError):
            self.send(number)
        return await self.end()

    async def kill(self) -> None:
        """End it at any price, and let go of it."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._reading
        await self._process.communicate()

    def _events(self, event: str) -> list[dict[str, Any]]:
        found = []
        for line in self.stderr.splitlines():
            with suppress(orjson.JSONDecodeError):
                entry = orjson.loads(line)
                if entry.get("event") == event:
                    found.append(entry)
        return found

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        try:
            while line := await self._process.stderr.readline():
                self._errors.append(line)
                self._news.set()
        finally:
            self._news.set()


@asynccontextmanager
async def running(
    *arguments: str,
    environment: Mapping[str, str],
    directory: Path,
    command: tuple[str, ...] = (sys.executable, "-m", "gateway"),
) -> AsyncIterator[Program]:
    """Start a command, and leave nothing of it behind."""
    program = Program(
        await asyncio.create_subprocess_exec(
            *command,
            *arguments,
            env=dict(environment),
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    )
    try:
        yield program
    finally:
        await program.kill()


class Dev:
    """A running `gateway dev --json`, as its line describes it."""

    def __init__(self, program: Program, line: str) -> None:
        self.program = program
        self.line = line
        self.facts: dict[str, Any] = orjson.loads(line)
        self.url: str = self.facts["url"]
        self.pids: list[int] = list(self.facts["pids"].values())

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Call the API with the token, and return status and JSON."""
        headers = {"Authorization": f"Bearer {self.facts['token']}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.request(method, self.url + path, **options) as answer,
        ):
            return answer.status, orjson.loads(await answer.read() or b"null")

    async def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """Upload as a client without our library does, and return the completed session."""
        status, session = await self.call(
            "POST", "/uploads", json={"filename": name, "size": len(content), "sign": 100}
        )
        assert status == 201, session
        etags = []
        async with aiohttp.ClientSession() as http:
            for part in session["parts"]:
                start = (part["part_number"] - 1) * session["part_size"]
                body = content[start : start + part["size"]]
                async with http.put(
                    part["url"], data=io.BytesIO(body), headers=part["headers"]
                ) as answer:
                    assert answer.status == 200, await answer.text()
                    etags.append(
                        {"part_number": part["part_number"], "etag": answer.headers["ETag"]}
                    )
        status, done = await self.call(
            "POST", f"/uploads/{session['session_id']}/complete?wait=30", json={"parts": etags}
        )
        assert (status, done["state"]) == (200, "completed"), done
        return done  # type: ignore[no-any-return]  # JSON has no types.

    async def ready(self) -> None:
        """Wait until Redis and the store answer."""
        async with asyncio.timeout(START_SECONDS):
            # Another process becomes ready without an event in this one.
            while (await self.call("GET", "/readyz"))[0] != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def gone(self) -> None:
        """Wait until no process of it is left."""
        await until(lambda: all(process_gone(pid) for pid in self.pids), seconds=STOP_SECONDS)


@asynccontextmanager
async def dev(
    *arguments: str, data_dir: Path, environment: Mapping[str, str]
) -> AsyncIterator[Dev]:
    """Run `gateway dev --json` until the block ends."""
    async with running(
        "dev",
        "--data-dir",
        str(data_dir),
        "--json",
        *arguments,
        environment=environment,
        directory=data_dir.parent,
    ) as program:
        yield Dev(program, await program.line())
